"""A task that dies is noticed, logged and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sse_polling import supervisor
from sse_polling.supervisor import Outage, supervise


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.0)


async def runs(error: Callable[[], BaseException | None], times: int, *, longest: float = 30) -> None:
    """Supervise a task that ends as *error* says, so many times, and cancel it."""
    done = asyncio.Event()
    count = 0

    async def work() -> None:
        nonlocal count
        count += 1
        if count > times:
            done.set()
            await asyncio.Event().wait()
        raised = error()
        if raised is not None:
            raise raised

    task = supervise("test", work, longest=longest)
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_is_logged_with_its_traceback_each_time(caplog: pytest.LogCaptureFixture) -> None:
    await runs(lambda: RuntimeError("a bug"), 2)
    records = [each for each in caplog.records if "died" in each.message]
    assert len(records) == 2
    assert all(each.exc_info for each in records)


async def test_an_outage_is_no_error_and_who_raises_it_has_said_so(caplog: pytest.LogCaptureFixture) -> None:
    await runs(lambda: Outage("Redis is away"), 3)
    assert "Redis is away" not in caplog.text


async def test_pauses_grow_to_their_bound_and_start_anew_once_the_work_had_been_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def passes(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.5)
    monkeypatch.setattr(supervisor.random, "uniform", lambda low, high: high)
    monkeypatch.setattr(supervisor.asyncio, "sleep", passes)
    worked = iter([False, False, False, False, False, True, False])
    await runs(lambda: Outage("away", worked=next(worked)), 7, longest=5)
    assert pauses == [0.5, 1, 2, 4, 5, 0.5, 1]


async def test_a_task_that_simply_ends_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    await runs(lambda: None, 1)
    assert "it should not" in caplog.text


async def test_a_cancelled_task_ends_even_if_its_work_makes_another_error_of_it() -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("not a cancellation any more") from None

    task = supervise("test", work)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
