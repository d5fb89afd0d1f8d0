"""The crowd parses, counts and keeps to this machine."""

from __future__ import annotations

import asyncio
import json
import resource
from contextlib import aclosing

import pytest

from project.crowd import swarm
from project.crowd.client import Client, Counters, Target
from project.crowd.events import EventParser, Message
from project.crowd.response import BadResponse, ResponseParser
from project.crowd.swarm import Refused, Swarm, make_room, read_target
from project.crowd.tally import Tally

STREAM = (
    "\ufeff: hello\nretry: 200\nid: a.1\n\n"
    'id: a.2\ndata: {"n":1}\n\n'
    "event: gap\ndata: one\r\ndata: two\r\rid\ndata\n\n"
    "retry: 2x\nid: a.9\ndata: cut"
).encode()
MESSAGES = [Message("message", '{"n":1}'), Message("gap", "one\ntwo"), Message("message", "")]


def test_a_tally_counts_what_is_skipped_and_what_comes_again() -> None:
    tally = Tally()
    for number in (7, 8, 8, 11, 10, 12):
        tally.take(number)
    assert (tally.received, tally.lost, tally.repeated) == (6, 2, 2)


def test_a_stream_is_parsed_alike_wherever_it_is_split() -> None:
    for place in range(len(STREAM)):
        parser = EventParser()
        assert parser.feed(STREAM[:place]) + parser.feed(STREAM[place:]) == MESSAGES, place
        assert (parser.last_event_id, parser.retry_ms) == ("", 200)


def test_an_event_that_was_cut_off_moves_no_cursor() -> None:
    parser = EventParser()
    parser.feed(b"id: a.1\ndata: x\n\nid: a.2\ndata: y\n")
    parser.begin()
    assert parser.last_event_id == "a.1"
    assert parser.feed(b"data: z\n\n") == [Message("message", "z")]
    assert parser.last_event_id == "a.1"


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b"5\r\nhello\r\nb;a=b\r\n wide world\r\n0\r\n\r\n"


def test_chunks_are_read_wherever_they_are_split() -> None:
    for place in range(len(CHUNKED)):
        parser = ResponseParser()
        body = parser.feed(CHUNKED[:place]) + parser.feed(CHUNKED[place:])
        assert (parser.status, body, parser.complete) == (200, b"hello wide world", True), place


def test_an_answer_without_a_body_is_complete_at_once() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (parser.status, parser.complete) == (204, True)


def test_a_body_ends_with_its_length() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nno") == b"no"
    assert not parser.complete
    assert parser.feed(b"pe") == b"pe"
    assert parser.complete


@pytest.mark.parametrize("data", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 ok\r\n\r\n", b"x" * 70_000])
def test_what_is_no_http_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseParser().feed(data)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1", "http://10.1.2.3:80", "http://192.0.2.1", "nonsense", ""]
)
def test_the_crowd_leaves_other_machines_alone(url: str) -> None:
    with pytest.raises(Refused):
        read_target(url, "/")


def test_the_crowd_goes_to_loopback() -> None:
    assert read_target("http://127.0.0.1:8123/x", "/events/crowd/") == Target(
        "127.0.0.1", 8123, "/events/crowd/"
    )


def test_more_clients_than_open_files_are_refused_in_numbers() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine sets no limit")
    with pytest.raises(Refused, match=str(hard)):
        make_room(hard + 1)


async def test_clients_come_back_with_their_cursor_and_stop_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm, "_CONNECTS_PER_SECOND", 2000)
    served: dict[str, int] = {}
    heads: list[str] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        cursor = next((line[15:] for line in head.splitlines() if line.startswith("Last-Event-ID: ")), "0")
        token = head.split("client=")[1].split(" ")[0]
        served[token] = served.get(token, 0) + 1
        number = int(cursor) + 1
        # One client is never sent the second event: a real loss has to show.
        if token == min(served) and number == 2:
            number = 3
        data = json.dumps({"n": number, "at": 0})
        body = f"retry: 20\nid: {number}\ndata: {data}\n\n".encode()
        writer.write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (HEAD, len(body), body))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    crowd = Swarm(Target("127.0.0.1", port, "/events/crowd/"), 20)
    async with aclosing(crowd.run(2)) as seconds:
        figures = [each async for each in seconds]
    server.close()
    for writer in writers:  # those whose client went before the answer
        writer.close()
    await asyncio.sleep(0.05)
    assert len(served) == 20
    assert min(served.values()) > 10
    assert all("busy=stream" in head for head in heads)
    assert figures[-1]["readers"] == 20
    assert figures[-1]["lost"] >= 1
    assert figures[-1]["repeated"] == 0
    assert crowd.counters.sockets == 0


async def test_an_answer_that_is_no_stream_ends_a_client_as_it_ends_a_browser() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    counters = Counters()
    client = Client(Target("127.0.0.1", server.sockets[0].getsockname()[1], "/"), counters)
    await asyncio.wait_for(client.run(), 5)
    server.close()
    assert (client.ended, counters.ended, counters.connections) == (True, 1, 1)
