"""The long-poll at both doors on both servers, and a client that moves between all ways in."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from tests.harness.client import Cut
from tests.harness.connection import Address, Connection, request
from tests.harness.http import Response, ResponseParser

from .served import Served, eventually, fresh
from .sockets import open_socket, read_burst, ws_url
from .test_refusals import hold

FIELDS = ["events", "last_event_id", "retry", "end"]


def url_of(served: Served, channel: Any, **query: str) -> str:
    base = served.server.url + "/events/"
    if isinstance(channel, str):
        return f"{base}{channel}/poll/?" + urlencode(query)
    return f"{base}poll/?" + urlencode([*(("channel", each) for each in channel), *query.items()])


def answer_in(response: Response) -> Any:
    assert (response.status, response.complete) == (200, True), response.text
    assert response.header("content-type") == "application/json"
    answer = json.loads(response.body)
    assert list(answer) == FIELDS
    return answer


async def is_idle(served: Served) -> bool:
    return await served.sockets() == 0


async def holds(served: Served, count: int) -> bool:
    return await served.sockets() == count


async def test_an_answer_is_json_of_a_stated_length(served: Served) -> None:
    channel = fresh()
    first, second = served.shell.publish(channel, "a", "b\r\n\u2028")
    response = await request(
        url_of(served, channel, last_event_id=first), headers={"Connection": "keep-alive"}
    )
    answer = answer_in(response)
    assert answer["events"] == [{"channel": channel, "id": second, "event": "message", "data": "b\r\n\u2028"}]
    assert answer["last_event_id"] == second
    assert response.header("cache-control") == "no-store"
    assert int(response.header("content-length")) == len(response.body)
    assert not response.chunked
    assert response.header("connection").lower() == "close"
    assert not response.header("set-cookie")


async def test_a_client_of_http_1_0_is_answered(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, "a")
    address = Address(url_of(served, channel, last_event_id="earliest"))
    head = f"GET {address.target} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()
    response = await request(url_of(served, channel), raw=head)
    assert [each["data"] for each in answer_in(response)["events"]] == ["a"]


async def test_who_waits_gets_the_next_event(served: Served) -> None:
    channel = fresh("held")
    (first,) = served.shell.publish(channel, "a")
    await eventually(lambda: is_idle(served))
    asking = asyncio.create_task(request(url_of(served, channel, last_event_id=first, wait="50")))
    await eventually(lambda: holds(served, 1))
    await asyncio.to_thread(served.shell.publish, channel, "b")
    assert [each["data"] for each in answer_in(await asking)["events"]] == ["b"]
    await eventually(lambda: is_idle(served))


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_who_leaves_in_the_middle_of_its_wait_is_released(served: Served, how: str) -> None:
    await eventually(lambda: is_idle(served))
    address = Address(url_of(served, fresh("held")))
    connections = [await Connection.open(address) for _ in range(3)]
    for connection in connections:
        await connection.send(address.head({}))
    await eventually(lambda: holds(served, 3))
    for connection in connections:
        getattr(connection, how)()
    await eventually(lambda: is_idle(served), deadline=2)


@pytest.mark.parametrize("method", ["POST", "HEAD"])
async def test_another_method_is_refused(served: Served, method: str) -> None:
    response = await request(url_of(served, "a"), method=method)
    assert (response.status, response.header("allow")) == (405, "GET")


async def test_over_capacity_it_is_answered_at_once(small: Served) -> None:
    channel = fresh()
    first, _ = small.shell.publish(channel, "a", "b")
    await eventually(lambda: is_idle(small))
    async with AsyncExitStack() as stack:
        await hold(stack, small, 2)
        refused = await request(small.url(channel, last_event_id=first))
        assert refused.status == 503
        link = refused.header("link")
        poll = urljoin(small.url(channel), link[1:].partition(">")[0])
        response = await request(poll, headers={"Connection": "keep-alive"})
        assert [each["data"] for each in answer_in(response)["events"]] == ["b"]
        assert response.header("connection").lower() == "close"  # there is no room for idle ones either
        empty = await request(url_of(small, fresh("held"), wait="60"), deadline=5)
        assert answer_in(empty)["events"] == []
        assert await small.sockets() == 2


async def test_who_reads_an_answer_slowly_has_a_place_and_who_reads_nothing_is_cut(sockets: Served) -> None:
    channel = fresh("huge")
    sockets.shell.publish(channel, *["x" * 250_000] * 28)
    await eventually(lambda: is_idle(sockets))
    address = Address(url_of(sockets, channel, last_event_id="earliest"))
    reads = await Connection.open(address, receive_buffer=4096)
    nothing = await Connection.open(address, receive_buffer=4096)
    try:
        for connection in (reads, nothing):
            await connection.send(address.head({}))
        await eventually(lambda: holds(sockets, 2), deadline=5)
        parser = ResponseParser()
        while not parser.response.complete:
            parser.feed(await asyncio.wait_for(reads.receive(1_000_000), 5))
        assert len(json.loads(parser.response.body)["events"]) == 28
        await eventually(lambda: is_idle(sockets), deadline=6)
        assert "cuts a socket that takes too little" in sockets.server.log()
    finally:
        reads.close()
        nothing.close()


# Moving


class Wanderer:
    """A client of one channel, or several, that takes another way each time and is cut anywhere."""

    def __init__(self, served: Served, channels: list[str], seed: int) -> None:
        self.served = served
        self.channels: Any = channels if len(channels) > 1 else channels[0]
        self.cursor = "earliest"
        self.got: dict[str, list[str]] = {name: [] for name in channels}
        self.ended = False
        self.rng = random.Random(seed)
        self.ways = [self.stream, self.poll] + [self.socket] * (served.door == "mount")

    async def run(self) -> None:
        while not self.ended:
            await self.rng.choice(self.ways)()

    async def stream(self) -> None:
        cut = Cut(self.rng.randrange(300, 3000), self.rng.choice(["fin", "rst"]))
        client = self.served.client(
            self.channels,
            query={} if self.cursor != "earliest" else {"last_event_id": "earliest"},
            last_event_id="" if self.cursor == "earliest" else self.cursor,
            cuts=[cut if self.rng.random() < 0.7 else None],
            reuse=False,
        )
        try:
            response = await client.one_response(deadline=20)
        except ConnectionError:
            return
        finally:
            client.close()
        self.ended = response.status == 204
        for entry in client.transcript:
            told = json.loads(entry.data) if isinstance(self.channels, list) else {}
            self.take(told.get("channel", self.channels), entry.type, told.get("data", entry.data))
        self.cursor = client.last_event_id or self.cursor

    async def poll(self) -> None:
        address = Address(url_of(self.served, self.channels, last_event_id=self.cursor, wait="1"))
        cut = self.rng.randrange(3000) if self.rng.random() < 0.5 else None
        parser = ResponseParser()
        connection = await Connection.open(address)
        try:
            await connection.send(address.head({}))
            while not parser.response.complete and (cut is None or parser.received < cut):
                data = await connection.receive(min(65_536, (cut or 65_536) - parser.received))
                if not data:
                    break
                parser.feed(data)
        finally:
            connection.close()
        if parser.response.complete:
            answer = answer_in(parser.response)
            for event in answer["events"]:
                self.take(event["channel"], event["event"], event["data"])
            self.cursor = answer["last_event_id"]
            self.ended = answer["end"] and not answer["events"]

    async def socket(self) -> None:
        most = self.rng.randrange(1, 12)
        url = ws_url(self.served.server.url, self.channels, last_event_id=self.cursor)
        async with open_socket(url) as socket:
            burst = await read_burst(socket, until=lambda got: len(got.frames) >= most)
            socket.transport.abort()
        for event in burst.events:
            self.take(event["channel"], event["event"], event["data"])
        self.cursor = burst.cursor or self.cursor
        self.ended = [each.get("end") for each in burst.frames] == [True]

    def take(self, channel: str, event: str, data: str) -> None:
        assert event in ("message", "end")
        self.got[channel].append(data)


async def test_a_client_may_move_between_all_ways_at_any_event(served: Served) -> None:
    channels = [fresh("short"), fresh("short")]

    def publish() -> None:
        for number in range(30):
            for channel in channels:
                served.shell.publish(channel, *(f"{number}.{part}" for part in range(number % 4)))
                served.server.publish(channel, "never", rollback=True)
                served.server.publish(channel, f"here {number}")
        for channel in channels:
            served.server.publish(channel, finish=None)

    readers = [
        Wanderer(served, names, seed) for seed, names in enumerate([channels[:1], channels[1:], channels] * 2)
    ]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(publish))
        for reader in readers:
            group.create_task(reader.run())
    stored = served.shell.run(
        "from sse_polling.models import Event\n"
        "rows = Event.objects.order_by('sequence').values_list('channel__name', 'data')\n"
        "result = {name: [data for of, data in rows if of == name] for name in channels}",
        channels=channels,
    )
    for reader in readers:
        for name, got in reader.got.items():
            assert got == stored[name]
    assert all(len(each) > 60 for each in stored.values())
