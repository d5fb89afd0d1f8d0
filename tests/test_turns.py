from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from sse_polling.turns import LEAST, LONG_SECONDS, MOST, Turns


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


async def test_slow_streams_are_woken_fewer_at_a_time(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop whose clock goes on by so much in each of its turns."""
    calls: list[Any] = []
    loop = SimpleNamespace(now=0.0, time=lambda: loop.now, call_soon=calls.append)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    turns = Turns()
    turns.queue("a", readers("a", 1000, told))
    while calls and turns.width > LEAST:
        loop.now += 2 * LONG_SECONDS
        calls.pop()()
    assert turns.width == LEAST
    assert len(told) < 1000
    while calls:
        calls.pop()()  # in no time
    assert turns.width == MOST
    assert len(told) == 1000
