"""The tests' own client, against servers that are scripted byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness.client import Cut, EventSourceClient, assert_clean_chunks
from tests.harness.connection import request, stalled
from tests.harness.http import BadResponse, Response, ResponseParser

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
GONE = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def chunked(*chunks: bytes, close: bool = True, end: bool = True) -> bytes:
    head = HEAD + (b"Connection: close\r\n" if close else b"") + b"\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + body + (b"0\r\n\r\n" if end else b"")


class Script:
    """A server that answers the nth request with the nth reply and notes what was asked."""

    def __init__(self, *replies: bytes | Callable[[str], bytes], keep_alive: bool = False) -> None:
        self.replies = list(replies)
        self.keep_alive = keep_alive
        self.cursors: list[str] = []
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = [line for line in head.split("\r\n") if line.lower().startswith("last-event-id: ")]
                self.cursors.append(lines[0].partition(": ")[2] if lines else "")
                reply = self.replies.pop(0) if self.replies else GONE
                writer.write(reply(self.cursors[-1]) if callable(reply) else reply)
                await writer.drain()
                if not self.keep_alive:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Script]:
    server = await asyncio.start_server(script.answer, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream/?a=b"
    try:
        yield script
    finally:
        server.close()
        for writer in script.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_it_reconnects_with_its_cursor_until_204() -> None:
    opening = b"retry: 40\nid: 0\n\n"
    async with serving(
        Script(chunked(opening, b"id: 1\ndata: a\n\n"), chunked(b"event: end\nid: 2\ndata: b\n\n"))
    ) as script:
        client = await EventSourceClient(script.url).run(deadline=5)
    assert script.cursors == ["", "1", "2"] == client.cursors_sent
    assert client.statuses == [200, 200, 204]
    assert client.connections == 3
    assert client.ended
    assert client.retry_ms == 40
    assert [(e.last_event_id, e.type, e.data, e.response) for e in client.transcript] == [
        ("1", "message", "a", 0),
        ("2", "end", "b", 1),
    ]
    assert client.responses[0].chunks == [opening, b"id: 1\ndata: a\n\n"]
    assert client.responses[0].complete


@pytest.mark.parametrize("status", [b"503 Busy", b"403 Forbidden", b"500 Oh"])
async def test_another_status_ends_it_for_good(status: bytes) -> None:
    reply = b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
    async with serving(Script(reply)) as script:
        client = await EventSourceClient(script.url).run(deadline=5)
    assert client.ended
    assert client.responses[0].text == "no"
    assert len(script.cursors) == 1


async def test_another_content_type_ends_it_for_good() -> None:
    async with serving(Script(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>data: a\n\n")) as script:
        client = await EventSourceClient(script.url).run(deadline=5)
    assert client.ended
    assert not client.transcript


async def test_a_cut_at_every_byte_loses_and_repeats_nothing() -> None:
    numbers = range(1, 5)

    def reply(cursor: str) -> bytes:
        start = int(cursor or 0)
        if start == 4:
            return GONE
        return chunked(
            f"id: {start}\n\n".encode(), *(f"id: {n}\ndata: {n}\n\n".encode() for n in numbers if n > start)
        )

    length = len(reply(""))
    for at in range(1, length):
        async with serving(Script(*[reply] * 10)) as script:
            cut = Cut(at, "rst" if at % 2 else "fin")
            client = await EventSourceClient(script.url, cuts=[cut]).run(deadline=5)
        assert client.data == [str(n) for n in numbers], f"cut after {at} bytes"


async def test_events_of_a_chunk_that_was_cut_count() -> None:
    body = b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n"
    reply = chunked(body)
    at = reply.index(b"id: 2") + 3
    async with serving(Script(reply)) as script:
        client = await EventSourceClient(script.url, cuts=[Cut(at)]).run(deadline=5)
    assert client.data == ["a"]
    assert client.cursors_sent == ["", "1"]
    assert client.responses[0].partial == body[: len(body) - len(reply) + at + 7]


async def test_it_reuses_a_connection_that_was_left_open_and_not_otherwise() -> None:
    replies = [chunked(b"id: 1\ndata: a\n\n", close=False), chunked(b"id: 2\ndata: b\n\n", close=False)]
    async with serving(Script(*replies, keep_alive=True)) as script:
        client = await EventSourceClient(script.url).run(deadline=5)
    assert (client.connections, client.statuses) == (1, [200, 200, 204])
    async with serving(Script(*replies, keep_alive=True)) as script:
        client = await EventSourceClient(script.url, reuse=False).run(deadline=5)
    assert (client.connections, client.statuses) == (3, [200, 200, 204])
    async with serving(Script(*replies, keep_alive=False)) as script:  # promised, and closed all the same
        client = await EventSourceClient(script.url).run(deadline=5)
    assert (client.connections, client.data) == (3, ["a", "b"])


async def test_it_keeps_its_end_open_when_asked() -> None:
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(chunked(b"data: a\n\n"))
        writer.write_eof()
        if not await reader.read():  # comes only when the client closes
            closed.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with EventSourceClient(url, keep_open=True) as client:
        response = await client.one_response(deadline=5)
        assert response.complete
        await asyncio.sleep(0.1)
        assert not closed.is_set()
        assert len(client.kept) == 1
    await asyncio.wait_for(closed.wait(), 5)
    server.close()


async def test_read_until_stops_at_the_event_and_goes_on_from_there() -> None:
    reply = chunked(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    async with serving(Script(reply, chunked(b"id: 2\ndata: b\n\n"))) as script:
        client = await EventSourceClient(script.url).read_until(1, deadline=5)
        assert (client.data, client.last_event_id) == (["a"], "1")
        await client.read_until(2, deadline=5)
    assert client.data == ["a", "b"]
    assert script.cursors == ["", "1"]


async def test_a_deadline_that_passes_says_where_the_client_stood() -> None:
    async with serving(Script(chunked(b"id: 1\ndata: a\n\n", end=False), keep_alive=True)) as script:
        client = EventSourceClient(script.url)
        with pytest.raises(TimeoutError, match="1 events over 1 connections"):
            await client.run(deadline=0.2)


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    client = EventSourceClient("http://127.0.0.1:9/")
    with pytest.raises(TimeoutError, match="0 events"):
        await client.run(deadline=0.2)


async def test_a_request_reads_a_whole_response_and_a_stalled_one_nothing() -> None:
    async with serving(
        Script(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nX-A: 1\r\nX-A: 2\r\n\r\ngone")
    ) as script:
        response = await request(script.url)
        assert (response.status, response.text, response.header("x-a"), response.complete) == (
            404,
            "gone",
            "1, 2",
            True,
        )
        async with stalled(script.url) as connection:
            assert not connection.closed


@pytest.mark.parametrize(
    ("chunk", "clean"),
    [
        (b"id: 1\n\n", True),
        (b":\n", True),
        (b": keep\n", True),
        (b"id: 1\n", False),
        (b"id: 1\n\ndata: 2\n", False),
        (b": a\n: b\n", False),
        (b": a", False),
    ],
)
def test_a_chunk_is_clean_at_the_edge_of_a_block(chunk: bytes, clean: bool) -> None:
    parser = ResponseParser()
    parser.feed(chunked(chunk))
    with contextlib.nullcontext() if clean else pytest.raises(AssertionError):
        assert_clean_chunks(parser.response)


@pytest.mark.parametrize("reply", [chunked(b"a", b"bc"), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"])
def test_a_response_split_at_every_byte_reads_the_same(reply: bytes) -> None:
    for at in range(len(reply) + 1):
        parser = ResponseParser()
        body = parser.feed(reply[:at]) + parser.feed(reply[at:])
        assert body == b"abc" == parser.response.body
        assert parser.response.complete


@pytest.mark.parametrize(
    "reply",
    [
        b"nonsense\r\n\r\n",
        HEAD + b"\r\nzz\r\n",
        HEAD + b"\r\n1\r\nabc",
        chunked(b"a") + b"more",
        HEAD + b"a b\r\n\r\n",
    ],
)
def test_what_is_not_http_is_said(reply: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseParser().feed(reply)


def test_a_body_without_length_ends_with_the_connection() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert not parser.response.complete
    parser.close()
    assert parser.response.complete
    assert not parser.response.keeps_alive
    assert isinstance(parser.response, Response)
