"""When a client should come back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.presets import PRESETS
from sse_polling.protocol.retry import RetryLimits, next_retry

EXACT = RetryLimits(jitter=0)
random = st.integers(0, 10**6).map(Random)


def test_without_jitter_it_is_the_base_or_when_behind_the_short_one() -> None:
    assert next_retry(EXACT, Random(1)) == 1000
    assert next_retry(EXACT, Random(1), behind=True) == 50
    assert next_retry(EXACT, Random(1), behind=True, at_least_ms=5000) == 5000


@given(random)
def test_jitter_is_a_share_added_or_taken(rng: Random) -> None:
    assert 700 <= next_retry(RetryLimits(), rng) <= 1300
    assert 35 <= next_retry(RetryLimits(), rng, behind=True) <= 65


@given(random)
def test_a_refusals_wait_is_only_lengthened(rng: Random) -> None:
    assert 30_000 <= next_retry(RetryLimits(), rng, at_least_ms=30_000) <= 39_000


def test_jitter_really_spreads() -> None:
    rng = Random(1)
    waits = [next_retry(RetryLimits(), rng) for _ in range(1000)]
    assert min(waits) < 750
    assert max(waits) > 1250
    assert 980 < sum(waits) / len(waits) < 1020


@given(random)
def test_no_wait_is_over_the_most_or_below_nothing(rng: Random) -> None:
    limits = RetryLimits(base_ms=3_600_000, behind_ms=0, jitter=1, max_ms=60_000)
    assert 0 <= next_retry(limits, rng) <= 60_000
    assert next_retry(limits, rng, behind=True) == 0


def test_of_several_channels_the_longest_wait_wins() -> None:
    one = RetryLimits(base_ms=10, behind_ms=5, jitter=0.5, max_ms=100)
    other = RetryLimits(base_ms=20, behind_ms=1, jitter=0.1, max_ms=50)
    assert RetryLimits.strictest([one, other]) == RetryLimits(base_ms=20, behind_ms=5, jitter=0.5, max_ms=100)


@pytest.mark.parametrize(("preset", "base"), [("reclaim", 2000), ("balanced", 1000), ("live", 250)])
def test_each_preset_comes_back_as_it_says_and_at_once_when_behind(preset: str, base: int) -> None:
    rng, limits = Random(1), PRESETS[preset].retry
    waits = [next_retry(limits, rng) for _ in range(2000)]
    assert min(waits) >= 0.7 * base
    assert max(waits) <= 1.3 * base
    assert abs(sum(waits) / len(waits) - base) < 0.02 * base
    assert next_retry(limits, rng, behind=True) <= 65
