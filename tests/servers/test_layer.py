"""What reaches a stream through the channel layer, and what only by looking into the database.

SYNC_SECONDS is 60 here unless a test is about comparing: otherwise polling the database would
pass for a channel layer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from project.programs.redis import Redis
from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Layer, Site

from .served import eventually

SLOW = {"PRESET": "live", "SYNC_SECONDS": 60}
#: Far below SYNC_SECONDS and far above what any machine needs.
SOON = 20

WITHOUT_WAKES = "from sse_polling.wake import sender\nsender.put = lambda wakes: None\n"


@asynccontextmanager
async def held(server: AsgiServer, channel: str) -> AsyncIterator[EventSourceClient]:
    """Hold a stream open, in its first burst, until the block is left."""
    client = EventSourceClient(f"{server.url}/events/{channel}/")
    reading = asyncio.create_task(client.one_response(deadline=120))
    try:
        await eventually(lambda: client.last_event_id)
        yield client
        assert not reading.done(), f"the stream ended: {client.summary()}"
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("layer", ["pubsub", "core"])
async def test_another_process_wakes_a_held_stream_through_the_layer(
    tmp_path: Path, redis: Redis, serve: Callable[..., AsgiServer], layer: Layer
) -> None:
    site = Site(tmp_path, redis=redis, layer=layer, sse_polling=SLOW)
    reader, publisher = serve(site, kind="uvicorn"), serve(site, kind="daphne")
    delays = []
    async with held(reader, "builds.1") as client:
        for number in range(1, 6):
            await asyncio.to_thread(publisher.publish, "builds.1", number)
            committed = time.monotonic()
            await eventually(lambda number=number: len(client.data) == number, deadline=SOON)
            delays.append(client.transcript[-1].at - committed)
        with Shell(site) as shell:  # a process without a server: a command, a task
            await asyncio.to_thread(shell.publish, "builds.1", 6)
            await eventually(lambda: len(client.data) == 6, deadline=SOON)
        assert client.data == ["1", "2", "3", "4", "5", "6"]
    assert min(delays) < 1, delays


async def test_without_a_wake_an_event_waits_for_the_next_and_comes_with_it(
    tmp_path: Path, redis: Redis, serve: Callable[..., AsgiServer]
) -> None:
    site = Site(tmp_path, redis=redis, sse_polling=SLOW)
    reader = serve(site, kind="uvicorn")
    with Shell(site) as mute, Shell(site) as other:
        await asyncio.to_thread(mute.run, WITHOUT_WAKES)
        async with held(reader, "builds.1") as client:
            await asyncio.to_thread(other.publish, "builds.1", "woken")
            await eventually(lambda: client.data == ["woken"], deadline=SOON)
            await asyncio.to_thread(mute.publish, "builds.1", "mute 1", "mute 2")
            await asyncio.sleep(1.5)
            assert client.data == ["woken"]
            await asyncio.to_thread(other.publish, "builds.1", "woken again")
            await eventually(lambda: len(client.data) == 4, deadline=SOON)
            assert client.data == ["woken", "mute 1", "mute 2", "woken again"]


async def test_without_wakes_an_event_arrives_at_the_next_comparison(
    tmp_path: Path, redis: Redis, serve: Callable[..., AsgiServer]
) -> None:
    site = Site(tmp_path, redis=redis, sse_polling={**SLOW, "SYNC_SECONDS": 3})
    reader = serve(site, kind="uvicorn")
    with Shell(site) as mute:
        await asyncio.to_thread(mute.run, WITHOUT_WAKES)
        async with held(reader, "builds.1") as client:
            arrivals = []
            for number in (1, 2):
                # Published right after a comparison, each must wait for the whole pause.
                await asyncio.to_thread(mute.publish, "builds.1", number)
                await eventually(lambda number=number: len(client.data) == number, deadline=SOON)
                arrivals.append(client.transcript[-1].at)
            assert client.data == ["1", "2"]
            assert arrivals[1] - arrivals[0] > 2, arrivals


async def test_on_sqlite_another_process_is_noticed_without_a_layer(
    site: Site, serve: Callable[..., AsgiServer]
) -> None:
    site.sse_polling.update(SLOW)
    reader, publisher = serve(site, kind="daphne"), serve(site, kind="uvicorn")
    async with held(reader, "builds.1") as client:
        await asyncio.to_thread(publisher.publish, "builds.1", "a")
        await eventually(lambda: client.data == ["a"], deadline=SOON)
        with Shell(site) as shell:
            await asyncio.to_thread(shell.publish, "builds.1", "b")
            await asyncio.to_thread(shell.publish, "builds.2", "another channel's")
            await eventually(lambda: client.data == ["a", "b"], deadline=SOON)


async def test_a_lost_redis_costs_a_comparison_and_no_event(
    tmp_path: Path, redis: Redis, serve: Callable[..., AsgiServer]
) -> None:
    site = Site(tmp_path, redis=redis, sse_polling={**SLOW, "SYNC_SECONDS": 1})
    reader = serve(site, kind="uvicorn")
    events: list[Any] = []
    with Shell(site) as shell:
        async with held(reader, "builds.1") as client:
            for number in range(1, 10):
                if number == 4:
                    await asyncio.to_thread(redis.kill)
                if number == 7:
                    await asyncio.to_thread(redis.start)
                await asyncio.to_thread(shell.publish, "builds.1", number)
                events.append(str(number))
                await eventually(lambda: client.data == events, deadline=SOON)


async def layer_of(server: AsgiServer) -> str | None:
    answer = await request(f"{server.url}/events/ready/")
    state: str | None = json.loads(answer.body)["layer"]
    return state


@pytest.mark.faults
@pytest.mark.parametrize("layer", ["pubsub", "core"])
async def test_a_mute_redis_is_noticed_blocks_no_publisher_and_is_heard_again(
    tmp_path: Path, redis: Redis, serve: Callable[..., AsgiServer], layer: Layer
) -> None:
    site = Site(tmp_path, redis=redis, layer=layer, sse_polling={**SLOW, "SYNC_SECONDS": 1})
    reader = serve(site, kind="daphne")
    with Shell(site) as shell:
        assert await layer_of(reader) is None  # nobody reads yet
        async with held(reader, "builds.1") as client:
            await until(lambda: layer_of(reader), "live")
            redis.pause()
            took = []
            for number in range(1, 4):
                began = time.monotonic()
                await asyncio.to_thread(shell.publish, "builds.1", number)
                took.append(time.monotonic() - began)
                await eventually(lambda number=number: len(client.data) == number, deadline=SOON)
            assert min(took) < 3, took  # a send that is waited for takes five seconds
            await until(lambda: layer_of(reader), "polling")
            redis.resume()
            await until(lambda: layer_of(reader), "live")
            await asyncio.to_thread(shell.publish, "builds.1", 4)
            await eventually(lambda: client.data == ["1", "2", "3", "4"], deadline=SOON)
    log = reader.log()
    assert log.count("does not hear from the channel layer") == 1
    assert "sse_polling task" not in log


async def until(ask: Callable[[], Any], wanted: str) -> None:
    async with asyncio.timeout(SOON):
        while await ask() != wanted:  # noqa: ASYNC110 - it is asked of another process
            await asyncio.sleep(0.1)


_WSGI_POLLS = """
from django.test import Client
from sse_polling import publish
publish("a", "one")
for _ in range(5):
    body = Client().get("/events/a/?last_event_id=earliest").content
print(body.count(b"data: one"))
"""


@pytest.mark.parametrize("layer", ["pubsub", "core"])
def test_polls_under_wsgi_end_whatever_the_layer(tmp_path: Path, redis: Redis, layer: Any) -> None:
    """Each has an event loop of its own: a hub's tasks there would keep it from closing."""
    site = Site(tmp_path, redis=redis, layer=layer)
    site.migrate()
    assert site.python(_WSGI_POLLS).split() == ["1"]
