"""How often something took how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol.histogram import AGES, DELAYS, Histogram, quantile

values = st.lists(st.floats(0, 200), min_size=1, max_size=60)


@pytest.mark.parametrize("bounds", [DELAYS, AGES])
def test_the_bounds_grow(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
    assert bounds[0] > 0


def test_a_value_is_counted_at_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram([1, 2])
    for value in (0, 1, 1.5, 2, 2.1, 1000):
        histogram.observe(value)
    histogram.observe(1.5, 10)
    assert histogram.counts == [2, 12, 2]
    assert (histogram.count, histogram.total) == (16, pytest.approx(1021.6))


def test_nothing_observed_has_no_quantile() -> None:
    assert quantile(0.5, DELAYS, Histogram(DELAYS).counts) is None
    assert quantile(0.5, DELAYS, []) is None


def test_it_is_straight_within_a_bucket_and_the_last_bound_above_it() -> None:
    assert quantile(0.5, [1, 2], [0, 4, 0]) == pytest.approx(1.5)
    assert quantile(1, [1, 2], [0, 4, 0]) == 2
    assert quantile(0.99, [1, 2], [0, 0, 7]) == 2
    assert quantile(0.5, [1, 2], [3, 0, 3]) == 1


@given(values, st.floats(0, 1))
def test_it_lies_within_the_bucket_of_the_value_that_has_that_rank(seen: list[float], share: float) -> None:
    histogram = Histogram(DELAYS)
    for value in seen:
        histogram.observe(value)
    found = quantile(share, DELAYS, histogram.counts)
    assert found is not None
    rank = share * len(seen)
    exact = next(value for number, value in enumerate(sorted(seen), 1) if number >= rank - 1e-9)
    low = max((bound for bound in DELAYS if bound < exact), default=0.0)
    high = min((bound for bound in DELAYS if bound >= exact), default=float("inf"))
    if high == float("inf"):
        assert found == DELAYS[-1]
    else:
        assert low - 1e-9 <= found <= high + 1e-9


@given(values, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_no_smaller_quantile(seen: list[float], one: float, other: float) -> None:
    histogram = Histogram(DELAYS)
    for value in seen:
        histogram.observe(value)
    low, high = (quantile(share, DELAYS, histogram.counts) for share in sorted([one, other]))
    assert low is not None
    assert high is not None
    assert low <= high + 1e-9
