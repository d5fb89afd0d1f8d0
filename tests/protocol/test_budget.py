"""The socket budget against simulated crowds: a step, a ramp, a double, a mass disconnect, the unruly."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol.budget import SocketBudget
from tests.harness.crowd import Crowd, Sample, quantiles


def crowd(budget: int, **fields: object) -> Crowd:
    return Crowd(SocketBudget(budget), **fields)  # type: ignore[arg-type]


def mean(samples: Iterable[Sample]) -> float:
    found = [each.sockets for each in samples]
    return sum(found) / len(found)


def most(samples: Iterable[Sample]) -> int:
    return max(each.most for each in samples)


def test_a_crowd_that_fits_is_held_as_the_live_preset_holds_it() -> None:
    simulated = crowd(100)
    simulated.join(80, within=10)
    simulated.go(20)
    samples = simulated.go(60)
    assert mean(samples) > 0.97 * 80
    assert sum(each.polls for each in samples) < 80 * 60 / 25
    assert quantiles(simulated, (0.5, 0.95), since=20) == [0, 0]


def test_a_crowd_that_comes_in_a_step_stays_under_the_budget() -> None:
    simulated = crowd(100, poll_seconds=0.00005)  # so that the core is not what they wait for
    simulated.join(1000)
    first = simulated.go(30)
    assert most(first[1:]) < 1.5 * 100
    assert 0.7 * 100 <= mean(simulated.go(60)) <= 100


def test_a_ramp_uses_the_budget_and_never_breaks_it() -> None:
    simulated = crowd(100)
    simulated.join(1000, within=60)
    samples = simulated.go(90)
    assert most(samples) < 1.5 * 100
    assert all(0.7 * 100 <= each.sockets <= 100 for each in samples[30:])


def test_a_sudden_double_is_noticed_by_the_clients_only() -> None:
    simulated = crowd(100, poll_seconds=0.0001)
    simulated.join(400, within=10)
    before = simulated.go(60)[-1]
    simulated.join(400, within=1)
    samples = simulated.go(60)
    assert most(samples) < 1.5 * 100
    assert all(each.sockets <= 100 for each in samples)
    assert simulated.samples[-1].wait > before.wait


def test_after_a_mass_disconnect_those_who_stay_are_held_again() -> None:
    simulated = crowd(100)
    simulated.join(1000, within=10)
    simulated.go(60)
    simulated.leave(940)
    simulated.go(40)
    samples = simulated.go(40)
    assert mean(samples) > 0.95 * 60
    assert samples[-1].readers < 1.1 * 60
    assert samples[-1].wait == 0.25


@pytest.mark.parametrize("early", [0.1, 0.5, 3.0])
def test_a_crowd_that_ignores_what_it_is_told_stays_under_the_budget(early: float) -> None:
    simulated = crowd(100, wait_of=lambda told: early, poll_seconds=0.0001)
    simulated.join(300, within=10)
    simulated.go(30)
    samples = simulated.go(30)
    assert most(samples) < 1.5 * 100
    assert mean(samples) <= 100


def test_clients_that_come_late_leave_the_budget_used() -> None:
    simulated = crowd(100, wait_of=lambda told: told + 2)
    simulated.join(1000, within=10)
    simulated.go(60)
    assert 0.7 * 100 <= mean(simulated.go(30)) <= 100


@pytest.mark.parametrize("budget", [1, 2, 10])
def test_a_tiny_budget_holds_too(budget: int) -> None:
    simulated = crowd(budget)
    simulated.join(100, within=5)
    simulated.go(30)
    assert mean(simulated.go(30)) <= max(1.0, budget) * 1.05


def test_asking_for_a_wait_twice_changes_nothing() -> None:
    budget = SocketBudget(10)
    budget.observe(0, count=8)
    for _ in range(100):
        budget.sent_away(0, 5)
    assert len({budget.wait(fresh=True) for _ in range(500)}) == 1


def test_a_budget_of_one_lets_the_next_take_the_place() -> None:
    budget = SocketBudget(1)
    assert budget.admits(1)
    assert budget.excess(2) == 1
    assert not budget.admits(2)


def test_latency_falls_as_the_budget_rises() -> None:
    found = []
    for budget in (50, 200, 400, 600):
        simulated = crowd(budget)
        simulated.join(1000, within=10)
        simulated.go(60)
        found.append(quantiles(simulated, (0.5, 0.9), since=30))
    assert found == sorted(found, reverse=True)
    assert found[-1][0] < 0.1  # more than half of the crowd is open
    assert found[0][0] > 0.5


@pytest.mark.parametrize("budget", [100, 400, 600])
def test_the_latency_is_the_share_that_is_open_and_the_rest_spread_over_the_wait(budget: int) -> None:
    simulated = crowd(budget)
    simulated.join(1000, within=10)
    simulated.go(90)
    share, wait = simulated.budget.places / 1000, simulated.samples[-1].wait
    for quantile, found in zip((0.5, 0.7, 0.8), quantiles(simulated, (0.5, 0.7, 0.8), since=60), strict=True):
        expected = max(0.0, (quantile - share) / (1 - share)) * wait
        assert found == pytest.approx(expected, rel=0.25, abs=0.1)


def test_polls_take_most_of_a_core_and_no_more() -> None:
    simulated = crowd(100, poll_seconds=0.01)
    simulated.join(1000, within=60)
    simulated.go(150)
    busy = [each.busy for each in simulated.go(30)]
    assert 0.6 < sum(busy) / len(busy) < 0.8


def test_cheap_polls_come_as_often_as_those_of_reclaim() -> None:
    simulated = crowd(100, poll_seconds=0.00001, event_seconds=0)
    simulated.join(1000, within=5)
    assert simulated.go(60)[-1].wait == pytest.approx(2.0, rel=0.15)


def test_who_follows_a_busy_channel_comes_back_sooner_and_the_mean_stays() -> None:
    budget = SocketBudget(10)
    budget.observe(0, count=8)
    for _ in range(1000):
        budget.sent_away(0, 5)
    waits = {fresh: [] for fresh in (True, False)}  # type: dict[bool, list[float]]
    for number in range(2000):
        fresh = number % 2 == 0
        waits[fresh].append(budget.wait(fresh=fresh) / budget.mean_wait)
        budget.sent_away(0, 0, fresh=fresh)
    assert waits[True][-1] < 0.6 * waits[False][-1]
    late = waits[True][-500:] + waits[False][-500:]
    assert sum(late) / len(late) == pytest.approx(1, rel=0.05)


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.integers(0, 2000), st.floats(0, 60), st.floats(0, 5)), max_size=60
    )
)
def test_whatever_is_observed_the_wait_is_bounded_and_nobody_is_counted_for_ever(
    steps: list[tuple[float, int, float, float]],
) -> None:
    budget, now, cpu = SocketBudget(100, longest_wait=46), 0.0, 0.0
    for pause, count, wait, spent in steps:
        now, cpu = now + pause, cpu + spent
        budget.observe(now, count=count)
        budget.learn(now, cpu=cpu)
        budget.sent_away(now, wait)
        for fresh in (True, False):
            assert 0 < budget.wait(fresh=fresh) <= 46
        assert budget.readers >= count
    budget.observe(now + 61, count=0)
    assert budget.readers == 0


def test_the_same_crowd_gives_the_same_figures() -> None:
    one, other = (crowd(100, rng=Random(5)) for _ in range(2))
    for each in (one, other):
        each.join(500, within=5)
        each.go(20)
    assert one.samples == other.samples
