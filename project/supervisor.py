"""Keep programs running until somebody asks to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .children import end_all
from .programs.process import Process

__all__ = ["GivenUp", "RestartBudget", "Supervisor"]

STOP_SECONDS = 25
TICK = 0.1

Say = Callable[[str], object]


class GivenUp(Exception):
    """A program does not run, and trying on makes no sense; the message is for the operator."""


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

    @property
    def pause(self) -> float:
        """How long to wait before the restart that was taken last: longer from time to time."""
        return min(4.0, 0.25 * 2.0 ** len(self._times))


@dataclass
class _Charge:
    process: Process
    budget: RestartBudget = field(default_factory=RestartBudget)
    #: When to start it again, by the monotonic clock; None while nothing is wrong.
    due: float | None = None


class Supervisor:
    """Start programs, start again what crashes, and hear of ctrl-C.

    It ends nothing by itself: what must go first and last, its owner knows.
    """

    def __init__(self, *, say: Say, complain: Say) -> None:
        self.stopping = False
        self._restart_asked = False
        self._say = say
        self._complain = complain
        self._charges: list[_Charge] = []

    def listen(self) -> None:
        """Stop for SIGINT, SIGTERM and SIGHUP, restart the servers for SIGUSR1."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_restart)

    def start(self, *processes: Process) -> bool:
        """Start these side by side, wait until they serve; False when asked to stop meanwhile.

        Raises :exc:`GivenUp`.
        """
        for process in processes:
            self._charges.append(_Charge(process))
            process.start(wait=False)
        return all(self._await(process) for process in processes)

    def restart(self, process: Process) -> bool:
        """End one and start it again; False when asked to stop meanwhile. Raises :exc:`GivenUp`."""
        end_all([process], STOP_SECONDS)
        process.start(wait=False)
        if not self._await(process):
            return False
        self._say(f"{process.name} is back, as process {process.pid}.")
        return True

    def watch(self, *, restart: Callable[[], object], tick: Callable[[], object] = lambda: None) -> None:
        """Look after them until asked to stop; `restart` is called when somebody asks for it.

        Raises :exc:`GivenUp`.
        """
        while not self.stopping:
            if self._restart_asked:
                self._restart_asked = False
                restart()
            for charge in self._charges:
                self._look_after(charge)
            tick()
            time.sleep(TICK)

    def _await(self, process: Process) -> bool:
        deadline = time.monotonic() + process.start_seconds
        while not self.stopping:
            if not process.running:
                raise GivenUp(
                    f"{process.name} ended at once, with status {process.returncode}.{_log(process)}"
                )
            if process.is_ready():
                return True
            if time.monotonic() > deadline:
                raise GivenUp(
                    f"{process.name} did not answer within {process.start_seconds:g} seconds.{_log(process)}"
                )
            time.sleep(TICK / 2)
        return False

    def _look_after(self, charge: _Charge) -> None:
        process, now = charge.process, time.monotonic()
        if process.running:
            return
        if charge.due is None:
            if not charge.budget.take(now):
                raise GivenUp(
                    f"{process.name} ended {charge.budget.restarts} times within "
                    f"{charge.budget.seconds:g} seconds; giving up. What it printed says why.{_log(process)}"
                )
            self._complain(f"{process.name} {_end(process.returncode)}; starting it again.")
            charge.due = now + charge.budget.pause
        elif now >= charge.due:
            charge.due = None
            process.start(wait=False)
            self._say(f"{process.name} runs again, as process {process.pid}.")

    def _on_stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def _on_restart(self, number: int, frame: object) -> None:
        self._restart_asked = True


def _end(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _log(process: Process) -> str:
    """Return the end of its log, if it has one."""
    return f"\n{process.log_tail(12)}" if process.log_path.exists() else ""
