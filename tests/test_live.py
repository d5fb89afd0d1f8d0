from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from sse_polling.live import AT_ONCE, LiveChannel, Waiter
from tests.timeless import timeless


def channel(waiters: int) -> LiveChannel:
    live = LiveChannel("a", 0)
    live.waiters = {Waiter() for _ in range(waiters)}
    return live


def told(live: LiveChannel) -> int:
    return sum(waiter._set for waiter in live.waiters)


async def test_a_crowd_is_told_some_at_a_time_and_others_get_their_turn_between() -> None:
    live = channel(10 * AT_ONCE)
    live.notify()
    seen = [told(live)]
    while seen[-1] < len(live.waiters):
        await asyncio.sleep(0)
        seen.append(told(live))
    assert all(after - before <= AT_ONCE for before, after in pairwise(seen))
    assert len(seen) <= 11


async def test_an_event_in_the_middle_of_telling_reaches_those_who_were_told_already() -> None:
    live = channel(3 * AT_ONCE)
    live.notify()
    for waiter in live.waiters:
        waiter.clear()
    live.notify()
    for _ in range(10):
        await asyncio.sleep(0)
    assert told(live) == len(live.waiters)


async def test_a_reader_that_has_left_meanwhile_harms_nobody() -> None:
    live = channel(2 * AT_ONCE)
    live.notify()
    live.waiters.clear()
    await asyncio.sleep(0)
    assert not live._untold
    live.notify()


async def test_events_without_end_do_not_keep_anyone_from_being_told() -> None:
    live = channel(4 * AT_ONCE)
    for _ in range(8):
        live.notify()
        await asyncio.sleep(0)
    assert told(live) == len(live.waiters)


# The timer of a wait


def test_a_wait_ends_by_its_own_time_whatever_the_one_before_it_had_asked_for() -> None:
    with timeless() as time:
        waiter, ended = Waiter(), []

        async def wait(seconds: float) -> None:
            began = time.time()
            await waiter.wait(seconds)
            ended.append(time.time() - began)

        for seconds in (10, 30, 5):
            waiter.clear()
            time.start(wait(seconds))
            time.advance(1)
            waiter.set()
            time.settle()
        assert ended == [1, 1, 1]
        for seconds in (20, 3, 20):
            waiter.clear()
            time.start(wait(seconds))
            time.advance(30)
        assert ended[3:] == pytest.approx([20, 3, 20])


async def test_many_waits_cost_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    call_at = loop.call_at

    def counted(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        timers.append(call_at(*args, **kwargs))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", counted)
    waiter = Waiter()
    for _ in range(10):
        waiter.clear()
        loop.call_soon(waiter.set)
        await waiter.wait(60)
    assert len(timers) == 1
    waiter.close()
    assert timers[0].cancelled()
