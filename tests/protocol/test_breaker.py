from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol.breaker import Breaker, limit_for


def test_it_opens_at_the_limit_and_not_before() -> None:
    breaker = Breaker()
    assert breaker.admits(899, limit=900)
    assert not breaker.admits(900, limit=900)
    assert breaker.is_open


def test_it_stays_open_at_the_edge_and_closes_a_tenth_below() -> None:
    breaker = Breaker()
    assert not breaker.admits(900, limit=900)
    assert [breaker.admits(count, limit=900) for count in (899, 850, 811, 810, 899)] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_a_client_that_leaves_and_comes_at_the_edge_does_not_make_it_flap() -> None:
    breaker = Breaker()
    assert not any(breaker.admits(count, limit=900) for count in [900, 899] * 50)


def test_a_limit_of_one_closes_when_nobody_is_left() -> None:
    breaker = Breaker()
    assert breaker.admits(0, limit=1)
    assert not breaker.admits(1, limit=1)
    assert breaker.admits(0, limit=1)


@given(st.lists(st.integers(-5, 5), max_size=300), st.integers(1, 40))
def test_whatever_comes_the_count_stays_within_the_limit(steps: list[int], limit: int) -> None:
    breaker, count = Breaker(), 0
    for step in steps:
        for _ in range(max(0, step)):
            count += breaker.admits(count, limit=limit)
        count = max(0, count + min(0, step))
        assert count <= limit


def test_without_priorities_everyone_is_refused_at_the_threshold() -> None:
    assert limit_for(0, [0], capacity=1000, threshold=0.9) == 900


def test_the_least_important_are_refused_first() -> None:
    limits = [limit_for(each, [0, 5, 9], capacity=1000, threshold=0.9) for each in (0, 5, 9)]
    assert limits == [720, 810, 900]


@pytest.mark.parametrize("capacity", [1, 2])
def test_a_tiny_process_takes_at_least_one(capacity: int) -> None:
    assert limit_for(0, [0, 1], capacity=capacity, threshold=0.01) == 1
