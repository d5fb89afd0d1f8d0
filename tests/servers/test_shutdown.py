"""A server that is told to stop asks its streams to leave first, and none is cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.reading import Reading
from tests.harness.server import AsgiServer, Kind
from tests.harness.shell import Shell
from tests.harness.site import Site

from .served import APPLICATIONS, Door, fresh

PATIENCE = 60.0
DRAIN_SECONDS = 20.0

#: hypercorn's own limit is 3 s, and a busy machine takes its time.
PATIENT = ("--graceful-timeout", "20")

#: A server, its options, and its exit status when it is stopped without any stream.
SERVERS: dict[str, tuple[Kind, tuple[str, ...], int]] = {
    "daphne": ("daphne", (), 0),
    "uvicorn": ("uvicorn", (), -signal.SIGTERM),
    "uvicorn-workers": ("uvicorn", ("--workers", "2"), 0),
    "hypercorn": ("hypercorn", PATIENT, 0),
    "hypercorn-worker": ("hypercorn", ("--workers", "1", *PATIENT), 0),
    "granian": ("granian", (), 0),
}


def site_for(directory: Path, **drain: float) -> Site:
    return Site(
        directory,
        sse_polling={
            "BURST": {"max_events": 10_000, "hold_seconds": 120, "linger_seconds": 120, "max_seconds": 200},
            "HEARTBEAT_SECONDS": 60,
            "DRAIN": drain,
        },
    )


@pytest.fixture(scope="module")
def draining_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Streams that only a drain ends."""
    return site_for(
        tmp_path_factory.mktemp("drain"), seconds=DRAIN_SECONDS, ack_seconds=0.5, spread_seconds=0.5
    )


@pytest.fixture(scope="module")
def patient_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One client that does not ack makes its drain last."""
    return site_for(tmp_path_factory.mktemp("patient"), seconds=120, ack_seconds=100, spread_seconds=0)


@pytest.fixture(scope="module")
def shell(draining_site: Site) -> Iterator[Shell]:
    with Shell(draining_site) as shell:
        yield shell


@contextlib.asynccontextmanager
async def publisher(shell: Shell, channel: str) -> AsyncIterator[Callable[[], int]]:
    """Publish the numbers from 0 on, as fast as it goes, until the block ends; yields how many there are."""
    count = 0

    async def publish() -> None:
        nonlocal count
        while True:
            await asyncio.to_thread(shell.publish, channel, *range(count, count + 5))
            count += 5

    task = asyncio.create_task(publish())
    try:
        yield lambda: count
    finally:
        # Not in mid-line: the shell's answer would be the next one's.
        task.cancel()
        await asyncio.wait([task])


class Curl:
    """A real curl that reads a stream, if the machine has one: it tells how a transfer ended."""

    def __init__(self, url: str) -> None:
        path = shutil.which("curl")
        command = [path or "", "--silent", "--show-error", "--no-buffer", "--max-time", "60", url]
        self._popen = path and subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def opened(self) -> None:
        if self._popen:
            self._popen.stdout.readline()

    def assert_whole(self) -> None:
        if self._popen:
            printed, _ = self._popen.communicate(timeout=PATIENCE)
            assert self._popen.returncode == 0, printed

    def close(self) -> None:
        if self._popen:
            self._popen.kill()
            self._popen.communicate()


async def drain(server: AsgiServer, shell: Shell, tell: Callable[[], None], *, readers: int) -> int:
    """Have streams that wait and streams in mid-burst, *tell* the server, and return its exit status."""
    quiet, busy = (f"{server.url}/events/{fresh(name)}/" for name in ("quiet", "busy"))
    async with contextlib.AsyncExitStack() as stack:
        urls = [quiet, busy] * (readers // 2) + [f"{quiet}?client=one-who-never-acks"]
        readings: list[Reading] = []
        while len(readings) < len(urls):  # not all at once: daphne has a short backlog
            some = urls[len(readings) :][:50]
            readings += await asyncio.gather(*map(Reading.open, some))
        curls = [Curl(quiet), Curl(busy)]
        for each in [*readings, *curls]:
            stack.callback(each.close)
        for each in curls:
            await asyncio.to_thread(each.opened)
        await stack.enter_async_context(publisher(shell, busy.split("/")[-2]))
        await asyncio.gather(*(reading.received(deadline=PATIENCE) for reading in readings[1::2]))
        told = time.monotonic()
        tell()
        for reading in readings:
            await reading.assert_farewell(deadline=PATIENCE)
        status = await asyncio.to_thread(server.wait, PATIENCE)
        assert time.monotonic() - told < DRAIN_SECONDS
        for each in curls:
            await asyncio.to_thread(each.assert_whole)
    for reading in readings[1::2]:
        numbers = [int(each.data) for each in reading.messages if each.type == "message"]
        assert numbers == list(range(len(numbers)))
    assert "cuts" not in server.log()
    assert "Traceback" not in server.log(), server.log_tail()
    return status


@pytest.mark.parametrize("name", SERVERS)
async def test_streams_end_whole_before_the_server_stops(
    name: str, draining_site: Site, shell: Shell, serve: Callable[..., AsgiServer]
) -> None:
    kind, arguments, status = SERVERS[name]
    server = serve(draining_site, kind=kind, arguments=arguments, name=name)
    assert await drain(server, shell, lambda: server.signal(signal.SIGTERM), readers=8) == status


@pytest.mark.faults
@pytest.mark.parametrize("name", [*SERVERS, "hypercorn-workers"])
@pytest.mark.parametrize("door", APPLICATIONS)
async def test_a_thousand_streams_end_whole(
    name: str, door: Door, draining_site: Site, shell: Shell, serve: Callable[..., AsgiServer]
) -> None:
    kind, arguments, status = SERVERS.get(name, ("hypercorn", ("--workers", "2", *PATIENT), 0))
    server = serve(
        draining_site, kind=kind, arguments=arguments, app=APPLICATIONS[door], name=f"many-{door}-{name}"
    )
    assert await drain(server, shell, lambda: server.signal(signal.SIGTERM), readers=1000) == status


async def test_ctrl_c_in_a_terminal_is_one_signal(
    draining_site: Site, shell: Shell, serve: Callable[..., AsgiServer]
) -> None:
    """It reaches the workers from the terminal and, as SIGTERM, from their parent."""
    server = serve(draining_site, kind="uvicorn", arguments=("--workers", "2"), name="ctrl-c")
    # The server leads a process group of its own.
    assert await drain(server, shell, lambda: os.killpg(server.pid, signal.SIGINT), readers=8) == 0


@pytest.mark.parametrize(
    ("kind", "arguments", "number"),
    [
        ("daphne", (), signal.SIGINT),
        ("uvicorn", (), signal.SIGTERM),
        ("hypercorn", ("--graceful-timeout", "100"), signal.SIGTERM),
        ("granian", (), signal.SIGTERM),
    ],
)
async def test_a_second_signal_ends_at_once(
    kind: Kind,
    arguments: tuple[str, ...],
    number: int,
    patient_site: Site,
    serve: Callable[..., AsgiServer],
) -> None:
    server = serve(patient_site, kind=kind, arguments=arguments, name=f"second-{kind}")
    worker = server.pid
    async with contextlib.AsyncExitStack() as stack:
        url = f"{server.url}/events/{fresh('quiet')}/"
        idle = await Reading.open(url)
        stack.callback(idle.close)
        never_acks = await Reading.open(f"{url}?client=one-who-never-acks")
        stack.callback(never_acks.close)
        server.signal(number)
        await idle.assert_farewell(deadline=PATIENCE)
        await never_acks.asked(deadline=PATIENCE)
        assert server.running
        again = time.monotonic()
        while server.running:
            # Of those that come within a second of the first, none is a second one.
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, number)
            await asyncio.sleep(0.2)
            assert time.monotonic() - again < PATIENCE / 2, server.log_tail()
        await never_acks.end(deadline=PATIENCE)
