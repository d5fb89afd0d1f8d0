"""Programs that this one started: each known by its own id, each ended within a bound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings

__all__ = ["Child", "RestartBudget", "end_all"]


@dataclass
class RestartBudget:
    """Allow so many restarts within so many seconds, so that a crash loop ends."""

    restarts: int = 5
    seconds: float = 30
    _times: list[float] = field(default_factory=list)

    def take(self, now: float) -> bool:
        """Tell whether one more restart is allowed at monotonic time `now`."""
        self._times = [each for each in self._times if now - each < self.seconds]
        if len(self._times) >= self.restarts:
            return False
        self._times.append(now)
        return True


class Child:
    """One program, restarted on demand. It has its own session: ctrl-C is this process's to pass on."""

    def __init__(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.name = name
        self.budget = RestartBudget()
        self._arguments = [sys.executable, *arguments]
        self._environment = os.environ | environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start the program and return its process id."""
        self._process = subprocess.Popen(
            self._arguments,
            cwd=settings.BASE_DIR,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self._process.pid

    @property
    def status(self) -> int | None:
        """None while it runs, else its exit status, negative for a signal."""
        return 0 if self._process is None else self._process.poll()

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait, and tell whether the program has ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True


def end_all(children: Sequence[Child], seconds: float) -> None:
    """Ask all to end, give them `seconds` together, then kill those that stayed."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for child in children:
        if not child.wait(deadline - time.monotonic()):
            child.signal(signal.SIGKILL)
            child.wait(5)
