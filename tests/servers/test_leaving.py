"""A process that is told to leave does, whatever its database and its clients do, and says what it was."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from project.programs.ports import HOST
from project.programs.postgres import Postgres
from tests.harness.proxy import Proxy
from tests.harness.reading import Reading
from tests.harness.server import AsgiServer, Kind
from tests.harness.shell import Shell
from tests.harness.site import Site

from . import fleet
from .served import APPLICATIONS, eventually, fresh

PATIENCE = 60.0
QUICK = "tests.servers.quick_beat:application"

Serve = Callable[..., AsgiServer]


def held(drain: dict[str, float], **more: Any) -> dict[str, Any]:
    """Return settings with streams that only a drain ends."""
    burst = {"max_events": 10_000, "max_bytes": 2**25, "hold_seconds": 120, "max_seconds": 200}
    return {"BURST": burst, "HEARTBEAT_SECONDS": 60, "DRAIN": drain, **more}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Each test has settings of its own, and all of them one database, which takes its time to make."""
    return Site(tmp_path_factory.mktemp("leaving"))


@pytest.fixture(scope="module")
def shell(site: Site) -> Iterator[Shell]:
    with Shell(site) as shell:
        yield shell


SHORT = {"seconds": 5, "ack_seconds": 0.5, "spread_seconds": 0}


@contextlib.asynccontextmanager
async def readers(server: AsgiServer, count: int, query: str = "") -> AsyncIterator[list[Reading]]:
    url = f"{server.url}/events/{fresh()}/{query}"
    readings = await asyncio.gather(*(Reading.open(url) for _ in range(count)))
    try:
        yield readings
    finally:
        for each in readings:
            each.close()


# A database that says nothing


@pytest.fixture
def proxy(shared_postgres: Postgres) -> Iterator[Proxy]:
    made = Proxy(shared_postgres.port).start()
    yield made
    made.close()


@pytest.mark.parametrize(
    "kind",
    [
        "daphne",
        *(pytest.param(kind, marks=pytest.mark.faults) for kind in ("uvicorn", "hypercorn", "granian")),
    ],
)
async def test_a_process_ends_though_its_database_is_mute(
    kind: Kind, tmp_path: Path, shared_postgres: Postgres, proxy: Proxy, serve: Serve
) -> None:
    url = shared_postgres.create(f"leaving_{kind}").replace(str(shared_postgres.port), str(proxy.port))
    options = {"arguments": ("--graceful-timeout", "20")} if kind == "hypercorn" else {}
    server = serve(Site(tmp_path, database=url, sse_polling=held(SHORT)), kind=kind, app=QUICK, **options)
    async with readers(server, 3) as readings:
        await asyncio.sleep(0.4)  # it has beaten, and has connections
        proxy.mute()
        await asyncio.sleep(0.3)  # it beats, and waits for an answer
        told = time.monotonic()
        server.signal(signal.SIGTERM)
        for each in readings:
            await each.assert_farewell(deadline=PATIENCE)
        await asyncio.to_thread(server.wait, PATIENCE)
        assert time.monotonic() - told < 9  # an answer is waited for for 10 s, and the interpreter for ever


async def test_the_last_row_is_written_though_the_database_is_slow(site: Site, serve: Serve) -> None:
    """It tells what became of the streams; nobody could tell afterwards."""
    site.sse_polling = held(SHORT)
    server = serve(site, kind="uvicorn", app=QUICK)
    pid = server.pid
    async with readers(server, 3) as readings:
        with contextlib.closing(
            sqlite3.connect(site.directory / "site.sqlite3", isolation_level=None)
        ) as other:

            def row() -> Any:
                query = "SELECT stopped IS NOT NULL, sockets, json_extract(figures, '$.farewells.not_asked') "
                return other.execute(f"{query} FROM sse_polling_node WHERE pid = ?", [pid]).fetchone()

            await eventually(row, what="a row")
            other.execute("BEGIN IMMEDIATE")
            server.signal(signal.SIGTERM)
            for each in readings:
                await each.assert_farewell(deadline=PATIENCE)
            await asyncio.sleep(0.8)
            other.execute("COMMIT")
            await asyncio.to_thread(server.wait, PATIENCE)
            assert row() == (1, 0, 3)


# Clients that do not read


class Deaf:
    """A client that asks for a stream and reads nothing of it."""

    def __init__(self, server: AsgiServer, channel: str, *headers: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect((HOST, server.port))
        lines = [f"GET /events/{channel}/ HTTP/1.1", f"Host: {HOST}", *headers, "", ""]
        self._socket.sendall("\r\n".join(lines).encode())

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize(
    "forwarded", [(), pytest.param(("X-Forwarded-For: 203.0.113.9",), marks=pytest.mark.faults)], ids=len
)
async def test_a_view_s_client_that_does_not_read_keeps_the_process_no_longer_than_a_drain(
    forwarded: tuple[str, ...], site: Site, serve: Serve
) -> None:
    """It is found by its address. Where a proxy's headers hide that, the server is left to end it."""
    drain = {"seconds": 1.5, "ack_seconds": 0.5, "spread_seconds": 0}
    site.sse_polling = held(drain, TAIL={"max_bytes": 2**26})
    limit = ("--timeout-graceful-shutdown", "4") if forwarded else ()
    server = serve(site, kind="uvicorn", app=APPLICATIONS["view"], arguments=limit)
    channel = fresh()
    with contextlib.closing(Deaf(server, channel, *forwarded)):

        async def opened() -> bool:
            return bool((await asyncio.to_thread(server.counts))["open"])

        await eventually(opened, what="the stream is open")
        for _ in range(4):  # more than the kernel takes for it
            await asyncio.to_thread(server.publish, channel, *["y" * 250_000] * 8)
        await asyncio.sleep(0.5)
        told = time.monotonic()
        server.signal(signal.SIGTERM)
        await asyncio.to_thread(server.wait, PATIENCE)
        took = time.monotonic() - told
    log = server.log()
    if forwarded:
        assert "cannot reach 1 sockets" in log
        assert "sse_polling cuts" not in log
        assert took < 8
    else:
        assert "sse_polling cuts 1 sockets" in log
        assert "cannot reach" not in log
        assert 1 < took < 5


# Told twice, and kept sockets


async def test_a_signal_after_an_order_ends_streams_within_the_servers_limit(
    site: Site, shell: Shell, serve: Serve
) -> None:
    site.sse_polling = held({"seconds": 60, "ack_seconds": 50, "spread_seconds": 0})
    server = serve(site, kind="uvicorn", app=QUICK, arguments=("--timeout-graceful-shutdown", "2"))
    async with readers(server, 3, "?client=one-who-never-acks") as readings:
        node = await fleet.node_of(shell, server.pid)
        await fleet.give(shell, "drain", node["pk"])
        for each in readings:
            await each.asked(deadline=PATIENCE)
        told = time.monotonic()
        server.signal(signal.SIGTERM)
        for each in readings:
            await each.assert_farewell(deadline=PATIENCE)
        await asyncio.to_thread(server.wait, PATIENCE)
        assert time.monotonic() - told < 10
    assert "cuts" not in server.log()


#: Whose sockets a drain closes though they were to be kept; the others have told their clients already.
CLOSES: dict[Kind, bool] = {"daphne": True, "uvicorn": True, "hypercorn": False, "granian": False}


@pytest.mark.parametrize(
    "kind",
    [kind if closes else pytest.param(kind, marks=pytest.mark.faults) for kind, closes in CLOSES.items()],
)
async def test_an_orders_drain_closes_sockets_that_were_to_be_kept_or_says_that_they_are(
    kind: Kind, site: Site, shell: Shell, serve: Serve
) -> None:
    site.sse_polling = held(SHORT, CLOSE_SOCKET=False)
    server = serve(site, kind=kind, app=QUICK)
    async with readers(server, 2) as readings:
        pk = (await fleet.node_of(shell, server.pid))["pk"]
        await fleet.give(shell, "drain", pk)

        async def drained() -> Any:
            row = next(node for node in await fleet.read(shell) if node["pk"] == pk)
            return row["state"] == "drained" and row["figures"]["sockets"]

        sockets = await eventually(drained, what="drained")
        if CLOSES[kind]:
            for each in readings:
                await each.assert_farewell(deadline=2)
        assert sockets["kept"] == (0 if CLOSES[kind] else 2)
        assert sockets["open"] == sockets["flushing"] == 0
