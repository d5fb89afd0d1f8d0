"""An outlet: how much may wait for a client, and how long without progress. No server, no real second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from sse_polling import sending
from sse_polling.conf import Config, SendLimits
from sse_polling.protocol.encoding import JsonAnswer, JsonLines
from sse_polling.protocol.wire import HEARTBEAT
from sse_polling.sending import Outlet, Stalled, Watch
from sse_polling.transport import Socket

from .timeless import Timeless, timeless

STALL = 10
LIMITS = SendLimits(stall_seconds=STALL, buffer_bytes=1000, total_bytes=100_000)


class FakeSocket(Socket):
    """A server that takes any amount at once, as daphne; the client takes what `take` says."""

    reachable = True

    def __init__(self, *, shows: bool = True, costly: bool = False) -> None:
        self.shows = shows
        self.costly = costly
        self.waiting = 0
        self.most = 0
        self.had = 0
        self.aborted = False
        self.probes: list[float] = []
        self.bounds: list[int] = []
        self.bounded_at: int | None = None
        self.blocked: asyncio.Event | None = None
        self.bodies: list[bytes] = []
        self.looks = 0

    async def send(self, message: Mapping[str, Any]) -> None:
        body = message.get("body", b"")
        self.bodies.append(body)
        if not self.aborted:
            self.waiting += len(body)
            self.most = max(self.most, self.waiting)
        if self.blocked is not None:
            await self.blocked.wait()

    def take(self, size: int | None = None) -> None:
        size = self.waiting if size is None else size
        self.waiting -= size
        self.had += size

    def pending(self) -> int | None:
        self.looks += 1
        return self.waiting if self.shows else None

    def acked(self) -> int | None:
        return self.had if self.waiting else None

    def abort(self) -> bool:
        self.aborted = True
        self.waiting = 0
        if self.blocked is not None and self.reachable:
            self.blocked.set()
        return self.reachable

    def probe(self, seconds: float) -> None:
        self.probes.append(seconds)

    def bound(self, size: int) -> None:
        self.bounds.append(size)
        self.bounded_at = self.waiting


class Stream:
    """A stream that writes what it is given, one chunk after the other."""

    def __init__(self, time: Timeless, socket: FakeSocket, limits: SendLimits = LIMITS) -> None:
        self.time = time
        self.socket = socket
        self.config = Config(send=limits)
        self.left: list[str] = []
        self.over = False
        self.flushes: list[bool] = []
        self.outlet: Outlet | None = None
        self.heartbeat = HEARTBEAT

    async def write(self, *chunks: bytes, close: bool = True) -> None:
        outlet = self.outlet
        if outlet is None:
            outlet = self.outlet = Outlet(
                self.socket.send,
                self.socket,
                self.config,
                heartbeat=self.heartbeat,
                on_stalled=lambda: self.left.append("stalled"),
                is_over=lambda: self.over,
                on_flush=self.flushes.append,
            )
        try:
            for chunk in chunks:
                await outlet.write(chunk)
        finally:
            if close:
                outlet.close()

    def start(self, *chunks: bytes, close: bool = True) -> asyncio.Task[None]:
        return self.time.start(self.write(*chunks, close=close))


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine
    sending._watches.clear()


def watch(time: Timeless) -> Watch:
    return sending._watches[time.loop]


def test_a_client_with_nothing_waiting_costs_no_timer_and_no_wait(time: Timeless) -> None:
    socket = FakeSocket()

    async def send(message: Mapping[str, Any]) -> None:
        socket.bodies.append(message["body"])

    socket.send = send  # type: ignore[method-assign]
    task = Stream(time, socket).start(*[b"x" * 900] * 50)
    assert task.done()
    assert len(socket.bodies) == 50
    time.advance(sending.SWEEP_SECONDS)
    assert len(watch(time)) == 0
    assert time._next_timer() is None


def test_the_last_chunk_ends_the_response_and_waits_for_no_room(time: Timeless) -> None:
    socket = FakeSocket()
    more: list[bool] = []
    kept = socket.send

    async def send(message: Mapping[str, Any]) -> None:
        more.append(message["more_body"])
        await kept(message)

    socket.send = send  # type: ignore[method-assign]

    async def write() -> None:
        outlet = Outlet(socket.send, socket, Config(send=LIMITS))
        await outlet.write(b"")
        await outlet.write(b"x" * LIMITS.buffer_bytes, last=True)
        outlet.close()

    assert time.start(write()).done()
    assert more == [True, False]


def test_no_more_waits_in_a_socket_than_its_bound(time: Timeless) -> None:
    socket = FakeSocket()
    task = Stream(time, socket).start(*[b"x" * 400] * 20)
    time.advance(5)
    assert socket.most <= LIMITS.buffer_bytes
    assert not task.done()
    while not task.done():
        socket.take()
        time.advance(sending.WAIT_SECONDS)
    assert b"".join(socket.bodies) == b"x" * 8000
    assert socket.most <= LIMITS.buffer_bytes


def test_the_next_chunk_is_not_made_while_much_of_the_last_ones_waits(time: Timeless) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    assert stream.start(b"x" * 400, close=False).done()
    task = stream.start(b"x" * 400, close=False)
    time.advance(1)
    assert socket.waiting == 800
    assert not task.done()
    socket.take(300)
    time.advance(sending.WAIT_SECONDS)
    assert task.done()


def test_a_frame_larger_than_the_bound_goes_alone(time: Timeless) -> None:
    socket = FakeSocket()
    task = Stream(time, socket).start(b"x" * 400, b"y" * 5000, b"z")
    time.advance(1)
    assert socket.bodies == [b"x" * 400]
    socket.take()
    time.advance(1)
    assert socket.bodies == [b"x" * 400, b"y" * 5000]
    socket.take()
    time.advance(1)
    assert task.done()


def test_a_socket_that_takes_nothing_is_cut_at_the_limit(time: Timeless) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    task = stream.start(*[b"x" * 600] * 3)
    time.advance(LIMITS.stall_seconds - 1)
    assert not socket.aborted
    time.advance(1 + 2 * sending.SWEEP_SECONDS)
    assert socket.aborted
    assert isinstance(task.exception(), Stalled)
    assert stream.left == ["stalled"]
    assert watch(time).stalled == 1
    assert watch(time).total == 0
    assert time._next_timer() is None


@pytest.mark.parametrize("shows", [True, False], ids=["in pending", "in what the peer had"])
def test_a_client_that_takes_a_little_is_left_alone(time: Timeless, shows: bool) -> None:
    socket = FakeSocket(shows=shows)
    socket.blocked = asyncio.Event()
    task = Stream(time, socket).start(b"x" * 900, b"y")
    for _ in range(20):
        time.advance(LIMITS.stall_seconds * 0.8)
        socket.take(1)
    assert not socket.aborted
    assert not task.done()


@pytest.mark.parametrize("blocks", ["the app waits", "send waits"])
def test_a_trickle_does_not_keep_a_burst_that_should_be_over(time: Timeless, blocks: str) -> None:
    socket = FakeSocket()
    socket.blocked = asyncio.Event() if blocks == "send waits" else None
    stream = Stream(time, socket)
    task = stream.start(*[b"x" * 900] * 2)
    for _ in range(3 * STALL):
        time.advance(1)
        socket.take(1)
    assert not socket.aborted
    stream.over = True
    for _ in range(STALL - 1):
        time.advance(1)
        socket.take(1)
    assert not socket.aborted
    time.advance(2)
    assert socket.aborted
    assert isinstance(task.exception(), Stalled)
    assert stream.left == ["stalled"]


def test_a_send_that_blocks_is_noticed_and_its_socket_cut(time: Timeless) -> None:
    socket = FakeSocket(shows=False)
    socket.blocked = asyncio.Event()
    task = Stream(time, socket).start(b"x")
    time.advance(LIMITS.stall_seconds + 1)
    assert socket.aborted
    assert isinstance(task.exception(), Stalled)


def test_where_the_socket_cannot_be_reached_the_stream_ends_by_itself(time: Timeless) -> None:
    socket = FakeSocket(shows=False)
    socket.reachable = False
    socket.blocked = asyncio.Event()
    task = Stream(time, socket).start(b"x")
    time.advance(LIMITS.stall_seconds + 1)
    assert isinstance(task.exception(), Stalled)
    assert not task.cancelled()


@pytest.mark.parametrize("reachable", [True, False])
def test_a_servers_own_cancel_after_a_cut_is_not_swallowed(time: Timeless, reachable: bool) -> None:
    socket = FakeSocket(shows=False)
    socket.blocked = asyncio.Event()
    task = Stream(time, socket).start(b"x")
    socket.abort = lambda: reachable  # type: ignore[method-assign]
    time.loop.call_later(STALL / 2, lambda: (watch(time).evict(outlet(time)), task.cancel()))
    time.advance(STALL)
    assert task.cancelled()


def test_a_loop_that_has_closed_has_nothing_waiting(time: Timeless) -> None:
    with timeless() as other:
        Stream(other, FakeSocket()).start(b"x" * 5000)
    assert sending._watches[other.loop].total == 5000
    current = time.run(_current())
    assert not current.pressed(4000)
    assert current.fits(1000, 4000)


async def _current() -> Watch:
    watch = Watch(asyncio.get_running_loop())
    sending._watches[watch.loop] = watch  # `current` would have forgotten the other one
    return watch


def outlet(time: Timeless) -> Outlet:
    (only,) = watch(time)._outlets
    return only


def test_a_cancelled_stream_is_cancelled(time: Timeless) -> None:
    for blocked in (None, asyncio.Event()):
        socket = FakeSocket()
        socket.blocked = blocked
        task = Stream(time, socket).start(*[b"x" * 900] * 3)
        task.cancel()
        time.settle()
        assert task.cancelled()
        socket.take()
    time.advance(1)
    assert len(watch(time)) == 0


def test_what_waits_after_the_end_is_watched_until_it_has_gone(time: Timeless) -> None:
    flushed, stuck = FakeSocket(), FakeSocket()
    for socket in (flushed, stuck):
        assert Stream(time, socket).start(b"x" * 300).done()
    assert len(watch(time)) == 2
    flushed.take()
    time.advance(1)
    assert len(watch(time)) == 1
    time.advance(LIMITS.stall_seconds)
    assert stuck.aborted
    assert not flushed.aborted
    assert time._next_timer() is None


def test_a_trickle_does_not_keep_a_socket_after_the_end(time: Timeless) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    assert stream.start(b"x" * 400).done()
    for _ in range(STALL - 1):
        time.advance(1)
        socket.take(1)
    assert not socket.aborted
    time.advance(2)
    assert socket.aborted
    assert time._next_timer() is None


def test_what_flushes_after_the_end_is_told_and_told_off_once(time: Timeless) -> None:
    flushed, aborted, stuck, lost = [Stream(time, FakeSocket()) for _ in range(4)]
    for stream in (flushed, aborted, stuck, lost):
        stream.start(b"x" * 100, close=False)
        assert stream.flushes == []
        assert stream.outlet is not None
        for _ in range(2):
            stream.outlet.close()
        assert stream.flushes == []  # most are gone by the first look
    time.advance(sending.SWEEP_SECONDS)
    for stream in (flushed, aborted, stuck, lost):
        assert stream.flushes == [True]
    flushed.socket.take()
    aborted.socket.abort()  # by an operator
    time.advance(1)
    assert flushed.flushes == aborted.flushes == [True, False]
    time.advance(STALL + 1)
    assert stuck.socket.aborted
    assert stuck.flushes == [True, False]


def test_much_that_waits_at_the_end_is_told_at_once_and_looked_at_soon(time: Timeless) -> None:
    stream = Stream(time, FakeSocket())
    stream.start(b"x" * 400)
    assert stream.flushes == [True]
    stream.socket.take()
    time.advance(sending.WAIT_SECONDS)
    assert stream.flushes == [True, False]
    assert time._next_timer() is None


def test_what_is_flushed_at_the_end_is_not_told(time: Timeless) -> None:
    stream = Stream(time, FakeSocket())
    stream.start(b"x" * 300, close=False)
    stream.socket.take()
    stream.start(b"")
    assert stream.flushes == []


def test_the_next_poll_on_a_kept_socket_ends_the_flush(time: Timeless) -> None:
    socket = FakeSocket()
    socket.owner = object()
    first, second = Stream(time, socket), Stream(time, socket)
    first.start(b"x" * 300)
    time.advance(STALL - 1)
    second.start(b"y", close=False)
    assert first.flushes == [True, False]
    for _ in range(5):
        socket.take(1)
        time.advance(1)
    assert not socket.aborted
    assert (len(watch(time)), watch(time).total) == (1, socket.waiting)


def test_a_loop_that_has_closed_flushes_nothing() -> None:
    with timeless() as machine:
        stream = Stream(machine, FakeSocket())
        stream.start(b"x" * 300)
        machine.advance(1)
        assert stream.flushes == [True]
    with timeless() as other:
        Stream(other, FakeSocket()).start(b"x" * 300)
        assert stream.flushes == [True, False]
    sending._watches.clear()


def test_a_socket_that_shows_nothing_flushes_from_the_look_that_saw_it(time: Timeless) -> None:
    taken, waits = [Stream(time, FakeSocket(shows=False, costly=True)) for _ in range(2)]
    for stream in (taken, waits):
        stream.start(b"x" * 5000)
        assert stream.flushes == []
    taken.socket.take()
    time.advance(2)
    assert (taken.flushes, waits.flushes) == ([], [True])
    waits.socket.take()
    time.advance(2)
    assert waits.flushes == [True, False]


@pytest.mark.parametrize("size", [200, 5000])
def test_a_socket_that_shows_nothing_is_looked_for_after_a_large_burst_only(
    time: Timeless, size: int
) -> None:
    socket = FakeSocket(shows=False, costly=True)
    assert Stream(time, socket).start(b"x" * size).done()
    time.advance(LIMITS.stall_seconds + 2)
    assert socket.aborted == (size > LIMITS.buffer_bytes)
    assert len(watch(time)) == 0


HEARTBEATS = [HEARTBEAT, JsonLines.heartbeat, JsonAnswer.heartbeat]


@pytest.mark.parametrize("heartbeat", HEARTBEATS)
def test_a_heartbeat_that_cannot_be_written_evicts_at_once(time: Timeless, heartbeat: bytes) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    stream.heartbeat = heartbeat
    assert stream.start(b"x" * 100, close=False).done()
    time.advance(5)
    task = stream.start(heartbeat)
    assert isinstance(task.exception(), Stalled)
    assert socket.aborted
    assert stream.left == ["stalled"]


def test_a_heartbeat_waits_behind_bytes_that_are_on_their_way(time: Timeless) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    assert stream.start(b"x" * 100, close=False).done()
    socket.take(50)
    assert stream.start(HEARTBEAT, close=False).done()
    assert socket.bodies == [b"x" * 100]
    socket.take()
    time.advance(1)
    assert stream.start(HEARTBEAT, close=False).result() is None
    assert socket.bodies[1:] == [HEARTBEAT]
    assert not socket.aborted


@pytest.mark.parametrize("heartbeat", HEARTBEATS)
def test_a_small_burst_sets_no_options_and_a_held_one_is_probed_once(
    time: Timeless, heartbeat: bytes
) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    stream.heartbeat = heartbeat
    stream.start(b"x" * 400, close=False)
    socket.take()
    assert (socket.probes, socket.bounds) == ([], [])
    for _ in range(3):
        stream.start(heartbeat, close=False)
        socket.take()
    assert socket.bodies[1:] == [heartbeat] * 3 * bool(heartbeat)
    assert socket.probes == [20]
    assert socket.bounds == []


def test_a_stream_that_is_open_for_long_is_probed_though_no_heartbeat_is_due(time: Timeless) -> None:
    socket = FakeSocket()
    stream = Stream(time, socket)
    for second in range(0, 60, 5):
        stream.start(b"x", close=False)
        socket.take()
        assert socket.probes == [20] * (second >= 20)
        time.advance(5)


def test_a_large_burst_is_bounded_once_and_before_it_is_written(time: Timeless) -> None:
    socket = FakeSocket()
    Stream(time, socket).start(b"x" * 600, b"y" * 300)
    assert socket.bounds == [1000]
    assert socket.bounded_at == 0


# All sockets together


def pressed(time: Timeless, count: int) -> tuple[list[FakeSocket], list[asyncio.Task[None]]]:
    limits = SendLimits(stall_seconds=10, buffer_bytes=1000, total_bytes=2000)
    sockets = [FakeSocket() for _ in range(count)]
    return sockets, [Stream(time, socket, limits).start(b"x" * 400, b"y" * 400) for socket in sockets]


def filled(time: Timeless, limits: SendLimits) -> list[FakeSocket]:
    """Return five sockets that together have as much waiting as all may have."""
    sockets = [FakeSocket() for _ in range(5)]
    for socket in sockets:
        Stream(time, socket, limits).start(b"x" * 400, close=False)
    assert watch(time).total == 2000
    return sockets


def test_sockets_with_something_waiting_wait_while_all_have_too_much(time: Timeless) -> None:
    limits = SendLimits(buffer_bytes=1000, total_bytes=2000)
    sockets = filled(time, limits)
    time.advance(sending.PRESSED_SECONDS / 2)
    fresh = FakeSocket()
    task = Stream(time, fresh, limits).start(b"z")
    assert fresh.bodies == []
    sockets[1].take()
    time.advance(sending.WAIT_SECONDS)
    assert fresh.bodies == [b"z"]
    fresh.take()
    time.advance(sending.WAIT_SECONDS)
    assert task.done()


def test_a_crowd_that_reads_nothing_never_has_more_than_all_may_have(time: Timeless) -> None:
    limits = SendLimits(stall_seconds=10, buffer_bytes=1000, total_bytes=2000)
    sockets = [FakeSocket() for _ in range(60)]
    tasks = [Stream(time, socket, limits).start(b"x" * 700) for socket in sockets]
    for _ in range(60 * 40):
        time.advance(sending.WAIT_SECONDS)
        assert sum(socket.waiting for socket in sockets) <= 2000
        if all(task.done() for task in tasks):
            break
    assert all(socket.bodies for socket in sockets), "each had its turn"
    time.advance(STALL + 1)
    assert (watch(time).total, len(watch(time))) == (0, 0)
    assert time._next_timer() is None


def test_turns_are_in_the_order_of_coming_and_a_small_one_waits_for_a_large_one(time: Timeless) -> None:
    limits = SendLimits(buffer_bytes=1000, total_bytes=2000)
    sockets = filled(time, limits)
    large, small = FakeSocket(), FakeSocket()
    Stream(time, large, limits).start(b"x" * 1900)
    Stream(time, small, limits).start(b"z")
    for socket in sockets[:4]:
        socket.take()
    time.advance(2 * sending.WAIT_SECONDS)
    assert (large.bodies, small.bodies) == ([], [])
    sockets[4].take()
    time.advance(2 * sending.WAIT_SECONDS)
    assert (len(large.bodies), len(small.bodies)) == (1, 1)


def test_a_chunk_beyond_what_all_may_have_goes_when_nothing_waits(time: Timeless) -> None:
    limits = SendLimits(buffer_bytes=1000, total_bytes=2000)
    sockets, large = filled(time, limits), FakeSocket()
    Stream(time, large, limits).start(b"x" * 5000)
    for socket in sockets:
        assert large.bodies == []
        socket.take()
        time.advance(2 * sending.WAIT_SECONDS)
    assert len(large.bodies) == 1


@pytest.mark.parametrize("when", ["while it waits", "in its turn", "while it is sent"])
def test_a_stream_that_is_cancelled_gives_its_turn_back(time: Timeless, when: str) -> None:
    limits = SendLimits(buffer_bytes=1000, total_bytes=2000)
    sockets = filled(time, limits)
    gone, next_one = FakeSocket(), FakeSocket()
    gone.blocked = asyncio.Event() if when == "while it is sent" else None
    task = Stream(time, gone, limits).start(b"x" * 400)
    Stream(time, next_one, limits).start(b"y" * 400)
    if when == "while it waits":
        task.cancel()
        sockets[0].take()
    else:
        sockets[0].take()
        if when == "in its turn":
            watch(time)._sweep()
            task.cancel()
            time.settle()
        else:
            time.advance(2 * sending.WAIT_SECONDS)
            assert gone.bodies
            task.cancel()
            gone.take()
    time.advance(2 * sending.WAIT_SECONDS)
    assert task.cancelled()
    assert next_one.bodies == [b"y" * 400]
    assert watch(time).total == 2000


def test_what_a_server_has_not_shown_yet_counts_while_it_is_sent(time: Timeless) -> None:
    rust = FakeSocket(shows=False)
    rust.blocked = asyncio.Event()
    limits = SendLimits(stall_seconds=10, buffer_bytes=1000, total_bytes=2000)
    task = Stream(time, rust, limits).start(b"x" * 1900, close=False)
    other = FakeSocket()
    Stream(time, other, limits).start(b"y" * 400)
    time.advance(0.5)
    assert (watch(time).total, other.bodies) == (1900, [])
    rust.blocked.set()
    rust.take()
    time.advance(sending.WAIT_SECONDS)
    assert task.done()
    assert other.bodies == [b"y" * 400]
    other.take()
    time.advance(1)
    assert watch(time).total == 0


def test_what_the_kernel_takes_at_once_never_waits(time: Timeless) -> None:
    limits = SendLimits(buffer_bytes=1000, total_bytes=2000)
    for _ in range(50):
        socket = FakeSocket()

        async def send(_message: Mapping[str, Any], socket: FakeSocket = socket) -> None:
            socket.bodies.append(b"")

        socket.send = send  # type: ignore[method-assign]
        assert Stream(time, socket, limits).start(b"x" * 900).done()
    assert watch(time).total == 0


def test_those_that_stand_still_are_cut_early_while_all_have_too_much(time: Timeless) -> None:
    sockets, _ = pressed(time, 6)
    moving = sockets[0]
    for _ in range(10):
        time.advance(sending.PRESSED_SECONDS / 4)
        if moving.waiting:
            moving.take(10)
    assert not moving.aborted
    assert sum(socket.aborted for socket in sockets) >= 1
    assert sum(socket.waiting for socket in sockets) <= 2000
    assert watch(time).total <= 2000


def test_a_loop_that_stood_still_blames_no_client(time: Timeless) -> None:
    socket = FakeSocket()
    Stream(time, socket).start(*[b"x" * 900] * 2)
    time.loop.now += 60  # nothing ran: the machine slept
    time.settle()
    assert not socket.aborted
    time.advance(LIMITS.stall_seconds + 1)
    assert socket.aborted


def test_a_sweep_that_fails_does_not_end_the_watch(time: Timeless) -> None:
    errors: list[Any] = []
    time.loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    socket = FakeSocket()
    task = Stream(time, socket).start(*[b"x" * 900] * 2)

    def fail() -> int | None:
        raise RuntimeError("a bug")

    time.advance(0.1)
    works: Callable[[], int | None] = socket.pending
    socket.pending = fail  # type: ignore[method-assign]
    time.advance(1)
    assert errors
    socket.pending = works  # type: ignore[method-assign]
    time.advance(LIMITS.stall_seconds + 1)
    assert socket.aborted
    assert isinstance(task.exception(), Stalled)
