"""A child process that its caller owns: started, watched, stopped by its own id and no other."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from .leash import leash

__all__ = ["Process", "ProcessFailed"]

_alive: weakref.WeakSet[Process] = weakref.WeakSet()


class ProcessFailed(AssertionError):
    """Say that a child did not do what it should, with the end of its log."""


class Process:
    """Run one program whose output goes to a log file; a subclass says what and when it is ready.

    Also a context manager: started on entry, stopped on exit.
    """

    #: How long the program may take to become ready, and to leave when asked.
    start_seconds = 30.0
    stop_seconds = 15.0
    stop_signal = signal.SIGTERM
    #: True: it is told to stop when its owner dies, even by SIGKILL. Start it from the main thread then.
    leashed = False

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.log_path = directory / f"{name}.log"
        self._popen: subprocess.Popen[bytes] | None = None

    # What a subclass says

    def command(self) -> Sequence[str | Path]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the program's environment."""
        return os.environ

    def is_ready(self) -> bool:
        """Tell whether the program serves; asked again and again, so it must not wait long."""
        return True

    def output(self) -> BinaryIO | None:
        """Open what the program prints to; None: it prints where its owner does."""
        return self.log_path.open("ab")

    def identity(self) -> tuple[int, int] | None:
        """Return the user and group id to run as, or None for the owner's own."""
        return None

    # What its owner does

    @property
    def pid(self) -> int:
        """The process id; an error when the program is not running."""
        if self._popen is None:
            raise ProcessFailed(f"{self.name} is not running")
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self, *, wait: bool = True) -> Self:
        """Start the program and wait until it is ready."""
        if self.running:
            raise ProcessFailed(f"{self.name} runs already")
        user, group = self.identity() or (None, None)
        command = [str(word) for word in self.command()]
        if self.leashed:
            command = leash(command, self.stop_signal)
        with self.output() or contextlib.nullcontext() as log:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if log is None else subprocess.STDOUT,
                env=dict(self.environment()),
                cwd=self.working_directory(),
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                # Ctrl-C belongs to the owner, which then stops what it started.
                start_new_session=True,
            )
        _alive.add(self)
        if wait:
            self.wait_ready()
        return self

    def working_directory(self) -> Path:
        """Return where the program runs."""
        return self.directory

    def wait_ready(self) -> None:
        """Wait until the program serves; an error with its log when it does not."""

        def ready() -> bool:
            if not self.running:
                raise ProcessFailed(f"{self.name} ended with {self.returncode}\n{self.log_tail()}")
            return self.is_ready()

        try:
            self.wait_for(ready, seconds=self.start_seconds, what="to be ready")
        except ProcessFailed:
            self.kill()
            raise

    def wait_for(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until the condition holds, at most so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise ProcessFailed(f"waited {seconds} s for {self.name} {what}\n{self.log_tail()}")
            time.sleep(0.02)

    @property
    def returncode(self) -> int | None:
        """The exit status: None while it runs, negative for a signal."""
        return None if self._popen is None else self._popen.poll()

    def stop(self, *, seconds: float | None = None) -> int:
        """Ask the program to leave, wait for it, and return its exit status; killed when it stays."""
        if self._popen is None:
            return 0
        if self.running:
            self.resume()
            self.signal(self.stop_signal)
        try:
            return self.wait(self.stop_seconds if seconds is None else seconds)
        except ProcessFailed:
            self.kill()
            raise

    def kill(self) -> None:
        """End the program with SIGKILL, as a crash would, and wait for it."""
        if self._popen is not None:
            self.signal(signal.SIGKILL)
            self._popen.wait(10)

    def restart(self, *, kill: bool = False) -> Self:
        """Stop (or kill) the program and start it again on the same port."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the program: its sockets stay open and mute."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen program go on."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to this process, when it still runs."""
        if self._popen is not None and self._popen.poll() is None:
            # send_signal asks whether it was reaped first, so the id is never another's.
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait for the program's end and return its exit status."""
        if self._popen is None:
            return 0
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            message = f"{self.name} still ran after {seconds} s\n{self.log_tail()}"
            raise ProcessFailed(message) from None

    # What its owner looks at

    def log(self) -> str:
        """Return everything the program has printed since its first start."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        return f"--- the end of {self.log_path}:\n" + "\n".join(self.log().splitlines()[-lines:])

    def descriptors(self) -> list[str]:
        """Return what each open descriptor points at, such as `socket:[123]` or a file's path."""
        targets = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                targets.append(str(entry.readlink()))
        return targets

    def fds(self) -> int:
        """Count the open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208  # names only, it is asked in loops

    def sockets(self) -> int:
        """Count the open sockets, listening ones included."""
        return sum(target.startswith("socket:") for target in self.descriptors())

    def threads(self) -> int:
        """Count the threads."""
        return len(os.listdir(f"/proc/{self.pid}/task"))  # noqa: PTH208  # as above

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return the processor time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()


@atexit.register
def _end_all() -> None:
    for process in list(_alive):
        process.kill()
