"""Servers that go away in the middle of things: every client continues exactly."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.client import EventSourceClient

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


async def test_a_stream_that_was_told_to_stop_in_mid_burst_ends_or_is_cut_and_goes_on(served: Served) -> None:
    """SIGTERM while a client reads a burst byte by byte; the next process sends the rest."""
    channel = fresh("short")
    await asyncio.to_thread(
        served.shell.publish, channel, *(f"{number} " + "x" * 20_000 for number in range(60))
    )
    client = served.client(channel, query=EARLIEST, reconnect_seconds=0.01)
    reading = asyncio.create_task(client.read_until(60, deadline=60))
    await eventually(lambda: len(client.data) >= 2)
    await asyncio.to_thread(served.server.restart)
    await reading
    assert [data.split()[0] for data in client.data] == [str(number) for number in range(60)]


async def publish_slowly(served: Served, channel: str, data: list[str]) -> None:
    for start in range(0, len(data), 10):
        await asyncio.to_thread(served.shell.publish, channel, *data[start : start + 10])
        await asyncio.sleep(0.02)


def test_the_client_does_not_help() -> None:
    assert EventSourceClient("http://a/").last_event_id == ""
