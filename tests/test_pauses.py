"""Garbage collections: how long they stop the process, told in figures and at most once a minute."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import warnings
from collections.abc import Iterator

import pytest

from sse_polling import pauses
from sse_polling.connections import registry
from sse_polling.hub import Hub
from sse_polling.pauses import Pauses, unwatch, watch


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Collector:
    """Collections of any length, without waiting for them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pauses = Pauses(self.clock)

    def collect(self, seconds: float, generation: int = 2) -> float | None:
        self.pauses.begin()
        self.clock.now += seconds
        return self.pauses.end(generation)


@pytest.fixture
def collector() -> Collector:
    return Collector()


def test_collections_are_counted_by_generation_and_length(collector: Collector) -> None:
    for seconds, generation in [(0.001, 0), (0.002, 0), (0.01, 1), (0.05, 2), (0.02, 2)]:
        collector.collect(seconds, generation)
    figures = collector.pauses.figures()
    assert figures.collections == (2, 1, 2)
    assert figures.total_seconds == pytest.approx(0.083)
    assert figures.longest_seconds == pytest.approx(0.05)
    assert figures.longest_recent_seconds == pytest.approx(0.05)


def test_the_longest_of_the_last_minute_is_forgotten_after_it(collector: Collector) -> None:
    assert collector.pauses.figures().longest_recent_seconds == 0
    collector.collect(0.05)
    collector.clock.now += 30
    collector.collect(0.03)
    assert collector.pauses.figures().longest_recent_seconds == pytest.approx(0.05)
    collector.clock.now += 31
    assert collector.pauses.figures().longest_recent_seconds == pytest.approx(0.03)
    collector.clock.now += 31
    assert collector.pauses.figures().longest_recent_seconds == 0
    assert collector.pauses.figures().longest_seconds == pytest.approx(0.05)


def test_a_slot_of_the_ring_is_of_one_second_only(collector: Collector) -> None:
    collector.collect(0.09)
    collector.clock.now += 60
    collector.collect(0.01)
    assert collector.pauses.figures().longest_recent_seconds == pytest.approx(0.01)
    assert len(collector.pauses._recent) == 60


def test_a_long_pause_is_told_at_most_once_a_minute(collector: Collector) -> None:
    assert collector.collect(0.09) is None
    assert collector.collect(0.2) == pytest.approx(0.2)
    collector.clock.now += 50
    assert collector.collect(5) is None
    collector.clock.now += 5
    assert collector.collect(0.3) == pytest.approx(0.3)


def test_a_collection_that_began_before_anyone_listened_is_left_out(collector: Collector) -> None:
    assert collector.pauses.end(2) is None
    assert collector.pauses.figures().collections == (0, 0, 0)


# On this process's own collector


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(pauses, "watched", Pauses(clock))
    pauses._forget()  # of hubs that other tests have left with their loops
    assert pauses._listen not in gc.callbacks
    yield clock
    assert pauses._listen not in gc.callbacks
    assert not pauses._loops


def slow(clock: Clock, seconds: float) -> None:
    """Collect as a process with very many objects does."""

    def grow(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            clock.now += seconds

    gc.callbacks.insert(0, grow)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(grow)


async def test_a_long_pause_is_logged_by_the_loop_with_the_open_streams(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    watch(asyncio.get_running_loop(), lambda: 7)
    slow(clock, 0.25)
    assert not caplog.records  # a collection may come in the middle of a log record
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "sse_polling.pauses")
    assert "generation 2 stopped this process for 0.25 s, with 7 open streams" in record.getMessage()
    assert pauses.watched.figures().longest_seconds == pytest.approx(0.25)
    unwatch(asyncio.get_running_loop())


async def test_a_closed_loop_neither_hears_of_pauses_nor_keeps_the_others_from_it(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.new_event_loop()
    watch(closed, lambda: 0)
    watch(asyncio.get_running_loop(), lambda: 7)
    closed.close()
    slow(clock, 0.25)
    await asyncio.sleep(0)
    assert len(caplog.records) == 1
    watch(asyncio.get_running_loop(), lambda: 7)
    assert list(pauses._loops) == [asyncio.get_running_loop()]
    unwatch(asyncio.get_running_loop())
    unwatch(asyncio.get_running_loop())


@pytest.mark.django_db(transaction=True)
async def test_a_process_listens_as_long_as_it_has_a_hub(clock: Clock) -> None:
    hub = Hub.current()
    assert gc.callbacks.count(pauses._listen) == 1
    assert pauses._loops[hub.loop]() == len(registry)
    other = threading.Thread(target=lambda: asyncio.run(_a_hub_for_a_moment()))
    other.start()
    other.join()
    assert gc.callbacks.count(pauses._listen) == 1
    hub.stop()
    hub.stop()


async def _a_hub_for_a_moment() -> None:
    Hub.current().stop()


def test_a_forked_child_does_not_wake_its_parents_loop(clock: Clock) -> None:
    loop = asyncio.new_event_loop()
    watch(loop, lambda: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests have left threads
        child = os.fork()
    if not child:
        os._exit(pauses._listen in gc.callbacks or bool(pauses._loops))
    assert os.waitpid(child, 0)[1] == 0
    unwatch(loop)
    loop.close()
