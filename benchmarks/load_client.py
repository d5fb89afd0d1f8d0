"""Many readers in one process: the load client in `benchmarks/load/`, built, started and read.

    .venv/bin/python -m benchmarks.load_client --port 8000 --clients 1000 --channels 10 --seconds 10

builds it and hands the arguments on (`--help` has them all). Python code asks with a :class:`Load`:

    figures = run(Load(port=8000, clients=1000, channels=10, seconds=10))
    figures["latency_ms"]["p99"], figures["sequence"]["missing"]

The client checks each channel against its producer's own numbering: an event's data begins with
``{"n":1,"at":12.5``, where `n` is dense from 1 in each channel and `at` is `time.monotonic()`, which
all processes of the machine share. Only 127.0.0.0/8 is ever connected to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

__all__ = ["Load", "LoadClient", "LoadFailed", "build", "run", "start"]

SOURCES = Path(__file__).parent / "load"
BUILT = Path(__file__).resolve().parents[1] / "var" / "load"
PROGRAMS = {
    "load": (
        "load.c",
        "client.c",
        "heap.c",
        "histogram.c",
        "http.c",
        "numbers.c",
        "options.c",
        "partial.c",
        "report.c",
        "sse.c",
    ),
    "echo": ("echo.c",),
}
FLAGS = ("-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-D_GNU_SOURCE")


class LoadFailed(RuntimeError):
    """The client could not be built, did not end in time or refused its arguments; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the client is asked to do. Durations are in seconds, fields that end in `_ms` in milliseconds.

    None and False leave an option out; `benchmarks/load/options.c` has the defaults and explains each.
    """

    #: Several ports: connections take them in turn.
    port: int | Sequence[int]
    host: str | None = None
    #: `%d` is the channel's number, `%i` the client's; so they are in `query` and `headers`.
    path: str | None = None
    query: str | None = None
    #: Whole lines: `Cookie: sessionid=…`.
    headers: Sequence[str] = ()
    #: From how many addresses to connect, 127.0.0.2 and up. 0: the kernel's choice.
    sources: int | None = None
    clients: int = 1
    #: Client i follows channel i mod this.
    channels: int = 1
    since: Literal["now", "earliest"] = "now"
    ramp: float = 0
    #: How long figures are taken, the warm-up included.
    seconds: float = 10
    warmup: float = 0
    settle: float = 0
    until_n: int | None = None
    retry_ms: int | None = None
    ignore_retry_ms: int | None = None
    error_retry_ms: int | None = None
    keep_alive: bool = False
    stall: bool = False
    hold_open: bool = False
    storm: bool = False
    #: Bytes.
    rcvbuf: int | None = None
    progress: bool = False

    def arguments(self) -> list[str]:
        """Return the command line without the program."""
        named = {"headers": "header", "since": "from"}
        found: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            option = "--" + named.get(field.name, field.name.removesuffix("_ms").replace("_", "-"))
            if value is None or value is False:
                continue
            if value is True:
                found.append(option)
                continue
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            for each in values:
                found += [option, str(each)]
        return found


def build(program: Literal["load", "echo"] = "load") -> Path:
    """Compile the program unless these very sources have been compiled already; return its path.

    Raises :exc:`LoadFailed` without a C compiler and when it reports an error.
    """
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")]):
        digest.update(source.read_bytes())
    built = BUILT / f"{program}-{digest.hexdigest()[:16]}"
    if built.exists():
        return built
    compiler = shutil.which("cc")
    if compiler is None:
        raise LoadFailed("the load client needs a C compiler, and there is no `cc` on this machine")
    BUILT.mkdir(parents=True, exist_ok=True)
    # Several processes may build at once: each its own file, put in place as a whole.
    with tempfile.TemporaryDirectory(dir=BUILT) as directory:
        new = Path(directory) / program
        sources = [SOURCES / name for name in PROGRAMS[program]]
        done = subprocess.run(
            [compiler, *FLAGS, "-o", new, *sources, "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LoadFailed(f"{compiler} ended with {done.returncode}\n{done.stderr}")
        new.replace(built)
    return built


class LoadClient:
    """A running client; `result()` waits for its figures, `stop()` asks for them now. A context manager."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._popen = subprocess.Popen(
            [build(), *load.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if load.progress else subprocess.PIPE,
            text=True,
            # Ctrl-C belongs to the owner, which then stops what it started.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def result(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the client's end and return its figures; by default 30 s longer than it was to run."""
        if timeout is None:
            timeout = self.load.seconds + self.load.settle + 30
        try:
            printed, said = self._popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LoadFailed(f"the load client had not ended after {timeout} s") from None
        if self._popen.returncode:
            raise LoadFailed(f"the load client ended with {self._popen.returncode}\n{said or ''}")
        figures: dict[str, Any] = json.loads(printed)
        return figures

    def stop(self) -> dict[str, Any]:
        """End it now and return what it has found so far."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
        return self.result(timeout=30)

    def kill(self) -> None:
        """End it without figures."""
        self._popen.kill()
        self._popen.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()
        else:
            for pipe in (self._popen.stdout, self._popen.stderr):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def start(load: Load) -> LoadClient:
    """Start the client and return at once."""
    return LoadClient(load)


def run(load: Load) -> dict[str, Any]:
    """Run the client to its end and return its figures."""
    with start(load) as client:
        return client.result()


if __name__ == "__main__":
    try:
        program = build()
    except LoadFailed as failure:
        sys.exit(str(failure))
    os.execv(program, [str(program), *sys.argv[1:]])  # noqa: S606
