"""Whatever way a stream ends, nothing of it stays behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.connection import Address, Connection, stalled

from .served import Served, eventually, fresh


@pytest.fixture(autouse=True)
async def idle_before(served: Served) -> None:
    await assert_released(served)


async def assert_released(served: Served) -> None:
    await eventually(
        lambda: _is_idle(served), deadline=10, what="sockets 0 in ready/, long before the reaper"
    )


async def _is_idle(served: Served) -> bool:
    return await served.sockets() == 0


async def open_held(served: Served, channel: str) -> Connection:
    address = Address(served.url(channel))
    connection = await Connection.open(address)
    await connection.send(address.head({"Accept": "text/event-stream"}))
    async with asyncio.timeout(20):
        received = b""
        while b"\nid: " not in received:
            received += await connection.receive()
    return connection


async def test_a_burst_that_ends_is_released(served: Served) -> None:
    for _ in range(3):
        await served.get(fresh())
    await assert_released(served)


async def test_the_end_of_a_channel_releases_its_streams(served: Served) -> None:
    channel = fresh("held")
    connections = [await open_held(served, channel) for _ in range(5)]
    assert await served.sockets() == 5
    served.server.publish(channel, finish=None)
    await assert_released(served)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_is_released_at_once(served: Served, how: str) -> None:
    channel = fresh("held")
    connections = [await open_held(served, channel) for _ in range(5)]
    served.server.publish(channel, "in mid-burst")
    assert await served.sockets() == 5
    for connection in connections:
        getattr(connection, how)()
    await assert_released(served)
    for connection in connections:
        connection.close()


async def test_a_client_that_leaves_before_the_first_byte_is_released(served: Served) -> None:
    address = Address(served.url(fresh("held")))
    head = address.head({"Accept": "text/event-stream"})
    for count in range(40):
        connection = await Connection.open(address)
        await connection.send(head)
        await asyncio.sleep(0.001 * (count % 10))
        connection.reset() if count % 2 else connection.close()
    await assert_released(served)


async def test_a_client_that_never_read_is_released_when_it_goes(served: Served) -> None:
    """The server's task is blocked in `send` then: Django's generator is closed late, elsewhere."""
    channel = fresh("huge")
    for _ in range(10):
        served.shell.publish(channel, *["x" * 250_000] * 4)
    url = served.url(channel, last_event_id="earliest")
    async with stalled(url) as one, stalled(url) as another:
        await eventually(lambda: _holds(served, 2))
        await asyncio.sleep(0.5)  # until what can be sent has been
        assert await served.sockets() == 2
        one.reset()
        another.close()
    await assert_released(served)


async def _holds(served: Served, streams: int) -> bool:
    return await served.sockets() == streams


async def test_the_descriptors_come_back_as_well(served: Served) -> None:
    if served.door == "view" and served.server.kind == "daphne":
        return  # the view cannot reach its socket: a system check says so
    channel = fresh("held")
    connections = [await open_held(served, channel) for _ in range(20)]
    try:
        held = served.server.fds()
        served.server.publish(channel, finish=None)
        # The clients keep their ends open. One or two others may come: a database's, a log's.
        await eventually(lambda: served.server.fds() <= held - 20 + 2, what="descriptors back to idle")
    finally:
        for connection in connections:
            connection.close()
