"""The channels that one hub holds: no database, no loop, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.conf import TailLimits
from sse_polling.history import ChannelState, Reading
from sse_polling.live import LiveChannel, Waiter
from sse_polling.protocol.event import StoredEvent
from sse_polling.tails import Tails


class Held(Tails):
    """Tails that are told what was read, and that record what they let go."""

    def __init__(self, **limits: int) -> None:
        self.forgotten: list[str] = []
        super().__init__(on_forget=self.forgotten.append)
        self.limits = TailLimits(**limits)
        self.now = 1000.0

    def opened(self, name: str, *texts: str) -> LiveChannel:
        """Use the channel, and find *texts* published to it since; none at all: nobody ever has."""
        live = self.use(name, now=self.now, limits=self.limits)
        self.apply(live, read(live, texts), self.limits)
        return live

    def check(self) -> None:
        assert self.bytes == sum(live.tail.bytes for live in self if live.tail is not None)
        assert self.bytes <= self.limits.total_bytes
        assert set(self._unknown) <= set(self.names)
        assert set(self.forgotten).isdisjoint(self.names)


def read(
    live: LiveChannel, texts: tuple[str, ...], *, fresh: bool = False, head: int | None = None
) -> Reading:
    known = live.position.sequence if head is None else head - len(texts)
    events = [
        StoredEvent(
            channel=live.name, life="L", sequence=sequence, tag=f"t{sequence}", event="message", data=text
        )
        for sequence, text in enumerate(texts, known + 1)
    ]
    if not events and live.state is None:
        return Reading(state=None)
    last = known + len(events)
    state = ChannelState(
        pk=1,
        name=live.name,
        life="L",
        head=last,
        head_tag=f"t{last}",
        finished=False,
        preset="",
        max_events=None,
        max_age_seconds=None,
    )
    return Reading(state=state, events=events, fresh=fresh)


def texts(live: LiveChannel) -> list[str]:
    assert live.tail is not None
    return [entry.event.data for entry in live.tail.after(live.tail.base, max_events=10**6, max_bytes=10**9)]


def test_what_was_read_follows_what_is_held() -> None:
    tails = Held()
    live = tails.opened("a", "0", "1")
    assert tails.opened("a", "2") is live
    assert texts(live) == ["0", "1", "2"]
    assert live.position == ("L", 3, "t3")
    tails.check()


def test_a_fresh_reading_starts_the_tail_anew() -> None:
    tails = Held()
    live = tails.opened("a", "0", "1")
    tails.apply(live, read(live, ("8", "9"), fresh=True, head=9), tails.limits)
    assert texts(live) == ["8", "9"]
    assert live.tail is not None
    assert (live.tail.base, live.tail.base_tag) == (7, "-")
    tails.check()


def test_a_head_of_which_no_event_is_stored_keeps_its_tag() -> None:
    tails = Held()
    live = tails.opened("a", "0")
    tails.apply(live, read(live, (), fresh=True, head=7), tails.limits)
    assert live.position == ("L", 7, "t7")


@pytest.mark.parametrize(("found", "told"), [((), False), (("1",), True)])
def test_who_waits_is_told_of_what_is_new_and_of_nothing_else(found: tuple[str, ...], told: bool) -> None:
    tails, waiter = Held(), Waiter()
    live = tails.opened("a", "0")
    live.waiters.add(waiter)
    tails.apply(live, read(live, found), tails.limits)
    assert waiter._set is told


def test_all_tails_together_are_bounded_and_the_least_used_go_first() -> None:
    tails = Held(total_bytes=10_000)
    live = {name: tails.opened(name, "x" * 1000) for name in "abc"}
    assert [name for name in "abc" if texts(live[name])] == ["b", "c"]
    tails.check()
    tails.opened("b", "x" * 9000)  # more than all may have
    assert tails.bytes == 0
    assert live["b"].position.sequence == 2
    tails.check()


def test_channels_that_nobody_published_to_are_bounded() -> None:
    tails = Held(max_unknown_channels=3)
    held = tails.opened("held")
    held.waiters.add(Waiter())
    for number in range(20):
        tails.opened(f"unknown.{number}")
    assert len(tails) <= 5
    assert tails.get("held") is held
    tails.check()


def test_a_channel_that_was_published_to_is_no_longer_one_of_them() -> None:
    tails = Held(max_unknown_channels=1)
    tails.opened("a")
    tails.opened("a", "0")
    for number in range(5):
        tails.opened(f"unknown.{number}")
    assert tails.get("a") is not None


def test_channels_that_nobody_reads_are_let_go_and_what_they_held_is_given_back() -> None:
    tails = Held()
    tails.opened("a", "0")
    held = tails.opened("b", "0")
    held.waiters.add(Waiter())
    tails.tidy(now=tails.now + 120, limits=tails.limits)
    assert list(tails.names) == ["a", "b"]
    tails.tidy(now=tails.now + 121, limits=tails.limits)
    assert (list(tails.names), tails.forgotten) == (["b"], ["a"])
    tails.check()


def test_it_knows_for_how_long_it_has_been_empty() -> None:
    tails = Held()
    for later, expected in [(0, 0), (10, 10)]:
        tails.tidy(now=1000.0 + later, limits=tails.limits)
        assert tails.empty_for(1000.0 + later) == expected
    tails.opened("a")
    tails.tidy(now=1020.0, limits=tails.limits)
    assert tails.empty_for(1020.0) == 0
    tails.tidy(now=1200.0, limits=tails.limits)
    assert tails.empty_for(1205.0) == 5


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.lists(st.sampled_from(["", "x" * 1000]), max_size=3)),
        max_size=30,
    )
)
def test_its_sums_hold_whatever_is_read(steps: list[tuple[str, list[str]]]) -> None:
    tails = Held(total_bytes=10_000, max_bytes=5000, max_unknown_channels=2, idle_seconds=5)
    for name, found in steps:
        tails.opened(name, *found)
        tails.forgotten.clear()
        tails.now += 1
        tails.tidy(now=tails.now, limits=tails.limits)
        tails.check()
