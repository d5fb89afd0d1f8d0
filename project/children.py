"""The demo's own programs: each a Python with arguments, ended when its owner ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, Self

from django.conf import settings

from .keep import write_pid
from .programs.ports import HOST, accepts
from .programs.process import Process, ProcessFailed

__all__ = ["Child", "Kind", "Server", "Worker", "end_all"]

Kind = Literal["daphne", "uvicorn"]


class Child(Process):
    """One program of the demo. Its output goes to the terminal, or to a log in `logs`."""

    leashed = True

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], *, logs: Path | None = None
    ) -> None:
        super().__init__(name, logs or settings.VAR)
        self._arguments = arguments
        self._environment = environment
        self._logged = logs is not None

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return os.environ | self._environment

    def working_directory(self) -> Path:
        directory: Path = settings.BASE_DIR
        return directory

    def output(self) -> BinaryIO | None:
        return super().output() if self._logged else None


class Server(Child):
    """One process that serves `project.asgi`. Its id is in `pid_file`, for the figures about it."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        port: int,
        environment: Mapping[str, str],
        *,
        pid_file: Path,
        logs: Path | None = None,
    ) -> None:
        arguments = {
            "daphne": ["-v", "0", "-b", HOST, "-p", str(port)],
            "uvicorn": [
                *("--host", HOST, "--port", str(port), "--log-level", "warning", "--no-access-log"),
                # Longer than DRAIN["seconds"], after which no stream is left, and shorter than STOP_SECONDS.
                *("--timeout-graceful-shutdown", "20"),
            ],
        }
        words = ["-m", kind, *arguments[kind], "project.asgi:application"]
        super().__init__(name, words, environment, logs=logs)
        self.port = port
        self._pid_file = pid_file

    def start(self, *, wait: bool = True) -> Self:
        super().start(wait=wait)
        write_pid(self._pid_file, self.pid)
        return self

    def is_ready(self) -> bool:
        return accepts(self.port)

    def forget(self) -> None:
        """Delete the file with its id."""
        self._pid_file.unlink(missing_ok=True)


class Worker(Child):
    """One process that carries out background tasks; *url* is where its agents find the site."""

    def __init__(
        self,
        name: str,
        queue: str,
        at_once: int,
        environment: Mapping[str, str],
        *,
        url: str,
        logs: Path | None = None,
    ) -> None:
        words = ["manage.py", "worker", "--queue", queue, "--at-once", str(at_once)]
        super().__init__(name, words, {**environment, "TASK_SERVER_URL": url}, logs=logs)


def end_all(processes: Sequence[Process], seconds: float) -> None:
    """Ask all to end, give them `seconds` together, then kill those that stayed."""
    for process in processes:
        process.resume()
        process.signal(process.stop_signal)
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except ProcessFailed:
            process.kill()
