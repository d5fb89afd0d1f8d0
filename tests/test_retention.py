"""Retention on the history itself: what goes, what stays, and who trims."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from sse_polling import finish, history, publish, publish_many
from sse_polling.conf import get_config
from sse_polling.history import Trimmed, retention
from sse_polling.models import Channel, Event, Lease
from sse_polling.testing import Transcript

pytestmark = [pytest.mark.django_db, pytest.mark.database]

DAY = 86_400


@pytest.fixture(autouse=True)
def _no_limits(settings: Any) -> None:
    retain(settings, max_events=None, max_age_seconds=None)


def retain(settings: Any, **limits: int | None) -> None:
    settings.SSE_POLLING = {"RETENTION": limits}


def trim(channel: str | None = None, *, later: float = 0, dry_run: bool = False) -> list[Trimmed]:
    """Trim as it would be *later*, in seconds from now."""
    now = timezone.now() + timedelta(seconds=later)
    return list(history.trim(get_config(), channel=channel, now=now, dry_run=dry_run))


def sequences(name: str = "log") -> list[int]:
    rows = Event.objects.filter(channel__name=name)
    return list(rows.order_by("sequence").values_list("sequence", flat=True))


def age(name: str, seconds: dict[int, float]) -> None:
    """Make events older: sequence to how many seconds ago."""
    for sequence, ago in seconds.items():
        Event.objects.filter(channel__name=name, sequence=sequence).update(
            created=timezone.now() - timedelta(seconds=ago)
        )


def exists(name: str = "log") -> bool:
    return Channel.objects.filter(name=name).exists()


# What goes


def test_without_limits_nothing_goes() -> None:
    publish_many("log", range(10))
    assert trim(later=1000 * DAY) == []
    assert len(sequences()) == 10


def test_the_newest_are_kept_by_count(settings: Any) -> None:
    retain(settings, max_events=3)
    publish_many("log", range(10))
    assert trim() == [Trimmed(channel="log", events=7)]
    assert sequences() == [8, 9, 10]
    publish("log", "next")
    assert trim() == [Trimmed(channel="log", events=1)]
    assert sequences() == [9, 10, 11]


def test_many_go_in_bounded_batches(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 4)
    retain(settings, max_events=1)
    publish_many("log", range(11))
    assert [step.events for step in trim()] == [4, 4, 2]
    assert sequences() == [11]


def test_what_is_older_than_the_age_goes() -> None:
    publish_many("log", range(5))
    Channel.objects.update(max_age_seconds=100)
    age("log", {1: 200, 2: 101, 3: 99, 4: 50})
    trim()
    assert sequences() == [3, 4, 5]


def test_only_the_oldest_go_so_that_no_hole_appears() -> None:
    publish_many("log", range(5))
    Channel.objects.update(max_age_seconds=100)
    age("log", {1: 200, 2: 10, 3: 200, 4: 200})  # a clock that was set back
    trim()
    assert sequences() == [2, 3, 4, 5]


@pytest.mark.parametrize(("limits", "left"), [((2, 100), [4, 5]), ((4, 100), [3, 4, 5])])
def test_either_limit_is_enough_to_go(limits: tuple[int, int], left: list[int]) -> None:
    publish_many("log", range(5))
    Channel.objects.update(max_events=limits[0], max_age_seconds=limits[1])
    age("log", {1: 200, 2: 200})
    trim()
    assert sequences() == left


def test_the_channels_own_limits_win_over_the_settings(settings: Any) -> None:
    retain(settings, max_events=1)
    publish_many("log", range(5))
    publish_many("other", range(5))
    Channel.objects.filter(name="log").update(max_events=4)
    trim()
    assert (sequences("log"), sequences("other")) == ([2, 3, 4, 5], [5])


def test_one_channel_can_be_trimmed_alone(settings: Any) -> None:
    retain(settings, max_events=1)
    publish_many("log", range(3))
    publish_many("other", range(3))
    assert trim("other") == [Trimmed(channel="other", events=2)]
    assert (sequences("log"), sequences("other")) == ([1, 2, 3], [3])


def test_every_page_of_channels_is_trimmed(settings: Any) -> None:
    retain(settings, max_events=1)
    for number in range(120):
        publish_many(f"log.{number}", range(2))
    assert len(trim()) == 120
    assert Event.objects.count() == 120


# The end, and channels as a whole


def test_the_end_is_kept_as_long_as_the_channel(settings: Any) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish_many("log", range(3))
    finish("log")
    age("log", {1: 500, 2: 500, 3: 500, 4: 500})  # the end is old, the channel is finished since just now
    trim()
    assert sequences() == [4]
    retain(settings, max_events=1)
    trim()
    assert sequences() == [4]


def test_a_finished_channel_goes_with_everything_past_its_age(settings: Any) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish_many("log", range(3))
    finish("log")
    assert trim(later=99) == []
    assert trim(later=101) == [Trimmed(channel="log", events=4, deleted=True)]
    assert not exists()
    assert not Event.objects.exists()


def test_a_channel_that_is_idle_and_empty_goes_past_its_age(settings: Any) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish_many("log", range(3))
    assert trim(later=99) == []
    assert trim(later=101) == [
        Trimmed(channel="log", events=3),
        Trimmed(channel="log", events=0, deleted=True),
    ]
    assert not exists()


def test_a_channel_that_has_events_stays_however_idle(settings: Any) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish_many("log", range(3))
    age("log", {1: 5, 2: 5, 3: -1000})
    Channel.objects.update(published=timezone.now() - timedelta(days=1))
    trim(later=200)
    assert sequences() == [3]


@pytest.mark.parametrize(
    "wish",
    [{"preset": "live"}, {"max_events": 5}, {"max_age_seconds": 50}],
    ids=lambda wish: next(iter(wish)),
)
def test_a_channel_with_an_operators_wishes_stays_when_it_is_empty(
    settings: Any, wish: dict[str, Any]
) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish("log", "x")
    Channel.objects.update(**wish)
    assert trim(later=1000, dry_run=True) == [Trimmed(channel="log", events=1)]
    assert trim(later=1000) == [Trimmed(channel="log", events=1)]
    assert sequences() == []
    assert exists()


# A dry run


def test_a_dry_run_tells_the_same_and_deletes_nothing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 4)
    retain(settings, max_events=2, max_age_seconds=100)
    for name in ("counted", "finished", "idle"):
        publish_many(name, range(7))
    finish("finished")
    age("counted", {7: -1000})

    def totals(steps: list[Trimmed]) -> dict[str, tuple[int, bool]]:
        found: dict[str, tuple[int, bool]] = {}
        for step in steps:
            events, deleted = found.get(step.channel, (0, False))
            found[step.channel] = (events + step.events, deleted or step.deleted)
        return found

    told = totals(trim(later=200, dry_run=True))
    assert told == {"counted": (6, False), "finished": (8, True), "idle": (7, True)}
    assert Event.objects.count() == 22
    assert totals(trim(later=200)) == told
    assert sorted(Channel.objects.values_list("name", flat=True)) == ["counted"]


# Concurrent publishers


class Meanwhile:
    """Publishes in the moment before the trimmer locks a channel to delete it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.count = count
        self._atomic = retention.transaction.atomic
        monkeypatch.setattr(retention.transaction, "atomic", self._publish_and_begin)

    def _publish_and_begin(self, *args: Any, **options: Any) -> Any:
        retention.transaction.atomic = self._atomic
        if self.count:
            publish_many("log", range(self.count))
        return self._atomic(*args, **options)


@pytest.mark.parametrize("count", [1, 5])
def test_events_published_between_the_check_and_the_deletion_are_kept(
    settings: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish("log", "old")
    age("log", {1: 500})
    Channel.objects.update(published=timezone.now() - timedelta(seconds=500))
    with monkeypatch.context() as patch:
        Meanwhile(patch, count)
        assert trim() == [Trimmed(channel="log", events=1)]
    assert sequences() == list(range(2, 2 + count))


def test_a_burst_of_events_published_before_the_deletion_is_kept_too(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one batch of them: none may go before the lock has told that nothing was published."""
    monkeypatch.setattr(retention, "_BATCH", 4)
    retain(settings, max_events=None, max_age_seconds=100)
    publish("log", "old")
    age("log", {1: 500})
    Channel.objects.update(published=timezone.now() - timedelta(seconds=500))
    steps = history.trim(get_config())
    assert next(steps) == Trimmed(channel="log", events=1)  # the trimmer stands between two steps
    publish_many("log", range(9))
    assert list(steps) == []
    assert sequences() == list(range(2, 11))


def test_wishes_written_before_the_deletion_keep_the_channel(settings: Any) -> None:
    retain(settings, max_events=None, max_age_seconds=100)
    publish("log", "old")
    age("log", {1: 500})
    Channel.objects.update(published=timezone.now() - timedelta(seconds=500))
    steps = history.trim(get_config())
    next(steps)
    Channel.objects.update(preset="live")
    assert list(steps) == []
    assert exists()


def test_a_trimmer_that_read_an_old_head_deletes_no_more_than_it_may(settings: Any) -> None:
    retain(settings, max_events=2)
    publish_many("log", range(5))
    steps = history.trim(get_config())
    assert next(steps) == Trimmed(channel="log", events=3)
    publish_many("log", range(5))
    list(steps)
    assert sequences() == [4, 5, 6, 7, 8, 9, 10]


# Erasing


def test_erasing_goes_in_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 4)
    publish_many("log", range(10))
    publish_many("other", range(3))
    steps = list(history.erase("log"))
    assert [(step.events, step.deleted) for step in steps] == [(4, False), (4, False), (2, True)]
    assert (exists("log"), sequences("other")) == (False, [1, 2, 3])


def test_a_channel_erased_and_published_to_again_has_another_life() -> None:
    before = publish("log", "x")
    list(history.erase("log"))
    after = publish("log", "x")
    assert after.sequence == 1
    assert after.life != before.life


def test_erasing_what_is_not_there_does_nothing() -> None:
    assert list(history.erase("log")) == []


# The lease


def test_the_lease_has_one_holder_at_a_time() -> None:
    assert history.lease("trim", "a", 60)
    assert not history.lease("trim", "b", 60)
    assert history.lease("trim", "a", 60)
    assert history.lease("other", "b", 60)


def left() -> timedelta:
    """Return how long the lease still lasts by the database's clock."""
    row = Lease.objects.annotate(now=Now()).get(name="trim")
    return row.until - row.now  # type: ignore[no-any-return]


def test_the_lease_expires_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    # This process's clock is a day ahead, and then a day behind: neither matters.
    for days in (1, -1):
        moved = timezone.now() + timedelta(days=days)
        monkeypatch.setattr(timezone, "now", lambda moved=moved: moved)
        Lease.objects.all().delete()
        assert history.lease("trim", "a", 60)
        assert not history.lease("trim", "b", 60)
        assert timedelta(seconds=50) < left() <= timedelta(seconds=60)
        Lease.objects.update(until=Now() - timedelta(seconds=1))
        assert history.lease("trim", "b", 60)
        assert timedelta(seconds=50) < left() <= timedelta(seconds=60)
        assert not history.lease("trim", "a", 60)


def test_a_renewed_lease_lasts_from_now_on() -> None:
    history.lease("trim", "a", 60)
    Lease.objects.update(until=F("until") - timedelta(seconds=50))
    history.lease("trim", "a", 60)
    assert left() > timedelta(seconds=50)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_ask_at_once_one_gets_the_lease() -> None:
    for _ in range(5):
        Lease.objects.all().delete()
        barrier = threading.Barrier(8)
        got: list[str] = []

        def ask(name: str, barrier: threading.Barrier = barrier, got: list[str] = got) -> None:
            try:
                connection.ensure_connection()
                barrier.wait(10)
                if history.lease("trim", name, 60):
                    got.append(name)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=ask, args=(f"process {number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    from sse_polling import pools

    pools.shutdown()


# What a reader makes of it


@pytest.mark.parametrize("read_first", [0, 2, 5])
def test_a_reader_is_told_what_it_has_not_read_and_gets_all_that_is_left(
    settings: Any, transcript: Callable[..., Transcript], read_first: int
) -> None:
    """The app's own check, see `sse_polling.testing`: whatever it reads after the gap is exact."""
    retain(settings, max_events=3)
    reader = transcript("log", gaps=read_first < 4)
    publish_many("log", [str(number) for number in range(read_first)])
    reader.read_all()
    publish_many("log", [str(number) for number in range(read_first, 7)])
    trim()
    reader.cut_everywhere()
    assert [(gap["from"], gap["to"]) for gap in reader.gaps] == (
        [(read_first + 1, 4)] if read_first < 4 else []
    )
    assert reader.data == [str(number) for number in range(7) if number < read_first or number >= 4]
