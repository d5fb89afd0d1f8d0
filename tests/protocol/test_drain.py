"""The course of a drain: whom it has asked by when, and how long it says that it takes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol.drain import Course

seconds = st.floats(0, 300)
BEGAN = 1000.0


def course(total: int, *, lasts: float = 20, ack: float = 5, spread: float = 3) -> Course:
    return Course(total, now=BEGAN, seconds=lasts, ack_seconds=ack, spread_seconds=spread)


courses = st.builds(course, st.integers(0, 20_000), lasts=seconds, ack=seconds, spread=seconds)


@given(courses, st.lists(st.floats(0, 400), min_size=2, max_size=20))
def test_ever_more_are_asked_and_never_more_than_there_are(drain: Course, times: list[float]) -> None:
    due = [drain.due(BEGAN + time) for time in sorted(times)]
    assert all(one <= next_ for one, next_ in pairwise(due))
    assert all(0 <= each <= drain.total for each in due)


@given(courses)
def test_the_first_is_asked_at_once_and_all_are_by_the_end_of_the_spread(drain: Course) -> None:
    assert drain.due(BEGAN) >= min(1, drain.total)
    assert drain.due(BEGAN + drain.spread_seconds) == drain.total


@given(courses)
def test_who_is_asked_last_still_has_its_time_to_ack(drain: Course) -> None:
    assert drain.spread_seconds >= 0
    assert drain.spread_seconds + drain.ack_seconds <= drain.seconds + 1e-9


def test_they_are_asked_evenly_and_not_in_one_go() -> None:
    drain = course(300)
    assert [drain.due(BEGAN + quarter * 0.75) for quarter in range(5)] == [1, 76, 151, 226, 300]


@given(courses, st.floats(0, 400), st.integers(0, 20_000))
def test_its_estimate_is_never_below_nothing_nor_beyond_its_end(
    drain: Course, time: float, left: int
) -> None:
    estimate = drain.estimate(BEGAN + time, min(left, drain.total))
    assert 0 <= estimate <= max(0.0, drain.seconds - time) + 1e-6


def test_its_estimate_is_the_acks_time_at_first_and_then_follows_the_pace() -> None:
    drain = course(100)
    assert drain.estimate(BEGAN, 100) == 8
    assert drain.estimate(BEGAN + 4, 20) == pytest.approx(1)
    assert drain.estimate(BEGAN + 4, 0) == 0
    assert drain.estimate(BEGAN + 1, 99) == 19  # a pace of one a second would take longer than it may
    assert drain.estimate(BEGAN + 1, 1) == 2  # not before the last was asked


@given(courses, st.floats(0, 400), seconds)
def test_one_that_has_to_be_over_sooner_is_and_is_a_drain_as_any_other(
    drain: Course, passed: float, within: float
) -> None:
    lasts, due = drain.seconds, drain.due(BEGAN + passed)
    drain.end_within(within, now=BEGAN + passed)
    assert drain.is_late(BEGAN + passed + within + 1e-6)
    assert drain.seconds == pytest.approx(min(lasts, passed + within))
    assert drain.spread_seconds >= 0
    assert drain.spread_seconds + drain.ack_seconds <= drain.seconds + 1e-9
    assert due <= drain.due(BEGAN + passed)  # nobody who was asked is not
    assert drain.due(BEGAN + drain.seconds) == drain.total
    assert drain.estimate(BEGAN + passed, drain.total) <= max(within, 0) + 1e-6


def test_one_without_any_time_asks_all_at_once() -> None:
    drain = course(300)
    drain.end_within(0, now=BEGAN)
    assert (drain.due(BEGAN), drain.is_late(BEGAN)) == (300, True)


def test_whoever_is_left_at_the_end_is_late() -> None:
    drain = course(3)
    assert not drain.is_late(BEGAN + 19.9)
    assert drain.is_late(BEGAN + 20)
