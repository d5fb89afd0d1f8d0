"""What others got wrong, each as the behaviour that it costs a reader.

Here are the holes that need no server. The others:

- a listening task that dies with Redis: ``test_hub.py``, ``servers/test_layer.py``
- 300 held streams, 302 threads and 300 database handles: ``servers/test_held.py``
- SIGTERM cuts streams in mid-chunk, restarts: ``servers/test_restart.py``
- a non-200 ends an EventSource for good: ``servers/test_refusals.py``
- ending the response is not closing the socket: ``servers/test_release.py``, ``servers/test_held.py``
- ``ATOMIC_REQUESTS``, ``LoginRequiredMiddleware``, GZip: ``test_views.py``, ``servers/test_middleware.py``
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import override_settings

from sse_polling import publish, publish_many, wake
from sse_polling.hub import Hub
from sse_polling.layer import Wake
from sse_polling.models import Channel, Event
from tests.test_stream import Reader
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine


def woken(hub: Hub, *names: str) -> None:
    for row in Channel.objects.filter(name__in=names or ["a"]):
        hub.wake(Wake(row.name, row.life, row.head))


def numbers(reader: Reader) -> list[int]:
    return [int(data) for data in reader.data]


@pytest.mark.parametrize("heard", [True, False])
def test_an_event_between_reading_the_history_and_following_it_is_not_lost(
    time: Timeless, hub: Hub, heard: bool
) -> None:
    publish_many("a", range(3))
    time.slow = True
    task = time.start(hub.open(["a"]))
    time.look()  # the history has been read, and has not arrived
    publish("a", 3)
    if heard:
        woken(hub)
    time.slow = False
    time.settle()
    task.result()
    reader = Reader(time, hub, "a", at="earliest").read()
    if not heard:
        time.run(hub.comparison.compare())
        time.settle()
    assert numbers(reader) == [0, 1, 2, 3]


def test_an_event_that_comes_while_a_stream_looks_is_sent_without_waiting_for_another(
    time: Timeless, hub: Hub
) -> None:
    with override_settings(SSE_POLLING={"TAIL": {"max_events": 2}}):
        publish_many("a", range(5))
        reader = Reader(time, hub, "a", at="-.0.-")
        time.slow = True
        reader.read()
        time.look()  # its replay is on the way
        publish("a", 5)
        woken(hub)
        time.slow = False
        time.settle()
        assert numbers(reader) == [0, 1, 2, 3, 4, 5]
        assert time.time() == reader.began


def test_an_event_that_is_replayed_and_announced_comes_once(time: Timeless, hub: Hub) -> None:
    publish_many("a", range(3))
    reader = Reader(time, hub, "a", at="earliest")
    for _ in range(3):
        woken(hub)
    reader.read()
    woken(hub)
    publish("a", 3)
    woken(hub)
    woken(hub)
    time.settle()
    assert numbers(reader) == [0, 1, 2, 3]


def test_pages_of_several_channels_of_unlike_length_repeat_nothing(time: Timeless, hub: Hub) -> None:
    with override_settings(SSE_POLLING={"TAIL": {"max_events": 2}, "BURST": {"max_events": 7}}):
        publish_many("a", range(40))
        publish_many("b", range(3))
        publish_many("c", range(11))
        at, got = "earliest", []
        for _ in range(20):
            reader = Reader(time, hub, "a", "b", "c", at=at, several=True).through()
            at = reader.parser.last_event_id
            got += [json.loads(data) for data in reader.data]
    for name, count in (("a", 40), ("b", 3), ("c", 11)):
        assert [int(each["data"]) for each in got if each["channel"] == name] == list(range(count))


def test_a_fresh_client_that_is_cut_off_before_its_first_event_loses_nothing(
    time: Timeless, hub: Hub
) -> None:
    publish_many("a", range(3))
    reader = Reader(time, hub, "a").read()
    assert reader.task is not None
    reader.task.cancel()
    time.settle()
    publish_many("a", [3, 4])
    woken(hub)
    time.settle()
    assert numbers(Reader(time, hub, "a", at=reader.parser.last_event_id).through()) == [3, 4]


def test_a_rolled_back_event_is_never_delivered_even_if_a_reader_is_woken(time: Timeless, hub: Hub) -> None:
    publish("a", 0)
    reader = Reader(time, hub, "a").read()
    with transaction.atomic():
        lost = publish("a", 1)
        hub.wake(Wake("a", lost.life, lost.sequence))
        time.settle()
        transaction.set_rollback(True)
    time.settle()
    assert reader.data == []
    publish("a", 2)
    woken(hub)
    time.settle()
    assert numbers(reader) == [2]


def test_a_trimmed_cursor_is_sent_what_is_still_stored(time: Timeless, hub: Hub) -> None:
    stored = publish_many("a", range(10))
    Event.objects.filter(sequence__lte=6).delete()
    reader = Reader(time, hub, "a", at=stored[1].id).through()
    gap, *rest = reader.messages
    assert json.loads(gap.data) == {"channel": "a", "from": 3, "to": 6, "reason": "trimmed"}
    assert [int(message.data) for message in rest] == [6, 7, 8, 9]


def test_a_burst_larger_than_the_layers_capacity_is_delivered_whole(
    time: Timeless, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two hundred wakes a layer keeps a hundred, or every other one, or one."""
    for kept in (slice(100), slice(None, None, 2), slice(1), slice(150, 151)):
        at = Reader(time, hub, "a", finite=True).read().parser.last_event_id
        reader = Reader(time, hub, "a", at=at).read()
        sent: list[wake.Wake] = []
        monkeypatch.setattr(wake, "send", sent.extend)
        before = Event.objects.count()
        for number in range(200):
            publish("a", before + number)
        assert len(sent) == 200
        for each in sent[kept]:
            hub.wake(each)
        time.settle()
        assert numbers(reader) == list(range(before, before + 200))
        time.advance(40)


def test_after_a_restart_and_before_the_next_publish_a_client_gets_what_it_missed(time: Timeless) -> None:
    stored = publish_many("a", range(10))
    hub = Hub(time.loop)
    reader = Reader(time, hub, "a", at=stored[6].id).read()
    assert numbers(reader) == [7, 8, 9]
    hub.stop()
    time.advance(5)


@pytest.mark.parametrize("at", [1, 5000, 9_990, 9_999])
def test_a_cursor_anywhere_in_ten_thousand_events_is_found(time: Timeless, hub: Hub, at: int) -> None:
    stored = publish_many("a", range(10_000))
    before = time.queries
    reader = Reader(time, hub, "a", at=stored[at - 1].id, finite=True).read()
    assert numbers(reader)[:9] == list(range(at, min(at + 9, 10_000)))
    assert time.queries - before <= 6  # the load, and pages of a bounded burst


def test_streams_leave_no_task_behind(time: Timeless, hub: Hub) -> None:
    publish("a", 0)
    before = len(asyncio.all_tasks(time.loop))
    for _ in range(100):
        Reader(time, hub, "a", at="earliest").read()
    time.advance(60)
    assert len(asyncio.all_tasks(time.loop)) == before
    assert not any(live.waiters for live in hub.tails)


def test_a_held_stream_is_one_coroutine_and_no_queue(time: Timeless, hub: Hub) -> None:
    readers = [Reader(time, hub, "a").read() for _ in range(50)]
    assert len(asyncio.all_tasks(time.loop)) <= 51
    assert time.queries == 1
    time.advance(5)
    assert [reader.ended for reader in readers] == pytest.approx([2] * 50)
