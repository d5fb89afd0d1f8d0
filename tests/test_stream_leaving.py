"""How a stream that is asked to leave says good-bye, and how its client goes."""

from __future__ import annotations

import asyncio
import gc
import secrets
import weakref
from collections.abc import Callable, Iterator
from random import Random

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_polling import finish, publish, publish_many
from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.hub import Hub
from sse_polling.layer import Wake
from sse_polling.lifecycle import Farewell, Node
from sse_polling.models import Channel
from sse_polling.protocol.burst import Cause
from sse_polling.protocol.cursor import parse_cursor
from sse_polling.stream import open_stream
from tests.harness.eventsource import Message, Parser
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LIVE = {"PRESET": "live", "RETRY": {"jitter": 0, "base_ms": 1000}}
CLIENT = "a-client-that-names-itself"
FAREWELL = b"event: close\ndata: pool_draining\n\nretry: 1000\n\n"


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine, override_settings(SSE_POLLING=LIVE):
        yield machine


class Reader:
    """One stream; *on_chunk* is told each chunk. After chunk *stuck_at* the socket takes no more."""

    def __init__(
        self,
        time: Timeless,
        hub: Hub,
        channel: str = "a",
        *,
        at: str = "",
        client: str | None = CLIENT,
        on_chunk: Callable[[Reader], object] = lambda reader: None,
        stuck_at: int | None = None,
        leaving: str | None = None,
    ) -> None:
        self.time = time
        self.registry = Registry()
        self.node = Node(self.registry, clock=time.time)
        self.connection = Connection(channels=(channel,), door="test", client=client, opened=time.time())
        self.connection.leaving = leaving
        self.registry.take(self.connection)
        self.parser = Parser(last_event_id=at)
        self.chunks: list[bytes] = []
        self.last: list[bool] = []
        self.messages: list[Message] = []
        self.over = False
        opening = open_stream(
            hub,
            self.connection,
            parse_cursor(at, several=False),
            several=False,
            finite=False,
            config=get_config(),
            node=self.node,
            rng=Random(1),
            clock=time.time,
        )
        slow, time.slow = time.slow, False
        stream = time.run(opening)
        time.slow = slow
        assert stream is not None
        self.stream = stream
        self.on_chunk, self.stuck_at = on_chunk, stuck_at
        self.task = time.start(self._read())

    async def _read(self) -> None:
        chunks = self.stream.run()
        try:
            async for chunk in chunks:
                self.chunks.append(chunk)
                self.last.append(self.stream.is_last)
                self.messages += self.parser.feed(chunk)
                assert self.parser.is_clean
                self.on_chunk(self)
                if len(self.chunks) == self.stuck_at:
                    await asyncio.Event().wait()
            self.over = True
        finally:  # as the doors do
            self.stream.close()
            await chunks.aclose()

    def leave(self, reason: str = "drain") -> Reader:
        self.connection.leave(reason)
        self.time.settle()
        return self

    @property
    def data(self) -> list[str]:
        return [message.data for message in self.messages if message.type == "message"]

    @property
    def farewells(self) -> dict[Farewell, int]:
        return dict(self.node.counts.farewells)


def wake(hub: Hub, name: str = "a") -> None:
    row = Channel.objects.get(name=name)
    hub.wake(Wake(row.name, row.life, row.head))


# What it says


def test_it_says_close_and_when_to_come_back_in_one_chunk(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub).leave()
    assert reader.chunks[1:] == [FAREWELL]
    assert [(message.type, message.data) for message in reader.messages] == [("close", "pool_draining")]


def asked_as_they_come(time: Timeless, hub: Hub, *, end: bool = False) -> Reader:
    """Return a reader that was asked to leave when events had come for it and were not sent yet."""
    readers: list[Reader] = []

    def ask(reader: Reader) -> None:
        if len(reader.chunks) == 2:  # whichever is the first of the two to send them
            for each in readers:
                if len(each.chunks) == 1:
                    each.connection.leave("drain")

    readers += [Reader(time, hub, on_chunk=ask) for _ in range(2)]
    publish("a", "late")
    if end:
        finish("a")
    wake(hub)
    time.settle()
    (reader,) = [each for each in readers if each.connection.leaving]
    return reader


def test_what_has_come_is_sent_before_the_farewell(time: Timeless, hub: Hub) -> None:
    reader = asked_as_they_come(time, hub)
    assert reader.data == ["late"]
    assert len(reader.chunks) == 2
    assert reader.chunks[1].endswith(b"data: late\n\n" + FAREWELL)


def test_the_farewell_moves_no_cursor(time: Timeless, hub: Hub) -> None:
    at = publish_many("a", "xy")[-1].id
    reader = Reader(time, hub).leave()
    assert reader.parser.last_event_id == at


def test_a_stream_asked_before_its_first_byte_opens_and_says_farewell(time: Timeless, hub: Hub) -> None:
    """Admitted in the moment in which the drain began."""
    publish_many("a", "xy")
    reader = Reader(time, hub, at="earliest", leaving="drain")
    (chunk,) = reader.chunks
    assert chunk.startswith(b"retry: 1000\nid: ")
    assert chunk.endswith(b"data: y\n\n" + FAREWELL)


def test_a_finished_channels_end_is_sent_and_its_client_asked_too(time: Timeless, hub: Hub) -> None:
    reader = asked_as_they_come(time, hub, end=True)
    assert [message.type for message in reader.messages] == ["message", "end", "close"]
    assert reader.stream.cause is Cause.DRAIN
    assert reader.connection.asked


def test_one_that_makes_room_for_others_is_not_asked_to_ack(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub).leave(Cause.BUDGET).leave("drain")
    assert (reader.over, reader.farewells) == (True, {})
    assert b"event: close" not in b"".join(reader.chunks)


# How the client goes


def test_who_gave_no_name_is_not_asked_and_the_stream_is_over_at_once(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, client=None).leave()
    assert (reader.over, reader.last) == (True, [False, True])
    assert not reader.connection.asked
    assert reader.farewells == {Farewell.NOT_ASKED: 1}
    assert len(reader.registry) == 0


def test_who_gave_one_is_waited_for_and_its_last_chunk_is_not_the_end(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub).leave()
    assert (reader.over, reader.last, reader.connection.asked) == (False, [False, False], True)
    time.advance(4.9)
    assert (reader.over, len(reader.registry)) == (False, 1)
    time.advance(0.2)
    assert (reader.over, len(reader.registry)) == (True, 0)
    assert reader.farewells == {Farewell.NOT_ACKED: 1}


def test_the_wait_is_as_long_as_the_settings_say(time: Timeless, hub: Hub) -> None:
    with override_settings(SSE_POLLING={**LIVE, "DRAIN": {"ack_seconds": 1}}):
        reader = Reader(time, hub).leave()
    time.advance(1.1)
    assert reader.over


@pytest.mark.parametrize("by", ["stream", "client"])
def test_an_ack_ends_the_wait_at_once(time: Timeless, hub: Hub, by: str) -> None:
    reader = Reader(time, hub).leave()
    name = {"stream": reader.connection.id, "client": CLIENT}[by]
    assert reader.registry.ack(**{by: name}) == 1
    time.settle()
    assert (reader.over, reader.farewells) == (True, {Farewell.ACKED: 1})
    assert reader.registry.ack(**{by: name}) == 0  # nobody is there any more


@pytest.mark.parametrize(("reason", "farewell"), [(Cause.GONE, "closed"), (Cause.STALLED, "cut")])
def test_a_client_that_closes_while_it_is_waited_for_has_gone_by_itself(
    time: Timeless, hub: Hub, reason: str, farewell: str
) -> None:
    """Unless it was cut for taking nothing."""
    reader = Reader(time, hub).leave()
    time.advance(1)
    reader.leave(reason)
    assert (reader.over, reader.farewells) == (True, {Farewell(farewell): 1})


def test_a_server_that_drops_the_stream_while_it_waits_counts_as_closed(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub).leave()
    reader.task.cancel()
    time.settle()
    assert (reader.farewells, len(reader.registry)) == ({Farewell.CLOSED: 1}, 0)


def test_an_ack_before_the_farewell_does_nothing(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub)
    assert reader.registry.ack(stream=reader.connection.id) == 0
    assert reader.registry.ack(client=CLIENT) == 0
    time.advance(1)
    assert not reader.over
    reader.leave()
    time.advance(1)
    assert not reader.over


def test_a_client_that_is_gone_is_told_nothing_though_it_was_asked_before(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub)
    reader.connection.leave("drain")
    reader.leave(Cause.GONE)
    assert reader.over
    assert (reader.stream.cause, len(reader.chunks), reader.farewells) == (Cause.GONE, 1, {})
    assert reader.connection.leaving == Cause.GONE


def test_the_first_wish_holds_and_gone_before_all_others() -> None:
    one = Connection(channels=("a",), door="test")
    for reason, holds in [
        (Cause.BUDGET, Cause.BUDGET),
        ("drain", Cause.BUDGET),
        (Cause.GONE, Cause.GONE),
        (Cause.STALLED, Cause.GONE),
        ("drain", Cause.GONE),
    ]:
        one.leave(reason)
        assert one.leaving == holds


@pytest.mark.parametrize("client", [CLIENT, None])
def test_a_socket_that_was_cut_is_no_farewell_of_its_own(
    time: Timeless, hub: Hub, client: str | None
) -> None:
    """Whoever cuts it counts that: it had stopped reading, asked to ack or not."""
    reader = Reader(time, hub, client=client, stuck_at=2)
    reader.connection.abort_transport = reader.task.cancel
    reader.leave()
    time.advance(10)
    assert len(reader.registry) == 1
    assert reader.connection.abort()
    time.settle()
    assert (reader.farewells, len(reader.registry), reader.registry._asked) == ({}, 0, {})


def test_a_stream_that_is_over_is_kept_alive_by_nothing(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub).leave()
    reader.registry.ack(client=CLIENT)
    time.settle()
    stream = weakref.ref(reader.stream)
    assert reader.registry._asked == {}
    gc.disable()
    try:
        del reader
        time.settle()
        assert stream() is None
    finally:
        gc.enable()


# Nothing is lost


EVENTS = 40
ALL = [str(number) for number in range(EVENTS)]

#: When the next stream of the client is asked to leave: at one of its chunks, or while one of its readings
#: of the database is on its way (before it looks, or after).
moments = st.tuples(st.sampled_from(["chunk", "before", "after"]), st.integers(1, 6))


@given(st.lists(moments, max_size=4), st.integers(0, 3), st.booleans())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_drain_anywhere_in_a_long_replay_loses_and_repeats_nothing(
    time: Timeless, hub: Hub, drains: list[tuple[str, int]], late: int, warm: bool
) -> None:
    """The cursor of every farewell goes on exactly. Of the events the last few come meanwhile."""
    limits = {"TAIL": {"max_events": 1000 if warm else 2}, "BURST": {"max_events": 30}}
    with override_settings(SSE_POLLING={**LIVE, **limits}):
        name = f"replay.{secrets.token_hex(8)}"
        publish_many(name, [text.ljust(12_000) for text in ALL[: EVENTS - late]])
        coming, at, seen = ALL[EVENTS - late :], "earliest", []
        for when, number in [*drains, *[("never", 0)] * 3]:
            reader = drained(time, hub, name, at, when, number)
            if coming:
                publish(name, coming.pop(0).ljust(12_000))
                wake(hub, name)
            time.advance(40)
            assert reader.over
            types = [message.type for message in reader.messages]
            assert types.count("close") == (reader.stream.cause is Cause.DRAIN)
            assert "gap" not in types
            seen += [data.strip() for data in reader.data]
            at = reader.parser.last_event_id
        assert seen == ALL


def drained(time: Timeless, hub: Hub, name: str, at: str, when: str, number: int) -> Reader:
    """Return a reader that goes on at *at* and is asked to leave then, if it comes so far."""

    def leave(reader: Reader) -> None:
        if when == "chunk" and len(reader.chunks) == number:
            reader.connection.leave("drain")

    time.slow = when in ("before", "after")
    reader = Reader(time, hub, name, at=at, on_chunk=leave, client=None)
    if time.slow:
        for _ in range(number):
            time.arrive()
        if when == "after":
            time.look()
        reader.leave()
        time.slow = False
        time.settle()
    return reader
