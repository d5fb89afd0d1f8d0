"""A thousand streams held open at once: what they cost, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from project.programs.postgres import Postgres
from tests.harness.connection import Address, Connection
from tests.harness.http import ResponseParser
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

from .served import APPLICATIONS, Door, eventually, fresh

logger = logging.getLogger(__name__)

STREAMS = 1000
OPENING_AT_ONCE = 25
LONG = {"hold_seconds": 300, "linger_seconds": 300, "max_seconds": 300}


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process, and the servers it starts, open enough sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * STREAMS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Reader:
    """One client that reads its stream and never closes its end."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.parser = ResponseParser()
        self.received = b""

    async def read_until(self, mark: bytes) -> None:
        while mark not in self.received:
            data = await self.connection.receive()
            assert data, f"closed after {self.received[-200:]!r}"
            self.received += self.parser.feed(data)

    async def read_to_the_end(self) -> float:
        """Return when the last byte of the response came."""
        while not self.parser.response.complete:
            data = await self.connection.receive()
            assert data, f"closed after {self.received[-200:]!r}"
            self.received += self.parser.feed(data)
        return time.monotonic()


async def hold(server: AsgiServer, channel: str, cookies: dict[str, str], stack: ExitStack) -> list[Reader]:
    address = Address(f"{server.url}/events/{channel}/")
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    head = address.head({"Accept": "text/event-stream", "Cookie": cookie})
    limit = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one() -> Reader:
        async with limit:
            connection = await Connection.open(address)
            stack.callback(connection.close)
            await connection.send(head)
            reader = Reader(connection)
            await reader.read_until(b"\nid: ")
            return reader

    async with asyncio.timeout(60):
        return await asyncio.gather(*(one() for _ in range(STREAMS)))


@pytest.mark.parametrize(
    ("door", "kind"),
    [
        ("mount", "daphne"),
        pytest.param("view", "daphne", marks=pytest.mark.faults),
        pytest.param("mount", "uvicorn", marks=pytest.mark.faults),
    ],
)
async def test_a_thousand_streams_keep_no_thread_no_connection_and_leave_no_descriptor(
    shared_postgres: Postgres,
    serve: Callable[..., AsgiServer],
    tmp_path: Path,
    many_descriptors: None,
    door: Door,
    kind: Kind,
) -> None:
    database = f"held_{door}_{kind}"
    site = Site(
        tmp_path,
        database=shared_postgres.create(database),
        sse_polling={
            "AUTHORIZE": "sse_polling.access.authenticated",
            # At the view every request asks for its session and its user: that is what threads keep.
            "AUTH_CACHE_SECONDS": 0 if door == "view" else 5,
            "BURST": LONG,
            "HEARTBEAT_SECONDS": 3600,
            "PER_CLIENT": {"max_sockets": 2 * STREAMS},
        },
    )
    cookies = site.session()
    figures: dict[str, float] = {}
    server = serve(site, kind=kind, app=APPLICATIONS[door])
    channel = fresh("held")
    with ExitStack() as stack:
        server.publish(channel, "before")  # the hub, its threads and their connections are there from now on
        idle = server.fds()
        began = time.monotonic()
        readers = await hold(server, channel, cookies, stack)
        figures["seconds to open"] = round(time.monotonic() - began, 2)
        assert server.sockets() >= STREAMS

        await eventually(lambda: server.threads() < 16, what="fewer than 16 threads")
        await eventually(
            lambda: shared_postgres.connections(database) <= 3, what="the hub's connections and the beat's"
        )
        await asyncio.sleep(0.5)  # and it stays so
        figures["threads"] = server.threads()
        figures["database connections"] = shared_postgres.connections(database)
        assert server.threads() < 16
        assert shared_postgres.connections(database) <= 3

        await asyncio.to_thread(
            server.publish, channel, events=[{"data": "a"}, {"data": "b", "ends_burst": True}]
        )
        async with asyncio.timeout(60):
            last = max(await asyncio.gather(*(reader.read_to_the_end() for reader in readers)))
        for reader in readers:
            assert reader.received.count(b"\ndata: a\n") == reader.received.count(b"\ndata: b\n") == 1
        if door == "mount":
            # The clients keep their ends open. What else is new: connections to the database, wakes.
            await eventually(lambda: server.fds() <= idle + 8, what="descriptors back to idle")
            figures["seconds to idle descriptors"] = round(time.monotonic() - last, 2)
        assert server.threads() < 16
    assert "Traceback" not in server.log(), server.log_tail()
    logger.info(
        "%s streams at the %s of %s: %s", STREAMS, door, kind, figures
    )  # shown with --log-cli-level=INFO
