"""A burst's end gives the socket back, or keeps it for the next poll, whatever the client does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, get_args

import pytest

from tests.harness.client import EventSourceClient
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

from .served import eventually, fresh, retries

KINDS: tuple[Kind, ...] = get_args(Kind)
KEEP_ALIVE_SECONDS = 2.0
#: How long each keeps an idle socket when the settings say 2 s: hypercorn and granian have their own way.
WINDOWS: dict[Kind, float] = {
    "daphne": KEEP_ALIVE_SECONDS,
    "uvicorn": KEEP_ALIVE_SECONDS,
    "hypercorn": 5,
    "granian": 30,
}


def start_all(site: Site) -> Iterator[dict[Kind, AsgiServer]]:
    with ExitStack() as stack:
        started = {}
        for kind in KINDS:
            started[kind] = AsgiServer(site, kind=kind).start()
            stack.callback(started[kind].kill)
        yield started
        for server in started.values():
            assert "Traceback" not in server.log(), server.log()[-8000:]


def settings(**more: Any) -> dict[str, Any]:
    # A wait beyond every window, so that what keeps it inside is seen.
    return {
        "BURST": {"hold_seconds": 0, "linger_seconds": 0},
        "RETRY": {"base_ms": 60_000, "jitter": 0.3},
        **more,
    }


@pytest.fixture(scope="module")
def closing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, AsgiServer]]:
    yield from start_all(Site(tmp_path_factory.mktemp("closing"), sse_polling=settings()))


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, AsgiServer]]:
    sse_polling = settings(CLOSE_SOCKET=False, KEEP_ALIVE_SECONDS=KEEP_ALIVE_SECONDS)
    yield from start_all(Site(tmp_path_factory.mktemp("keeping"), sse_polling=sse_polling))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_socket_is_gone_within_a_second_though_the_client_keeps_its_end(
    closing: dict[Kind, AsgiServer], kind: Kind
) -> None:
    server, channel = closing[kind], fresh()
    server.publish(channel, "one", "two")
    before = set(server.descriptors())
    async with EventSourceClient(server_url(server, channel), keep_open=True) as client:
        for _ in range(10):
            assert (await client.one_response(deadline=10)).complete
            client.last_event_id = ""
        ended = time.monotonic()
        assert len(client.kept) == 10
        # uvicorn and hypercorn hang up by themselves after 5 s, the others later.
        await eventually(lambda: new_sockets(server, before) <= 1, what="the sockets are gone")
        assert time.monotonic() - ended < 1 + 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kept_socket_carries_the_next_poll(keeping: dict[Kind, AsgiServer], kind: Kind) -> None:
    server, channel = keeping[kind], fresh()
    server.publish(channel, "one")
    waits = []
    async with EventSourceClient(server_url(server, channel)) as client:
        for number in range(2, 12):
            while len(client.data) < number - 1:  # a poll may come before this process knows of the event
                waits += retries(await client.one_response(deadline=10))
            server.publish(channel, str(number))
        assert client.connections == 1
        assert client.data == ["one", *map(str, range(2, 11))]
    assert max(waits) <= WINDOWS[kind] * 1000 * 0.8
    assert min(waits) >= WINDOWS[kind] * 1000 * 0.8 * (1 - 0.3) - 1
    assert len(set(waits)) > 5, "the clients of a second come back in one moment"


@pytest.mark.parametrize("kind", ["daphne", pytest.param("uvicorn", marks=pytest.mark.faults)])
async def test_who_comes_back_when_told_finds_the_socket_and_who_does_not_loses_it(
    keeping: dict[Kind, AsgiServer], kind: Kind
) -> None:
    server, channel = keeping[kind], fresh()
    server.publish(channel, "one")
    client = EventSourceClient(server_url(server, channel), reconnect_seconds=None)
    async with client:
        await client.run(deadline=20, until=lambda client: len(client.responses) == 2)
        assert client.connections == 1
    async with EventSourceClient(server_url(server, channel)) as client:
        await client.one_response(deadline=10)
        idle = time.monotonic()
        before = set(server.descriptors())
        await eventually(lambda: before - set(server.descriptors()), what="the idle socket is closed")
        assert KEEP_ALIVE_SECONDS - 0.5 < time.monotonic() - idle < 5, "not the server's own window"


def server_url(server: AsgiServer, channel: str) -> str:
    return f"{server.url}/events/{channel}/?last_event_id=earliest"


def new_sockets(server: AsgiServer, before: set[str]) -> int:
    # One more may have come: a database's, a log's.
    return sum(each.startswith("socket:") for each in set(server.descriptors()) - before)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, AsgiServer]]:
    sse_polling = settings(CLOSE_SOCKET=False, MAX_SOCKETS=20, KEEP_ALIVE_SECONDS=20)
    yield from start_all(Site(tmp_path_factory.mktemp("few"), sse_polling=sse_polling))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crowd_keeps_no_more_sockets_than_leave_room_for_streams(
    few: dict[Kind, AsgiServer], kind: Kind
) -> None:
    server, channel = few[kind], fresh()
    server.publish(channel, "one")
    before = set(server.descriptors())
    async with AsyncExitStack() as stack:
        for _ in range(30):
            client = await stack.enter_async_context(EventSourceClient(server_url(server, channel)))
            assert (await client.one_response(deadline=10)).complete
        # Three quarters of the 18 that the breaker lets in.
        await eventually(lambda: new_sockets(server, before) <= 13 + 1, what="the rest is closed")
        assert new_sockets(server, before) >= 13 - 1
    if kind in ("granian", "hypercorn"):
        return  # one counts for its window, the other notices a client's end as late as that
    await eventually(lambda: new_sockets(server, before) <= 1, what="all are closed")
    await asyncio.sleep(1)  # it looks once a second
    async with EventSourceClient(server_url(server, channel)) as client:
        for _ in range(2):
            await client.one_response(deadline=10)
            client.last_event_id = ""
        assert client.connections == 1, "closed ones count no more"
