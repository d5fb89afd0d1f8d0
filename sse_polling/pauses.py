"""How long garbage collections stop this process, and with it every stream it holds.

A full collection walks all objects there are; with some thousand streams and a site's own caches that is
a noticeable time, in which nobody is sent anything.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

__all__ = ["NOTICED_SECONDS", "PauseFigures", "Pauses", "unwatch", "watch", "watched"]

logger = logging.getLogger(__name__)

NOTICED_SECONDS = 0.1
QUIET_SECONDS = 60.0  # between two warnings
RECENT_SECONDS = 60
GENERATIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseFigures:
    """What collections have cost since the first stream. *collections* is their number by generation."""

    collections: tuple[int, ...]
    total_seconds: float
    longest_seconds: float
    longest_recent_seconds: float
    """Of the last minute, to the second."""


class Pauses:
    """The lengths of collections, in bounded memory. *clock* is a monotonic one's seconds."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._began: float | None = None
        self._collections = [0] * GENERATIONS
        self._total = 0.0
        self._longest = 0.0
        # The longest of each of the last seconds, in a ring, with the second that it is of.
        self._recent = [(-RECENT_SECONDS, 0.0)] * RECENT_SECONDS
        self._told: float | None = None

    def begin(self) -> None:
        self._began = self._clock()

    def end(self, generation: int) -> float | None:
        """Count a collection; return its length if it is to be told: at most one a minute is."""
        if self._began is None:
            return None  # it had begun before anyone listened
        now = self._clock()
        pause, self._began = now - self._began, None
        self._collections[min(generation, GENERATIONS - 1)] += 1
        self._total += pause
        self._longest = max(self._longest, pause)
        second = int(now)
        slot = second % RECENT_SECONDS
        of, longest = self._recent[slot]
        if of != second or pause > longest:
            self._recent[slot] = (second, pause)
        if pause <= NOTICED_SECONDS or (self._told is not None and now < self._told + QUIET_SECONDS):
            return None
        self._told = now
        return pause

    def figures(self) -> PauseFigures:
        oldest = int(self._clock()) - RECENT_SECONDS
        return PauseFigures(
            collections=tuple(self._collections),
            total_seconds=self._total,
            longest_seconds=self._longest,
            longest_recent_seconds=max((pause for of, pause in self._recent if of > oldest), default=0.0),
        )


watched = Pauses()
_lock = threading.Lock()
_loops: dict[asyncio.AbstractEventLoop, Callable[[], int]] = {}


def watch(loop: asyncio.AbstractEventLoop, streams: Callable[[], int]) -> None:
    """Listen to collections until :func:`unwatch`; *streams* counts the open ones, for the warning."""
    with _lock:
        for closed in [each for each in _loops if each.is_closed()]:
            del _loops[closed]
        _loops[loop] = streams
        if _listen not in gc.callbacks:
            gc.callbacks.append(_listen)


def unwatch(loop: asyncio.AbstractEventLoop) -> None:
    """Stop listening for *loop*; nobody listens after the last. Idempotent."""
    with _lock:
        _loops.pop(loop, None)
        if not _loops and _listen in gc.callbacks:
            gc.callbacks.remove(_listen)


def _listen(phase: str, info: dict[str, Any]) -> None:
    """Note a collection. It may come in the middle of anything, of a log record too: nothing waits here."""
    if phase == "start":
        watched.begin()
        return
    generation = info["generation"]
    pause = watched.end(generation)
    if pause is None:
        return
    for loop, streams in list(_loops.items()):
        with suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(_tell, pause, generation, streams)
            return


def _tell(pause: float, generation: int, streams: Callable[[], int]) -> None:
    logger.warning(
        "sse_polling: a garbage collection of generation %s stopped this process for %.2f s, with %s open "
        "streams",
        generation,
        pause,
        streams(),
    )


def _forget() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be held
    _lock = threading.Lock()
    for loop in list(_loops):
        unwatch(loop)


os.register_at_fork(after_in_child=_forget)  # the loops run in the parent
