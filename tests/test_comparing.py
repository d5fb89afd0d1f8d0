"""Comparing heads: every difference is told, for one query."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import OperationalError

from sse_polling import comparing, history, publish, publish_many
from sse_polling.comparing import Comparison
from sse_polling.conf import TailLimits
from sse_polling.live import LiveChannel, Waiter
from sse_polling.models import Channel, Event
from sse_polling.tails import Tails
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LIMITS = TailLimits()


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine


class Compared:
    """A comparison, the tails it looks at, and what it tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.in_memory = True
        self.tails = Tails(on_forget=lambda name: None)
        self.comparison = Comparison(
            self.tails, on_change=lambda live: self.told.append(live.name), in_memory=lambda: self.in_memory
        )

    def load(self, name: str = "a") -> LiveChannel:
        live = self.tails.use(name, now=0, limits=LIMITS)
        reading = history.look(name, None, max_events=LIMITS.max_events, max_bytes=LIMITS.max_bytes)
        self.tails.apply(live, reading, LIMITS)
        return live


@pytest.fixture
def one() -> Compared:
    return Compared()


@pytest.mark.parametrize("known", [0, 1, 3])
def test_it_notices_every_lost_wake(time: Timeless, one: Compared, known: int) -> None:
    """Also on a channel that nobody had published to, whose tail is empty."""
    if known:
        publish_many("a", range(known))
    one.load()
    time.run(one.comparison.compare())
    assert one.told == []
    publish("a", "lost")
    time.run(one.comparison.compare())
    assert one.told == ["a"]


def test_it_notices_a_lost_wake_behind_a_tail_that_was_emptied(time: Timeless, one: Compared) -> None:
    publish_many("a", range(3))
    live = one.load()
    assert live.tail is not None
    live.tail.clear()
    time.run(one.comparison.compare())
    assert one.told == []
    publish("a", "lost")
    time.run(one.comparison.compare())
    assert one.told == ["a"]


def test_it_is_one_query_for_all_and_none_for_nothing(time: Timeless, one: Compared) -> None:
    time.run(one.comparison.compare())
    one.tails.use("loading", now=0, limits=LIMITS)
    time.run(one.comparison.compare())
    assert time.queries == 0
    for name in "abcdef":
        publish(name, "0")
        one.load(name)
    time.run(one.comparison.compare())
    assert (time.queries, one.told) == (1, [])


def test_it_notices_another_history_of_the_same_length(time: Timeless, one: Compared) -> None:
    publish_many("a", range(3))
    one.load()
    Event.objects.filter(sequence=3).update(tag="other", data="other")
    Channel.objects.update(head_tag="other")
    time.run(one.comparison.compare())
    assert one.told == ["a"]


def test_it_notices_a_channel_that_is_gone(time: Timeless, one: Compared) -> None:
    publish("a", "0")
    one.load()
    list(history.erase("a"))
    time.run(one.comparison.compare())
    assert one.told == ["a"]


@pytest.mark.parametrize("wish", [{"preset": "live"}, {"max_events": 5}, {"max_age_seconds": 5}])
def test_it_notices_an_operators_wish(time: Timeless, one: Compared, wish: dict[str, object]) -> None:
    publish("a", "0")
    one.load()
    Channel.objects.update(**wish)
    time.run(one.comparison.compare())
    assert one.told == ["a"]


def test_it_works_until_an_attempt_fails(time: Timeless, one: Compared) -> None:
    one.load()
    assert one.comparison.works
    time.fail = OperationalError("away")
    time.run(one.comparison.attempt())
    assert not one.comparison.works
    time.fail = None
    time.advance(6)
    time.run(one.comparison.attempt())
    assert one.comparison.works


def test_it_is_due_when_it_is_wanted_and_else_in_time(time: Timeless, one: Compared) -> None:
    waiting = time.start(one.comparison.due(5))
    time.advance(4)
    assert not waiting.done()
    time.advance(1)
    assert waiting.done()
    one.comparison.want()
    assert time.start(one.comparison.due(5)).done()
    assert not time.start(one.comparison.due(5)).done()


def test_the_data_version_tells_while_somebody_waits_and_no_layer_does(
    time: Timeless, one: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "is_sqlite", lambda: True)
    version = 1
    monkeypatch.setattr(comparing, "data_version", lambda: (0, version))
    live = one.load()
    publish("a", "of another process")
    watching = time.start(one.comparison.watch_data_version())
    time.advance(1)
    assert time.queries == 0  # nobody waits
    live.waiters.add(Waiter())
    one.in_memory = False
    time.advance(1)
    assert time.queries == 0  # the layer tells
    one.in_memory = True
    time.advance(1)
    assert one.told == ["a"]  # a connection's first version counts
    version = 2
    time.advance(1)
    assert one.told == ["a", "a"]
    watching.cancel()
    time.settle()
