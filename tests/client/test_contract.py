"""What the client promises: exact over any cut, a cursor never ahead, a goodbye, and a socket let go."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path

import httpx
import pytest

from sse_polling.client import Event, EventsLost, Gap, attempts, iter_events, room, stream_events
from sse_polling.client.inflating import PIECE_BYTES, Inflater
from sse_polling.exceptions import InvalidCursor

from .conftest import Half, Reader
from .scripted import GONE, Request, Say, Scripted, answer, chunked, stream

TEXTS = ["a", "", "two\nlines", "é\u2028\x85", "x" * 40]
END = b"id: 6\nevent: end\ndata: {}\n\n"


def block(number: int) -> bytes:
    lines = "".join(f"data: {line}\n" for line in TEXTS[number - 1].split("\n"))
    return f"id: {number}\n{lines}\n".encode()


def burst(cursor: str) -> bytes:
    """Return the answer of a server that stands at 6, the end."""
    first = int(cursor or "0") + 1
    opening = f"retry: 20\nid: {first - 1}\n\n".encode()
    rest = b"".join(block(number) for number in range(first, 6))
    return chunked(opening, rest + (END if first <= 6 else b""), b"retry: 20\n\n")


def resumed(request: Request) -> Say:
    return Say(burst(request.cursor))


def test_cut_at_every_byte_the_transcript_is_the_same(read: Reader, request: pytest.FixtureRequest) -> None:
    """By FIN and RST in turn; where the one twin meets the one, the other meets the other."""
    turn = "async" in request.node.name
    whole = burst("")

    with Scripted([]) as server:
        for at in range(len(whole)):
            server.script = iter([Say(whole[:at], end="rst" if at % 2 == turn else "fin"), resumed])
            found = read(server.url)
            assert found.error is None, (at, found.error)
            assert found.data == [*TEXTS, "{}"], at
            assert [each.id for each in found.events] == list("123456"), at
            assert len(found.waits) == (END not in whole[:at]), at


# The cursor


def test_a_commit_comes_when_the_consumer_is_done_and_never_before() -> None:
    log: list[str] = []
    with Scripted([resumed]) as server:
        for event in iter_events(server.url, commit=lambda cursor: log.append(f"commit {cursor}")):
            log.append(f"begin {event.id}")
            log.append(f"done {event.id}")
    expected = ["commit 0"]
    for number in range(1, 7):
        expected += [f"begin {number}", f"done {number}", f"commit {number}"]
    assert log == expected


@pytest.mark.parametrize("opening", [b"retry: 20\nid: 0\n\n", b"id: 0\n\nretry: 20\n\n:\n\n"])
def test_the_id_that_a_stream_opens_with_is_committed_before_the_first_event(opening: bytes) -> None:
    """Both come in one piece. Who dies over the first event is given it again."""
    log: list[str] = []
    with Scripted([Say(stream(opening + block(1)))]) as server:
        for event in iter_events(server.url, commit=log.append):
            log.append(f"begin {event.id}")
            break
    assert log == ["0", "begin 1"]


async def test_the_asynchronous_commit_is_the_same_and_may_be_a_coroutine() -> None:
    log: list[str] = []

    async def commit(cursor: str) -> None:
        await asyncio.sleep(0)
        log.append(f"commit {cursor}")

    with Scripted([resumed]) as server:
        async for event in stream_events(server.url, commit=commit):
            log += [f"done {event.id}"]
    assert log == ["commit 0", *[f"{what} {number}" for number in range(1, 7) for what in ("done", "commit")]]


@pytest.mark.parametrize("how", ["break", "raise"])
def test_an_event_whose_processing_leaves_the_loop_is_not_committed(how: str) -> None:
    log: list[str] = []

    def consume(url: str) -> None:
        for event in iter_events(url, commit=log.append):
            if event.id == "3":
                if how == "break":
                    break
                raise RuntimeError

    with Scripted([resumed]) as server:
        try:
            consume(server.url)
        except RuntimeError:
            assert how == "raise"
    assert log == ["0", "1", "2"]


async def test_a_cancelled_consumer_does_not_commit() -> None:
    log: list[str] = []
    reached = asyncio.Event()

    async def consume(url: str) -> None:
        async for event in stream_events(url, commit=log.append):
            if event.id == "3":
                reached.set()
                await asyncio.Event().wait()

    with Scripted([resumed]) as server:
        task = asyncio.create_task(consume(server.url))
        await reached.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert log == ["0", "1", "2"]


async def test_a_step_that_was_given_up_ends_the_iteration_and_another_goes_on() -> None:
    held = Say(chunked(block(1), last=b""), end="hold")
    with Scripted([held, resumed]) as server:
        events = stream_events(server.url)
        first = await anext(events)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(events)
        await asyncio.to_thread(server.left.get, timeout=5)
        assert [each async for each in events] == []
        assert [each.id async for each in stream_events(server.url, first.id)] == list("23456")


def test_silent_ids_between_bursts_are_committed_once(read: Reader) -> None:
    log: list[str] = []
    says = [stream(b"id: 0\n\n"), stream(b"id: 0\n\n"), stream(b"id: 4\n\n"), answer("500 Oops")]
    with Scripted(map(Say, says)) as server:
        read(server.url, commit=log.append)
        assert server.cursors == ["", "0", "0", "4", "4"]
    assert log == ["0", "4"]


def test_an_error_of_commit_passes_even_if_it_is_one_of_httpx(read: Reader) -> None:
    def commit(cursor: str) -> None:
        raise httpx.ConnectError("the store is away")

    with Scripted([resumed]) as server:
        found = read(server.url, commit=commit)
        assert server.cursors == [""]
    assert isinstance(found.error, httpx.ConnectError)
    assert found.data == []


@pytest.mark.parametrize("cursor", ["a\nb", "a\0", "\x7f", "\ud800"])
def test_a_cursor_that_no_header_can_carry_is_refused_at_once(cursor: str) -> None:
    for call in (iter_events, stream_events):
        with pytest.raises(InvalidCursor, match="Not an id that a header can carry"):
            call("http://127.0.0.1/", cursor)


def test_a_cursor_to_begin_with(read: Reader) -> None:
    with Scripted([resumed]) as server:
        assert [each.id for each in read(server.url, "4").events] == ["5", "6"]
        assert server.cursors == ["4"]


def test_at_least_once_over_crashes_and_exactly_once_with_the_id_stored_beside(
    blocking: httpx.Client,
) -> None:
    saved, seen, stored = [""], [], dict[str, str]()
    with Scripted([resumed] * 20) as server:
        for crash_at in ["2", "2", "4", "5", None]:
            for event in iter_events(server.url, saved[-1], client=blocking, commit=saved.append):
                seen.append(event.id)
                stored[event.id] = event.data
                if event.id == crash_at:
                    break
        assert list(stored) == list("123456")
        assert seen == ["1", "2", "2", "2", "3", "4", "4", "5", "5", "6"]
        log: list[tuple[str, str]] = []
        for crash_at in ["2", "2", "4", "5", None]:
            for event in iter_events(server.url, log[-1][0] if log else None, client=blocking):
                log.append((event.id, event.data))  # both in one transaction
                if event.id == crash_at:
                    break
    assert [identifier for identifier, _ in log] == list("123456")


# Control events and several channels

GAP = b'id: 9\nevent: gap\ndata: {"channel":"a","from":3,"to":9,"reason":"trimmed"}\n\n'
RESET = b'id: 0\nevent: gap\ndata: {"channel":"a","from":3,"to":null,"reason":"reset"}\n\n'


def test_a_gap_is_an_event_of_its_own_kind(read: Reader) -> None:
    with Scripted([Say(stream(GAP + RESET))]) as server:
        trimmed, reset = read(server.url).events
    assert isinstance(trimmed, Gap)
    assert isinstance(reset, Gap)
    assert (trimmed.channel, trimmed.first, trimmed.last, trimmed.reason) == ("a", 3, 9, "trimmed")
    assert (trimmed.event, trimmed.id, trimmed.json()["to"]) == ("gap", "9", 9)
    assert (reset.first, reset.last, reset.reason) == (3, None, "reset")


def test_a_gap_is_raised_if_that_was_asked_for_and_not_committed(read: Reader) -> None:
    log: list[str] = []
    with Scripted([Say(stream(b"id: 2\ndata: a\n\n" + GAP))]) as server:
        found = read(server.url, raise_on_gap=True, commit=log.append)
    assert isinstance(found.error, EventsLost)
    assert str(found.error) == "Events of a are gone, from 3 to 9: trimmed."
    assert found.error.gap.last == 9
    assert found.data == ["a"]
    assert log == ["2"]


def envelope(cursor: str, channel: str, data: str, event: str = "message") -> bytes:
    wrapped = f'{{"channel":"{channel}","id":"own","event":"{event}","data":"{data}"}}'
    return f"id: {cursor}\nevent: {event}\ndata: {wrapped}\n\n".encode()


def test_several_channels_end_when_all_of_them_have(read: Reader) -> None:
    first = envelope("1", "a", "x") + envelope("2", "a", "", "end") + envelope("3", "b", "y")
    second = envelope("4", "b", "", "end") + envelope("5", "b", "never")
    with Scripted([Say(stream(first)), Say(stream(second))]) as server:
        found = read(f"{server.origin}/events/?channel=a&channel=b")
        assert server.cursors == ["", "3"]
        assert server.requests[0].target.startswith("/events/?channel=a&channel=b&client=")
    assert [(each.channel, each.data, each.event) for each in found.events] == [
        ("a", "x", "message"),
        ("a", "", "end"),
        ("b", "y", "message"),
        ("b", "", "end"),
    ]
    assert {each.own_id for each in found.events} == {"own"}


def test_an_envelope_on_a_stream_of_one_channel_is_data(read: Reader) -> None:
    with Scripted([Say(stream(envelope("1", "a", "x")))]) as server:
        (event,) = read(server.url).events
    assert event.channel is None
    assert event.json()["data"] == "x"


# Leaving

CLOSE = b"event: close\ndata: pool_draining\n\n"
STREAM_ID = "X-SSE-Stream: " + "s" * 24


@pytest.mark.parametrize(
    ("path", "to"),
    [("/events/a/", "/events/ack/"), ("/events/?channel=a", "/events/ack/"), ("/x/y/z/?k=v", "/x/y/ack/")],
)
def test_a_drain_is_acked_and_the_client_comes_back_as_it_was_told(read: Reader, path: str, to: str) -> None:
    drained = stream(b"retry: 9\nid: 1\n\ndata: a\n\n" + CLOSE + b"retry: 7000\n\n", STREAM_ID)
    with Scripted([Say(drained, end="hold")]) as server:
        found = read(f"{server.origin}{path}")
        assert [(each.target, each.body) for each in server.acks] == [(to, b"stream=" + b"s" * 24)]
        assert server.left.get(timeout=5).target == server.requests[0].target  # it let go of the socket
    assert found.data == ["a"]  # and not the close
    assert found.waits == [7]
    assert server.cursors == ["", "1"]


def test_an_ack_names_the_client_where_the_stream_has_no_name(read: Reader) -> None:
    with Scripted([Say(stream(CLOSE + b"retry: 7000\n\n"))]) as server:
        read(server.url)
        token = server.requests[0].target.partition("client=")[2]
        assert server.acks[0].body == f"client={token}".encode()
        assert server.requests[1].target.endswith(token)
    assert len(token) == 24


def test_a_client_that_is_named_in_the_address_keeps_its_name(read: Reader) -> None:
    url = "/events/a/?sig=a%2Fb+c&client=one-that-has-a-name"
    with Scripted([Say(stream(CLOSE))]) as server:
        read(f"{server.origin}{url}#fragment")
        assert server.requests[0].target == url
        assert server.acks[0].body == b"client=one-that-has-a-name"


def test_without_acks_the_address_stays_as_it_is_and_nothing_is_posted(read: Reader) -> None:
    with Scripted([Say(stream(CLOSE + b"retry: 7000\n\n", STREAM_ID))]) as server:
        assert read(server.url, ack=False).waits == [7]
        assert server.requests[0].target == "/events/a/"
        assert server.acks == []


def test_a_cut_after_a_close_is_no_error(read: Reader) -> None:
    with Scripted([Say(chunked(b"retry: 7000\n\n", CLOSE, last=b""))]) as server:
        assert read(server.url, max_errors=0).waits == [7]


def test_an_ack_that_nobody_takes_is_no_error(read: Reader) -> None:
    with Scripted([Say(stream(CLOSE + b"retry: 7000\n\n", STREAM_ID))]) as server:
        server._read = lambda peer, read=server._read: (  # type: ignore[method-assign]
            None if (request := read(peer)) and request.method == "POST" else request
        )
        found = read(server.url)
    assert found.waits == [7]
    assert found.error is None


def test_an_ack_does_not_wait_for_a_connection_that_the_stream_itself_has() -> None:
    drained = Say(stream(CLOSE + b"retry: 1\n\n", STREAM_ID), end="hold")
    with Scripted([drained]) as server, httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
        began = time.monotonic()
        assert list(iter_events(server.url, client=client)) == []
        assert time.monotonic() - began < 2
        assert server.acks == []
        assert len(server.requests) == 2


def test_a_redirect_to_another_host_takes_no_credentials_and_no_ack(read: Reader) -> None:
    with Scripted([]) as server:
        moved = answer("302 Found", b"", f"Location: http://localhost:{server.port}/events/a/")
        server.script = iter([Say(moved), Say(stream(CLOSE)), Say(answer("302 Found", b"", "Location: /b/"))])
        found = read(server.url, auth=("me", "secret"), headers={"X-Mine": "y"})
        assert found.error is None
        assert [("authorization" in each.headers, each.headers["host"]) for each in server.requests] == [
            (True, f"127.0.0.1:{server.port}"),
            (False, f"localhost:{server.port}"),
            (True, f"127.0.0.1:{server.port}"),
            (True, f"127.0.0.1:{server.port}"),
        ]
        assert server.acks == []
        assert all(each.headers["x-mine"] == "y" for each in server.requests)


@pytest.mark.parametrize(
    "said", [[answer("200 OK")], [answer("302 Found", b"", "Location: ?signature=s")] * 11]
)
def test_no_message_tells_a_password_a_signature_or_a_token(read: Reader, said: list[bytes]) -> None:
    with Scripted(map(Say, said)) as server:
        found = read(server.url.replace("//", "//me:secret@") + "?signature=s")
    assert f"{server.origin}/events/a/" in str(found.error)
    assert not any(each in str(found.error) for each in ("secret", "signature", "client="))


async def test_a_redirect_to_another_host_takes_no_credentials_of_the_client_either() -> None:
    with Scripted([]) as server:
        moved = answer("302 Found", b"", f"Location: http://localhost:{server.port}/events/a/")
        server.script = iter([Say(moved), Say(GONE), Say(moved), Say(GONE)])
        with httpx.Client(auth=("me", "secret")) as client:
            assert list(iter_events(server.url, client=client)) == []
        async with httpx.AsyncClient(auth=("me", "secret")) as aclient:
            assert [each async for each in stream_events(server.url, client=aclient)] == []
        assert ["authorization" in each.headers for each in server.requests] == [True, False] * 2


def test_breaking_out_of_the_loop_closes_the_socket() -> None:
    with Scripted([Say(chunked(b"data: a\n\n", last=b""), end="hold")]) as server:
        for _ in iter_events(server.url):
            break
        server.left.get(timeout=5)
        server.script = iter([Say(chunked(b"data: a\n\n", last=b""), end="hold")])
        with closing(iter_events(server.url)) as events:
            next(events)
        server.left.get(timeout=5)


async def test_breaking_out_of_the_asynchronous_loop_closes_the_socket() -> None:
    held = Say(chunked(b"data: a\n\n", last=b""), end="hold")
    with Scripted([held] * 2) as server:
        async for _ in stream_events(server.url):
            break
        gc.collect()
        await asyncio.to_thread(server.left.get, timeout=5)
        async with aclosing(stream_events(server.url)) as events:
            await anext(events)
        server.left.get(timeout=5)  # no turn of the loop is needed any more
        server.script = iter([held])
        server.asked.queue.clear()
        task = asyncio.create_task(_read_on(server.url))
        await asyncio.to_thread(server.asked.get, timeout=5)
        task.cancel()
        await asyncio.wait([task])
        server.left.get(timeout=5)


async def _read_on(url: str) -> None:
    async for _ in stream_events(url):
        pass


def test_errors_are_told_with_the_wait_after_them(read: Reader) -> None:
    told: list[tuple[str, float]] = []
    with Scripted([Say(b""), Say(answer("503 Full", b"", "Retry-After: 10"))]) as server:
        read(server.url, on_error=lambda error, seconds: told.append((type(error).__name__, seconds)))
    assert told == [("RemoteProtocolError", 0.5), ("StreamRefused", 10.5)]


# Bounds


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three connections."""
    assert room.MOST_CONNECTIONS == 100
    monkeypatch.setattr(room, "MOST_CONNECTIONS", 3)


class Held:
    """Answers that are kept until the test says *go*, and how many of them at most were kept at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Say:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.go.wait(20)
        with self._lock:
            self._now -= 1
        return resumed(request)


@pytest.mark.usefixtures("narrow")
async def test_many_streams_together_have_no_more_connections_to_a_host_than_may_be() -> None:
    held = Held()
    with Scripted([held] * 12) as server:

        async def count() -> int:
            return len([each async for each in stream_events(server.url)])

        counting = asyncio.gather(*[count() for _ in range(12)])
        async with asyncio.timeout(20):
            while not room._rooms or held.most < 3 or _waiting() < 9:  # noqa: ASYNC110 - threads tell
                await asyncio.sleep(0.01)
        held.go.set()
        assert await counting == [6] * 12
        assert held.most == 3
        assert {each.headers["connection"] for each in server.requests[3:]} == {"close"}
    assert room._rooms == {}


def _waiting() -> int:
    (shared,) = room._rooms.values()
    return int(shared.free.statistics().tasks_waiting)


@pytest.mark.usefixtures("narrow")
def test_threads_share_the_connections_to_a_host() -> None:
    held = Held()
    with Scripted([held] * 12) as server, ThreadPoolExecutor(12) as threads:
        got = [threads.submit(lambda: len(list(iter_events(server.url)))) for _ in range(12)]
        while held.most < 3 or {each.streams for each in room._rooms.values()} != {12}:
            time.sleep(0.01)
        held.go.set()
        assert [each.result(20) for each in got] == [6] * 12
        assert held.most == 3
    assert room._rooms == {}


@pytest.mark.usefixtures("narrow")
async def test_who_finds_no_connection_free_says_so_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where each event's consumer reads another stream, which must not wait for itself for ever."""
    monkeypatch.setattr(room, "WAIT_SECONDS", 0.02)
    told: list[Exception] = []
    with Scripted([Say(burst("")[:-5], end="hold")] * 3 + [resumed]) as server:
        holders = [stream_events(server.url) for _ in range(3)]
        for each in holders:
            await anext(each)

        late = stream_events(server.url, on_error=lambda error, _: told.append(error), backoff_seconds=0.02)
        first = asyncio.ensure_future(anext(late))
        async with asyncio.timeout(20):
            while len(told) < 2:  # noqa: ASYNC110 - a callback tells
                await asyncio.sleep(0.01)
            for each in holders:
                await each.aclose()
            assert (await first).data == "a"
        await late.aclose()
    assert {str(each) for each in told} == {"All 3 connections to this server are in use."}


@pytest.mark.usefixtures("narrow")
async def test_an_ack_waits_for_no_connection() -> None:
    """Letting go is an ack as well."""
    asks = chunked(b"retry: 20\nid: 0\n\n", block(1) + b"event: close\ndata: pool_draining\n\n")
    with Scripted([Say(asks, end="hold")] * 3 + [Say(GONE)] * 3) as server:
        streams = [stream_events(server.url) for _ in range(3)]
        for each in streams:
            await anext(each)
        began = time.monotonic()
        assert await asyncio.gather(*[anext(each, None) for each in streams]) == [None] * 3
        assert time.monotonic() - began < 5
        assert len(server.acks) <= 2  # of who came when another had left


async def test_a_shared_client_is_not_closed_and_its_limit_is_kept() -> None:
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=2)) as client:
        with Scripted([resumed] * 10) as server:

            async def count() -> int:
                return len([each async for each in stream_events(server.url, client=client)])

            assert await asyncio.gather(*[count() for _ in range(10)]) == [6] * 10
        assert not client.is_closed


def test_what_has_come_compressed_is_given_at_once_in_small_pieces() -> None:
    pack = zlib.compressobj()
    packed = pack.compress(b"x" * 3 * PIECE_BYTES) + pack.flush(zlib.Z_SYNC_FLUSH)
    for size in range(len(packed) + 1):
        pieces = list(Inflater("deflate").feed(packed[:size]))
        assert sum(map(len, pieces)) == len(zlib.decompressobj().decompress(packed[:size])), size
        assert max(map(len, pieces), default=0) <= PIECE_BYTES


def test_a_bomb_takes_little_memory(read: Reader) -> None:
    bomb = zlib.compress(b"data: " + b"x" * 2**26)
    before = _peak()
    with Scripted([Say(stream(bomb, "Content-Encoding: deflate"))]) as server:
        assert read(server.url).error is not None
    assert _peak() - before < 30_000_000


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_the_words_of_a_refusal_are_not_waited_for_as_long_as_an_event(
    read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "REFUSAL_SECONDS", 0.05)
    mute = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nNo"
    with Scripted([Say(mute, end="hold")]) as server:
        began = time.monotonic()
        assert str(read(server.url, silence_seconds=None).error) == "404: No"
    assert time.monotonic() - began < 2


def test_a_quiet_stream_that_lived_for_a_minute_is_no_failed_attempt(read: Reader) -> None:
    times = iter(range(0, 100_000, 61))
    with Scripted([Say(chunked(b":\n", last=b""))] * 5) as server:
        found = read(server.url, max_errors=1, clock=lambda: next(times))
    assert found.error is None
    assert found.waits == [0.5] * 5


def test_the_default_knobs_wait_at_random_and_in_real_time() -> None:
    with Scripted([Say(stream(b"retry: 1\n\n")), Say(chunked(b"data: a\n\n", last=b""))]) as server:
        found = [each.data for each in iter_events(server.url, backoff_seconds=0.001)]
    assert found == ["a"]


def test_an_event_has_the_names_that_httpx_sse_gives_it() -> None:
    event = Event(id="1", data='{"a": 1}')
    assert (event.event, event.id, event.json()) == ("message", "1", {"a": 1})
    assert Half().random() == 0.5
