from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from sse_polling.turns import LEAST, LONG_SECONDS, MOST, USUAL, Turns


class Reader:
    """Something to wake, that notes when it was."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def set(self) -> None:
        self.told.append(self.name)


@pytest.fixture
def told() -> list[str]:
    return []


def readers(channel: str, count: int, told: list[str]) -> list[Reader]:
    return [Reader(f"{channel}{number}", told) for number in range(count)]


async def test_a_few_are_woken_at_once(told: list[str]) -> None:
    Turns().queue("a", readers("a", 3, told))
    assert told == ["a0", "a1", "a2"]


async def test_a_crowd_is_woken_some_at_a_time_and_all_of_it(told: list[str]) -> None:
    Turns().queue("a", readers("a", 10 * MOST, told))
    seen = [len(told)]
    while seen[-1] < 10 * MOST:
        await asyncio.sleep(0)
        seen.append(len(told))
    assert seen[0] == USUAL
    assert all(after - before <= MOST for before, after in pairwise(seen))
    assert len(set(told)) == len(told)


async def test_another_channel_does_not_stand_behind_a_crowd(told: list[str]) -> None:
    turns = Turns()
    turns.queue("a", readers("a", 10 * MOST, told))
    before = len(told)
    turns.queue("b", readers("b", 3, told))
    await asyncio.sleep(0)
    assert {"b0", "b1", "b2"} <= set(told[before:])
    assert len(told) < 3 * MOST


async def test_who_stands_in_the_row_already_is_woken_once(told: list[str]) -> None:
    turns, crowd = Turns(), readers("a", 3 * MOST, told)
    turns.queue("a", crowd)
    turns.queue("a", crowd[-5:])
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(told) == sorted(each.name for each in crowd)


async def test_an_event_in_the_middle_of_waking_reaches_those_who_were_woken_already(
    told: list[str],
) -> None:
    turns, crowd = Turns(), readers("a", 2 * MOST, told)
    turns.queue("a", crowd)
    turns.queue("a", crowd)
    for _ in range(10):
        await asyncio.sleep(0)
    assert told.count("a0") == 2
    assert told.count(f"a{2 * MOST - 1}") == 1


async def test_events_without_end_keep_nobody_from_being_woken(told: list[str]) -> None:
    turns, crowd = Turns(), readers("a", 4 * MOST, told)
    for _ in range(8):
        turns.queue("a", crowd)
        await asyncio.sleep(0)
    assert set(told) == {each.name for each in crowd}


async def test_who_has_had_a_turn_gets_the_next_one_after_the_loop_had_its_own(told: list[str]) -> None:
    turns = Turns()
    (one,) = readers("a", 1, told)
    turns.again("a", one)
    assert told == []
    await asyncio.sleep(0)
    assert told == ["a0"]


async def test_nothing_is_kept_when_all_are_woken(told: list[str]) -> None:
    turns = Turns()
    for name in "abc":
        turns.queue(name, readers(name, 2 * MOST, told))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(told), len(turns._rows)) == (6 * MOST, 0)


class FakeLoop:
    """Its clock goes on only while something runs: *step* seconds for each reader, *other* for each turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = self.other = 0.0
        self.ready: deque[Callable[[], None]] = deque()
        self.longest = 0.0  # that readers have kept it in one turn
        self.turns = 0

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self.ready.append(lambda: call(*args))

    def readers(self, count: int, told: list[float]) -> list[Slow]:
        return [Slow(self, told) for _ in range(count)]

    def turn(self) -> None:
        self.turns += 1
        before = self.now
        for _ in range(len(self.ready)):
            self.ready.popleft()()
        self.longest = max(self.longest, self.now - before)
        self.now += self.other

    def run(self) -> None:
        while self.ready:
            self.turn()


class Slow:
    """A reader that notes when it has run, and runs soon after it was woken, as a task does."""

    def __init__(self, loop: FakeLoop, told: list[float]) -> None:
        self.loop = loop
        self.told = told

    def set(self) -> None:
        self.loop.call_soon(self.run)

    def run(self) -> None:
        self.loop.now += self.loop.step
        self.told.append(self.loop.now)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    made = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_slow_streams_are_woken_fewer_at_a_time_and_fast_ones_more(loop: FakeLoop) -> None:
    turns, times = Turns(), list[float]()
    loop.step = LONG_SECONDS / 2
    turns.queue("a", loop.readers(200, times))
    loop.run()
    assert (turns.width, len(times)) == (LEAST, 200)
    loop.step = 0
    turns.queue("a", loop.readers(1000, times))
    loop.run()
    assert (turns.width, len(times)) == (MOST, 1200)


@pytest.mark.parametrize("step", [0.00002, 0.0001, 0.001])
def test_a_crowd_keeps_the_loop_for_a_few_milliseconds_at_a_time(loop: FakeLoop, step: float) -> None:
    turns, times = Turns(), list[float]()
    loop.step = step
    turns.queue("a", loop.readers(USUAL, times))  # the first ones show how slow they are
    loop.run()
    for _ in range(4):
        turns.queue("a", loop.readers(USUAL, times))
        loop.run()
    loop.longest = 0
    turns.queue("a", loop.readers(2000, times))
    loop.run()
    assert loop.longest < 2 * LONG_SECONDS


@pytest.mark.parametrize("other", [0.006, 0.1])
@pytest.mark.parametrize("step", [0.000002, 0.0001])
def test_other_work_on_the_loop_makes_no_turn_of_streams_smaller(
    loop: FakeLoop, step: float, other: float
) -> None:
    counted = []
    for loop.other in (0, other):
        turns, times = Turns(), list[float]()
        loop.step, loop.turns = step, 0
        # In front of the streams and behind them: both is other work.
        loop.call_soon(lambda: setattr(loop, "now", loop.now + loop.other))
        turns.queue("a", loop.readers(2000, times))
        loop.call_soon(lambda: setattr(loop, "now", loop.now + loop.other))
        loop.run()
        assert len(times) == 2000
        counted.append((loop.turns, turns.width))
    assert counted[0] == counted[1]


def test_a_few_slow_streams_are_no_reason_to_wake_fewer(loop: FakeLoop) -> None:
    turns = Turns()
    loop.step = 10 * LONG_SECONDS
    for _ in range(5):
        turns.queue("a", loop.readers(1, []))
        loop.run()
    assert turns.width == USUAL


def test_who_goes_on_again_and_again_is_measured_too(loop: FakeLoop) -> None:
    """A few who have much to send never make a row that is longer than a turn."""
    turns = Turns()
    loop.step = LONG_SECONDS / USUAL * 4

    class Sends(Slow):
        def run(self) -> None:
            super().run()
            turns.again("a", self)

    turns.queue("a", [Sends(loop, []) for _ in range(USUAL)])
    for _ in range(20):
        loop.turn()
    loop.longest = 0
    for _ in range(20):
        loop.turn()
    assert loop.longest < 2 * LONG_SECONDS


def test_a_new_crowd_is_not_woken_as_fast_as_the_last_one(loop: FakeLoop) -> None:
    turns, times = Turns(), list[float]()
    turns.queue("a", loop.readers(2000, times))
    loop.run()
    assert turns.width == MOST
    times.clear()
    turns.queue("a", loop.readers(2000, times))
    loop.turn()
    assert len(times) == USUAL
