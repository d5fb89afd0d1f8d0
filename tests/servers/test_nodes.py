"""Real processes: their rows, and what they do when they are ordered to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from project.programs.redis import Redis
from tests.harness.connection import request
from tests.harness.programs import require
from tests.harness.reading import Reading
from tests.harness.server import AsgiServer, Kind
from tests.harness.shell import Shell
from tests.harness.site import Site

from .fleet import give, node_of, read, result_of
from .served import eventually, fresh

STREAMS: dict[str, Any] = {
    "BURST": {"max_events": 500, "hold_seconds": 120, "linger_seconds": 120, "max_seconds": 200},
    "SYNC_SECONDS": 60,
    "TAIL": {"max_events": 5},
    "DRAIN": {"seconds": 30, "ack_seconds": 1, "spread_seconds": 0},
}
LOOK = """
from sse_polling.nodes.beat import give_word
give_word()
"""
BACK = """
from datetime import timedelta
from django.db.models import F
from sse_polling.models import Node
Node.objects.filter(pk=node).update(seen=F("seen") - timedelta(seconds=seconds))
"""


@pytest.fixture(scope="module")
def redis_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require("redis-server")
    directory: Path = tmp_path_factory.mktemp("nodes")
    redis = Redis(directory).start()
    try:
        yield Site(directory, redis=redis, sse_polling=STREAMS)
    finally:
        redis.kill()


@pytest.fixture(scope="module")
def shell(redis_site: Site) -> Iterator[Shell]:
    with Shell(redis_site) as shell:
        yield shell


@pytest.fixture(scope="module")
def server(redis_site: Site) -> Iterator[AsgiServer]:
    """A process that does what it is asked only because the layer has told it to look."""
    server = AsgiServer(redis_site, kind="uvicorn", app="tests.servers.rare_beat:application").start()
    try:
        yield server
        assert "Traceback" not in server.log()
    finally:
        server.kill()


@asynccontextmanager
async def held(server: AsgiServer, *channels: str) -> AsyncIterator[list[Reading]]:
    """Hold a stream of each channel, on a process that hears the layer."""
    readings = [await Reading.open(f"{server.url}/events/{channel}/") for channel in channels]
    try:

        async def hears() -> bool:
            return b'"layer": "live"' in (await request(f"{server.url}/events/ready/")).body

        await eventually(hears)
        yield readings
    finally:
        for reading in readings:
            reading.close()


async def looked_at(shell: Shell, server: AsgiServer) -> dict[str, Any]:
    """Have the process look, and return its row, of now or soon."""
    await asyncio.to_thread(shell.run, LOOK)
    return await node_of(shell, server.pid)


@pytest.mark.parametrize("kind", ["daphne", pytest.param("uvicorn", marks=pytest.mark.faults)])
async def test_a_process_has_a_row_before_anybody_asks_it_for_anything(
    site: Site, serve: Callable[..., AsgiServer], kind: Kind
) -> None:
    """And says when it ends; one that is killed falls silent, and is tidied away by the others."""
    server = serve(site, kind=kind)
    with closing(Shell(site)) as shell:
        node = await node_of(shell, server.pid)
        assert (node["server"], node["state"], node["sockets"]) == (kind, "serving", 0)
        await asyncio.to_thread(server.restart)
        again = await node_of(shell, server.pid)
        states = {each["name"]: each["state"] for each in await read(shell)}
        assert states == {node["name"]: "stopped", again["name"]: "serving"}
        await asyncio.to_thread(server.kill)
        assert (await node_of(shell, again["pid"]))["state"] == "serving"
        await asyncio.to_thread(shell.run, BACK, node=again["pk"], seconds=20)
        assert (await node_of(shell, again["pid"]))["state"] == "silent"
        await asyncio.to_thread(shell.run, BACK, node=again["pk"], seconds=700)
        await asyncio.to_thread(server.start)
        await node_of(shell, server.pid)

        async def tidied() -> bool:
            return again["name"] not in [each["name"] for each in await read(shell)]

        await eventually(tidied)


async def test_an_order_through_the_layer_is_obeyed_at_once_and_so_is_its_end(
    server: AsgiServer, shell: Shell
) -> None:
    node = await node_of(shell, server.pid)
    async with held(server, fresh(), fresh()) as readings:
        order = await give(shell, "drain", node["pk"])
        for reading in readings:
            await reading.assert_farewell(deadline=20)
        assert await result_of(shell, order) == "begun"
        ready = await request(f"{server.url}/events/ready/")
        assert (ready.status, b"drained" in ready.body) == (503, True)
        refused = await request(f"{server.url}/events/{fresh()}/")
        assert (refused.status, refused.header("content-type")) == (200, "text/event-stream")
        assert refused.body.startswith(b"retry: 3")
        order = await give(shell, "resume", node["pk"])
        assert await result_of(shell, order) == "begun"
        assert (await request(f"{server.url}/events/ready/")).status == 200
        assert (await looked_at(shell, server))["figures"]["farewells"] == {"not_asked": 2}


async def test_without_a_layer_an_order_is_found_in_the_row(
    site: Site, serve: Callable[..., AsgiServer]
) -> None:
    site.sse_polling.update(STREAMS)
    server = serve(site, kind="daphne")
    with closing(Shell(site)) as shell:
        node = await node_of(shell, server.pid)
        reading = await Reading.open(f"{server.url}/events/{fresh()}/")
        with closing(reading):
            order = await give(shell, "drain", node["pk"])
            await reading.assert_farewell(deadline=20)
        assert await result_of(shell, order) == "begun"


async def test_one_socket_is_closed_by_its_number_and_the_others_stay(
    server: AsgiServer, shell: Shell
) -> None:
    channel = fresh()
    node = await node_of(shell, server.pid)
    async with held(server, channel, channel) as (one, other):

        async def listed() -> Any:
            found = (await looked_at(shell, server))["listed"]
            numbers = sorted(number for number, channels, *_ in found if channels == [channel])
            return numbers if len(numbers) == 2 else None

        number, _ = await eventually(listed)  # the first that was opened has the lower one
        order = await give(shell, "close", node["pk"], str(number))
        await one.assert_farewell(deadline=20)
        assert await result_of(shell, order) == "closing 1"
        await asyncio.to_thread(server.publish, channel, "still here")
        await other.received(deadline=20)
        assert [message.data for message in other.messages] == ["still here"]
        order = await give(shell, "close", node["pk"], str(number))
        assert await result_of(shell, order) == "gone"


async def test_a_channel_is_drained_and_no_other(server: AsgiServer, shell: Shell) -> None:
    wanted, other = fresh(), fresh()
    node = await node_of(shell, server.pid)
    async with held(server, wanted, other, wanted) as (first, staying, second):
        order = await give(shell, "channel", node["pk"], wanted)
        for reading in (first, second):
            await reading.assert_farewell(deadline=20)
        assert await result_of(shell, order) == "closing 2"
        assert (await node_of(shell, server.pid))["state"] == "serving"
        again = await Reading.open(f"{server.url}/events/{wanted}/")
        again.close()
        await asyncio.to_thread(server.publish, other, "still here")
        await staying.received(deadline=20)


async def test_what_is_measured_of_streams_moves(server: AsgiServer, shell: Shell) -> None:
    channel = fresh()

    async def figures(**least: int) -> dict[str, Any]:
        async def told() -> Any:
            found = (await looked_at(shell, server))["figures"]
            return found if all(found[name] >= count for name, count in least.items()) else None

        return dict(await eventually(told))

    before = await figures()
    await asyncio.to_thread(server.publish, channel, *range(20))
    earliest = f"{server.url}/events/{channel}/?last_event_id=earliest"
    cold = await Reading.open(earliest)  # of the tail, which holds five, the rest comes from the database
    await cold.received(deadline=20)
    cursor = cold.messages[-2].last_event_id
    warm = await Reading.open(f"{server.url}/events/{channel}/?last_event_id={cursor}")
    await warm.received(deadline=20)
    await asyncio.to_thread(server.publish, channel, "now")
    await eventually(lambda: len(cold.messages) == 21 and len(warm.messages) == 2)
    for reading in (cold, warm):
        reading.close()
    after = await figures(
        delivered=before["delivered"] + 23,
        published=before["published"] + 21,
        reconnects=before["reconnects"] + 1,
    )
    assert after["bytes"] - before["bytes"] > 23 * 10
    assert after["replays"].get("database", 0) - before["replays"].get("database", 0) == 1
    assert after["replays"].get("tail", 0) - before["replays"].get("tail", 0) == 1
    for name, least in {"latency": 2, "first": 2}.items():
        assert sum(after[name]["counts"]) - sum(before[name]["counts"]) >= least
        assert after[name]["total"] - before[name]["total"] < 20
