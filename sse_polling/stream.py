"""THE loop: replay, follow the tail, end the burst. Every door sends what it yields."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from time import time

from .conf import Config
from .connections import SPEECHLESS, Connection
from .database import ERRORS
from .hub import Hub
from .lifecycle import Farewell, Node
from .live import LiveChannel, Waiter
from .measures import measures
from .presets import PRESETS
from .protocol.burst import Burst, BurstLimits, Cause
from .protocol.cursor import Cursor, Position, format_cursor
from .protocol.encoding import Encoder, ServerSentEvents
from .protocol.event import Gap
from .protocol.retry import RetryLimits, next_retry
from .protocol.tail import Entry
from .replay import at_end, at_hand, earliest, next_batch

__all__ = ["DATABASE_RETRY_MS", "Stream", "open_stream"]

logger = logging.getLogger(__name__)

CHUNK_BYTES = 65_536
DATABASE_RETRY_MS = 5_000


@dataclass(slots=True)
class _Reader:
    """Where the client stands on one channel of the stream."""

    live: LiveChannel
    position: Position


def _events_left(readers: list[_Reader]) -> int:
    """Return how many events of those that this process knows were not sent."""
    return sum(max(0, reader.live.head - reader.position.sequence) for reader in readers)


def _wake(loop: asyncio.AbstractEventLoop, waiter: Waiter) -> None:
    """Set *waiter*, of *loop*, from any thread. Raises ``RuntimeError`` when the loop is closed."""
    if asyncio._get_running_loop() is loop:
        waiter.set()
    else:
        loop.call_soon_threadsafe(waiter.set)


async def open_stream(
    hub: Hub,
    connection: Connection,
    cursor: Cursor,
    *,
    several: bool,
    finite: bool,
    encoder: Encoder | None = None,
    longest_wait: float | None = None,
    config: Config,
    node: Node,
    rng: Random,
    clock: Callable[[], float],
) -> Stream | None:
    """Return the stream for *cursor*, or None if it stands at the end of every channel (204).

    *several*: one cursor for several channels. *encoder*: an event stream's if None. *finite*: send what
    there is and do not wait.
    *longest_wait*: it is one answer, sent with the first event or after so many seconds at most. Database
    errors pass; nothing is held then.
    """
    waiter = Waiter()
    stream: Stream | None = None
    try:
        readers = []
        over = True
        for live in await hub.open(connection.channels, waiter):
            position = cursor.position(live.name)
            if position is None:
                position = await earliest(live) if cursor.earliest else live.position.from_now
            over = over and await at_end(hub, live, position)
            readers.append(_Reader(live, position))
        if not over:
            measures.reconnects += bool(cursor.text)
            stream = Stream(
                hub,
                connection,
                readers,
                waiter,
                several=several,
                finite=finite,
                encoder=encoder or ServerSentEvents(several=several, priming=config.priming == "data"),
                longest_wait=longest_wait,
                config=config,
                node=node,
                rng=rng,
                clock=clock,
            )
        return stream
    finally:
        if stream is None:
            hub.leave(connection.channels, waiter)


class Stream:
    """One open response. Iterate :meth:`run`; call :meth:`close` on every way out, as often as you like."""

    def __init__(
        self,
        hub: Hub,
        connection: Connection,
        readers: list[_Reader],
        waiter: Waiter,
        *,
        several: bool,
        finite: bool,
        encoder: Encoder,
        longest_wait: float | None,
        config: Config,
        node: Node,
        rng: Random,
        clock: Callable[[], float],
    ) -> None:
        self.connection = connection
        self.cause: Cause | None = None
        self.is_answer = longest_wait is not None
        self.is_last = False  # the chunk just yielded ends the response
        self.longest_retry_ms: int | None = None  # while the server keeps the socket open for the next poll
        self._hub = hub
        self._readers = readers
        self._several = several
        self._encoder = encoder
        self._config = config
        self._node = node
        self._rng = rng
        self._clock = clock
        self._waiter = waiter
        self._turn = rng.randrange(len(readers))  # bursts may be too small for every channel to come
        self._last: Entry | None = None
        self._overflow = False
        self._closed = False
        self._farewell: Farewell | None = None
        self._retry_ms = 0
        self._away = False
        self._failed = False
        effective = [reader.live.effective(config) for reader in readers]
        limits = BurstLimits.strictest(each.burst for each in effective)
        if finite or connection.passing:
            limits = replace(limits, linger_seconds=0, hold_seconds=0)
            if connection.passing and self.is_answer:
                # There is no room for it, and it has a socket until it is read.
                limits = replace(limits, max_bytes=min(limits.max_bytes, CHUNK_BYTES))
        elif longest_wait is not None:
            limits = replace(limits, linger_seconds=0, hold_seconds=min(limits.hold_seconds, longest_wait))
        self._retry = RetryLimits.strictest(each.retry for each in effective)
        # A poll that cannot wait reads the database: it comes no sooner than one that does not want to.
        least_ms = PRESETS["reclaim"].retry.base_ms
        self._least_ms = max(self._retry.base_ms, least_ms) if finite else 0
        self._burst = Burst(limits, now=connection.opened)
        connection.cursor = self.cursor
        connection.on_leave = partial(_wake, hub.loop, waiter)
        connection.behind = partial(_events_left, readers)

    @property
    def cursor(self) -> str:
        """The id that a client would send back now."""
        if self._several:
            return format_cursor((reader.live.name, reader.position) for reader in self._readers)
        return str(self._readers[0].position)

    @property
    def heartbeat(self) -> bytes:
        """The chunk that only says that nothing has happened."""
        return self._encoder.heartbeat

    @property
    def may_wait(self) -> bool:
        """True if there may be nothing to send at first."""
        return self._burst.limits.hold_seconds > 0 and not self._is_behind

    @property
    def is_due(self) -> bool:
        """True once the burst should be over, though a client that reads slowly may keep it at a chunk."""
        latest = self._burst.opened + self._burst.limits.max_seconds
        return self.connection.leaving is not None or self._clock() >= latest

    def close(self) -> None:
        """Give back everything the stream took. Idempotent, from any thread."""
        self.connection.on_leave = None
        self._hub.leave(self.connection.channels, self._waiter)
        self._node.registry.release(self.connection)
        if not self._closed:
            self._closed = True
            measures.age.observe(self._clock() - self._burst.opened)
            if self.connection.cut:
                self._farewell = None  # whoever cut it has counted that
            elif self.connection.asked and self._farewell is None:
                stalled = self.connection.leaving == Cause.STALLED
                self._farewell = Farewell.CUT if stalled else Farewell.CLOSED
            self._node.ended(
                self.cause or Cause.GONE,
                retry_ms=self._retry_ms,
                fresh=self._burst.events > 0,
                farewell=self._farewell,
            )

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Yield the burst, each chunk whole blocks or one comment line, and end when it is over."""
        # Under sync middleware the view was a task of its own, over by now: this one serves the stream.
        task = asyncio.current_task()
        self.connection.task = weakref.ref(task) if task is not None else None
        self._node.registry.take(self.connection)
        try:
            # What is at hand goes out in one piece: opening, events, closing.
            out = self._encoder.opening(retry_ms=self._next_retry(), identifier=self.cursor)
            beat = self._clock()
            is_first = True
            while True:
                self._waiter.clear()
                source = self._source() if is_first else ""
                is_first = False
                if source == "database" and out:
                    yield out
                    out = b""
                chunk, events = await self._next_chunk()
                now = self._clock()
                if chunk:
                    self._burst.sent(events=events, size=len(chunk), now=now)
                    self._count(events, len(chunk), source)
                    out += chunk
                self.cause = self._over(now, idle=not chunk or not self._is_behind)
                if self.cause is not None:
                    break
                if out:
                    yield out
                    out = b""
                    beat = now = self._clock()
                # After a chunk that left nothing, there is nothing to look for until the waiter is set.
                if chunk and self._is_behind:
                    self.cause = self._over(now, idle=False)  # writing may have taken long
                    if self.cause is not None:
                        break
                    await self._let_others_go()
                    continue
                await self._waiter.wait(
                    min(self._burst.deadline(), beat + self._config.heartbeat_seconds) - now
                )
                if self.connection.leaving is None and self._clock() >= beat + self._config.heartbeat_seconds:
                    yield self._encoder.heartbeat
                    beat = self._clock()
            if self.cause in SPEECHLESS:
                return
            yield out + self._finish()
            if self.connection.asked:
                await self._wait_for_ack()
        finally:
            self._waiter.close()
            self.close()

    async def _wait_for_ack(self) -> None:
        """Leave the client time to let go by itself; a stream is over without it as well."""
        connection = self.connection
        until = self._clock() + self._config.drain.ack_seconds
        while not connection.acked and connection.leaving not in SPEECHLESS:
            seconds = until - self._clock()
            if seconds <= 0 or connection.waited:
                self._farewell = Farewell.NOT_ACKED
                return
            self._waiter.clear()
            await self._waiter.wait(seconds)
        if connection.acked:
            self._farewell = Farewell.ACKED

    async def _let_others_go(self) -> None:
        """Wait for this stream's next turn, among all that have something to send."""
        self._waiter.clear()
        behind = next(each.live for each in self._readers if each.position.sequence < each.live.head)
        behind.go_on(self._waiter)
        await self._waiter.wait(self._config.heartbeat_seconds)

    def _over(self, now: float, *, idle: bool) -> Cause | None:
        """Return why the burst is over, if it is; the first reason in this order."""
        leaving = self.connection.leaving
        if leaving is not None:
            return Cause(leaving) if leaving in SPEECHLESS or leaving == Cause.BUDGET else Cause.DRAIN
        if self._burst.events and all(reader.position.at_end for reader in self._readers):
            return Cause.END
        if self._last is not None and self._last.ends_burst:
            return Cause.PUBLISHER
        if self._away:
            return Cause.DATABASE
        if self._failed:
            return Cause.FAILED
        if self._overflow:
            return Cause.BYTES
        return self._burst.full(now) or (self._burst.quiet(now) if idle else None)

    def _source(self) -> str:
        """Return where the next chunk comes from: ``tail``, or ``database`` which takes its time."""
        at_once = all(at_hand(reader.live, reader.position) for reader in self._readers)
        return "tail" if at_once else "database"

    def _finish(self) -> bytes:
        """Return the stream's last words, and note whether its client is waited for."""
        if self.cause is Cause.DRAIN:
            if self.connection.client is not None and not self.is_answer:
                self._node.registry.ask(self.connection)
            else:
                self._farewell = Farewell.NOT_ASKED
        self.is_last = not self.connection.asked
        return self._closing()

    def _closing(self) -> bytes:
        if self.cause in (Cause.DATABASE, Cause.FAILED):
            retry_ms = self._next_retry(at_least_ms=DATABASE_RETRY_MS)
        else:
            retry_ms = self._next_retry(behind=self._is_behind)
        return self._encoder.closing(
            retry_ms=retry_ms,
            identifier=self.cursor,
            ended=self.cause is Cause.END,
            drains=self.cause is Cause.DRAIN,
        )

    @property
    def _is_behind(self) -> bool:
        """True while this process knows of events that were not sent."""
        for reader in self._readers:  # noqa: SIM110 - asked for each event: a generator costs as much again
            if reader.position.sequence < reader.live.head:
                return True
        return False

    def _next_retry(self, *, behind: bool = False, at_least_ms: int = 0) -> int:
        if not behind:
            at_least_ms = max(at_least_ms, self._least_ms)
        steered_ms = self._node.wait_ms(fresh=self._burst.events > 0)
        self._retry_ms = next_retry(
            self._retry, self._rng, behind=behind, steered_ms=steered_ms, at_least_ms=at_least_ms
        )
        if self.longest_retry_ms is not None:
            latest = self.longest_retry_ms * (1 - self._retry.jitter * self._rng.random())
            self._retry_ms = min(self._retry_ms, round(latest))
        return self._retry_ms

    async def _next_chunk(self) -> tuple[bytes, int]:
        """Return the next blocks, of all channels in turn, and how many events they are."""
        parts: list[bytes] = []
        size = 0
        # Another channel begins each time, so that a busy one does not starve the others.
        self._turn = (self._turn + 1) % len(self._readers)
        for reader in self._readers[self._turn :] + self._readers[: self._turn]:
            room = min(self._burst.bytes_left, CHUNK_BYTES) - size
            left = self._burst.events_left - len(parts)
            if room <= 0 or left <= 0:
                break
            try:
                batch = await next_batch(
                    self._hub, reader.live, reader.position, max_events=left, max_bytes=room
                )
            except ERRORS:
                self._away = True  # whoever asked the database has logged it; the other channels go on
                continue
            except Exception:
                # The client comes back with its cursor; a server may leave it hanging for an error.
                logger.exception("sse_polling ends a burst of %s early", self.connection.channels)
                self._failed = True
                break
            for item in batch.items:
                before, reader.position = reader.position, item.after
                block = self._block(item)
                if len(block) > self._burst.bytes_left - size and (self._burst.events or parts):
                    reader.position = before  # it does not fit any more: the next burst begins with it
                    self._overflow = True
                    return b"".join(parts), len(parts)
                parts.append(block)
                size += len(block)
                if isinstance(item, Entry):
                    self._last = item
                    if item.ends_burst:
                        return b"".join(parts), len(parts)
            reader.position = batch.after
        return b"".join(parts), len(parts)

    def _block(self, item: Gap | Entry) -> bytes:
        """Return *item* as the client gets it, whose cursor is behind it already."""
        if isinstance(item, Gap):
            measures.gaps[item.reason] += 1
            return self._encoder.gap(item, self.cursor)
        return self._encoder.entry(item, self.cursor if self._several else "")

    def _count(self, events: int, size: int, source: str) -> None:
        connection = self.connection
        connection.events += events
        connection.bytes += size
        connection.cursor = self.cursor
        measures.delivered += events
        measures.bytes += size
        if source:
            measures.replays[source] += 1
            measures.first.observe(self._clock() - self._burst.opened)
        created = self._last.event.created if self._last is not None else None
        if created is not None:
            age = time() - created.timestamp()
            if age <= self._retry.max_ms / 1000:
                measures.latency.observe(max(0.0, age))
