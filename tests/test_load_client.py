"""The load client in C counts what a scripted server did, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.load_client import Load, LoadClient, LoadFailed, run
from tests.harness.programs import require

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
OPENING = b"retry: 1\nid: a.0\n\n"
STOP = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy"
RESET = b"a reset in place of an answer"
CLEAN = {"gaps": 0, "missing": 0, "gap_events": 0, "repeats": 0, "unnumbered": 0, "from_the_future": 0}


@pytest.fixture(autouse=True)
def _compiler() -> None:
    require("cc")


def event(n: int, *, name: str = "", end: bytes = b"\n") -> bytes:
    lines = [f"id: a.{n}", f'data: {{"n":{n},"at":{time.monotonic():.6f}}}', "", ""]
    return end.join(line.encode() for line in ([f"event: {name}", *lines] if name else lines))


def events(numbers: Iterable[int]) -> bytes:
    return b"".join(event(n) for n in numbers)


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


def with_length(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def until_close(body: bytes) -> bytes:
    return HEAD + b"\r\n" + body


def reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with a RST."""
    at_once = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()


@dataclass
class Server:
    """Answer each client's nth request with the nth reply, byte by byte where asked; then 204."""

    replies: list[bytes | Callable[[], bytes]]
    keep_alive: bool = False
    #: Do not close after a reply.
    hold: bool = False
    piece: int = 1 << 20
    port: int = 0
    requests: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - of several kinds, and for a moment
                await asyncio.sleep(0.01)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(request)
                who = request.split("X-Client: ")[1].split("\r\n")[0]
                turn = self.asked[who] = self.asked.get(who, -1) + 1
                reply = self.replies[turn] if turn < len(self.replies) else STOP
                sent = reply() if callable(reply) else reply
                if sent == RESET:
                    reset(writer)
                    return
                for at in range(0, len(sent), self.piece):
                    writer.write(sent[at : at + self.piece])
                    await writer.drain()
                    if self.piece < len(sent):
                        await asyncio.sleep(0)
                if self.hold:
                    await reader.read()
                if not self.keep_alive or reply is STOP or sent == STOP:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for writer in server.writers:
            writer.close()
        for writer in server.writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def follow(server: Server, **options: Any) -> dict[str, Any]:
    """Run the client against the server until all readers were told to stop."""
    async with serving(server):
        options = {"seconds": 20, "headers": ["X-Client: %i"], **options}
        return await asyncio.to_thread(run, Load(port=server.port, **options))


async def test_a_clean_run_counts_no_fault_however_it_is_framed() -> None:
    crlf = b"retry: 2\r\nid: a.3\r\n\r\n: a comment\r\n"
    many_lines = b'\xef\xbb\xbfretry: 1\n\nid: a.6\ndata: {"n": 6,\ndata:  "at": 0.5,\ndata: "text": 1}\n\n'
    server = Server(
        [
            lambda: chunked(OPENING, events([1]), events([2, 3]), b"retry: 1\n\n"),
            lambda: until_close(crlf + event(4, end=b"\r\n") + event(5, end=b"\r\n")),
            lambda: with_length(many_lines + event(7, end=b"\r") + event(8, name="token")),
        ]
    )
    found = await follow(server, clients=3, since="earliest", until_n=8, query="busy=stream")
    assert found["ended"] == "stopped"
    assert found["statuses"] == {"200": 9, "204": 3}
    assert {name: found["sequence"][name] for name in CLEAN} == CLEAN
    assert found["sequence"]["behind"] == {"of": "until_n", "clients": 0, "events": 0, "max": 0}
    assert found["sequence"]["first_n"] == {"min": 1, "max": 1}
    assert found["total"]["events"] == 3 * 8
    assert found["total"]["comments"] == 3
    assert found["latency_ms"]["count"] == 3 * 7  # one is older than its reader
    assert found["retry_ms"] == {"count": 3 * 4, "mean": 1.25}
    assert found["wait_ms"]["count"] == found["reconnects"] == 9
    assert found["wait_ms"]["mean"] >= 4 / 3 - 0.01  # as told: 1, 2 and 1
    assert not any(value for value in found["errors"].values())
    begun = "GET /events/load.0/?busy=stream"
    assert server.requests[0].startswith(f"{begun}&last_event_id=earliest HTTP/1.1\r\n")
    assert "Last-Event-ID" not in server.requests[0]
    assert "Connection" not in server.requests[0]
    assert "Accept: text/event-stream\r\n" in server.requests[0]
    later = sorted(request for request in server.requests if "Last-Event-ID" in request)
    assert len(later) == 9
    assert all(request.startswith(f"{begun} HTTP/1.1\r\n") for request in later)
    for number in (3, 5, 8):
        assert sum(f"Last-Event-ID: a.{number}\r\n" in request for request in later) == 3


async def test_bytes_that_come_one_by_one_are_the_same() -> None:
    server = Server(
        [
            lambda: chunked(OPENING, event(1, end=b"\r\n"), events([2]), end=b"0\r\nA-Trailer: b\r\n\r\n"),
            lambda: with_length(events([3])),
        ],
        piece=1,
    )
    found = await follow(server)
    assert found["total"]["events"] == found["sequence"]["last_n"]["max"] == 3
    assert {name: found["sequence"][name] for name in CLEAN} == CLEAN
    assert not any(value for value in found["errors"].values())


async def test_each_fault_is_counted_as_what_it_is() -> None:
    server = Server(
        [
            lambda: chunked(OPENING, events([1, 2])),
            lambda: chunked(events([2, 3])),  # a repeat
            BUSY,
            lambda: chunked(events([6, 7])),  # 4 and 5 are missing
            lambda: chunked(events([8]), b"id: a.9\ndata: {", end=b"")[:-4],  # cut in mid-body
            lambda: chunked(events([9]), b'event: gap\nid: a.10\ndata: {"from":10}\n\n', b"data: words\n\n"),
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
            b"no HTTP at all\r\n\r\n",
            RESET,
            b"",
        ]
    )
    found = await follow(server, clients=2, channels=2, error_retry_ms=1, until_n=10)
    assert found["statuses"] == {"200": 12, "204": 2, "500": 2, "503": 2}
    sequence = found["sequence"]
    assert (sequence["gaps"], sequence["missing"], sequence["gap_events"]) == (2, 4, 2)
    assert (sequence["repeats"], sequence["unnumbered"]) == (2, 2)
    assert (sequence["clients_with_gaps"], sequence["clients_with_repeats"]) == (2, 2)
    assert sequence["behind"] == {"of": "until_n", "clients": 2, "events": 2, "max": 1}
    for name in ("cut", "not_event_stream", "bad_http", "unanswered"):
        assert found["errors"][name] == 2, name
    assert found["errors"]["read"] == {"ECONNRESET": 2}
    assert found["errors"]["connect"] == {}
    # The block that was cut does not count.
    assert sum("Last-Event-ID: a.8\r\n" in request for request in server.requests) == 2
    assert not any("Last-Event-ID: a.9\r\n" in request for request in server.requests)


async def test_a_server_that_is_not_there_is_counted_and_tried_again() -> None:
    async with serving(Server([])) as server:
        pass
    found = await asyncio.to_thread(
        run, Load(port=server.port, seconds=0.3, retry_ms=20, sources=3, clients=4)
    )
    assert found["errors"]["connect"]["ECONNREFUSED"] == found["total"]["connections"] > 4
    assert (found["total"]["requests"], found["sockets"]["at_end"]) == (0, 0)


async def test_a_connection_that_is_kept_is_used_again() -> None:
    server = Server([lambda: chunked(OPENING, events([1])), lambda: chunked(events([2]))], keep_alive=True)
    found = await follow(server, keep_alive=True, clients=2)
    assert (found["total"]["connections"], found["total"]["requests"]) == (2, 6)
    assert {name: found["sequence"][name] for name in CLEAN} == CLEAN


async def test_a_storm_says_how_each_was_answered() -> None:
    replies = {
        "0": chunked(OPENING, events([1])),
        "1": chunked(b"retry: 30000\nid: a.1\n\n"),
        "2": BUSY,
        "3": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        "4": b"",
    }

    class Storm(Server):
        async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            who = (await reader.readuntil(b"\r\n\r\n")).decode().split("X-Client: ")[1].split("\r\n")[0]
            if who != "5":
                writer.write(replies[who])
                writer.close()

    found = await follow(Storm([]), storm=True, ramp=0.1, clients=6, seconds=0.6)
    times = found["storm"].pop("times_ms")
    assert found["storm"] == {"unanswered": 1, "stream": 1, "refusal": 1, "503": 1, "other": 1, "failed": 1}
    assert {name: each["count"] for name, each in times.items()} == dict.fromkeys(times, 1)
    assert found["total"]["connections"] == 6


async def test_who_never_reads_keeps_its_descriptor_until_the_server_resets_it() -> None:
    long = [events(range(1, 200))] * 200
    server = Server([lambda: chunked(OPENING, *long)], hold=True)
    async with serving(server):
        load = Load(port=server.port, clients=2, stall=True, rcvbuf=4096, headers=["X-Client: %i"])
        with LoadClient(load) as client:
            await server.wait_for(lambda: len(server.requests) == 2)
            for writer in server.writers:  # a close alone would not be seen behind what was not read
                reset(writer)
            await asyncio.sleep(0)  # abort closes in the loop's next turn
            await asyncio.sleep(0)
            found = await asyncio.to_thread(client.stop)
    assert found["ended"] == "signal"
    assert found["total"]["connections"] == found["sockets"]["max"] == 2
    assert (found["held"]["reset_by_server"], found["sockets"]["at_end"]) == (2, 0)
    assert found["held"]["reset_after_ms"]["count"] == 2
    assert found["total"]["bytes"] == 0


async def test_who_holds_its_end_open_reads_everything_and_keeps_the_descriptor() -> None:
    server = Server([lambda: chunked(OPENING, events([1, 2]))])
    async with serving(server):
        with LoadClient(
            Load(port=server.port, clients=2, hold_open=True, headers=["X-Client: %i"])
        ) as client:
            await server.wait_for(
                lambda: len(server.writers) == 2 and all(w.is_closing() for w in server.writers)
            )
            for writer in server.writers:
                await writer.wait_closed()
            found = await asyncio.to_thread(client.stop)
    assert found["statuses"] == {"200": 2}
    assert found["total"]["connections"] == found["sockets"]["max"] == 2
    assert (found["held"]["ended_by_server"], found["sockets"]["at_end"]) == (2, 2)
    assert found["total"]["events"] == 4


async def test_a_reader_that_is_held_has_an_open_stream_all_the_time() -> None:
    server = Server([lambda: chunked(OPENING, events([1]), end=b"")], hold=True)
    async with serving(server):
        with LoadClient(Load(port=server.port, seconds=20, headers=["X-Client: %i"])) as client:
            await server.wait_for(lambda: bool(server.requests))
            await asyncio.sleep(0.1)
            found = await asyncio.to_thread(client.stop)
    assert found["open_share"] == pytest.approx(1, abs=0.01)
    assert found["statuses"] == {"200": 1}
    assert found["sequence"]["behind"] == {"of": "channel_head", "clients": 0, "events": 0, "max": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 0}, "--port: expected a number from 1 to 65535, got '0'"),
        ({"port": 80, "host": "10.0.0.1"}, "--host: expected an address in 127.0.0.0/8"),
        ({"port": 80, "channels": 2}, "--channels: more than --clients"),
        ({"port": 80, "storm": True, "stall": True}, "exclude each other"),
        ({"port": [], "seconds": 1}, "--port is missing"),
    ],
)
def test_a_bad_argument_is_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadFailed, match="ended with 2") as failure:
        run(Load(**options))
    assert message in str(failure.value)
