"""The judge: what a position is sent next, whatever has happened to the history under it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import override_settings

from sse_polling import finish, history, publish, publish_many
from sse_polling.hub import Hub
from sse_polling.layer import Wake
from sse_polling.live import LiveChannel
from sse_polling.models import Channel, Event
from sse_polling.protocol.cursor import NOWHERE, Position
from sse_polling.protocol.event import Gap, StoredEvent
from sse_polling.protocol.tail import Entry
from sse_polling.replay import MOST_LOOKS, Batch, at_end, earliest, next_batch
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

SMALL = {"TAIL": {"max_events": 3}}


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine, override_settings(SSE_POLLING=SMALL):
        yield machine


def opened(time: Timeless, hub: Hub) -> LiveChannel:
    return time.run(hub.open(["a"]))[0]


def batch(time: Timeless, hub: Hub, position: Position, **limits: int) -> Batch:
    limits = {"max_events": 100, "max_bytes": 10**6, **limits}
    return time.run(next_batch(hub, opened(time, hub), position, **limits))


def shown(found: Batch) -> list[Any]:
    """Return events as their data, gaps as (from, to, reason)."""
    return [
        (item.first, item.last, item.reason) if isinstance(item, Gap) else item.event.data
        for item in found.items
    ]


def trim(before: int) -> None:
    Event.objects.filter(sequence__lt=before).delete()


class Backup:
    """A copy of everything, to be put back."""

    def __init__(self) -> None:
        self.channels, self.events = list(Channel.objects.all()), list(Event.objects.all())

    def restore(self) -> None:
        Event.objects.all().delete()
        Channel.objects.all().delete()
        Channel.objects.bulk_create(self.channels)
        Event.objects.bulk_create(self.events)


def events(count: int, first: int = 1) -> list[StoredEvent]:
    return publish_many("a", [f"{number}" for number in range(first, first + count)])


# What follows a position


@pytest.mark.parametrize("at", range(11))
def test_any_position_gets_exactly_what_follows_it(time: Timeless, hub: Hub, at: int) -> None:
    """From the tail, which holds three here, and from the database behind it."""
    stored = events(10)
    position = stored[at - 1].position if at else stored[0].position._replace(sequence=0, tag="-")
    found = batch(time, hub, position)
    assert shown(found) == [f"{number}" for number in range(at + 1, 11)]
    assert found.after == (stored[-1].position if at < 10 else position)


def test_a_cursor_near_the_end_of_a_long_history_is_found_at_once(time: Timeless, hub: Hub) -> None:
    stored = events(1000)
    opened(time, hub)
    before = time.queries
    assert shown(batch(time, hub, stored[990].position)) == [f"{number}" for number in range(992, 1001)]
    assert time.queries == before + 1


@pytest.mark.parametrize("at", [0, 2, 8])
def test_a_batch_keeps_to_its_limits(time: Timeless, hub: Hub, at: int) -> None:
    stored = events(10)
    position = stored[0].position._replace(sequence=at, tag="-")
    assert shown(batch(time, hub, position, max_events=2)) == [f"{at + 1}", f"{at + 2}"]
    assert shown(batch(time, hub, position, max_bytes=1)) == [f"{at + 1}"]


def test_pages_of_a_replay_repeat_and_skip_nothing(time: Timeless, hub: Hub) -> None:
    stored = events(300)
    position, got = stored[0].position._replace(sequence=0, tag="-"), []
    while True:
        found = batch(time, hub, position, max_events=37)
        if not found.items:
            break
        got += shown(found)
        position = found.after
    assert got == [f"{number}" for number in range(1, 301)]


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From where the database was asked for a replay."""
    asked = []
    replay = history.replay

    def counted(state: Any, sequence: int, *, limit: int) -> list[StoredEvent]:
        asked.append(sequence)
        return replay(state, sequence, limit=limit)

    monkeypatch.setattr(history, "replay", counted)
    return asked


def crowd(time: Timeless, hub: Hub, live: LiveChannel, positions: list[Position], most: int) -> list[Batch]:
    async def together() -> list[Batch]:
        return await asyncio.gather(
            *(next_batch(hub, live, each, max_events=most, max_bytes=10**6) for each in positions)
        )

    return time.run(together())


def test_a_crowd_that_comes_back_far_behind_is_one_reading(
    time: Timeless, hub: Hub, readings: list[int]
) -> None:
    stored = events(50)
    live = opened(time, hub)
    found = crowd(time, hub, live, [stored[9].position] * 40, most=20)
    assert readings == [10]
    assert all(shown(each) == [f"{number}" for number in range(11, 31)] for each in found)


def test_who_is_a_little_further_on_takes_the_rest_of_that_reading(
    time: Timeless, hub: Hub, readings: list[int]
) -> None:
    stored = events(50)
    live = opened(time, hub)
    places = [10, 12, 29, 30, 31, 9]
    found = crowd(time, hub, live, [stored[place - 1].position for place in places], most=20)
    assert readings == [10, 30, 9]  # nothing follows 30 in it, and 9 is before it
    assert [shown(each)[0] for each in found] == [f"{place + 1}" for place in places]


def test_a_reading_is_not_kept_for_who_comes_later(time: Timeless, hub: Hub, readings: list[int]) -> None:
    stored = events(50)
    for _ in range(2):
        batch(time, hub, stored[9].position, max_events=20)
    assert readings == [10, 10]


def test_a_tag_of_another_history_is_found_in_a_shared_reading_too(
    time: Timeless, hub: Hub, readings: list[int]
) -> None:
    stored = events(50)
    live = opened(time, hub)
    good = stored[9].position
    found = crowd(time, hub, live, [good, good._replace(tag="zzzz"), good], most=20)
    assert [shown(each)[0] for each in found] == ["11", (11, None, "reset"), "11"]


def test_a_reading_that_fails_fails_for_its_reader_and_the_next_one_reads_again(
    time: Timeless, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, replay, asked = events(50), history.replay, []

    def fail_once(state: Any, sequence: int, *, limit: int) -> list[StoredEvent]:
        asked.append(sequence)
        if len(asked) == 1:
            raise DatabaseError("once")
        return replay(state, sequence, limit=limit)

    monkeypatch.setattr(history, "replay", fail_once)
    live = opened(time, hub)

    async def together() -> list[Any]:
        one = next_batch(hub, live, stored[9].position, max_events=5, max_bytes=10**6)
        other = next_batch(hub, live, stored[9].position, max_events=5, max_bytes=10**6)
        return await asyncio.gather(one, other, return_exceptions=True)

    first, second = time.run(together())
    assert isinstance(first, DatabaseError)
    assert shown(second) == ["11", "12", "13", "14", "15"]


def test_from_nowhere_it_goes_on_at_the_first_event_of_whichever_life_there_is(
    time: Timeless, hub: Hub
) -> None:
    assert batch(time, hub, NOWHERE).items == []
    events(2)
    hub.wake(Wake("a", "", 0))
    time.settle()
    assert shown(batch(time, hub, NOWHERE)) == ["1", "2"]


def test_from_nowhere_a_stale_process_sends_no_reset(time: Timeless, hub: Hub) -> None:
    """Found by the state machine: it judged nowhere as a place in the life that it had known."""
    events(5)
    opened(time, hub)  # knows 3 to 5 of a life that is erased behind its back
    list(history.erase("a"))
    publish("a", "new")
    assert shown(batch(time, hub, NOWHERE)) == ["new"]


# Gaps


@pytest.mark.parametrize(("at", "kept_from", "gap"), [(0, 3, (1, 2)), (2, 6, (3, 5)), (5, 10, (6, 9))])
def test_a_trimmed_cursor_gets_one_gap_and_all_that_is_retained(
    time: Timeless, hub: Hub, at: int, kept_from: int, gap: tuple[int, int]
) -> None:
    stored = events(12)
    trim(kept_from)
    position = stored[at - 1].position if at else stored[0].position._replace(sequence=0, tag="-")
    found = batch(time, hub, position)
    assert shown(found) == [(*gap, "trimmed"), *(f"{number}" for number in range(kept_from, 13))]
    lost = found.items[0]
    assert isinstance(lost, Gap)
    assert lost.after.sequence == kept_from - 1


def test_a_gap_is_one_of_the_events_of_a_batch(time: Timeless, hub: Hub) -> None:
    """Found by the state machine: a burst of three held a gap and three events."""
    stored = events(12)
    trim(6)
    assert shown(batch(time, hub, stored[0].position, max_events=2)) == [(2, 5, "trimmed"), "6"]
    assert shown(batch(time, hub, stored[0].position, max_events=1)) == [(2, 5, "trimmed")]


def test_a_cursor_at_the_last_trimmed_event_has_no_gap(time: Timeless, hub: Hub) -> None:
    stored = events(12)
    trim(6)
    assert shown(batch(time, hub, stored[4].position))[0] == "6"


def test_what_the_tail_still_holds_is_sent_although_its_rows_are_gone(time: Timeless, hub: Hub) -> None:
    stored = events(10)
    opened(time, hub)
    trim(11)
    assert shown(batch(time, hub, stored[7].position)) == ["9", "10"]
    assert shown(batch(time, hub, stored[3].position)) == [(5, 7, "trimmed")]


def test_trimming_between_two_pages_is_a_gap(time: Timeless, hub: Hub) -> None:
    events(20)
    first = batch(time, hub, NOWHERE, max_events=4)
    trim(10)
    assert shown(batch(time, hub, first.after, max_events=3)) == [(5, 9, "trimmed"), "10", "11"]


def test_a_hole_that_was_made_behind_the_apps_back_is_told(time: Timeless, hub: Hub) -> None:
    stored = events(20)
    Event.objects.filter(sequence__in=[7, 8]).delete()
    assert shown(batch(time, hub, stored[4].position, max_events=4)) == ["6", (7, 8, "trimmed"), "9", "10"]


# What comes while the database is asked


def while_asked(time: Timeless, act: Callable[[], object]) -> None:
    """Let the one query that is on its way look now, and its answer arrive once *act* is done."""
    time.settle()
    (held,) = time.jobs
    time.look()
    time.jobs.clear()
    time.slow = False
    act()
    time.settle()
    time.slow = True
    time.jobs.append(held)
    time.arrive()


def grown(time: Timeless, hub: Hub, live: LiveChannel, counts: list[int]) -> None:
    """Let the channel grow by so many events at a time, each time known to this process."""
    for count in counts:
        events(count, live.head + 1)
        time.run(hub.refresh(live))


@pytest.mark.parametrize("counts", [[10], [1] * 10, [2, 2, 6], [9, 1]])
def test_events_that_come_while_the_database_is_asked_are_in_no_gap(
    time: Timeless, hub: Hub, counts: list[int]
) -> None:
    """The tail runs past them before the answer is there, in which nothing was stored."""
    stored = events(10)
    live = opened(time, hub)
    trim(11)
    time.slow = True
    task = time.start(next_batch(hub, live, stored[4].position, max_events=100, max_bytes=10**6))
    time.arrive()  # nothing is stored: this process asks whether it knows the right history
    time.arrive()
    while_asked(time, lambda: grown(time, hub, live, counts))
    time.slow = False
    found = time.run(task)
    assert shown(found)[0] == (6, 10, "trimmed")
    rest = batch(time, hub, found.after)
    assert [each for each in shown(found) + shown(rest) if isinstance(each, str)][-10:] == [
        f"{number}" for number in range(11, 21)
    ]


def test_a_reading_of_others_that_is_older_than_what_is_known_makes_no_gap(time: Timeless, hub: Hub) -> None:
    stored = events(10)
    live = opened(time, hub)
    trim(11)
    time.slow = True
    one = time.start(next_batch(hub, live, stored[4].position, max_events=100, max_bytes=10**6))
    time.arrive()  # nothing is stored: it waits for a reading of the channel
    other = time.start(next_batch(hub, live, stored[4].position, max_events=100, max_bytes=10**6))
    time.look(1)  # the other's, of what follows 5: nothing yet
    events(10, 11)
    time.arrive(0)  # the channel, up to 20
    assert live.head == 20
    time.arrive(0)
    time.slow = False
    for found in (time.run(one), time.run(other)):
        assert shown(found) == [(6, 10, "trimmed"), *(f"{number}" for number in range(11, 21))]


def test_a_tail_that_is_replaced_all_the_time_leaves_a_reader_where_it_is(time: Timeless, hub: Hub) -> None:
    stored = events(10)
    live = opened(time, hub)
    trim(11)
    time.slow = True
    task = time.start(next_batch(hub, live, stored[4].position, max_events=100, max_bytes=10**6))
    time.arrive()
    time.arrive()

    def replace() -> None:
        grown(time, hub, live, [10])
        Event.objects.all().delete()

    for _ in range(MOST_LOOKS - 1):
        while_asked(time, replace)
    time.slow = False
    assert time.run(task) == Batch(stored[4].position)
    assert shown(batch(time, hub, stored[4].position)) == [(6, live.head - 3, "trimmed")]


@pytest.mark.parametrize("counts", [[10], [1] * 10])
def test_earliest_is_before_the_events_that_come_while_the_database_is_asked(
    time: Timeless, hub: Hub, counts: list[int]
) -> None:
    events(10)
    live = opened(time, hub)
    trim(11)
    time.slow = True
    task = time.start(earliest(live))
    while_asked(time, lambda: grown(time, hub, live, counts))
    time.slow = False
    position = time.run(task)
    assert position.sequence == 10
    assert shown(batch(time, hub, position)) == [f"{number}" for number in range(11, 21)]


def test_earliest_is_of_the_life_that_begins_while_the_database_is_asked(time: Timeless, hub: Hub) -> None:
    events(10)
    live = opened(time, hub)
    time.slow = True
    task = time.start(earliest(live))

    def begin_anew() -> None:
        list(history.erase("a"))
        publish_many("a", ["x", "y"])
        time.run(hub.refresh(live))

    while_asked(time, begin_anew)
    time.slow = False
    assert shown(batch(time, hub, time.run(task))) == ["x", "y"]


# Resets


def test_a_cursor_of_another_life_gets_one_reset_and_all_that_is_retained(time: Timeless, hub: Hub) -> None:
    stored = events(4)
    list(history.erase("a"))
    publish_many("a", ["x", "y"])
    found = batch(time, hub, stored[2].position)
    assert shown(found) == [(4, None, "reset")]
    assert shown(batch(time, hub, found.after)) == ["x", "y"]


def test_after_a_reset_every_retained_event_comes_and_no_other(time: Timeless, hub: Hub) -> None:
    events(10)
    trim(4)
    found = batch(time, hub, Position("another", 7, "tag"))
    assert found.after.sequence == 3
    assert shown(batch(time, hub, found.after)) == [f"{number}" for number in range(4, 11)]


def test_a_cursor_of_a_channel_that_is_gone_gets_a_reset_to_nowhere(time: Timeless, hub: Hub) -> None:
    stored = events(4)
    list(history.erase("a"))
    found = batch(time, hub, stored[1].position)
    assert (shown(found), found.after) == ([(3, None, "reset")], NOWHERE)


def test_a_cursor_beyond_this_process_is_judged_after_reading_the_primary(time: Timeless, hub: Hub) -> None:
    """Another process has told the client more than this one knows: that is no other life."""
    events(2)
    opened(time, hub)
    later = events(5, 3)  # every wake is lost
    assert shown(batch(time, hub, later[2].position)) == ["6", "7"]


def test_a_lost_commit_is_noticed_by_the_cursor_that_has_it(time: Timeless, hub: Hub) -> None:
    events(5)
    backup = Backup()
    lost = events(3, 6)
    backup.restore()
    assert shown(batch(time, hub, lost[2].position)) == [(9, None, "reset")]
    events(9, 60)  # past the lost ones: the sequence alone fits
    hub.wake(Wake("a", "", 0))
    time.settle()
    assert shown(batch(time, hub, lost[2].position)) == [(9, None, "reset")]


@pytest.mark.parametrize("more", range(1, 9))
def test_another_history_is_noticed_wherever_the_tail_begins(time: Timeless, hub: Hub, more: int) -> None:
    """Found by the state machine: the tag of the event just before a fresh tail was not known."""
    events(2)
    backup = Backup()
    lost = events(1, 3)[0]
    backup.restore()
    publish_many("a", [f"{number}'" for number in range(3, 3 + more)])
    found = batch(time, hub, lost.position)
    assert shown(found) == [(4, None, "reset")]
    assert shown(batch(time, hub, found.after))[:3] == ["1", "2", "3'"]


def test_a_tail_of_a_lost_history_makes_no_gap(time: Timeless, hub: Hub) -> None:
    """Found by the state machine: a process that missed the restore took its own tail for what was left."""
    events(3)
    backup = Backup()
    events(7, 4)
    opened(time, hub)  # holds 8 to 10 of the history that is lost
    backup.restore()
    newest = events(2, 40)[-1]  # 4 and 5, whose wakes are lost
    assert newest.sequence == 5
    found = batch(time, hub, newest.position)
    assert (shown(found), found.after) == ([], newest.position)


def test_an_unknown_tag_is_taken_as_it_is(time: Timeless, hub: Hub) -> None:
    stored = events(6)
    for at in (1, 4):
        position = stored[at - 1].position._replace(tag="-")
        assert shown(batch(time, hub, position)) == [f"{number}" for number in range(at + 1, 7)]


# Starts and ends


def test_earliest_is_just_before_the_first_retained_event(time: Timeless, hub: Hub) -> None:
    assert time.run(earliest(opened(time, hub))) == NOWHERE
    events(10)
    trim(5)
    hub.wake(Wake("a", "", 0))
    time.settle()
    assert time.run(earliest(opened(time, hub))).sequence == 4
    trim(11)
    assert time.run(earliest(opened(time, hub))).sequence == 10


def test_earliest_of_a_channel_of_which_the_end_alone_is_known_is_before_it(time: Timeless, hub: Hub) -> None:
    """Found by the state machine: an interrupted erase left the row, and a client got 204 at once."""
    events(3)
    finish("a")
    Event.objects.all().delete()
    position = time.run(earliest(opened(time, hub)))
    assert not position.at_end
    found = batch(time, hub, position)
    assert shown(found) == [(4, 4, "trimmed")]
    assert found.after.at_end


def test_a_start_from_now_is_before_an_end_that_has_come(time: Timeless, hub: Hub) -> None:
    stored = events(2)
    assert opened(time, hub).position.from_now == stored[1].position
    finish("a")
    hub.wake(Wake("a", "", 0))
    time.settle()
    assert opened(time, hub).position.from_now.sequence == 2
    (last,) = batch(time, hub, opened(time, hub).position.from_now).items
    assert isinstance(last, Entry)
    assert last.event.event == "end"


def test_at_the_end_is_who_was_sent_the_end_of_this_life_or_of_one_that_is_gone(
    time: Timeless, hub: Hub
) -> None:
    event, end = publish("a", "x"), finish("a")
    live = opened(time, hub)
    assert time.run(at_end(hub, live, end.position))
    assert not time.run(at_end(hub, live, event.position))
    assert not time.run(at_end(hub, live, NOWHERE))
    list(history.erase("a"))
    hub.wake(Wake("a", "", 0))
    time.settle()
    assert time.run(at_end(hub, live, end.position))
    publish("a", "new")
    assert not time.run(at_end(hub, live, end.position))


def test_an_end_that_this_process_does_not_know_yet_is_asked_for(time: Timeless, hub: Hub) -> None:
    publish("a", "x")
    live = opened(time, hub)
    end = finish("a")  # the wake is lost; another process has sent it
    assert time.run(at_end(hub, live, end.position))
