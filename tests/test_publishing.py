"""Publishing: what is refused, what is stored, in which order, and who is woken when."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.db import connection, connections, transaction

import sse_polling
from sse_polling import (
    Draft,
    apublish,
    apublish_many,
    cursor,
    finish,
    history,
    publish,
    publish_many,
    publishing,
    wake,
)
from sse_polling.exceptions import (
    ChannelFinished,
    EventTooLarge,
    InvalidChannel,
    InvalidEvent,
    SSEPollingError,
)
from sse_polling.history import appending, locking
from sse_polling.models import Channel, Event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    sent: list[Any] = []
    monkeypatch.setattr(wake, "send", sent.extend)
    return sent


def rows(channel: str = "a") -> list[tuple[int, str]]:
    found = Event.objects.filter(channel__name=channel).order_by("sequence")
    return list(found.values_list("sequence", "data"))


class RolledBackError(Exception):
    pass


# What is stored


def test_an_event_has_a_place_and_an_id() -> None:
    first, second = publish("a", "x", event="log", key="k", ends_burst=True), publish("a", "y")
    assert (first.channel, first.sequence, first.event, first.data, first.key) == ("a", 1, "log", "x", "k")
    assert (second.sequence, second.event, second.ends_burst) == (2, "message", False)
    row = Channel.objects.get()
    assert first.id == f"{row.life}.1.{first.tag}"
    assert (row.head, row.head_tag) == (2, second.tag)
    assert Event.objects.get(sequence=1).ends_burst


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ('{"a": 1}', '{"a": 1}'),
        ({"a": [1, None, True]}, '{"a":[1,null,true]}'),
        ("é\r\n💥", "é\r\n💥"),
        (["é"], '["é"]'),
        (None, "null"),
        (7, "7"),
        (decimal.Decimal("1.10"), '"1.10"'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    ],
)
def test_data_is_text_as_it_is_or_compact_json(data: Any, text: str) -> None:
    assert publish("a", data).data == text
    assert rows() == [(1, text)]


def test_channels_and_lives_are_their_own() -> None:
    one, other = publish("a", "x"), publish("A", "x")
    assert one.sequence == other.sequence == 1
    assert one.life != other.life


# What is refused, before anything is stored


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


REFUSED: list[tuple[type[SSEPollingError], Callable[[], object]]] = [
    (InvalidChannel, lambda: publish("", "x")),
    (InvalidChannel, lambda: publish("a b", "x")),
    (InvalidChannel, lambda: publish("ä", "x")),
    (InvalidChannel, lambda: publish("..", "x")),
    (InvalidChannel, lambda: publish("x" * 201, "x")),
    (InvalidChannel, lambda: publish("poll", "x")),
    (InvalidChannel, lambda: publish("sse_polling.nodes", "x")),
    (InvalidChannel, lambda: publish(7, "x")),  # type: ignore[arg-type]
    (InvalidChannel, lambda: finish("ws")),
    (InvalidChannel, lambda: finish("sse_polling.nodes")),
    (InvalidEvent, lambda: publish("a", "x", event="a\nb")),
    (InvalidEvent, lambda: publish("a", "x", event="a\rb")),
    (InvalidEvent, lambda: publish("a", "x", event="a\0b")),
    (InvalidEvent, lambda: publish("a", "x", event="")),
    (InvalidEvent, lambda: publish("a", "x", event="end")),
    (InvalidEvent, lambda: publish("a", "x", event="gap")),
    (InvalidEvent, lambda: publish("a", "x", event="close")),
    (InvalidEvent, lambda: publish("a", "x", key="")),
    (InvalidEvent, lambda: publish("a", "x", key="k" * 201)),
    (InvalidEvent, lambda: publish("a", "x\0")),
    (InvalidEvent, lambda: publish("a", "\ud800")),
    (InvalidEvent, lambda: publish("a", ["\ud800"])),
    (InvalidEvent, lambda: publish("a", object())),
    (InvalidEvent, lambda: publish("a", b"bytes")),
    (InvalidEvent, lambda: publish("a", {(1, 2): 3})),
    (InvalidEvent, lambda: publish("a", float("nan"))),
    (InvalidEvent, lambda: publish("a", _circle())),
    (EventTooLarge, lambda: publish("a", "x" * 262_145)),
    (EventTooLarge, lambda: publish("a", "é" * 131_073)),
    (EventTooLarge, lambda: publish("a", ["x" * 262_142])),
    (EventTooLarge, lambda: finish("a", "x" * 262_145)),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_is_refused_before_anything_is_stored(number: int, woken: list[Any]) -> None:
    error, call = REFUSED[number]
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, SSEPollingError)
    assert 20 < len(str(caught.value)) < 600
    assert not Channel.objects.exists()
    assert not Event.objects.exists()
    assert not woken


def test_the_largest_event_fits() -> None:
    assert len(publish("a", "x" * 262_144).data) == 262_144


def test_one_bad_event_of_many_refuses_them_all(woken: list[Any]) -> None:
    with pytest.raises(InvalidEvent):
        publish_many("a", ["x", Draft("y", channel="b"), object()])
    assert not Channel.objects.exists()
    assert not woken


def test_a_refusal_leaves_the_callers_transaction_usable(woken: list[Any]) -> None:
    finish("done")
    woken.clear()
    with transaction.atomic():
        publish("a", "before")
        for call in (
            lambda: publish("done", "x"),
            lambda: publish_many("done", [Draft("x", channel="new"), "y"]),
            lambda: publish("a", object()),
        ):
            with pytest.raises(SSEPollingError):
                call()
        assert not connection.needs_rollback
        publish("a", "after")
    assert rows() == [(1, "before"), (2, "after")]
    assert not Channel.objects.filter(name="new").exists()  # made for the refused call alone
    assert {each[0] for each in woken} == {"a"}


# Finish


def test_finish_stores_end_as_the_last_event(woken: list[Any]) -> None:
    publish("a", "x")
    end = finish("a", {"status": "passed"})
    assert (end.event, end.sequence, end.data) == ("end", 2, '{"status":"passed"}')
    assert Channel.objects.get().finished is not None
    assert woken[-1][:3] == ("a", end.life, 2)
    with pytest.raises(ChannelFinished, match="'a' is finished"):
        publish("a", "late")
    assert len(rows()) == 2


def test_a_repeated_finish_returns_the_first_end(woken: list[Any]) -> None:
    first = finish("a")
    woken.clear()
    again = finish("a", {"another": "end"})
    assert (again.id, again.data) == (first.id, "{}")
    assert rows() == [(1, "{}")]
    assert not woken


def test_a_channel_may_be_finished_before_anything_was_published() -> None:
    assert finish("a").sequence == 1


def test_a_finished_channel_refuses_all_of_many(woken: list[Any]) -> None:
    finish("b")
    woken.clear()
    with pytest.raises(ChannelFinished):
        publish_many("a", ["x", Draft("y", channel="b"), "z"])
    assert rows("a") == []
    assert not Channel.objects.filter(name="a").exists()
    assert not woken


def test_erased_it_begins_another_life() -> None:
    end = finish("a")
    list(history.erase("a"))
    event = publish("a", "x")
    assert event.sequence == 1
    assert event.life != end.life


# Keys


def test_the_same_key_publishes_once_and_returns_the_first_event(woken: list[Any]) -> None:
    first = publish("a", "x", key="k")
    publish("a", "between")
    woken.clear()
    again = publish("a", "y", key="k", event="log")
    assert (again.id, again.data, again.event) == (first.id, "x", "message")
    assert rows() == [(1, "x"), (2, "between")]
    assert not woken
    assert publish("b", "x", key="k").sequence == 1  # keys are of a channel


def test_a_known_key_returns_its_event_even_after_finish() -> None:
    first = publish("a", "x", key="k")
    finish("a")
    assert publish("a", "y", key="k").id == first.id
    with pytest.raises(ChannelFinished):
        publish("a", "y", key="other")


def test_a_key_repeated_within_one_call_is_one_event() -> None:
    known = publish("a", "x", key="known")
    events = publish_many(
        "a", [Draft("1", key="k"), "2", Draft("3", key="k"), Draft("4", key="known"), Draft("5", key="K")]
    )
    assert [event.sequence for event in events] == [2, 3, 2, 1, 4]
    assert events[3].id == known.id
    assert [data for _, data in rows()] == ["x", "1", "2", "5"]


def test_a_key_lives_as_long_as_its_event() -> None:
    publish_many("a", [Draft("x", key="k"), "y"])
    Event.objects.filter(sequence=1).delete()  # trimmed
    assert publish("a", "z", key="k").sequence == 3


def test_thousands_of_keys_in_one_call() -> None:
    drafts = [Draft(f"{number}", key=f"k{number}") for number in range(3000)]
    assert [event.sequence for event in publish_many("a", drafts)] == list(range(1, 3001))
    assert [event.sequence for event in publish_many("a", drafts)] == list(range(1, 3001))
    assert Event.objects.count() == 3000


# Many


def test_many_are_returned_in_the_order_given_over_several_channels() -> None:
    events = publish_many(
        "b", ["1", Draft("2", channel="a"), "3", Draft("4", event="log", channel="a"), {"5": 5}]
    )
    assert [(event.channel, event.sequence, event.data) for event in events] == [
        ("b", 1, "1"),
        ("a", 1, "2"),
        ("b", 2, "3"),
        ("a", 2, "4"),
        ("b", 3, '{"5":5}'),
    ]
    assert rows("a") == [(1, "2"), (2, "4")]


def test_none_at_all_is_nothing(woken: list[Any]) -> None:
    assert publish_many("a", []) == []
    assert not Channel.objects.exists()
    assert not woken


def test_many_are_all_or_none_when_the_database_refuses(
    monkeypatch: pytest.MonkeyPatch, woken: list[Any]
) -> None:
    write, calls = appending._write, []

    def fails(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("in the midst")
        return write(*args)

    monkeypatch.setattr(appending, "_write", fails)
    with pytest.raises(RuntimeError):
        publish_many("a", ["x", Draft("y", channel="b")])
    assert not Event.objects.exists()
    assert not Channel.objects.exists()
    assert not woken


def test_each_channel_that_grew_is_woken_once(woken: list[Any]) -> None:
    publish("b", "x", key="known")
    woken.clear()
    publish_many("a", ["1", "2", Draft("3", channel="c"), Draft("4", channel="b", key="known")])
    assert [(each.channel, each.sequence, each.ends_burst) for each in woken] == [
        ("a", 2, False),
        ("c", 1, False),
    ]
    for each in woken:
        assert (each.life, each.tag) == Event.objects.values_list("channel__life", "tag").get(
            channel__name=each.channel, sequence=each.sequence
        )


# Transactions


def test_a_rolled_back_event_is_never_seen_and_its_place_is_given_again(woken: list[Any]) -> None:
    publish("a", "0")
    woken.clear()
    with suppress(RolledBackError), transaction.atomic():
        assert publish("a", "lost").sequence == 2
        raise RolledBackError
    assert rows() == [(1, "0")]
    assert not woken
    assert publish("a", "1").sequence == 2


def test_a_channel_made_in_a_rolled_back_transaction_is_not_there(woken: list[Any]) -> None:
    with suppress(RolledBackError), transaction.atomic():
        publish("a", "lost")
        raise RolledBackError
    assert not Channel.objects.exists()
    assert not woken


def test_a_rolled_back_savepoint_takes_its_events_alone(woken: list[Any]) -> None:
    with transaction.atomic():
        publish("a", "0")
        with suppress(RolledBackError), transaction.atomic():
            publish("a", "lost")
            publish("b", "lost")
            raise RolledBackError
        publish("a", "1")
    assert rows() == [(1, "0"), (2, "1")]
    assert {each[0] for each in woken} == {"a"}
    assert woken[-1][2] == 2


def test_nobody_is_woken_before_the_commit(woken: list[Any]) -> None:
    with transaction.atomic():
        publish("a", "x")
        finish("a")
        assert not woken
    assert {each[0] for each in woken} == {"a"}
    assert max(each[2] for each in woken) == 2


def test_an_error_of_the_callers_own_wakes_nobody(woken: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        publish("a", 1 / 0)
    assert not woken


def test_a_row_that_can_be_neither_found_nor_made_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, woken: list[Any]
) -> None:
    """PostgreSQL raises its own error before it comes to that; another database might not."""
    monkeypatch.setattr(locking, "_TIMES", 0)
    with pytest.raises(SSEPollingError, match=r"isolation level hides a row .* try it again"):
        publish_many("a", ["x", Draft("y", channel="b")])
    assert not Channel.objects.exists()
    assert not woken


def test_a_transaction_by_hand_is_refused_before_anything_is_stored(woken: list[Any]) -> None:
    """Django has no hook on its commit; inside atomic() it has."""
    transaction.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError, match=r"inside atomic\(\)"):
            publish("a", "x")
        assert not Channel.objects.exists()
        with transaction.atomic():
            publish("a", "y")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert rows() == [(1, "y")]
    assert {each[0] for each in woken} == {"a"}


# Waking never hurts the publisher


def test_a_wake_that_fails_does_not_reach_the_publisher(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = []

    def fails(wakes: Any) -> None:
        raise RuntimeError("poked in the eye")

    monkeypatch.setattr(wake, "poke", fails)
    with transaction.atomic():
        publish("a", "x")
        transaction.on_commit(lambda: done.append("what comes after it on commit"))
    assert rows() == [(1, "x")]
    assert done
    assert "could not send a wake" in caplog.text


class MuteLayer:
    """A Redis that took the connection and says nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.asked += 1
        await asyncio.sleep(3600)


class BrokenLayer:
    def __init__(self) -> None:
        self.asked = 0

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.asked += 1
        raise ConnectionError("no Redis")


class KeptLayer:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.free = threading.Event()
        self.free.set()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        while not self.free.is_set():  # noqa: ASYNC110 - the test's thread opens it
            await asyncio.sleep(0.001)
        self.sent.append(message)


@pytest.fixture
def layered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], wake.Sender]]:
    """Put a layer under a sender of the test's own."""
    sender = wake.Sender()

    def use(layer: Any) -> wake.Sender:
        monkeypatch.setattr(wake.layer, "configured", lambda: layer)
        monkeypatch.setattr(wake, "sender", sender)
        return sender

    yield use
    loop = sender._loop
    if loop is not None:
        _ended(loop)


def _ended(loop: asyncio.AbstractEventLoop) -> None:
    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        loop.call_soon(loop.stop)

    asyncio.run_coroutine_threadsafe(end(), loop)
    while loop.is_running():
        time.sleep(0.001)
    loop.close()


def test_a_flood_of_acks_keeps_no_wake_waiting(layered: Callable[[Any], wake.Sender]) -> None:
    """Anybody may send them, as often as they like."""

    class Flooded:
        def __init__(self) -> None:
            self.sent: list[str] = []

        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            self.sent.append(message["type"])
            if len(self.sent) == 10:
                sender.put([wake.Wake("a", "life", 1)])

    layer = Flooded()
    sender = layered(layer)
    for number in range(500):
        sender.post({"ack": {"client": f"{number:016}"}})
    sender.flush(10)
    assert layer.sent.count("sse_polling.fleet") == 500
    assert layer.sent.index("sse_polling.wake") < 50


def test_a_mute_layer_does_not_hold_the_publisher_up(layered: Callable[[Any], wake.Sender]) -> None:
    layer = MuteLayer()
    sender = layered(layer)
    before = time.monotonic()
    for number in range(50):
        publish("a", f"{number}")
    assert time.monotonic() - before < wake.SEND_TIMEOUT
    assert len(sender._waiting) <= 1  # one waiting wake for a channel, however many events
    before = time.monotonic()
    sender.flush(0.2)
    assert time.monotonic() - before < 2


def test_a_broken_layer_is_told_once_and_again_when_it_is_back(
    layered: Callable[[Any], wake.Sender], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = layered(BrokenLayer())
    for number in range(3):
        publish("a", f"{number}")
        sender.flush()
    assert caplog.text.count("cannot reach the channel layer") == 1
    kept = KeptLayer()
    monkeypatch.setattr(wake.layer, "configured", lambda: kept)
    publish("a", "x")
    sender.flush()
    assert caplog.text.count("reaches the channel layer again") == 1
    assert "3 wakes were missed" in caplog.text
    assert sender.missed == 3
    assert kept.sent[0]["sequence"] == 4


def test_wakes_of_a_channel_that_wait_are_one(layered: Callable[[Any], wake.Sender]) -> None:
    layer = KeptLayer()
    sender = layered(layer)
    layer.free.clear()
    publish("a", "first")
    while sender._waiting:
        time.sleep(0.001)
    for number in range(20):
        publish("a", f"{number}")
        publish("b", f"{number}")
    layer.free.set()
    sender.flush()
    assert [(each["channel"], each["sequence"]) for each in layer.sent] == [("a", 1), ("a", 21), ("b", 20)]
    assert set(layer.sent[0]) == {
        "type",
        "channel",
        "life",
        "sequence",
        "tag",
        "ends_burst",
    }  # a wake, no data


def test_of_two_wakes_that_wait_the_later_commit_wins(layered: Callable[[Any], wake.Sender]) -> None:
    """Two threads may hand them over in another order than they committed in."""
    layer = KeptLayer()
    layered(layer)
    layer.free.clear()
    wake.send([wake.Wake("b", "life", 1)])
    while wake.sender._waiting:
        time.sleep(0.001)
    wake.send([wake.Wake("a", "life", 6), wake.Wake("a", "life", 5)])
    wake.send([wake.Wake("c", "life", 6), wake.Wake("c", "new life", 1)])
    layer.free.set()
    wake.sender.flush()
    assert [(each["channel"], each["sequence"]) for each in layer.sent] == [("b", 1), ("a", 6), ("c", 1)]


def test_a_connection_that_was_kept_over_a_restart_costs_no_wake(
    layered: Callable[[Any], wake.Sender],
) -> None:
    layer = KeptLayer()
    sender = layered(layer)
    group_send, tries = layer.group_send, []

    async def once_broken(group: str, message: dict[str, Any]) -> None:
        tries.append(group)
        if len(tries) == 1:
            raise ConnectionError("closed by server")
        await group_send(group, message)

    layer.group_send = once_broken  # type: ignore[method-assign]
    publish("a", "x")
    sender.flush()
    assert (len(layer.sent), len(tries), sender.missed) == (1, 2, 0)


def test_what_waits_is_bounded(
    layered: Callable[[Any], wake.Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = KeptLayer()
    sender = layered(layer)
    layer.free.clear()
    monkeypatch.setattr(wake, "MAX_WAITING", 10)
    wake.send([wake.Wake(f"c{number}", "life", 1) for number in range(50)])
    assert sender.missed == 40
    layer.free.set()
    sender.flush()


def test_the_in_memory_layer_is_left_alone(layered: Callable[[Any], wake.Sender]) -> None:
    sender = layered(InMemoryChannelLayer())
    publish("a", "x")
    assert sender._loop is None


# Concurrency


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []
    begin = threading.Barrier(count)

    def one(number: int) -> None:
        try:
            begin.wait(30)
            work(number)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, Counter(map(repr, errors))


def test_concurrent_publishers_give_one_dense_sequence() -> None:
    """The first of them make the channel, at once."""

    def work(number: int) -> None:
        for part in range(25):
            publish("a", f"{number}.{part}")

    in_threads(12, work)
    found = rows()
    assert [sequence for sequence, _ in found] == list(range(1, 301))
    assert Channel.objects.get().head == 300
    for number in range(12):
        own = [data for _, data in found if data.startswith(f"{number}.")]
        assert own == [f"{number}.{part}" for part in range(25)]
    assert len({event.tag for event in Event.objects.all()}) > 290


def test_concurrent_publishers_of_the_same_channels_do_not_deadlock_and_roll_back_cleanly() -> None:
    def work(number: int) -> None:
        names = ["a", "b", "c"] if number % 2 else ["c", "b", "a"]
        for part in range(12):
            try:
                with transaction.atomic():
                    publish_many("a", [Draft(f"{number}.{part}", channel=name) for name in names])
                    if part % 3 == 0:
                        raise RolledBackError
            except RolledBackError:
                pass

    in_threads(8, work)
    for name in "abc":
        found = rows(name)
        assert [sequence for sequence, _ in found] == list(range(1, 65))
        assert not any(int(data.split(".")[1]) % 3 == 0 for _, data in found)


def test_a_key_published_by_many_at_once_is_one_event() -> None:
    ids: list[str] = []
    in_threads(12, lambda number: ids.append(publish("a", f"{number}", key="k").id))
    assert len(set(ids)) == 1
    assert len(rows()) == 1


def test_a_channel_finished_by_many_at_once_has_one_end() -> None:
    ids: list[str] = []
    in_threads(12, lambda number: ids.append(finish("a", f"{number}").id))
    assert len(set(ids)) == 1
    assert len(rows()) == 1


def test_commit_order_is_sequence_order() -> None:
    """A reader that sees a sequence sees every lower one: no event appears below another later on."""
    seen: list[list[int]] = []
    over = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            while not over.is_set():
                seen.append(list(Event.objects.order_by("sequence").values_list("sequence", flat=True)))
            return
        for part in range(15):
            with transaction.atomic():
                publish("a", f"{number}.{part}")
                if part % 4 == 0:
                    transaction.set_rollback(True)
        if Event.objects.count() >= 33:
            over.set()

    in_threads(4, work)
    assert all(found == list(range(1, len(found) + 1)) for found in seen)
    assert len(rows()) == 33


# Async twins and cursors


async def test_the_async_twins_do_the_same() -> None:
    assert (await apublish("a", "x", event="log")).sequence == 1
    assert [each.sequence for each in await apublish_many("a", ["y", "z"])] == [2, 3]
    now = await sse_polling.acursor("a")
    assert (await sse_polling.afinish("a")).sequence == 4
    assert now.split(".")[1] == "3"


def test_the_cursor_of_now_is_the_last_events_id() -> None:
    assert cursor("a") == "-.0.-"
    assert cursor("a") != publish("a", "x").id == cursor("a")
    assert not Channel.objects.filter(name="b").exists()
    both = cursor("a", "b")
    assert both.count("_") == 1
    assert "-.0.-" in both
    assert not Channel.objects.filter(name="b").exists()  # readers never create rows
    assert cursor("a", "a").count("_") == 0
    with pytest.raises(InvalidChannel):
        cursor("no channel")


def test_the_face_offers_what_the_readme_says() -> None:
    for name in sse_polling.__all__:
        assert callable(getattr(sse_polling, name))
    assert json.loads(publish("a", {"é": 1}).data) == {"é": 1}
    assert publishing.publish is sse_polling.publish


@pytest.mark.django_db
def test_the_cursor_of_a_finished_channel_is_before_its_end() -> None:
    publish("a", "x")
    end = finish("a")
    assert cursor("a") == f"{end.id.split('.')[0]}.1.-"
