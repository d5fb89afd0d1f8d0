"""THE loop: what one stream sends, when it ends and why, against a clock that is advanced and not slept."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
from django.db import OperationalError
from django.test import override_settings

from sse_polling import Draft, cursor, finish, history, publish, publish_many
from sse_polling import stream as stream_module
from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.hub import Hub
from sse_polling.layer import Wake
from sse_polling.lifecycle import Node
from sse_polling.live import LiveChannel
from sse_polling.models import Channel, Event
from sse_polling.protocol.burst import Cause
from sse_polling.protocol.cursor import format_cursor, parse_cursor
from sse_polling.protocol.encoding import Encoder, JsonAnswer, JsonLines
from sse_polling.replay import Batch
from sse_polling.stream import Stream, open_stream
from tests.harness.eventsource import Message, Parser
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

NO_JITTER = {"RETRY": {"jitter": 0}}


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine, override_settings(SSE_POLLING=NO_JITTER):
        yield machine


class Reader:
    """One stream, read chunk by chunk as it comes, each with the time it came at."""

    def __init__(
        self,
        time: Timeless,
        hub: Hub,
        *channels: str,
        at: str = "",
        several: bool = False,
        finite: bool = False,
        rng: Random | None = None,
    ) -> None:
        self.time = time
        self.registry = Registry()
        self.node = Node(self.registry)
        self.connection = Connection(channels=channels, door="test", opened=time.time())
        self.registry.take(self.connection)
        self.parser = Parser(last_event_id=at)
        self.chunks: list[bytes] = []
        self.messages: list[Message] = []
        self.times: list[float] = []
        self.began = time.time()
        self.ended: float | None = None
        self.stream: Stream | None = time.run(
            open_stream(
                hub,
                self.connection,
                parse_cursor(at, several=several),
                several=several,
                finite=finite,
                config=get_config(),
                node=self.node,
                rng=rng or Random(1),
                clock=time.time,
            )
        )
        self.task: asyncio.Task[None] | None = None

    def read(self) -> Reader:
        """Begin to read; time passes with ``time.advance``."""
        assert self.stream is not None
        self.task = self.time.start(self._read(self.stream.run()))
        return self

    def through(self) -> Reader:
        """Read to the end of the burst."""
        self.read()
        for _ in range(100):
            if self.ended is not None:
                return self
            self.time.advance(1)
        raise AssertionError("the burst does not end")

    async def _read(self, chunks: AsyncGenerator[bytes, None]) -> None:
        async for chunk in chunks:
            self.chunks.append(chunk)
            self.times.append(self.time.time() - self.began)
            self.messages += self.parser.feed(chunk)
            assert self.parser.is_clean
        self.ended = self.time.time() - self.began

    @property
    def data(self) -> list[str]:
        return [message.data for message in self.messages]

    @property
    def cause(self) -> Cause | None:
        assert self.stream is not None
        return self.stream.cause

    @property
    def heartbeats(self) -> list[float]:
        return [at for at, chunk in zip(self.times, self.chunks, strict=True) if chunk.startswith(b":")]


def wake(hub: Hub, *names: str) -> None:
    for row in Channel.objects.filter(name__in=names or ["a"]):
        hub.wake(Wake(row.name, row.life, row.head))


# The opening


def test_it_opens_with_retry_and_the_position_before_its_first_event(time: Timeless, hub: Hub) -> None:
    first, *_ = publish_many("a", "xyz")
    reader = Reader(time, hub, "a", at=first.id).through()
    assert reader.chunks[0].startswith(b"retry: 1000\nid: " + first.id.encode() + b"\n\n")
    assert reader.times[0] == 0
    assert reader.data == ["y", "z"]


def test_a_poll_of_what_is_in_memory_is_one_chunk(time: Timeless, hub: Hub) -> None:
    first, *_ = publish_many("a", "xyz")
    with override_settings(SSE_POLLING={**NO_JITTER, "PRESET": "reclaim"}):
        reader = Reader(time, hub, "a", at=first.id).through()
        assert len(reader.chunks) == 1
        assert reader.data == ["y", "z"]
        assert Reader(time, hub, "b").through().chunks == [b"retry: 2000\nid: -.0.-\n\nretry: 2000\n\n"]


def test_the_opening_does_not_wait_for_the_database(time: Timeless, hub: Hub) -> None:
    first, *_ = publish_many("a", "xyz")
    reader = Reader(time, hub, "a", at=first.id)
    live = hub.known("a")
    assert live is not None
    assert live.tail is not None
    live.tail.clear()
    reader.through()
    assert reader.chunks[0] == b"retry: 1000\nid: " + first.id.encode() + b"\n\n"
    assert reader.data == ["y", "z"]


def test_without_a_cursor_it_starts_now(time: Timeless, hub: Hub) -> None:
    last = publish_many("a", "xyz")[-1]
    reader = Reader(time, hub, "a").read()
    assert reader.parser.last_event_id == last.id
    publish("a", "new")
    wake(hub)
    time.settle()
    assert reader.data == ["new"]


def test_a_channel_nobody_published_to_has_a_position_too(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").through()
    assert reader.parser.last_event_id == "-.0.-"
    publish_many("a", "xy")
    wake(hub)
    time.settle()
    assert Reader(time, hub, "a", at="-.0.-").through().data == ["x", "y"]


def test_primed_it_opens_with_an_empty_message(time: Timeless, hub: Hub) -> None:
    with override_settings(SSE_POLLING={"PRIMING": "data"}):
        reader = Reader(time, hub, "a").through()
    assert [(message.type, message.data) for message in reader.messages] == [("message", "")]


# When a burst ends


def test_the_hold_ends_a_stream_that_has_nothing_to_send(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").through()
    assert (reader.ended, reader.cause) == (pytest.approx(2), Cause.HOLD)
    assert reader.chunks[-1] == b"retry: 1000\n\n"


def test_the_linger_runs_from_the_last_event(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    for pause in (1.9, 0.4, 0.4):
        time.advance(pause)
        publish("a", "x")
        wake(hub)
        time.settle()
    time.advance(5)
    assert reader.times[1:4] == pytest.approx([1.9, 2.3, 2.7])
    assert (reader.ended, reader.cause) == (pytest.approx(3.2), Cause.LINGER)


def test_a_replay_counts_as_events_and_is_followed_by_the_linger(time: Timeless, hub: Hub) -> None:
    first, *_ = publish_many("a", "xyz")
    reader = Reader(time, hub, "a", at=first.id).through()
    assert (reader.ended, reader.cause) == (pytest.approx(0.5), Cause.LINGER)


def test_what_comes_while_a_chunk_is_written_is_of_the_same_burst(time: Timeless, hub: Hub) -> None:
    first, *_ = publish_many("a", "xy")
    reader = Reader(time, hub, "a", at=first.id)
    assert reader.stream is not None
    chunks = reader.stream.run()
    assert b"data: y\n" in time.run(anext(chunks))
    publish("a", "z")
    wake(hub)
    time.settle()
    assert b"data: z\n" in time.run(anext(chunks), within=0.1)
    assert time.run(anext(chunks)) == b"retry: 1000\n\n"


def test_a_gap_counts_as_an_event(time: Timeless, hub: Hub) -> None:
    publish("a", "x")
    reader = Reader(time, hub, "a", at="another.7.life").through()
    assert [message.type for message in reader.messages] == ["gap", "message"]
    assert reader.cause is Cause.LINGER


def test_the_seconds_end_a_stream_that_never_rests(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    while reader.ended is None:
        publish("a", "x")
        wake(hub)
        time.advance(0.25)
    assert (reader.ended, reader.cause) == (pytest.approx(30), Cause.SECONDS)
    assert len(reader.data) == 120


def test_the_events_end_it_and_the_client_comes_back_at_once_for_the_rest(time: Timeless, hub: Hub) -> None:
    publish_many("a", range(7))
    with override_settings(SSE_POLLING={**NO_JITTER, "BURST": {"max_events": 3}}):
        at, got, causes, retries = "earliest", [], [], []
        for _ in range(3):
            reader = Reader(time, hub, "a", at=at).through()
            at = reader.parser.last_event_id
            got += reader.data
            causes.append(reader.cause)
            retries.append(reader.parser.retry_ms)
    assert got == [str(number) for number in range(7)]
    assert causes == [Cause.EVENTS, Cause.EVENTS, Cause.LINGER]
    assert retries == [50, 50, 1000]


def test_a_burst_that_is_exactly_full_and_leaves_nothing_over_is_not_behind(time: Timeless, hub: Hub) -> None:
    publish_many("a", range(3))
    with override_settings(SSE_POLLING={**NO_JITTER, "BURST": {"max_events": 3}}):
        reader = Reader(time, hub, "a", at="earliest").through()
    assert (reader.cause, reader.parser.retry_ms) == (Cause.EVENTS, 1000)


def test_the_bytes_end_it_between_two_frames(time: Timeless, hub: Hub) -> None:
    publish_many("a", ["x" * 400] * 4)
    with override_settings(SSE_POLLING={**NO_JITTER, "BURST": {"max_bytes": 1024}}):
        reader = Reader(time, hub, "a", at="earliest").through()
    assert len(reader.data) == 2
    assert (reader.cause, reader.parser.retry_ms) == (Cause.BYTES, 50)
    assert sum(map(len, reader.chunks[1:-1])) <= 1024


def test_an_event_larger_than_a_burst_is_sent_alone(time: Timeless, hub: Hub) -> None:
    publish_many("a", ["small", "x" * 3000, "small"])
    with override_settings(SSE_POLLING={**NO_JITTER, "BURST": {"max_bytes": 1024}}):
        at, sizes = "earliest", []
        for _ in range(3):
            reader = Reader(time, hub, "a", at=at).through()
            at = reader.parser.last_event_id
            sizes.append([len(data) for data in reader.data])
    assert sizes == [[5], [3000], [5]]


def test_the_publisher_ends_it_without_linger(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    time.advance(1)
    publish_many("a", ["x", Draft("y", ends_burst=True), "z"])
    wake(hub)
    time.advance(5)
    assert reader.data == ["x", "y"]
    assert (reader.ended, reader.cause) == (pytest.approx(1), Cause.PUBLISHER)
    assert reader.parser.retry_ms == 50  # z is left over


def test_a_wish_that_comes_after_the_event_ends_it_too(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    event = publish("a", "x")
    wake(hub)
    time.advance(0.2)
    hub.wake(Wake("a", event.life, 1, ends_burst=True))
    time.advance(5)
    assert (reader.ended, reader.cause) == (pytest.approx(0.2), Cause.PUBLISHER)


def test_drain_ends_it_at_a_frames_edge_and_says_close(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    time.advance(1)
    reader.connection.leave("drain")
    time.settle()
    assert (reader.ended, reader.cause) == (1, Cause.DRAIN)
    assert reader.messages == [Message("close", "pool_draining", "-.0.-")]


def test_making_room_ends_it_as_quietly_as_any_burst(time: Timeless, hub: Hub) -> None:
    publish("a", "x")
    reader = Reader(time, hub, "a", at="earliest").read()
    time.settle()
    publish("a", "y")
    reader.connection.leave(Cause.BUDGET)
    hub.wake(Wake("a", Channel.objects.get().life, 2))
    time.settle()
    assert reader.cause is Cause.BUDGET
    assert {message.type for message in reader.messages} == {"message"}
    resumed = Reader(time, hub, "a", at=reader.parser.last_event_id).through()
    assert reader.data + resumed.data == ["x", "y"]


def test_it_tells_whoever_writes_that_it_should_be_over(time: Timeless, hub: Hub) -> None:
    asked, long = Reader(time, hub, "a"), Reader(time, hub, "a")
    assert asked.stream is not None
    assert long.stream is not None
    assert not asked.stream.is_due
    asked.connection.leave(Cause.BUDGET)
    assert asked.stream.is_due
    time.advance(30)  # BURST["max_seconds"]
    assert long.stream.is_due


def test_a_client_that_has_gone_is_sent_nothing_more(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    reader.connection.leave(Cause.GONE)
    time.settle()
    assert reader.cause is Cause.GONE
    assert len(reader.chunks) == 1


def test_the_database_ends_it_with_a_longer_retry_and_the_cursor_stays(time: Timeless, hub: Hub) -> None:
    publish_many("a", range(3))
    live = time.run(hub.open(["a"]))[0]
    assert live.tail is not None
    live.tail.clear()
    time.fail = OperationalError("away")
    at = cursor("a").replace(".3.", ".1.")
    at = f"{at.rsplit('.', 1)[0]}.{Event.objects.get(sequence=1).tag}"
    reader = Reader(time, hub, "a", at=at).through()
    assert (reader.cause, reader.parser.retry_ms) == (Cause.DATABASE, 5000)
    assert reader.parser.last_event_id == at
    time.fail = None
    time.advance(1)
    assert Reader(time, hub, "a", at=at).through().data == ["1", "2"]


def behind_the_tail(time: Timeless, hub: Hub) -> str:
    """Return the cursor of a client that needs the database: the tail has not what follows it."""
    first, *_ = publish_many("a", range(3))
    (live,) = time.run(hub.open(["a"]))
    assert live.tail is not None
    live.tail.clear()
    return first.id


def test_a_replay_waits_for_a_database_that_comes_back_and_goes_on(time: Timeless, hub: Hub) -> None:
    at = behind_the_tail(time, hub)
    time.fail = OperationalError("away")
    reader = Reader(time, hub, "a", at=at).read()
    time.advance(4)
    assert (len(reader.chunks), reader.ended) == (1, None)  # the opening, with its cursor
    time.fail = None
    time.advance(2)
    assert reader.data == ["1", "2"]
    assert reader.cause == Cause.LINGER


def test_a_replay_waits_for_a_lost_database_for_five_seconds(time: Timeless, hub: Hub) -> None:
    at = behind_the_tail(time, hub)
    time.fail = OperationalError("away")
    reader = Reader(time, hub, "a", at=at).through()
    assert reader.ended == pytest.approx(5, abs=1)
    assert (reader.cause, reader.parser.last_event_id) == (Cause.DATABASE, at)
    # Later ones do not wait again for what is known to be away.
    assert Reader(time, hub, "a", at=at).through().ended == 0


def test_a_channel_that_needs_the_lost_database_keeps_no_other_from_its_events(
    time: Timeless, hub: Hub
) -> None:
    first = publish_many("b", "xyz")[0]
    behind = behind_the_tail(time, hub)
    (warm,) = time.run(hub.open(["b"]))
    positions = [("a", parse_cursor(behind).position("a")), ("b", first.position)]
    at = format_cursor([(name, position) for name, position in positions if position is not None])
    time.fail = OperationalError("away")
    seen: list[str] = []
    for _ in range(4):  # whichever channel begins
        reader = Reader(time, hub, "a", "b", at=at, several=True).through()
        assert reader.cause == Cause.DATABASE
        at = reader.parser.last_event_id
        seen += [json.loads(data)["data"] for data in reader.data]
    assert seen == ["y", "z"]
    assert warm.position.sequence == 3
    time.fail = None
    time.advance(1)
    reader = Reader(time, hub, "a", "b", at=at, several=True).through()
    assert [json.loads(data)["data"] for data in reader.data] == ["1", "2"]


def test_an_error_of_our_own_ends_the_burst_cleanly_and_loses_nothing(
    time: Timeless, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """daphne leaves a client hanging for ever when the application fails after its first byte."""
    at = behind_the_tail(time, hub)
    time.fail = RuntimeError("a bug")
    reader = Reader(time, hub, "a", at=at).through()
    assert (reader.cause, reader.parser.retry_ms, reader.parser.last_event_id) == (Cause.FAILED, 5000, at)
    assert "ends a burst of ('a',) early" in caplog.text
    time.fail = None
    assert Reader(time, hub, "a", at=at).through().data == ["1", "2"]


@pytest.mark.parametrize("make", [JsonAnswer, partial(JsonLines, several=True)], ids=["answer", "lines"])
def test_an_error_of_our_own_in_one_channel_takes_none_of_another_s_events(
    time: Timeless, hub: Hub, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Encoder]
) -> None:
    """These tell the cursor at the end as well, which must not be behind what was said."""
    publish_many("a", "xy")
    publish_many("b", "12")
    reads = stream_module.next_batch

    async def fails(hub: Hub, live: LiveChannel, *args: Any, **limits: Any) -> Batch:
        if live.name == "b":
            raise RuntimeError("a bug")
        return await reads(hub, live, *args, **limits)

    def read(at: str, turn: int) -> tuple[list[str], str]:
        opened = time.run(
            open_stream(
                hub,
                Connection(channels=("a", "b"), door="test", opened=time.time()),
                parse_cursor(at, several=True),
                several=True,
                finite=True,
                encoder=make(),
                config=get_config(),
                node=Node(Registry()),
                rng=Random(turn),
                clock=time.time,
            )
        )
        assert opened is not None

        async def whole() -> str:
            return b"".join([chunk async for chunk in opened.run()]).decode()

        told = [json.loads(line) for line in time.run(whole()).splitlines()]
        events = [event["data"] for each in told for event in each.get("events", [each]) if "data" in event]
        return events, told[-1]["last_event_id"]

    firsts = set()
    for turn in range(4):  # either of them is asked first
        with monkeypatch.context() as broken:
            broken.setattr(stream_module, "next_batch", fails)
            got, at = read("earliest", turn)
        firsts.add(len(got))
        assert sorted(got + read(at, turn)[0]) == ["1", "2", "x", "y"]
    assert firsts == {0, 2}


def test_streams_on_a_warm_tail_go_on_while_the_database_is_away(time: Timeless, hub: Hub) -> None:
    at = publish_many("a", range(3))[0].id
    held = Reader(time, hub, "a").read()
    time.fail = OperationalError("away")
    for _ in range(3):
        come_back = Reader(time, hub, "a", at=at).through()
        assert (come_back.data, come_back.cause) == (["1", "2"], Cause.LINGER)
        assert (come_back.parser.retry_ms or 0) < 2000
    assert held.cause == Cause.HOLD  # as it would have without


def test_a_finite_stream_sends_what_there_is_and_does_not_wait(time: Timeless, hub: Hub) -> None:
    publish_many("a", "xy")
    reader = Reader(time, hub, "a", at="earliest", finite=True).read()
    assert (reader.ended, reader.data) == (0, ["x", "y"])
    empty = Reader(time, hub, "b", finite=True).read()
    assert (empty.ended, empty.cause) == (0, Cause.HOLD)


# The presets


@pytest.mark.parametrize(
    ("preset", "empty", "replay", "late", "retry"),
    [("reclaim", 0, 0, None, 2000), ("balanced", 2, 0.5, 1.5, 1000), ("live", 25, 25, 26, 250)],
)
def test_each_preset(
    time: Timeless, hub: Hub, preset: str, empty: float, replay: float, late: float | None, retry: int
) -> None:
    with override_settings(SSE_POLLING={**NO_JITTER, "PRESET": preset, "HEARTBEAT_SECONDS": 3600}):
        reader = Reader(time, hub, "a").through()
        assert (reader.ended, reader.cause) == (pytest.approx(empty), Cause.HOLD)
        assert reader.parser.retry_ms == retry
        last = publish_many("a", "xy")[-1]
        wake(hub)
        time.settle()
        reader = Reader(time, hub, "a", at="earliest").through()
        assert reader.data == ["x", "y"]
        assert reader.ended == pytest.approx(replay)
        if late is not None:
            reader = Reader(time, hub, "a", at=last.id).read()
            time.advance(1)
            publish("a", "z")
            wake(hub)
            time.advance(40)
            assert (reader.times[1], reader.data) == (pytest.approx(1), ["z"])
            assert (reader.ended, reader.cause) == (pytest.approx(late), Cause.LINGER)


# Heartbeats


def test_heartbeats_come_in_silence_and_neither_hold_nor_linger_is_moved(time: Timeless, hub: Hub) -> None:
    with override_settings(SSE_POLLING={"BURST": {"hold_seconds": 10}, "HEARTBEAT_SECONDS": 3}):
        reader = Reader(time, hub, "a").through()
    assert reader.heartbeats == pytest.approx([3, 6, 9])
    assert (reader.ended, reader.cause) == (pytest.approx(10), Cause.HOLD)
    assert all(chunk == b":\n" for chunk in reader.chunks[1:-1])


def test_an_event_puts_the_next_heartbeat_off(time: Timeless, hub: Hub) -> None:
    burst = {"hold_seconds": 10, "linger_seconds": 10}
    with override_settings(SSE_POLLING={"BURST": burst, "HEARTBEAT_SECONDS": 3}):
        reader = Reader(time, hub, "a").read()
        time.advance(2)
        publish("a", "x")
        wake(hub)
        time.advance(20)
    assert reader.heartbeats == pytest.approx([5, 8, 11])


# The end


def test_the_end_is_sent_and_ends_the_stream_at_once(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a").read()
    time.advance(1)
    publish("a", "x")
    finish("a", {"status": "passed"})
    wake(hub)
    time.settle()
    assert [(message.type, message.data) for message in reader.messages] == [
        ("message", "x"),
        ("end", '{"status":"passed"}'),
    ]
    assert (reader.ended, reader.cause) == (1, Cause.END)
    assert Reader(time, hub, "a", at=reader.parser.last_event_id).stream is None  # 204


def test_without_a_cursor_the_end_comes_first_and_204_next(time: Timeless, hub: Hub) -> None:
    publish("a", "x")
    finish("a")
    reader = Reader(time, hub, "a").through()
    assert [message.type for message in reader.messages] == ["end"]
    assert Reader(time, hub, "a", at=reader.parser.last_event_id).stream is None


def test_a_cursor_at_the_end_of_a_channel_that_is_gone_is_204(time: Timeless, hub: Hub) -> None:
    at = finish("a").id
    list(history.erase("a"))
    assert Reader(time, hub, "a", at=at).stream is None


def test_a_cursor_at_the_end_of_an_earlier_life_gets_the_new_one(time: Timeless, hub: Hub) -> None:
    at = finish("a").id
    list(history.erase("a"))
    publish("a", "new")
    reader = Reader(time, hub, "a", at=at).through()
    assert [message.type for message in reader.messages] == ["gap", "message"]


def test_a_stream_of_several_ends_when_all_of_them_have(time: Timeless, hub: Hub) -> None:
    finish("a")
    publish("b", "x")
    at = format_cursor([(name, history.head(name)) for name in "ab"])
    reader = Reader(time, hub, "a", "b", at=at, several=True).read()
    time.advance(1)
    finish("b")
    wake(hub, "b")
    time.settle()
    assert (reader.ended, reader.cause) == (1, Cause.END)
    assert Reader(time, hub, "a", "b", at=reader.parser.last_event_id, several=True).stream is None


def test_nothing_is_held_after_204(time: Timeless, hub: Hub) -> None:
    at = finish("a").id
    assert Reader(time, hub, "a", at=at).stream is None
    assert not any(live.waiters for live in hub.tails)


# Cheap to hold, cheap to poll


def test_a_reconnect_to_a_warm_channel_asks_the_database_nothing(time: Timeless, hub: Hub) -> None:
    at = publish_many("a", range(5))[2].id
    Reader(time, hub, "a", at=at).through()
    before = time.queries
    for _ in range(10):
        assert Reader(time, hub, "a", at=at).through().data == ["3", "4"]
    assert time.queries == before


def test_a_thousand_who_wait_for_a_cold_channel_cause_one_load(time: Timeless, hub: Hub) -> None:
    publish_many("a", range(5))
    time.slow = True

    async def one() -> list[bytes]:
        connection = Connection(channels=("a",), door="test", opened=time.time())
        stream = await open_stream(
            hub,
            connection,
            parse_cursor("earliest"),
            several=False,
            finite=True,
            config=get_config(),
            node=Node(Registry()),
            rng=Random(1),
            clock=time.time,
        )
        assert stream is not None
        return [chunk async for chunk in stream.run()]

    tasks = [time.start(one()) for _ in range(1000)]
    assert len(time.jobs) == 1
    time.slow = False
    time.settle()
    assert {b"".join(task.result()) for task in tasks} == {b"".join(tasks[0].result())}
    assert b"data: 4" in b"".join(tasks[0].result())
    assert time.queries <= 2


def test_an_event_is_encoded_once_for_all_its_readers(time: Timeless, hub: Hub) -> None:
    readers = [Reader(time, hub, "a").read() for _ in range(100)]
    before = time.queries
    publish("a", "x")
    wake(hub)
    time.settle()
    assert [reader.data for reader in readers] == [["x"]] * 100
    assert time.queries == before + 1


# Several channels


def test_a_stream_of_several_keeps_to_the_strictest(time: Timeless, hub: Hub) -> None:
    channels = [
        ("a", {"BURST": {"hold_seconds": 9, "max_events": 4}, "RETRY": {"base_ms": 10}}),
        ("b", {"BURST": {"hold_seconds": 5, "max_events": 9}, "RETRY": {"base_ms": 70}}),
    ]
    with override_settings(SSE_POLLING={**NO_JITTER, "CHANNELS": channels}):
        reader = Reader(time, hub, "a", "b", several=True).through()
        assert (reader.ended, reader.parser.retry_ms) == (pytest.approx(5), 70)
        publish_many("a", range(9))
        wake(hub, "a")
        time.settle()
        assert len(Reader(time, hub, "a", "b", at="earliest", several=True).through().data) == 4


@pytest.mark.parametrize("busy", ["a", "b"])
@pytest.mark.parametrize("most", [1, 3])
def test_a_busy_channel_does_not_starve_the_other(time: Timeless, hub: Hub, busy: str, most: int) -> None:
    """Over any number of bursts, however small: a publisher may be faster than the bursts."""
    (quiet,) = {"a", "b"} - {busy}
    publish(quiet, "the quiet one")
    with override_settings(SSE_POLLING={"BURST": {"max_events": most}}):
        at = "earliest"
        rng = Random(7)
        for _ in range(30):
            publish_many(busy, range(5))
            wake(hub, busy)
            time.settle()
            reader = Reader(time, hub, "a", "b", at=at, several=True, rng=rng).through()
            at = reader.parser.last_event_id
            if any("the quiet one" in data for data in reader.data):
                return
    raise AssertionError("30 bursts, and the quiet channel's event was not in one")


def test_a_channel_missing_from_the_cursor_starts_now(time: Timeless, hub: Hub) -> None:
    publish_many("a", range(3))
    publish_many("b", range(3))
    at = format_cursor([("a", history.head("a")._replace(sequence=1, tag="-"))])
    reader = Reader(time, hub, "a", "b", at=at, several=True).through()
    assert ["a" if '"channel":"a"' in data else "b" for data in reader.data] == ["a", "a"]


# On every way out


def test_what_a_stream_took_is_given_back_on_every_way_out(time: Timeless, hub: Hub) -> None:
    publish("a", "x")

    def closed(reader: Reader) -> None:
        reader.connection.leave(Cause.GONE)

    def cancelled(reader: Reader) -> None:
        assert reader.task is not None
        reader.task.cancel()

    def closed_twice(reader: Reader) -> None:
        assert reader.stream is not None
        reader.stream.close()
        reader.stream.close()

    for way in (closed, cancelled, closed_twice):
        reader = Reader(time, hub, "a").read()
        assert len(reader.registry) == 1
        assert any(live.waiters for live in hub.tails)
        way(reader)
        time.settle()
        if way is closed_twice:
            cancelled(reader)
            time.settle()
        assert len(reader.registry) == 0
        assert not any(live.waiters for live in hub.tails)


def test_a_stream_that_was_never_read_is_given_back_by_closing_it(time: Timeless, hub: Hub) -> None:
    reader = Reader(time, hub, "a")
    assert reader.stream is not None
    reader.stream.close()
    assert len(reader.registry) == 0
    assert not any(live.waiters for live in hub.tails)


def test_a_database_that_fails_while_it_opens_leaves_nothing_behind(time: Timeless, hub: Hub) -> None:
    time.fail = OperationalError("away")
    with pytest.raises(OperationalError):
        Reader(time, hub, "a")
    assert not any(live.waiters for live in hub.tails)


def test_a_stream_read_by_another_task_than_opened_it_is_no_orphan(time: Timeless, hub: Hub) -> None:
    """Sync middleware makes the view a task of its own, which ends before the first byte is sent."""
    reader = Reader(time, hub, "a")

    view = time.start(asyncio.sleep(0))
    assert view.done()
    reader.connection.task = weakref.ref(view)
    reader.read()
    reader.registry.reap()
    assert len(reader.registry) == 1
    time.advance(5)
    assert len(reader.registry) == 0


def test_the_connection_tells_operators_where_it_stands(time: Timeless, hub: Hub) -> None:
    publish_many("a", ["x", "y"])
    reader = Reader(time, hub, "a", at="earliest").read()
    assert reader.connection.events == 2
    opening = reader.chunks[0].index(b"\n\n") + 2
    assert reader.connection.bytes == sum(map(len, reader.chunks)) - opening
    assert reader.connection.cursor == reader.parser.last_event_id
    time.advance(5)
