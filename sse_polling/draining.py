"""Draining: asking this process's streams to leave, one after the other, at a frame's edge."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from .conf import get_config
from .connections import Connection
from .lifecycle import Farewell, Node, node
from .protocol.drain import Course

__all__ = ["ORDER", "SIGNAL", "Draining", "Progress", "draining"]

logger = logging.getLogger(__name__)

DRAIN = "drain"
SIGNAL, ORDER = "signal", "order"
TICK_SECONDS = 0.02
LAST_SECONDS = 0.5  # before the time is up, nobody's ack is waited for any more
MOST_WALKS = 100  # channels and sockets that are being closed at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a drain has come. *why* is ``signal`` or ``order``; times in seconds."""

    why: str
    total: int
    left: int
    seconds: float
    estimate: float


class Draining:
    """This process's drain: :meth:`begin` to be left by every stream, :meth:`resume` to take some again.

    It runs in the loop that was :meth:`bound <bind>` first and is still open. Safe to call from any thread
    and from a signal's handler.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._walks: set[asyncio.Task[None]] = set()
        self._course: Course | None = None
        self._told_to_end = False
        self._within: float | None = None
        self._over = False
        self._when_over: list[Callable[[], object]] = []
        self.is_told: Callable[[], bool] = lambda: True  # whether the process's row says that it ends
        self.on_change: Callable[[], object] = lambda: None  # called, in the loop, when it begins and ends

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let drains run in *loop*, unless they have one."""
        if self._loop is None or self._loop.is_closed():
            self._loop, self._task = loop, None
            if self._node.draining and not self._over:
                self._soon(self._start)  # the loop that it was begun in has ended before it

    @property
    def why(self) -> str | None:
        """What it was begun by, ``signal`` or ``order``; None while the process serves."""
        if not self._node.draining:
            return None
        return SIGNAL if self._told_to_end else ORDER

    @property
    def is_over(self) -> bool:
        """True once nobody is left, or the time is up."""
        return self._over

    @property
    def progress(self) -> Progress | None:
        """How far it is, None while the process serves."""
        course, loop = self._course, self._loop
        if course is None or loop is None or not self._node.draining:
            return None
        left, now = self._node.sockets, loop.time()
        return Progress(
            why=self.why or ORDER,
            total=course.total,
            left=left,
            seconds=now - course.began,
            estimate=course.estimate(now, min(left, course.total)),
        )

    def begin(self, why: str, *, within: float | None = None) -> None:
        """Take no stream any more, and ask those that are open to leave. Idempotent.

        *within*: the seconds after which the server itself cuts, where that is known. A drain that was
        ordered becomes one by signal when the process is told to end: it does not resume.
        """
        drains = self._node.draining
        if why == SIGNAL:
            if drains and self._told_to_end:
                return
            self._within = within
            self._told_to_end = self._node.ends = True
        if drains:
            if why == SIGNAL:
                self._soon(self._hurry)
            return
        self._over = False
        self._node.draining = True
        try:
            if self._loop is None:
                raise RuntimeError("no stream was ever open")
            self._loop.call_soon_threadsafe(self._start)
        except RuntimeError:  # there is no loop, or it is closed, and no stream with it
            self._end()

    def resume(self) -> None:
        """Take streams again, unless the process was told to end. Those that were asked to leave still go."""
        if not self._node.draining or self._told_to_end:
            return
        # A signal may come between any two of these lines, of :meth:`begin` too: what it has set stays.
        self._over = False
        self._course = None
        self._node.draining = False
        if self._told_to_end:
            self.begin(SIGNAL, within=self._within)  # type: ignore[unreachable]  # a handler has set it
            return
        self._soon(self._stop)
        logger.info("sse_polling takes streams again")

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call *callback*, in the loop where the drain runs, once it is over; at once if it is."""
        self._when_over.append(callback)
        if self._over:
            self._tell()

    def close(self, connections: Iterable[Connection]) -> None:
        """Ask these streams to leave, as a drain does; a socket that stays is cut. In the bound loop.

        Raises ``RuntimeError`` when too many are being closed already.
        """
        if len(self._walks) >= MOST_WALKS:
            raise RuntimeError(f"{MOST_WALKS} channels and sockets are being closed already; try again soon.")
        chosen = list(connections)
        walk = asyncio.get_running_loop().create_task(
            self._walk(self._plan(len(chosen)), chosen),
            name="sse_polling-close",
            context=contextvars.Context(),
        )
        self._walks.add(walk)
        walk.add_done_callback(self._walked)

    def _soon(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(function)

    def _plan(self, total: int, *, within: float | None = None) -> Course:
        limits = get_config().drain
        seconds = limits.seconds
        if within is not None and within < seconds:
            seconds = within
            logger.warning(
                "sse_polling has %.1f s to drain, by the server's own limit, and not the %g s of DRAIN: see "
                "docs/drain.md",
                within,
                limits.seconds,
            )
        return Course(
            total,
            now=asyncio.get_running_loop().time(),
            seconds=seconds,
            ack_seconds=limits.ack_seconds,
            spread_seconds=limits.spread_seconds,
        )

    def _start(self) -> None:
        # Without a course the task is that of a drain before a resume: that one's time has run meanwhile.
        if self._node.draining and (self._task is None or self._task.done() or self._course is None):
            if self._task is not None:
                self._task.cancel()
            chosen = list(self._node.registry)  # the course is theirs, whoever goes before its first step
            self._course = self._plan(len(chosen), within=self._within)
            self._task = asyncio.get_running_loop().create_task(
                self._drain(self._course, chosen), name="sse_polling-drain", context=contextvars.Context()
            )
            self.on_change()

    def _hurry(self) -> None:
        """Let a drain that was ordered be over before the server cuts."""
        if self._course is not None and self._within is not None:
            self._course.end_within(self._within, now=asyncio.get_running_loop().time())
        self.on_change()

    def _stop(self) -> None:
        if self._task is not None and not self._node.draining:
            self._task.cancel()
            self._task = None
        self.on_change()

    async def _drain(self, course: Course, chosen: list[Connection]) -> None:
        logger.info("sse_polling drains %s streams (%s)", course.total, self.why)
        try:
            await self._walk(course, chosen, everybody=True)
            logger.info("sse_polling is drained: %s", self._told())
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("sse_polling could not drain")
        self._end()

    async def _walk(self, course: Course, chosen: list[Connection], *, everybody: bool = False) -> None:
        """Ask *chosen* to leave and wait until they have; *everybody*: all others, and flushes, as well."""
        clock = asyncio.get_running_loop().time
        waiting = sorted(chosen, key=_is_busy)
        asked = 0
        while True:
            now = clock()
            due = course.due(now)
            for connection in waiting[asked:due]:
                connection.leave(DRAIN)
            asked = due
            if asked == len(waiting):
                if everybody:  # who was admitted in the same moment
                    for connection in self._node.registry:
                        if connection.leaving is None:  # each once: it wakes the stream
                            connection.leave(DRAIN)
                if not (self._node.sockets if everybody else self._left(chosen)):
                    return
            left = [*self._node.registry, *self._node.flushing] if everybody else self._left(chosen)
            if course.is_late(now + LAST_SECONDS):
                for connection in left:
                    if connection.asked and not connection.waited:
                        connection.give_up()  # it has had its last words: its end is a clean one
            if course.is_late(now):
                self._cut(left)
                return
            await asyncio.sleep(TICK_SECONDS)

    def _left(self, chosen: list[Connection]) -> list[Connection]:
        return [each for each in chosen if self._node.registry.has(each)]

    def cut(self) -> None:
        """Cut all that is left, at once."""
        self._cut([*self._node.registry, *self._node.flushing])

    def _cut(self, left: list[Connection]) -> None:
        cut = 0
        for connection in left:
            # One that is flushed has been counted already: its stream is over.
            counts = self._node.registry.has(connection)
            if connection.abort():
                cut += 1
                if counts:
                    self._node.counts.farewells[Farewell.CUT] += 1
        if cut:
            logger.warning("sse_polling cuts %s sockets that took too long to leave", cut)
        if cut < len(left):
            logger.warning("sse_polling cannot reach %s sockets that took too long to leave", len(left) - cut)

    def _told(self) -> str:
        """Return in words how the streams went that this process has ever asked to leave."""
        return (
            ", ".join(f"{count} {how}" for how, count in self._node.counts.farewells.items()) or "none left"
        )

    def _end(self) -> None:
        self._over = True
        self.on_change()
        self._tell()

    def _tell(self) -> None:
        callbacks, self._when_over = self._when_over, []
        for callback in callbacks:
            callback()

    def _walked(self, walk: asyncio.Task[None]) -> None:
        self._walks.discard(walk)
        if not walk.cancelled() and (error := walk.exception()) is not None:
            logger.error("sse_polling could not close what it was asked to", exc_info=error)

    def reset(self) -> None:
        """Begin anew, as the child of a fork must."""
        self.__init__(self._node)  # type: ignore[misc]  # the same state that a new one has
        self._node.draining = self._node.ends = False


def _is_busy(connection: Connection) -> bool:
    return connection.behind is not None and connection.behind() > 0


draining = Draining(node)
os.register_at_fork(after_in_child=draining.reset)
