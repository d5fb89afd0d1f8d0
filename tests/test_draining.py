"""Draining: whom a process asks to leave and when, and what it waits for. Time is advanced, not slept."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from django.test import override_settings

from sse_polling import publish_many
from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.draining import MOST_WALKS, ORDER, SIGNAL, Draining
from sse_polling.hub import Hub
from sse_polling.lifecycle import Farewell, Node, Refusal
from sse_polling.protocol.burst import Cause
from sse_polling.protocol.cursor import parse_cursor
from sse_polling.stream import open_stream
from tests.timeless import Timeless, timeless

LIMITS = {"seconds": 20, "ack_seconds": 5, "spread_seconds": 3}


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine, override_settings(SSE_POLLING={"DRAIN": LIMITS, "PRESET": "live"}):
        yield machine


@pytest.fixture
def node(time: Timeless) -> Node:
    return Node(Registry(), clock=time.time)


@pytest.fixture
def draining(time: Timeless, node: Node) -> Draining:
    made = Draining(node)
    made.bind(time.loop)
    return made


@dataclass
class Guest:
    """A stream as its connection shows it. Asked to leave, it goes *stays* seconds later; None: never."""

    time: Timeless
    node: Node
    stays: float | None = 0
    events: int = 0
    channel: str = "a"
    asked: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = Connection(
            channels=(self.channel,),
            door="test",
            behind=lambda: self.events,
            on_leave=self._on_leave,
            abort_transport=self._on_cut,
        )
        self.node.registry.take(self.connection)

    def _on_leave(self) -> None:
        self.asked.append(self.time.time())
        if self.stays is not None:
            self.time.loop.call_later(self.stays, self.go)

    def _on_cut(self) -> None:
        self.cut.append(self.time.time())
        self.go()

    def go(self) -> None:
        self.node.registry.release(self.connection)


def guests(time: Timeless, node: Node, count: int, **options: Any) -> list[Guest]:
    return [Guest(time, node, **options) for _ in range(count)]


# Whom it asks, and when


def test_without_a_stream_it_is_over_at_once(time: Timeless, draining: Draining, node: Node) -> None:
    draining.begin(SIGNAL)
    time.settle()
    assert (draining.is_over, node.state(get_config())) == (True, "drained")


def test_the_idle_are_asked_first(time: Timeless, draining: Draining, node: Node) -> None:
    busy = guests(time, node, 15, events=3)
    idle = guests(time, node, 15)
    draining.begin(ORDER)
    time.advance(5)
    assert max(each.asked[0] for each in idle) < min(each.asked[0] for each in busy)


def test_they_are_asked_one_after_the_other_over_the_spread(
    time: Timeless, draining: Draining, node: Node
) -> None:
    held = guests(time, node, 60)
    began = time.time()
    draining.begin(ORDER)
    time.settle()
    assert sum(bool(each.asked) for each in held) == 1
    time.advance(1.5)
    assert 29 <= sum(bool(each.asked) for each in held) <= 32
    time.advance(1.6)
    asked = sorted(each.asked[0] - began for each in held)
    assert 2.8 < asked[-1] <= 3.1
    assert max(later - sooner for sooner, later in pairwise(asked)) < 0.1
    assert draining.is_over


def test_who_comes_or_goes_in_the_moment_in_which_it_begins_does_not_hold_it_up(
    time: Timeless, draining: Draining, node: Node
) -> None:
    for goes in (True, False):
        held = guests(time, node, 3)
        draining.begin(ORDER)
        # Between its plan and its first step.
        time.loop.call_soon(held[0].go if goes else lambda: guests(time, node, 1))
        time.advance(LIMITS["spread_seconds"] + 0.1)
        assert draining.is_over
        draining.resume()
        time.settle()


def test_each_is_asked_once_however_long_it_takes_to_go(
    time: Timeless, draining: Draining, node: Node
) -> None:
    """Asking wakes a stream: ten thousand that are woken at every tick would be all that a loop does."""
    held = guests(time, node, 5, stays=10)
    draining.begin(ORDER)
    time.advance(9)
    assert [len(each.asked) for each in held] == [1] * 5


def test_who_was_admitted_in_the_same_moment_goes_too(time: Timeless, draining: Draining, node: Node) -> None:
    guests(time, node, 3, stays=4)
    draining.begin(ORDER)
    time.advance(1)
    late = Guest(time, node)
    time.advance(3)
    assert len(late.asked) == 1
    assert not draining.is_over
    time.advance(3)
    assert draining.is_over


def test_sockets_that_flush_are_waited_for(time: Timeless, draining: Draining, node: Node) -> None:
    flushing = Connection(channels=("a",), door="test")
    node.flushing.add(flushing)
    draining.begin(ORDER)
    time.advance(10)
    assert (draining.is_over, node.state(get_config())) == (False, "draining")
    node.flushing.discard(flushing)
    time.advance(0.1)
    assert (draining.is_over, node.state(get_config())) == (True, "drained")


def test_whoever_is_left_when_the_time_is_up_is_cut(
    time: Timeless, draining: Draining, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    gone, staying = Guest(time, node), Guest(time, node, stays=None)
    began = time.time()
    draining.begin(ORDER)
    with caplog.at_level(logging.WARNING, "sse_polling"):
        time.advance(19.9)
        assert len(node.registry) == 1
        time.advance(0.2)
    assert draining.is_over
    assert not gone.cut
    assert staying.cut == pytest.approx([began + 20], abs=0.1)
    assert node.counts.farewells == {Farewell.CUT: 1}
    assert "cuts 1 sockets" in caplog.text


@pytest.mark.parametrize("abort_transport", [None, lambda: False])
def test_a_socket_that_cannot_be_reached_is_not_said_to_be_cut(
    time: Timeless, draining: Draining, node: Node, caplog: pytest.LogCaptureFixture, abort_transport: Any
) -> None:
    """A view behind a proxy's headers does not find its socket; the server's own end is what ends it."""
    staying, cut = Guest(time, node, stays=None), Guest(time, node, stays=None)
    staying.connection.abort_transport = abort_transport
    draining.begin(SIGNAL)
    with caplog.at_level(logging.WARNING, "sse_polling"):
        time.advance(21)
    assert (draining.is_over, staying.connection.cut, cut.connection.cut) == (True, False, True)
    assert node.counts.farewells == {Farewell.CUT: 1}
    assert "cuts 1 sockets" in caplog.text
    assert "cannot reach 1 sockets" in caplog.text


def test_a_client_that_is_cut_while_its_last_words_wait_was_counted_already(
    time: Timeless, draining: Draining, node: Node
) -> None:
    """Its stream is over, and was told how: each stream has one farewell."""
    flushing, plain = Guest(time, node, stays=None), Guest(time, node)
    staying = Guest(time, node, stays=None)

    def ended() -> None:
        node.ended(Cause.DRAIN, retry_ms=1000, farewell=Farewell.NOT_ASKED)
        node.flushing.add(flushing.connection)
        flushing.go()

    flushing.connection.on_leave = ended
    draining.begin(SIGNAL)
    time.advance(21)
    assert draining.is_over
    assert [bool(each.cut) for each in (flushing, plain, staying)] == [True, False, True]
    assert node.counts.farewells == {Farewell.NOT_ASKED: 1, Farewell.CUT: 1}


def test_all_that_is_left_may_be_cut_at_once(time: Timeless, draining: Draining, node: Node) -> None:
    held, flushing = Guest(time, node, stays=None), Guest(time, node, stays=None)
    flushing.go()
    node.flushing.add(flushing.connection)
    draining.cut()
    assert [len(each.cut) for each in (held, flushing)] == [1, 1]
    assert node.counts.farewells == {Farewell.CUT: 1}


def test_a_stream_that_makes_an_error_of_the_wish_stops_no_drain(
    time: Timeless, draining: Draining, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> int:
        raise ValueError("broken")

    Guest(time, node).connection.behind = fail
    draining.begin(SIGNAL)
    time.advance(1)
    assert draining.is_over
    assert "could not drain" in caplog.text


# How it is begun and ended


def test_beginning_twice_is_beginning_once(time: Timeless, draining: Draining, node: Node) -> None:
    held = guests(time, node, 4)
    changes: list[str | None] = []
    draining.on_change = lambda: changes.append(draining.why)
    for _ in range(3):
        draining.begin(ORDER)
    time.advance(5)
    draining.begin(ORDER)
    time.advance(5)
    assert [len(each.asked) for each in held] == [1] * 4
    assert changes == [ORDER, ORDER]  # when it began, and when it was over
    assert (draining.is_over, node.draining) == (True, True)


def test_it_may_be_begun_from_a_thread(time: Timeless, draining: Draining, node: Node) -> None:
    held = Guest(time, node)
    thread = threading.Thread(target=draining.begin, args=[SIGNAL])
    thread.start()
    thread.join()
    assert node.draining  # nobody is admitted from here on, whatever the loop does
    time.advance(1)
    assert (len(held.asked), draining.is_over) == (1, True)


def test_it_may_be_begun_from_a_signals_handler() -> None:
    """Between any two lines of the loop, which sleeps: it must wake for it."""
    node = Node(Registry())
    draining = Draining(node)

    async def main() -> None:
        draining.bind(asyncio.get_running_loop())
        over = asyncio.Event()
        draining.when_over(over.set)
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGUSR1)
        async with asyncio.timeout(5):
            await over.wait()

    before = signal.signal(signal.SIGUSR1, lambda *_: draining.begin(SIGNAL))
    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (draining.is_over, draining.why) == (True, SIGNAL)


@pytest.mark.parametrize("loop", ["none", "closed"])
def test_without_a_loop_there_is_nobody_to_ask_and_it_is_over_at_once(node: Node, loop: str) -> None:
    draining = Draining(node)
    if loop == "closed":
        closed = asyncio.new_event_loop()
        draining.bind(closed)
        closed.close()
    told: list[int] = []
    draining.when_over(lambda: told.append(1))
    draining.begin(ORDER)
    assert (draining.is_over, node.draining, told, draining.progress) == (True, True, [1], None)
    draining.resume()
    assert not node.draining


def test_a_drain_whose_loop_ends_goes_on_in_the_next(time: Timeless, node: Node) -> None:
    draining = Draining(node)
    first = asyncio.new_event_loop()
    draining.bind(first)
    draining.begin(ORDER)
    first.close()
    held = Guest(time, node)
    draining.bind(time.loop)
    time.advance(5)
    assert (len(held.asked), draining.is_over) == (1, True)


def test_the_loop_that_was_there_first_is_kept(time: Timeless, draining: Draining, node: Node) -> None:
    other = asyncio.new_event_loop()
    draining.bind(other)
    other.close()
    held = Guest(time, node)
    draining.begin(ORDER)
    time.advance(1)
    assert held.asked


def test_when_it_is_over_each_callback_is_called_once(time: Timeless, draining: Draining, node: Node) -> None:
    told: list[str] = []
    draining.when_over(lambda: told.append("before"))
    Guest(time, node, stays=2)
    draining.begin(ORDER)
    time.advance(1)
    assert told == []
    time.advance(5)
    assert told == ["before"]
    draining.when_over(lambda: told.append("after"))
    assert told == ["before", "after"]
    draining.begin(SIGNAL)
    time.advance(5)
    assert told == ["before", "after"]


def test_an_orders_drain_becomes_one_by_signal_and_never_the_other_way(
    time: Timeless, draining: Draining, node: Node
) -> None:
    changes: list[str | None] = []
    draining.on_change = lambda: changes.append(draining.why)
    draining.begin(ORDER)
    time.settle()
    assert (draining.why, node.is_replaced) == (ORDER, False)
    draining.begin(SIGNAL)
    draining.begin(ORDER)
    time.settle()
    assert (draining.why, draining.is_over, node.is_replaced) == (SIGNAL, True, True)
    assert changes[-1] == SIGNAL


@pytest.mark.parametrize("waited", [0.0, 6.0])
def test_a_signal_during_an_orders_drain_has_it_over_before_the_server_cuts(
    time: Timeless, draining: Draining, node: Node, waited: float
) -> None:
    staying, held = Guest(time, node, stays=None), guests(time, node, 30)
    draining.begin(ORDER)
    time.advance(waited)
    told = time.time()
    draining.begin(SIGNAL, within=3)
    time.advance(2.9)
    assert (draining.is_over, all(each.asked for each in held)) == (False, True)
    time.advance(0.2)
    assert draining.is_over
    assert staying.cut == pytest.approx([told + 3], abs=0.1)


def test_a_signal_with_more_time_than_the_drain_has_changes_nothing_of_it(
    time: Timeless, draining: Draining, node: Node
) -> None:
    staying = Guest(time, node, stays=None)
    began = time.time()
    draining.begin(ORDER)
    time.advance(15)
    draining.begin(SIGNAL, within=30)
    time.advance(6)
    assert staying.cut == pytest.approx([began + 20], abs=0.1)


def test_its_progress_is_told_while_it_lasts(time: Timeless, draining: Draining, node: Node) -> None:
    guests(time, node, 30, stays=1)
    draining.begin(ORDER)
    time.advance(2.5)
    progress = draining.progress
    assert progress is not None
    assert (progress.why, progress.total) == (ORDER, 30)
    assert progress.seconds == pytest.approx(2.5)
    assert 10 < progress.left < 20
    assert 0 < progress.estimate < 5
    draining.resume()
    assert (draining.progress, draining.why) == (None, None)


# Resuming


def test_those_who_were_asked_go_though_it_resumes_and_new_ones_are_taken(
    time: Timeless, draining: Draining, node: Node
) -> None:
    held = guests(time, node, 60, stays=2)
    draining.begin(ORDER)
    time.advance(1)
    asked = [each for each in held if each.asked]
    assert 0 < len(asked) < 60
    assert node.refuses(0, get_config()) is Refusal.DRAINING
    draining.resume()
    assert node.refuses(0, get_config()) is None
    time.advance(30)
    assert [each for each in held if each.asked] == asked
    assert len(node.registry) == 60 - len(asked)
    assert (draining.is_over, draining.why, node.state(get_config())) == (False, None, "serving")


def test_what_was_told_to_end_does_not_resume(time: Timeless, draining: Draining, node: Node) -> None:
    draining.begin(SIGNAL)
    time.settle()
    draining.resume()
    assert (draining.why, draining.is_over, node.ends) == (SIGNAL, True, True)


@pytest.mark.parametrize("what", ["begin", "resume"])
def test_a_signal_that_comes_in_the_midst_of_an_order_is_not_undone(time: Timeless, what: str) -> None:
    """Between any two of its instructions, each in its turn: a handler runs where it likes."""
    moment = count = 0
    while count >= moment:
        moment += 1
        node = Node(Registry(), clock=time.time)
        draining = Draining(node)
        draining.bind(time.loop)
        staying = Guest(time, node, stays=None)
        if what == "resume":
            draining.begin(ORDER)
            time.advance(1)
        order = draining.resume if what == "resume" else partial(draining.begin, ORDER)
        told: list[int] = []
        count = interrupt(order, moment, partial(draining.begin, SIGNAL, within=3))
        if count < moment:  # it comes after all of them
            draining.begin(SIGNAL, within=3)
        draining.when_over(partial(told.append, 1))
        assert (draining.why, node.ends, node.draining) == (SIGNAL, True, True), moment
        time.advance(3.2)
        assert (len(staying.cut), told, draining.is_over) == (1, [1], True), moment
    assert count > 20


def interrupt(function: Callable[[], object], moment: int, handler: Callable[[], object]) -> int:
    """Call *function*, and *handler* before its instruction *moment*; return how many it had."""
    count, before = 0, sys.gettrace()
    code = getattr(function, "func", function).__code__

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == moment:
                sys.settrace(None)
                handler()
                sys.settrace(trace)
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_a_drain_right_after_a_resume_has_a_time_of_its_own(
    time: Timeless, draining: Draining, node: Node
) -> None:
    """However close they follow each other: the drain before is not taken for it."""
    staying = Guest(time, node, stays=None)
    told: list[int] = []
    draining.begin(ORDER)
    time.advance(15)
    draining.resume()
    draining.begin(ORDER)
    draining.when_over(lambda: told.append(1))
    time.advance(15)
    assert draining.progress is not None
    assert draining.progress.seconds == pytest.approx(15)
    assert (staying.cut, told) == ([], [])
    time.advance(6)
    assert (len(staying.cut), told, draining.is_over) == (1, [1], True)


def test_resuming_when_it_does_not_drain_is_nothing(draining: Draining, node: Node) -> None:
    draining.resume()
    assert (node.draining, draining.is_over) == (False, False)


def test_it_drains_again_after_it_resumed(time: Timeless, draining: Draining, node: Node) -> None:
    draining.begin(ORDER)
    time.advance(1)
    draining.resume()
    held = Guest(time, node)
    draining.begin(ORDER)
    assert not draining.is_over
    time.advance(1)
    assert (len(held.asked), draining.is_over) == (1, True)


# Closing some


def test_closing_some_asks_them_and_nobody_else_and_drains_no_process(
    time: Timeless, draining: Draining, node: Node
) -> None:
    wanted, others = guests(time, node, 30, channel="b"), guests(time, node, 30)
    closing(time, draining, wanted)
    time.advance(1)
    assert 0 < sum(bool(each.asked) for each in wanted) < 30  # with the spread of a drain
    time.advance(4)
    assert all(len(each.asked) == 1 for each in wanted)
    assert not any(each.asked for each in others)
    assert (node.draining, draining.progress, len(node.registry)) == (False, None, 30)


def test_one_that_does_not_go_is_cut_and_the_others_stay(
    time: Timeless, draining: Draining, node: Node
) -> None:
    staying, other = Guest(time, node, stays=None), Guest(time, node)
    closing(time, draining, [staying])
    time.advance(21)
    assert (len(staying.cut), other.asked, len(node.registry)) == (1, [], 1)
    assert node.counts.farewells == {Farewell.CUT: 1}


def test_closing_what_is_gone_is_nothing(time: Timeless, draining: Draining, node: Node) -> None:
    gone = Guest(time, node)
    gone.go()
    closing(time, draining, [gone])
    time.advance(1)
    assert not gone.cut


def test_only_so_many_are_closed_at_a_time(time: Timeless, draining: Draining, node: Node) -> None:
    held = guests(time, node, MOST_WALKS + 1, stays=None)
    with override_settings(SSE_POLLING={"DRAIN": {"seconds": 1, "ack_seconds": 1, "spread_seconds": 0}}):
        for each in held[:-1]:
            closing(time, draining, [each])
        with pytest.raises(RuntimeError, match="try again"):
            closing(time, draining, held[-1:])
        time.advance(1.1)
        closing(time, draining, held[-1:])


def closing(time: Timeless, draining: Draining, chosen: list[Guest]) -> None:
    async def close() -> None:
        draining.close(each.connection for each in chosen)

    time.start(close()).result()


# The child of a fork


def test_a_forked_child_serves_whatever_its_parent_did(
    time: Timeless, draining: Draining, node: Node
) -> None:
    Guest(time, node, stays=None)
    draining.begin(ORDER)
    time.advance(1)
    draining.reset()  # what os.register_at_fork calls in the child
    assert (node.draining, draining.is_over, draining.why, draining.progress) == (False, False, None, None)
    draining.begin(SIGNAL)
    assert draining.is_over  # it has no loop yet


def test_a_fork_resets_the_processes_own_drain() -> None:
    from sse_polling.draining import draining
    from sse_polling.lifecycle import node

    node.draining = True
    read, write = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fork beside threads, as a prefork worker does
            child = os.fork()
        if child == 0:
            os.write(write, b"draining" if node.draining or draining.is_over else b"serving")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 20) == b"serving"
        assert node.draining
    finally:
        node.draining = False
        os.close(read)
        os.close(write)


# With real streams


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_how_each_client_went_is_counted_apart(time: Timeless, draining: Draining, node: Node) -> None:
    hub = Hub(time.loop)
    publish_many("a", "xyz")
    stuck = asyncio.Event()
    names = ["acks", "closes", "silent", "stuck"]
    held = {name: reader(time, node, hub, client=f"{name}-and-so-long", stuck=stuck) for name in names}
    held["plain"] = reader(time, node, hub, client=None, stuck=stuck)
    draining.begin(ORDER)
    time.advance(3.1)
    assert {name: one.asked for name, one in held.items()} == {
        **dict.fromkeys(names, True),
        "plain": False,
    }
    assert len(node.registry) == 4  # the plain one was not waited for
    assert node.registry.ack(client="acks-and-so-long") == 1
    held["closes"].leave(Cause.GONE)
    time.advance(0.1)
    assert len(node.registry) == 2
    time.advance(5)
    assert node.counts.farewells == {
        Farewell.ACKED: 1,
        Farewell.CLOSED: 1,
        Farewell.NOT_ASKED: 1,
        Farewell.NOT_ACKED: 1,
    }
    time.advance(15)
    assert draining.is_over
    assert node.counts.farewells[Farewell.CUT] == 1
    assert sum(node.counts.farewells.values()) == 5
    assert (len(node.registry), node.registry._asked) == (0, {})
    hub.stop()
    time.settle()


def reader(time: Timeless, node: Node, hub: Hub, *, client: str | None, stuck: asyncio.Event) -> Connection:
    """Return the connection of a client that reads everything; one that is called so stops before the end."""
    config = get_config()
    connection = Connection(channels=("a",), door="test", client=client, opened=time.time())
    assert node.admit(connection, 0, config) is None

    async def read() -> None:
        stream = await open_stream(
            hub,
            connection,
            parse_cursor("earliest", several=False),
            several=False,
            finite=False,
            config=config,
            node=node,
            rng=Random(1),
            clock=time.time,
        )
        assert stream is not None
        chunks = stream.run()
        try:
            async for _ in chunks:
                if connection.leaving and client is not None and client.startswith("stuck"):
                    await stuck.wait()
        finally:
            stream.close()
            await chunks.aclose()

    task = time.start(read())
    connection.abort_transport = task.cancel
    return connection
