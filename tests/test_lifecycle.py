from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from sse_polling.conf import Config, get_config
from sse_polling.connections import Connection, Registry
from sse_polling.lifecycle import SPARE, Crowded, Farewell, Node, Refusal, capacity
from sse_polling.protocol.burst import Cause


class Times:
    """A clock and a processor's clock, both set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu = 0.0


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def node(times: Times) -> Node:
    return Node(Registry(), clock=lambda: times.now, cpu=lambda: times.cpu)


def configured(settings: Any, **values: Any) -> Config:
    settings.SSE_POLLING = values
    return get_config()


def connection(**fields: Any) -> Connection:
    return Connection(**{"channels": ("a",), "door": "test", **fields})


def admit(node: Node, config: Config, count: int, *, priority: int = 0, **fields: Any) -> list[Connection]:
    """Let *count* clients come, and return those who were let in; they have had their place for a while."""
    fields.setdefault("opened", node._clock() - 25)
    let_in = []
    for _ in range(count):
        one = connection(**fields)
        if node.refuses(priority, config) is None and node.admit(one, priority, config) is None:
            let_in.append(one)
    return let_in


def test_new_streams_are_refused_at_the_threshold(node: Node, settings: Any) -> None:
    config = configured(settings, MAX_SOCKETS=10, BREAKER={"threshold": 0.5})
    assert len(admit(node, config, 4)) == 4
    assert node.state(config) == "serving"
    assert len(admit(node, config, 4)) == 1
    assert node.state(config) == "full"
    assert node.counts.refused == {Refusal.CAPACITY: 3}
    assert (node.counts.admitted, node.counts.most) == (5, 5)


def test_it_serves_again_some_way_below_the_threshold(node: Node, settings: Any) -> None:
    config = configured(settings, MAX_SOCKETS=100, BREAKER={"threshold": 1})
    held = admit(node, config, 101)
    for each in held[:9]:
        node.registry.release(each)
    assert node.refuses(0, config) is Refusal.CAPACITY
    node.registry.release(held[9])
    assert node.refuses(0, config) is None
    assert dict(node.counts.states) == {"full": 1, "serving": 1}


def test_those_who_are_being_asked_who_they_are_keep_no_reader_out(node: Node, settings: Any) -> None:
    config = configured(settings, MAX_SOCKETS=3, BREAKER={"threshold": 1})
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(node.arrival(config))
        assert node.refuses(0, config) is None
        with pytest.raises(Crowded), node.arrival(config):
            pass
    assert node.arriving == 0


def test_those_who_were_being_asked_meanwhile_are_not_let_in_beyond_the_limit(
    node: Node, settings: Any
) -> None:
    config = configured(settings, MAX_SOCKETS=3, BREAKER={"threshold": 1})
    assert all(node.refuses(0, config) is None for _ in range(5))
    admitted = [node.admit(connection(), 0, config) for _ in range(5)]
    assert admitted == [None, None, None, Refusal.CAPACITY, Refusal.CAPACITY]


def test_a_finite_poll_is_answered_however_full_it_is(node: Node, settings: Any) -> None:
    config = configured(settings, MAX_SOCKETS=1, BREAKER={"threshold": 1})
    admit(node, config, 2)
    assert node.refuses(0, config) is Refusal.CAPACITY
    assert node.refuses(0, config, finite=True) is None


def test_finite_polls_are_not_answered_in_any_number(node: Node, settings: Any) -> None:
    """A client that reads its answer slowly has a socket as long."""
    config = configured(settings, MAX_SOCKETS=3, BREAKER={"threshold": 1}, PER_CLIENT={"max_sockets": 2})
    admit(node, config, 3)
    ours = [connection(key="one") for _ in range(5)]
    refused = [node.admit(each, 0, config, finite=True) for each in ours]
    assert refused == [None] * 4 + [Refusal.CLIENT]
    others = [node.admit(connection(), 0, config, finite=True) for _ in range(100)]
    assert others.count(None) == SPARE - 4
    assert set(others) == {None, Refusal.CAPACITY}
    for each in ours:
        node.registry.release(each)
    assert node.refuses(0, config, finite=True) is None


def test_the_least_important_channels_are_refused_first(node: Node, settings: Any) -> None:
    config = configured(
        settings,
        MAX_SOCKETS=100,
        BREAKER={"threshold": 1},
        CHANNELS=[("vital.*", {"PRIORITY": 9}), ("builds.*", {"PRIORITY": 5})],
    )
    assert len(admit(node, config, 200, priority=0)) == 80
    assert node.counts.refused == {Refusal.PRIORITY: 120}
    assert node.state(config) == "serving"
    assert len(admit(node, config, 200, priority=5)) == 10
    assert len(admit(node, config, 200, priority=9)) == 10
    assert node.state(config) == "full"
    assert node.refuses(0, config) is Refusal.CAPACITY


def test_one_client_may_not_have_them_all(node: Node, settings: Any) -> None:
    config = configured(settings, PER_CLIENT={"max_sockets": 2})
    held = admit(node, config, 3, key="user:1")
    assert len(held) == 2
    assert node.counts.refused == {Refusal.CLIENT: 1}
    assert len(admit(node, config, 3, key="user:2")) == 2
    assert len(admit(node, config, 3)) == 3  # nobody in particular
    node.registry.release(held[0])
    assert len(admit(node, config, 3, key="user:1")) == 1


def test_without_a_setting_the_capacity_follows_the_descriptor_limit(settings: Any) -> None:
    assert 1 <= capacity(configured(settings)) <= 10_000


def test_within_the_budget_nobody_has_to_go(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100)
    assert all(each.leaving is None for each in admit(node, config, 85))


def test_beyond_it_whoever_was_there_first_makes_room_for_the_next(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100)
    held = admit(node, config, 90)
    assert [each.leaving for each in held] == [Cause.BUDGET] * 5 + [None] * 85


def test_who_has_a_place_keeps_it_for_a_while_and_the_next_only_passes(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100)
    held = admit(node, config, 85, opened=node._clock() - 15)
    (passing,) = admit(node, config, 1, opened=node._clock())
    assert {each.leaving for each in (*held, passing)} == {None}
    assert passing.passing
    assert not any(each.passing for each in held)
    assert node.registry.places == 85


def test_a_more_important_one_takes_a_place_at_once(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100, CHANNELS=[("vital", {"PRIORITY": 9})])
    held = admit(node, config, 85, opened=node._clock())
    (vital,) = admit(node, config, 1, priority=9, opened=node._clock())
    assert [each.leaving for each in held] == [Cause.BUDGET] + [None] * 84
    assert not vital.passing


def test_the_least_important_make_room_first(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100, CHANNELS=[("vital", {"PRIORITY": 9})])
    vital = admit(node, config, 50, priority=9)
    held = admit(node, config, 35)
    more = admit(node, config, 5, priority=9)
    assert [each.leaving for each in held] == [Cause.BUDGET] * 5 + [None] * 30
    assert {each.leaving for each in (*vital, *more)} == {None}


def test_a_client_with_many_streams_makes_room_itself(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100, PER_CLIENT={"max_sockets": 20})
    others = admit(node, config, 75)
    own = admit(node, config, 10, key="user:1")
    for _ in range(200):
        own += (newcomer := admit(node, config, 1, key="user:1"))
        assert newcomer
        for each in own:
            if each.leaving:
                node.registry.release(each)
    assert {each.leaving for each in others} == {None}


def test_a_client_that_is_refused_for_itself_is_no_crowd(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100, PER_CLIENT={"max_sockets": 1})
    admit(node, config, 500, key="user:1")
    node.ended(Cause.GONE, retry_ms=0)
    assert node.wait_ms(fresh=False) == 250


def test_a_finite_poll_makes_nobody_go(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100)
    held = admit(node, config, 85)
    for _ in range(50):
        assert node.admit(connection(), 0, config, finite=True) is None
    assert {each.leaving for each in held} == {None}


def test_when_those_do_not_go_in_time_the_next_are_closed_at_once(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100)
    assert len(admit(node, config, 1000)) == 125
    assert node.counts.refused == {Refusal.BUDGET: 875}


def test_a_crowd_that_was_sent_away_makes_the_wait_longer(node: Node, times: Times, settings: Any) -> None:
    config = configured(settings, BUDGET=100)
    admit(node, config, 1)
    alone = node.wait_ms(fresh=False)
    for _ in range(500):
        node.ended(Cause.BUDGET, retry_ms=10_000)
    beside_many = node.wait_ms(fresh=False)
    times.now += 20
    node.ended(Cause.HOLD, retry_ms=0)
    assert alone < beside_many
    assert node.wait_ms(fresh=False) == alone


def test_without_a_budget_there_is_no_wish(node: Node, settings: Any) -> None:
    config = configured(settings)
    admit(node, config, 300)
    node.ended(Cause.HOLD, retry_ms=1000)
    assert node.wait_ms(fresh=True) == 0


def test_another_budget_takes_effect_at_once(node: Node, settings: Any) -> None:
    admit(node, configured(settings, BUDGET=1000), 300)
    assert node.refuses(0, configured(settings, BUDGET=100)) is Refusal.BUDGET
    assert node.refuses(0, configured(settings)) is None


def test_why_streams_ended_is_counted(node: Node) -> None:
    for cause in (Cause.HOLD, Cause.HOLD, Cause.GONE):
        node.ended(cause, retry_ms=1000)
    assert node.counts.ended == {Cause.HOLD: 2, Cause.GONE: 1}


def test_a_stream_that_ends_in_the_middle_of_an_admission_is_counted(node: Node, settings: Any) -> None:
    """A collection may run anywhere, and its finalizers with it."""
    config = configured(settings, BUDGET=10)
    admit(node, config, 1)
    budget = node.budget(config)
    assert budget is not None
    seen = []

    def observe(now: float, *, count: int) -> None:
        if not seen:
            seen.append(count)
            node.ended(Cause.GONE, retry_ms=0)

    budget.observe = observe  # type: ignore[method-assign]
    admit(node, config, 1)
    assert node.counts.ended == {Cause.GONE: 1}


# Draining


def test_while_it_drains_every_new_stream_is_refused_and_counted(node: Node, settings: Any) -> None:
    config = configured(settings, BUDGET=100, CHANNELS=[("vital", {"PRIORITY": 100})])
    held = admit(node, config, 3)
    node.draining = True
    for priority in (0, 100):
        assert node.refuses(priority, config) is Refusal.DRAINING
        assert node.refuses(priority, config, finite=True) is Refusal.DRAINING
        assert node.admit(connection(), priority, config) is Refusal.DRAINING
        assert node.admit(connection(), priority, config, finite=True) is Refusal.DRAINING
    assert node.counts.refused == {Refusal.DRAINING: 8}
    assert (len(node.registry), node.counts.admitted) == (3, 3)
    assert {each.leaving for each in held} == {None}  # whom it asks to leave is the drain's own business


def test_it_is_draining_while_a_socket_is_held_and_drained_after(node: Node, settings: Any) -> None:
    config = configured(settings)
    held = admit(node, config, 2)
    node.draining = True
    assert node.state(config) == "draining"
    node.flushing.add(held[0])
    for each in held:
        node.registry.release(each)
    assert node.state(config) == "draining"  # one of them flushes
    node.flushing.discard(held[0])
    assert [node.state(config), node.state(config)] == ["drained", "drained"]
    node.draining = False
    assert node.state(config) == "serving"
    assert node.counts.states == {"draining": 1, "drained": 1, "serving": 1}


def test_a_full_process_that_drains_is_draining(node: Node, settings: Any) -> None:
    config = configured(settings, MAX_SOCKETS=2, BREAKER={"threshold": 1})
    admit(node, config, 2)
    assert node.state(config) == "full"
    node.draining = True
    assert node.state(config) == "draining"


def test_a_refusal_while_it_drains_costs_no_client_a_place(node: Node, settings: Any) -> None:
    config = configured(settings, PER_CLIENT={"max_sockets": 2})
    (held,) = admit(node, config, 1, key="user:1")
    node.draining = True
    admit(node, config, 5, key="user:1")
    assert node.registry.count(key="user:1") == 1
    node.draining = False
    node.registry.release(held)
    assert len(admit(node, config, 3, key="user:1")) == 2


def test_how_clients_went_is_counted_from_anywhere(node: Node) -> None:
    for farewell in (Farewell.ACKED, None, Farewell.ACKED, Farewell.CLOSED):
        node.ended(Cause.DRAIN, retry_ms=1000, farewell=farewell)
    assert node.counts.farewells == {Farewell.ACKED: 2, Farewell.CLOSED: 1}
    assert node.counts.ended == {Cause.DRAIN: 4}


@pytest.mark.parametrize("budget", [None, 100])
def test_readers_are_those_here_and_those_who_are_to_come_back(
    node: Node, times: Times, settings: Any, budget: int | None
) -> None:
    config = configured(settings, BUDGET=budget)
    held = admit(node, config, 5)
    assert node.readers == 5
    for each in held[:2]:
        node.registry.release(each)
        node.ended(Cause.HOLD, retry_ms=5000)
    node.sent_away(30_000)
    assert node.readers == 3 + 3
    times.now += 6
    assert node.readers == 3 + 1
    times.now += 30
    assert node.readers == 3


def test_the_how_manieth_burst_it_is_of_a_client_that_names_itself(node: Node, settings: Any) -> None:
    config = configured(settings)
    bursts = [admit(node, config, 1, client=client)[0].burst for client in ("one", "two", "one", None)]
    assert bursts == [1, 1, 2, None]
