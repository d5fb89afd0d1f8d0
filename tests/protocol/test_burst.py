"""When a burst is over: each limit, and each preset against a clock of the test's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.presets import PRESETS
from sse_polling.protocol.burst import Burst, BurstLimits, Cause


def limits(**over: float) -> BurstLimits:
    return BurstLimits(**over)  # type: ignore[arg-type]


def ends(burst: Burst, *, now: float = 0) -> tuple[float, Cause]:
    """Let time pass in small steps until a stream that has nothing to send is over."""
    for step in range(round(now * 100), 100_000):
        if (cause := burst.quiet(step / 100)) is not None:
            return step / 100, cause
    raise AssertionError("never over")


def test_before_the_first_event_the_hold_decides() -> None:
    assert ends(Burst(limits(), now=0)) == (2, Cause.HOLD)


def test_after_an_event_the_linger_decides_and_begins_anew_with_each() -> None:
    burst = Burst(limits(), now=0)
    burst.sent(events=1, size=10, now=1.9)
    burst.sent(events=1, size=10, now=2.2)
    assert ends(burst, now=2.2) == (2.7, Cause.LINGER)


def test_a_linger_longer_than_the_hold_counts_from_the_event() -> None:
    burst = Burst(limits(hold_seconds=5, linger_seconds=8), now=0)
    burst.sent(events=1, size=10, now=0)
    assert ends(burst) == (8, Cause.LINGER)


def test_neither_hold_nor_linger_outlasts_the_seconds() -> None:
    assert ends(Burst(limits(hold_seconds=60), now=0)) == (30, Cause.SECONDS)
    burst = Burst(limits(), now=0)
    burst.sent(events=1, size=1, now=29.9)
    assert burst.full(29.9) is None
    assert burst.full(30) is Cause.SECONDS
    assert ends(burst, now=29.9) == (30, Cause.SECONDS)


def test_the_seconds_run_from_admission_and_do_not_swallow_the_first_event() -> None:
    burst = Burst(limits(), now=0)
    assert burst.full(31) is None  # the database was slow: what it brought is sent
    assert burst.quiet(31) is Cause.SECONDS


@pytest.mark.parametrize(("events", "size", "cause"), [(500, 1, Cause.EVENTS), (1, 1_048_576, Cause.BYTES)])
def test_a_full_burst_is_over_at_once(events: int, size: int, cause: Cause) -> None:
    burst = Burst(limits(), now=0)
    burst.sent(events=events - 1, size=size - 1, now=0)
    assert burst.full(0) is None
    burst.sent(events=1, size=1, now=0)
    assert burst.full(0) is cause


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 99), st.floats(0, 5)), max_size=20))
def test_the_deadline_is_when_it_is_quiet_and_never_after_the_seconds(
    sent: list[tuple[int, int, float]],
) -> None:
    burst, now = Burst(limits(max_seconds=20), now=0), 0.0
    for events, size, pause in sent:
        now = min(now + pause, 20)
        burst.sent(events=events, size=size, now=now)
    deadline = burst.deadline()
    assert deadline <= 20
    assert burst.quiet(math.nextafter(deadline, 0)) is None
    assert burst.quiet(deadline) is not None
    assert burst.events_left == 500 - burst.events
    assert burst.bytes_left == 1_048_576 - burst.bytes


def test_of_several_channels_the_strictest_of_each_limit_wins() -> None:
    one = limits(max_events=5, max_bytes=100, max_seconds=9, linger_seconds=1, hold_seconds=0)
    other = limits(max_events=9, max_bytes=50, max_seconds=3, linger_seconds=2, hold_seconds=1)
    assert BurstLimits.strictest([one, other]) == limits(
        max_events=5, max_bytes=50, max_seconds=3, linger_seconds=1, hold_seconds=0
    )


@pytest.mark.parametrize(
    ("preset", "empty", "after_one_at_once", "after_one_at_one_second"),
    [
        ("reclaim", (0, Cause.HOLD), (0, Cause.LINGER), None),
        ("balanced", (2, Cause.HOLD), (0.5, Cause.LINGER), (1.5, Cause.LINGER)),
        ("live", (25, Cause.HOLD), (25, Cause.LINGER), (26, Cause.LINGER)),
    ],
)
def test_each_preset_holds_as_long_as_it_says(
    preset: str,
    empty: tuple[float, Cause],
    after_one_at_once: tuple[float, Cause],
    after_one_at_one_second: tuple[float, Cause] | None,
) -> None:
    chosen = PRESETS[preset].burst
    assert ends(Burst(chosen, now=0)) == empty
    burst = Burst(chosen, now=0)
    burst.sent(events=1, size=10, now=0)
    assert ends(burst) == after_one_at_once
    if after_one_at_one_second is not None:
        burst = Burst(chosen, now=0)
        burst.sent(events=1, size=10, now=1)
        assert ends(burst, now=1) == after_one_at_one_second


def test_a_live_stream_that_never_rests_is_over_after_thirty_seconds() -> None:
    burst, now = Burst(PRESETS["live"].burst, now=0), 0.0
    while (cause := burst.full(now) or burst.quiet(now)) is None:
        burst.sent(events=1, size=10, now=now)
        now += 1
    assert (now, cause) == (30, Cause.SECONDS)
