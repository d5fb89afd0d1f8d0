"""Clients that do not read, and those that are gone: cut within a limit, and cheap until then."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.harness.client import EventSourceClient
from tests.harness.connection import Address, Connection, stalled
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

from .served import eventually, fresh

KINDS: tuple[Kind, ...] = get_args(Kind)
STALL_SECONDS = 1.5
LONG = {"max_events": 10_000, "max_bytes": 2**26, "max_seconds": 90, "hold_seconds": 60, "linger_seconds": 60}
CLIENTS = 30
EVENTS = 1920
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(
        tmp_path_factory.mktemp("slow"),
        sse_polling={
            "BURST": LONG,
            "SEND": {"stall_seconds": STALL_SECONDS},
            "TAIL": {
                "max_events": EVENTS,
                "max_bytes": 2**24,
            },  # a replay from the database has its own batch in memory
        },
    )


@pytest.fixture(scope="module")
def servers(site: Site) -> Iterator[dict[Kind, AsgiServer]]:
    with ExitStack() as stack:
        started = {}
        for kind in KINDS:
            started[kind] = AsgiServer(site, kind=kind).start()
            stack.callback(started[kind].kill)
        yield started
        for server in started.values():
            assert "Traceback" not in server.log(), server.log()[-8000:]


@pytest.fixture(scope="module")
def full(servers: dict[Kind, AsgiServer]) -> str:
    """A channel with more than a socket and its server can hold."""
    channel = fresh()
    for _ in range(3):  # small ones: of large ones clients share the bytes
        servers["daphne"].publish(channel, *["x" * 4_000] * (EVENTS // 3))
    return channel


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, servers: dict[Kind, AsgiServer]) -> AsgiServer:
    return servers[request.param]


def peak(server: AsgiServer) -> int:
    """Return the most memory the process has had since `forget_peak`."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak(server: AsgiServer) -> None:
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


def sockets(server: AsgiServer) -> set[str]:
    return {each for each in server.descriptors() if each.startswith("socket:")}


async def gone(server: AsgiServer, idle: int, *, deadline: float) -> None:
    # One or two others may have come: a database's, a log's.
    await eventually(lambda: server.sockets() <= idle + 2, deadline=deadline, what="sockets back to idle")


async def test_clients_that_never_read_are_cut_within_the_limit_and_cost_little(
    server: AsgiServer, full: str
) -> None:
    url = f"{server.url}/events/{full}/?last_event_id=earliest"
    async with EventSourceClient(url) as reader:
        await reader.read_until(EVENTS, deadline=20)  # the channel is in memory now
    idle = server.sockets()
    forget_peak(server)
    before = server.memory()
    async with AsyncExitStack() as stack:
        for _ in range(CLIENTS):
            await stack.enter_async_context(stalled(url))
        await eventually(lambda: server.sockets() >= CLIENTS, what="all clients")
        await gone(server, idle, deadline=STALL_SECONDS + 10)
    if server.kind != "granian":  # it has room of its own, which nobody bounds from here
        grown = (peak(server) - before) / MEGABYTE
        assert grown < CLIENTS + 16, "unbounded it would be 7.5 a client"


async def test_a_client_that_leaves_the_end_of_a_burst_unread_is_cut_too(server: AsgiServer) -> None:
    channel = fresh()
    server.publish(channel, events=[{"data": "x" * 220_000, "ends_burst": True}])
    before = sockets(server)
    started = time.monotonic()
    async with stalled(f"{server.url}/events/{channel}/?last_event_id=earliest"):
        if server.kind == "granian":  # the kernel has taken all of it, and the socket is gone at once
            await gone(server, len(before), deadline=STALL_SECONDS + 10)
            return
        new = await eventually(lambda: sockets(server) - before, what="the client's socket")
        await eventually(lambda: not new & sockets(server), deadline=STALL_SECONDS + 10, what="it is cut")
        assert time.monotonic() - started > STALL_SECONDS / 2, "all was sent: nothing was tested"


async def test_a_client_that_reads_slowly_is_left_alone(servers: dict[Kind, AsgiServer], full: str) -> None:
    async def read(server: AsgiServer) -> None:
        async with stalled(f"{server.url}/events/{full}/?last_event_id=earliest") as client:
            ends = time.monotonic() + 2.5 * STALL_SECONDS
            while time.monotonic() < ends:
                await asyncio.sleep(0.2)
                try:
                    assert await client.receive(16_384)
                except (AssertionError, ConnectionError):
                    pytest.fail(f"{server.kind} has cut a client that reads")

    await asyncio.gather(*map(read, servers.values()))


# Peers that went without a word


@pytest.fixture(scope="module")
def beating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, AsgiServer]]:
    site = Site(tmp_path_factory.mktemp("beating"), sse_polling={"BURST": LONG, "HEARTBEAT_SECONDS": 1})
    with ExitStack() as stack:
        started = {}
        for kind in KINDS:
            started[kind] = AsgiServer(site, kind=kind).start()
            stack.callback(started[kind].kill)
        yield started


def vanish(connection: Connection) -> None:
    """Drop every packet that comes to this end from now on, as a machine without power does."""
    code = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: return 0
    buffer = ctypes.create_string_buffer(code)
    so_attach_filter = 26
    program = struct.pack("HL", 1, ctypes.addressof(buffer))
    connection.socket.setsockopt(socket.SOL_SOCKET, so_attach_filter, program)


@asynccontextmanager
async def held(server: AsgiServer) -> AsyncIterator[Connection]:
    address = Address(f"{server.url}/events/{fresh()}/")
    connection = await Connection.open(address)
    try:
        await connection.send(address.head({"Accept": "text/event-stream"}))
        received = b""
        while b"\nid: " not in received:
            received += await connection.receive()
        yield connection
    finally:
        connection.close()


async def test_a_peer_that_vanished_is_found_within_two_heartbeats(
    beating: dict[Kind, AsgiServer],
) -> None:
    async def found(server: AsgiServer) -> float:
        server.publish(fresh(), "warm")
        await asyncio.sleep(0.3)
        idle = server.sockets()
        async with held(server) as connection:
            await eventually(lambda: server.sockets() > idle, what="the stream")
            vanish(connection)
            started = time.monotonic()
            await eventually(lambda: server.sockets() <= idle, deadline=15, what=f"{server.kind}: gone")
            return time.monotonic() - started

    took: list[Any] = await asyncio.gather(*map(found, beating.values()))
    late = {kind: seconds for kind, seconds in zip(beating, took, strict=True) if seconds > 2 * 1 + 2}
    assert not late


async def test_a_stream_that_is_read_outlives_many_heartbeats(beating: dict[Kind, AsgiServer]) -> None:
    async def beats(server: AsgiServer) -> int:
        async with held(server) as connection:
            received = b""
            while received.count(b":\n") < 3:
                data = await connection.receive()
                assert data, f"{server.kind} has cut a client that reads"
                received += data
            return received.count(b":\n")

    assert min(await asyncio.gather(*map(beats, beating.values()))) >= 3
