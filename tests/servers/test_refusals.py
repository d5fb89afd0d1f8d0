"""Refusals: each in words, at both doors and on both servers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.harness.connection import Address, Connection, request
from tests.harness.eventsource import parse

from .served import Served, eventually, fresh, opening_id, retries

POLITE = {"busy": "stream"}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/events/no%20spaces/", "Not a channel name"),
        (f"/events/{'x' * 201}/", "1 to 200 ASCII letters"),
        ("/events/%C3%BC/", "Not a channel name"),
        ("/events/.../", "not only dots"),
        ("/events/ws/", "taken by an address"),
        ("/events/", "Name 1 to 10 channels, as ?channel=a&channel=b; got 0."),
        ("/events/?channel=", "Not a channel name"),
        ("/events/?" + "&".join(f"channel=c{n}" for n in range(11)), "Name 1 to 10 channels"),
        ("/events/a/?last_event_id=nonsense", "Not a cursor"),
        ("/events/a/?last_event_id=a.1.b.c", "Not a cursor"),
        ("/events/a/?last_event_id=" + "1" * 2000, "at most 1024"),
        ("/events/a/?last_event_id=abc.99999999999999999999.def", "Not a cursor"),
        ("/events/a/?last_event_id=abc.9999999999999999999.def", "over 9223372036854775807"),
        ("/events/?channel=a&last_event_id=abc.1.def", "cursor of a stream of one channel"),
        ("/events/a/?client=short", "client has 16 to 64"),
    ],
)
async def test_a_bad_request_is_answered_400_with_a_sentence(
    served: Served, address: str, words: str
) -> None:
    response = await request(served.server.url + address)
    assert response.status == 400, response.text
    assert response.header("content-type") == "text/plain; charset=utf-8"
    assert words in response.text
    assert response.text.endswith(".")
    assert "<" not in response.text


async def test_a_bad_cursor_in_the_header_is_answered_400(served: Served) -> None:
    for cursor in ("nonsense", "a b", "ü", "0", "x" * 3000):
        response = await request(served.url("a"), headers={"Last-Event-ID": cursor})
        assert response.status == 400, cursor
        assert "Not a cursor" in response.text


async def test_ten_channels_are_not_too_many(served: Served) -> None:
    channel = [fresh() for _ in range(10)]
    assert await served.messages([*channel, *channel]) == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_a_method_that_is_not_offered_is_answered_405(served: Served, method: str) -> None:
    for address in (served.url("a"), served.url(["a"])):
        body = b"last_event_id=1" if method not in ("HEAD", "OPTIONS") else b""
        response = await request(address, method=method, body=body)
        assert response.status == 405
        assert response.header("allow") == "GET"
        assert response.header("content-type") == "text/plain; charset=utf-8"
        if method != "HEAD":
            assert response.text == f"{method} is not offered here; use GET."


async def test_an_address_without_its_slash_leads_to_the_stream(served: Served) -> None:
    response = await request(served.url("a").rstrip("/") + "?last_event_id=earliest")
    assert response.status == 301
    assert response.header("location") == "/events/a/?last_event_id=earliest"


async def test_ready_tells_sockets_and_capacity(served: Served) -> None:
    await eventually(lambda: _is_idle(served))
    ready = await served.ready()
    assert (ready["state"], ready["sockets"]) == ("serving", 0)
    assert ready["capacity"] > 1
    async with AsyncExitStack() as stack:
        await hold(stack, served, 1)
        assert (await served.ready())["sockets"] == 1
    await eventually(lambda: _is_idle(served))


# Over capacity


async def test_over_capacity_a_client_is_told_when_to_come_back(small: Served) -> None:
    async with AsyncExitStack() as stack:
        await eventually(lambda: _is_idle(small))
        await hold(stack, small, 2)
        assert (await small.ready()) == {
            "state": "full",
            "sockets": 2,
            "capacity": 2,
            "layer": "live",
        }
        response = await request(small.url(fresh()))
        assert response.status == 503
        assert response.header("retry-after") == "7"
        assert response.header("content-type").startswith("text/plain")
        assert response.text == "Connection pool exhausted. Retry in 7s."
    await eventually(lambda: _is_idle(small))
    assert (await small.ready())["state"] == "serving"


async def test_a_polite_refusal_is_a_stream_that_only_says_when_to_come_back(small: Served) -> None:
    channel = fresh()
    first, *_ = small.shell.publish(channel, "a", "b")
    async with AsyncExitStack() as stack:
        await eventually(lambda: _is_idle(small))
        await hold(stack, small, 2)
        refused = await request(small.url(channel, **POLITE, last_event_id=first))
        assert refused.status == 200
        assert refused.header("content-type") == "text/event-stream"
        assert refused.header("cache-control") == "no-cache, no-transform"
        assert refused.complete
        assert opening_id(refused) == first
        assert parse(refused.body) == []
        assert 7000 <= retries(refused)[0] <= 9100
        assert (await small.ready())["sockets"] == 2
    await eventually(lambda: _is_idle(small))
    client = small.client(channel, query={**POLITE, "last_event_id": first})
    await client.run(deadline=30, until=lambda client: "b" in client.data)
    assert [data for data in client.data if data] == ["b"]


async def test_a_refused_event_source_comes_back_and_misses_nothing(small: Served) -> None:
    channel = fresh()
    ids = small.shell.publish(channel, "before", "a", "b")
    client = small.client(channel, query={**POLITE, "last_event_id": ids[0]}, reconnect_seconds=0.02)
    async with AsyncExitStack() as stack:
        await eventually(lambda: _is_idle(small))
        await hold(stack, small, 2)
        reading = asyncio.create_task(client.run(deadline=30, until=lambda client: "b" in client.data))
        await eventually(lambda: len(client.responses) >= 3)
    await reading
    assert [data for data in client.data if data] == ["a", "b"]
    assert set(client.statuses) == {200}


async def hold(stack: AsyncExitStack, served: Served, streams: int) -> None:
    """Hold so many streams open until the stack is left."""
    before = await served.sockets()
    address = Address(served.url(fresh("held")))
    for _ in range(streams):
        connection = await Connection.open(address)
        stack.callback(connection.close)
        await connection.send(address.head({"Accept": "text/event-stream"}))
        assert b"id: " in await read_opening(connection)
    assert await served.sockets() == before + streams


async def read_opening(connection: Connection) -> bytes:
    received = b""
    async with asyncio.timeout(20):
        while b"id: " not in received:
            data = await connection.receive()
            assert data, f"closed after {received!r}"
            received += data
    return received


async def _is_idle(served: Served) -> bool:
    return await served.sockets() == 0
