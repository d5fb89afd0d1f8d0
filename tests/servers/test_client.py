"""The Python client against real servers: drained with its ack, killed, exactly what is stored."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
from collections.abc import Callable

import pytest

from sse_polling.client import Event, StreamRefused, iter_events, stream_events
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

from .served import APPLICATIONS, Door, eventually, fresh

ACK_SECONDS = 60.0


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(
        tmp_path_factory.mktemp("client"),
        sse_polling={
            "BURST": {"max_events": 7, "hold_seconds": 60, "linger_seconds": 60, "max_seconds": 90},
            "RETRY": {"base_ms": 100, "behind_ms": 10, "jitter": 0},
            "DRAIN": {"seconds": 100, "ack_seconds": ACK_SECONDS, "spread_seconds": 0},
            "BREAKER": {"retry_after_seconds": 1},
        },
    )


def stored(site: Site, *channels: str) -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(site.database.removeprefix("sqlite:///"))) as database:
        rows = database.execute(
            "SELECT c.name, e.event, e.data FROM sse_polling_event e JOIN sse_polling_channel c"
            " ON c.id = e.channel_id ORDER BY c.name, e.sequence"
        )
        return [row for row in rows if row[0] in channels]


async def collect(url: str, into: list[Event]) -> None:
    async for event in stream_events(url, "earliest", backoff_seconds=0.1, max_backoff_seconds=0.3):
        into += [event]


def gather(url: str, into: list[Event]) -> None:
    for event in iter_events(url, "earliest", backoff_seconds=0.1, max_backoff_seconds=0.3):
        into += [event]


@pytest.mark.parametrize(("kind", "door"), [("daphne", "mount"), ("uvicorn", "view")])
async def test_drained_acked_killed_and_exact(
    kind: Kind, door: Door, shared_site: Site, serve: Callable[..., AsgiServer]
) -> None:
    server = serve(shared_site, kind=kind, app=APPLICATIONS[door])
    a, b = fresh("a"), fresh("b")

    async def publish(channel: str, start: int, stop: int, **more: object) -> None:
        data = [f"{number}\n\u2028" for number in range(start, stop)]
        await asyncio.to_thread(server.publish, channel, *data, **more)

    one, several, blocking = list[Event](), list[Event](), list[Event]()
    # Not one that the loop waits for: a test that fails would never end.
    thread = threading.Thread(target=gather, args=(f"{server.url}/events/{a}/", blocking), daemon=True)
    thread.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(collect(f"{server.url}/events/{a}/", one))
        group.create_task(collect(f"{server.url}/events/?channel={a}&channel={b}", several))
        await publish(a, 0, 20)
        await publish(b, 0, 5)
        await eventually(lambda: len(one) == len(blocking) == 20 and len(several) == 25)

        if kind == "daphne":
            # It listens no more: an ack finds nobody, and letting go of the socket is one as well.
            await asyncio.to_thread(server.stop, seconds=ACK_SECONDS / 2)
            assert "is drained: 3 closed" in server.log(), server.log()
            await asyncio.to_thread(server.start)
        else:
            node = f"{socket.gethostname()}:{server.pid}"
            await asyncio.to_thread(shared_site.manage, "sse_drain", "--node", node, "--wait", "30")
            assert "is drained: 3 acked" in server.log(), server.log()
            await asyncio.to_thread(server.restart, kill=True)
        assert "Traceback" not in server.log(), server.log()
        await publish(a, 20, 40)
        await eventually(lambda: len(one) >= 25)
        await asyncio.to_thread(server.restart, kill=True)
        await publish(a, 40, 60, finish={"n": 60})
        await publish(b, 5, 9, finish=None)
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    expected = stored(shared_site, a)
    assert len(expected) == 61
    assert [(a, each.event, each.data) for each in one] == expected
    assert [(a, each.event, each.data) for each in blocking] == expected
    for channel in (a, b):
        of_channel = [(channel, each.event, each.data) for each in several if each.channel == channel]
        assert of_channel == stored(shared_site, channel)
    assert len(several) == 61 + 10
    assert [each async for each in stream_events(f"{server.url}/events/{a}/", one[-1].id)] == []
    with pytest.raises(StreamRefused, match="400: Not a cursor: 'nonsense'"):
        await anext(stream_events(f"{server.url}/events/{a}/", "nonsense"))
