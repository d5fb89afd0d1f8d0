"""The timer of a wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sse_polling.live import Waiter
from tests.timeless import timeless


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
