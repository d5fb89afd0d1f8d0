"""Servers that go away in the middle of things: every client continues exactly."""

from __future__ import annotations

import asyncio

import pytest

from .served import Served, eventually, fresh

EARLIEST = {"last_event_id": "earliest"}
ALL = [str(number) for number in range(1, 201)]


@pytest.mark.parametrize("how", ["killed", "told to stop"])
async def test_clients_continue_exactly_over_a_restart(served: Served, how: str) -> None:
    """Clients in every state: in mid-burst, waiting, reading their very first bytes."""
    channel, quiet = fresh(), fresh("short")
    await asyncio.to_thread(served.shell.publish, channel, *ALL[:100])
    await asyncio.to_thread(served.shell.publish, quiet, "before")
    clients = [served.client(channel, query=EARLIEST, reconnect_seconds=0.01 * n) for n in range(3)]
    clients.append(served.client([channel, quiet], query=EARLIEST, reconnect_seconds=0.01))
    waiting = served.client(quiet, query=EARLIEST, reconnect_seconds=0.01)
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(deadline=60))
        group.create_task(waiting.run(deadline=60))
        # In the middle: each burst brings ten.
        await eventually(lambda: len(clients[0].data) >= 20 and waiting.data)
        publishing = asyncio.create_task(publish_slowly(served, channel, ALL[100:]))
        await asyncio.to_thread(served.server.restart, kill=how == "killed")
        await publishing
        await asyncio.to_thread(served.server.publish, channel, finish={"all": True})
        await asyncio.to_thread(served.server.publish, quiet, "after", finish=None)
    for client in clients[:3]:
        assert client.data == [*ALL, '{"all":true}']
        assert client.types == ["message"] * 200 + ["end"]
        assert client.statuses[-1] == 204
    assert waiting.data == ["before", "after", "{}"]
    of_channel = [data for data in clients[3].data if f'"channel":"{channel}"' in data]
    assert len(of_channel) == 201
    assert len(clients[3].data) == 204


async def test_an_open_burst_goes_on_exactly_after_the_server_was_told_to_stop(served: Served) -> None:
    """SIGTERM while the burst is open and events go on coming; the next process sends the rest."""
    channel = fresh("open")
    await asyncio.to_thread(served.shell.publish, channel, *ALL[:50])
    client = served.client(channel, query=EARLIEST, reconnect_seconds=0.01)
    reading = asyncio.create_task(client.run(deadline=60))
    await eventually(lambda: len(client.data) == 50)
    assert [response.complete for response in client.responses] == [False]
    publishing = asyncio.create_task(publish_slowly(served, channel, ALL[50:]))
    await asyncio.to_thread(served.server.restart)
    await publishing
    await asyncio.to_thread(served.server.publish, channel, finish=None)
    await reading
    assert client.data == [*ALL, "{}"]
    assert client.statuses[-1] == 204


async def publish_slowly(served: Served, channel: str, data: list[str]) -> None:
    for start in range(0, len(data), 10):
        await asyncio.to_thread(served.shell.publish, channel, *data[start : start + 10])
        await asyncio.sleep(0.02)
