"""The gate: one tries the database while it is away, the others wait, and for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from django.db import OperationalError, ProgrammingError

from sse_polling import database, gate
from sse_polling.database import run
from sse_polling.gate import Gate
from tests.timeless import Timeless, timeless

pytestmark = pytest.mark.django_db(transaction=True)

AWAY = OperationalError("away")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Timeless]:
    monkeypatch.setattr(gate.random, "uniform", lambda low, high: high)
    with timeless() as machine:
        yield machine


async def shut(one: Gate) -> None:
    one.shut(AWAY)


async def opened(one: Gate) -> float | None:
    return one.open()


def test_an_open_gate_lets_everybody_through_at_once(time: Timeless) -> None:
    one = Gate()
    assert time.run(one.enter(), within=0)
    assert time.run(one.enter(), within=0)


def test_behind_a_shut_gate_one_tries_and_the_others_follow_when_it_opens(time: Timeless) -> None:
    one = Gate()
    time.run(shut(one))
    waiting = [time.start(one.enter()) for _ in range(5)]
    assert not any(task.done() for task in waiting)
    time.advance(0.05)
    assert [task.done() for task in waiting].count(True) == 1
    assert time.run(opened(one)) == pytest.approx(0.05)
    time.settle()
    assert all(task.done() and task.result() for task in waiting)


def test_pauses_between_tries_grow_to_a_second_and_start_anew(time: Timeless) -> None:
    one = Gate()
    tried: list[float] = []

    async def tries() -> None:
        while await one.enter():
            tried.append(time.time())
            one.shut(AWAY)

    time.run(shut(one))
    began = time.time()
    time.run(tries())
    assert [round(at - began, 2) for at in tried] == [0.05, 0.15, 0.35, 0.75, 1.55, 2.55, 3.55, 4.55, 5.55]
    time.run(opened(one))
    time.run(shut(one))
    began = time.time()
    assert time.run(one.enter())
    assert time.time() - began == pytest.approx(0.05)


def test_nobody_waits_longer_than_five_seconds_from_the_outages_begin(time: Timeless) -> None:
    one = Gate()
    time.run(shut(one))
    time.advance(3)
    assert time.run(one.enter())  # it tries, and hangs
    others = [time.start(one.enter()) for _ in range(3)]
    time.advance(2.5)
    assert [task.result() for task in others] == [False] * 3
    assert not time.run(one.enter(), within=0)  # at once by now


def test_a_try_that_was_cancelled_leaves_the_next_one_to_another(time: Timeless) -> None:
    one = Gate()
    time.run(shut(one))
    time.advance(0.1)
    assert time.run(one.enter())
    one.give_up()
    assert time.run(one.enter(), within=0)


# Below the database's own calls


def answer() -> int:
    return 42


def test_a_call_waits_for_a_database_that_comes_back(time: Timeless) -> None:
    time.fail = AWAY
    calls = [time.start(run(answer)) for _ in range(20)]
    time.advance(3)
    assert not any(call.done() for call in calls)
    before = time.queries
    assert before < 40  # one at a time tried
    time.fail = None
    time.advance(1)
    assert [call.result() for call in calls] == [42] * 20


def test_a_call_fails_when_the_outage_lasts_and_later_ones_at_once(time: Timeless) -> None:
    time.fail = AWAY
    calls = [time.start(run(answer)) for _ in range(20)]
    time.advance(6)
    assert all(isinstance(call.exception(), OperationalError) for call in calls)
    before = time.time()
    for _ in range(5):
        with pytest.raises(OperationalError, match="away"):
            time.run(run(answer))
    assert time.time() == before
    time.fail = None
    time.advance(1)
    assert time.run(run(answer)) == 42


def test_a_database_that_is_mute_costs_a_caller_fifteen_seconds_at_most(time: Timeless) -> None:
    time.slow = True
    began = time.time()
    calls = [time.start(run(answer)) for _ in range(3)]
    for number in range(3):
        time.look(number)  # each is with a thread, and its answer on its way
    time.advance(10.5)
    assert all("did not answer within 10 s" in str(call.exception()) for call in calls)
    late = time.start(run(answer))
    time.advance(15)
    assert isinstance(late.exception(), OperationalError)
    assert time.time() - began < 30


def test_a_queue_before_the_threads_is_no_outage(time: Timeless) -> None:
    time.slow = True
    call = time.start(run(answer))  # no thread takes it up
    time.advance(10.5)
    assert "No database thread was free within 10 s" in str(call.exception())
    time.slow = False
    assert time.run(run(answer), within=0) == 42


def test_calls_that_waited_behind_mute_ones_do_not_open_the_gate(
    time: Timeless, caplog: pytest.LogCaptureFixture
) -> None:
    time.slow = True
    mute, *queued = [time.start(run(answer)) for _ in range(5)]
    time.look(0)
    time.advance(10.5)
    assert "did not answer" in str(mute.exception())
    assert all("No database thread was free" in str(call.exception()) for call in queued)
    assert "reaches the database again" not in caplog.text
    assert database._gate(time.loop).shut_since is not None
    time.slow = False
    time.advance(1)
    assert time.run(run(answer)) == 42


def test_an_outage_is_two_lines_in_the_log_however_many_wait(
    time: Timeless, caplog: pytest.LogCaptureFixture
) -> None:
    time.fail = AWAY
    for _ in range(20):
        time.start(run(answer))
    time.advance(30)
    time.fail = None
    time.run(run(answer))
    assert [each.getMessage() for each in caplog.records] == [
        "sse_polling does not reach the database; who needs it waits: away",
        "sse_polling reaches the database again, after 30.0 s",
    ]


def test_an_error_that_is_no_outage_passes_at_once_and_shuts_nothing(time: Timeless) -> None:
    time.fail = ProgrammingError("no such table")
    with pytest.raises(ProgrammingError):
        time.run(run(answer), within=0)
    time.fail = None
    assert time.run(run(answer), within=0) == 42


def test_a_caller_that_leaves_while_it_tries_does_not_keep_the_gate_shut(time: Timeless) -> None:
    time.fail = AWAY
    first = time.start(run(answer))
    time.slow = True
    time.advance(0.2)
    first.cancel()
    time.settle()
    time.slow, time.fail = False, None
    time.settle()
    assert time.run(run(answer), within=2) == 42


def test_each_loop_has_a_gate_of_its_own() -> None:
    async def mine() -> Gate:
        return database._gate(asyncio.get_running_loop())

    assert asyncio.run(mine()) is not asyncio.run(mine())
