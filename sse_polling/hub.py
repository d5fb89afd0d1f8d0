"""The hub: one for each process and event loop, between the channel layer and all streams.

Invariants: a channel's readers are cursors on one shared tail; the layer only wakes; a tail grows
only by reading the database, one reading at a time for each channel.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers
from django.db import DatabaseError, InterfaceError, connections

from . import history
from .conf import Config, Effective, get_config
from .connections import registry
from .database import alias, run
from .history import ChannelState
from .protocol.cursor import NOWHERE, Position
from .protocol.event import StoredEvent
from .protocol.names import channel_hash
from .protocol.tail import Tail
from .supervisor import supervise

__all__ = ["DATABASE_ERRORS", "Hub", "LiveChannel", "Waiter", "group_name", "hubs", "poke"]

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (DatabaseError, InterfaceError)
DATA_VERSION_SECONDS = 0.1
REJOIN_SECONDS = 30.0
TRIM_SECONDS = 60.0
LAYER_TIMEOUT = 5.0
JUDGE_SECONDS = 0.1
WAKE = "sse_polling.wake"


def group_name(channel: str) -> str:
    """Return the layer's group for *channel*: ASCII and short, as every layer wants it."""
    return f"sse_polling.{channel_hash(channel)}"


class Waiter:
    """Something a stream waits on: set by any of its channels, or by the wish that it leave."""

    __slots__ = ("_future", "_set")

    def __init__(self) -> None:
        self._set = False
        self._future: asyncio.Future[None] | None = None

    def clear(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Return when set, or after *seconds*."""
        if self._set or seconds <= 0:
            return
        loop = asyncio.get_running_loop()
        self._future = future = loop.create_future()
        timer = loop.call_later(seconds, _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            self._future = None


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class LiveChannel:
    """A channel as this hub knows it. ``state`` is None while nobody has published to it."""

    __slots__ = (
        "_pending",
        "_worker",
        "effective",
        "joined",
        "judged",
        "name",
        "state",
        "tail",
        "used",
        "waiters",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.state: ChannelState | None = None
        self.tail: Tail | None = None
        self.effective: Effective | None = None
        self.waiters: set[Waiter] = set()
        self.used = now
        self.joined = False
        self.judged = 0.0
        self._pending: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def position(self) -> Position:
        """Where a reader stands who has seen everything that this hub knows."""
        if self.state is None or self.tail is None:
            return NOWHERE
        return Position(self.state.life, self.tail.head, self.tail.head_tag)

    @property
    def is_read(self) -> bool:
        """True while a reading of the database is on its way, or wanted."""
        return self._pending is not None or (self._worker is not None and not self._worker.done())

    def notify(self) -> None:
        for waiter in list(self.waiters):
            waiter.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What one look into the database found. *fresh*: the tail starts anew."""

    state: ChannelState | None
    events: Sequence[StoredEvent] = ()
    fresh: bool = False


hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
os.register_at_fork(after_in_child=hubs.clear)  # their loops run in the parent


class Hub:
    """The tails of one event loop and their subscription. Use :meth:`current`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.layer_state = "down"
        self.bytes = 0
        self._channels: OrderedDict[str, LiveChannel] = OrderedDict()
        self._layer: Any = None
        self._address: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._data_versions: dict[int, int] = {}
        self._empty_since: float | None = None
        self._unknown: OrderedDict[str, LiveChannel] = OrderedDict()  # those nobody published to
        self._parting: list[str] = []  # groups to leave at the next tidying

    @classmethod
    def current(cls) -> Hub:
        """Return the running loop's hub, made and started if there is none."""
        loop = asyncio.get_running_loop()
        hub = hubs.get(loop)
        if hub is None:
            for closed in [each for each in list(hubs) if each.is_closed()]:
                hubs.pop(closed, None)
            hub = hubs[loop] = cls(loop)
            hub._start()
        return hub

    def _start(self) -> None:
        work = {
            "layer": self._listen,
            "sync": self._sync,
            "data-version": self._watch_data_version,
            "trim": self._trim,
        }
        self._tasks = [supervise(name, each) for name, each in work.items()]

    def stop(self) -> None:
        """End the hub's tasks; streams that are open fall asleep. For tests and idle loops."""
        hubs.pop(self.loop, None)
        for task in self._tasks:
            task.cancel()
        for live in self._channels.values():
            if live._worker is not None:
                live._worker.cancel()

    # Readers

    async def open(self, names: Iterable[str], waiter: Waiter | None = None) -> list[LiveChannel]:
        """Return the channels, each loaded: one bounded read however many wait for it.

        *waiter* is attached to each first, so that none is forgotten or grows unnoticed meanwhile.
        """
        now = self.loop.time()
        found = []
        for name in names:
            live = self._channels.get(name)
            if live is None:
                live = self._channels[name] = LiveChannel(name, now)
                self._bound_unknown(get_config().tail.max_unknown_channels)
            self._channels.move_to_end(name)
            live.used = now
            if waiter is not None:
                live.waiters.add(waiter)
            found.append(live)
        cold = [live for live in found if live.tail is None]
        if cold:
            await asyncio.gather(*(self.refresh(live) for live in cold))
        return found

    def _bound_unknown(self, most: int) -> None:
        for live in list(self._unknown.values())[: max(0, len(self._unknown) - most)]:
            self._forget(live)

    def known(self, name: str) -> LiveChannel | None:
        """Return the channel if this hub has it, loaded or not."""
        return self._channels.get(name)

    def leave(self, names: Iterable[str], waiter: Waiter) -> None:
        """Detach *waiter* from the channels it was opened with. Idempotent, from any thread."""
        for name in names:
            live = self._channels.get(name)
            if live is not None:
                live.waiters.discard(waiter)
                live.used = self.loop.time()

    async def refresh(self, live: LiveChannel) -> None:
        """Wait for a reading of the channel that begins after this call. Database errors pass."""
        await asyncio.shield(self._request(live))

    async def judge(self, live: LiveChannel) -> None:
        """As :meth:`refresh`, for a cursor that fits nothing here: at most ten readings a second."""
        pause = live.judged + JUDGE_SECONDS - self.loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        live.judged = max(live.judged, self.loop.time())
        await self.refresh(live)

    # Wakes

    def wake(self, name: str, life: str, sequence: int, *, ends_burst: bool = False) -> None:
        """Learn that *sequence* of *name* was committed. Lost, repeated, late: all harmless."""
        live = self._channels.get(name)
        if live is None:
            return
        known = live.position
        if known.life != life or sequence > known.sequence or live.tail is None:
            self._request(live)
        elif ends_burst and known.sequence == sequence:
            last = live.tail.last()
            if last is not None:
                last.ends_burst = True
                live.notify()

    # Reading the database: one worker for each channel, gone when there is nothing to do

    def _request(self, live: LiveChannel) -> asyncio.Future[None]:
        if live._pending is None:
            live._pending = self.loop.create_future()
            live._pending.add_done_callback(_retrieved)
        if live._worker is None or live._worker.done():
            live._worker = self.loop.create_task(
                self._read(live), name=f"sse_polling-read-{live.name}", context=contextvars.Context()
            )
        return live._pending

    async def _read(self, live: LiveChannel) -> None:
        done: asyncio.Future[None] | None = None
        try:
            while live._pending is not None:
                done, live._pending = live._pending, None
                try:
                    await self._read_once(live)
                except Exception as error:
                    if not isinstance(error, DATABASE_ERRORS):
                        logger.exception("sse_polling could not read channel %s", live.name)
                    if not done.done():
                        done.set_exception(error)
                else:
                    if not done.done():
                        done.set_result(None)
        finally:
            for future in (done, live._pending):
                if future is not None and not future.done():
                    future.cancel()
            live._pending = None

    async def _read_once(self, live: LiveChannel) -> None:
        config = get_config()
        if not live.joined and self.layer_state == "live":
            await self._join(live)  # register first, then look: an event between the two wakes us again
        known = live.position if live.state is not None else None
        reading = await run(_look, live.name, known, config)
        self._apply(live, reading, config)

    def _apply(self, live: LiveChannel, reading: _Reading, config: Config) -> None:
        before = live.position
        limits = config.tail
        tail = live.tail
        self.bytes -= tail.bytes if tail is not None else 0
        state = reading.state
        if state is None:
            tail = Tail(max_events=limits.max_events, max_bytes=limits.max_bytes)
        elif tail is None or reading.fresh:
            base = state.head - len(reading.events)
            tail = Tail(
                max_events=limits.max_events,
                max_bytes=limits.max_bytes,
                base=base,
                base_tag=state.head_tag if base == state.head else "-",
            )
        for event in reading.events:
            tail.append(event)
        if state is None:
            self._unknown[live.name] = live
        else:
            self._unknown.pop(live.name, None)
        if live.state != state or live.effective is None:
            live.effective = state.effective(config) if state is not None else config.effective(live.name)
        live.state, live.tail = state, tail
        self.bytes += tail.bytes
        self._shrink(limits.total_bytes, keep=live)
        if live.position != before or reading.fresh:
            live.notify()

    def _shrink(self, total: int, *, keep: LiveChannel) -> None:
        """Empty the least recently used tails until all together fit; their readers use the database."""
        for live in self._channels.values():
            if self.bytes <= total:
                return
            if live.tail is not None and live is not keep:
                self.bytes -= live.tail.bytes
                live.tail.clear()
        if self.bytes > total and keep.tail is not None:
            self.bytes -= keep.tail.bytes
            keep.tail.clear()

    # The channel layer

    async def _listen(self) -> None:
        layer = channel_layers[get_config().channel_layer]
        try:
            self._layer, self._address = layer, await layer.new_channel()
            for live in list(self._channels.values()):
                await self._join(live)
            self.layer_state = "live"
            self._request_all()  # what was published while nobody listened
            while True:
                message = await layer.receive(self._address)
                try:
                    name, life, sequence = message["channel"], message["life"], int(message["sequence"])
                except (KeyError, TypeError, ValueError):
                    logger.warning("sse_polling got a message that is no wake: %.200r", message)
                    continue
                self.wake(name, life, sequence, ends_burst=bool(message.get("ends_burst")))
        finally:
            self.layer_state = "polling"
            self._address = None
            for live in self._channels.values():
                live.joined = False

    def _request_all(self) -> None:
        for live in self._channels.values():
            self._request(live)  # also those that load: that reading began before they were joined

    async def _join(self, live: LiveChannel) -> None:
        if self._address is None:
            return
        try:
            async with asyncio.timeout(LAYER_TIMEOUT):
                await self._layer.group_add(group_name(live.name), self._address)
            live.joined = True
        except Exception as error:  # noqa: BLE001 - each layer has errors of its own
            if self.layer_state == "live":
                self.layer_state = "polling"
                logger.warning("sse_polling cannot join a layer group, comparing heads: %r", error)

    async def _rejoin(self) -> None:
        """Join every group again: Redis forgets them when it restarts, the core layer after a day."""
        failed = False
        for live in list(self._channels.values()):
            live.joined = False
            await self._join(live)
            failed = failed or not live.joined
            if failed:
                break
        if self._address is not None and not failed:
            self.layer_state = "live"

    # Comparing heads

    async def _sync(self) -> None:
        rejoined = self.loop.time()
        while True:
            await asyncio.sleep(get_config().sync_seconds)
            registry.reap()
            with suppress(*DATABASE_ERRORS):
                await self.compare()
            await self._tidy()
            if self.loop.time() - rejoined >= REJOIN_SECONDS:
                await self._rejoin()
                rejoined = self.loop.time()
            if self._unused():
                self.stop()

    async def compare(self) -> None:
        """Compare every tail's head with the database's and read those that differ."""
        loaded = [live for live in self._channels.values() if live.tail is not None]
        seen = {live.name: (live, live.position, live.state) for live in loaded}
        if not seen:
            return
        states = await run(history.states, list(seen))
        for name, (live, position, known) in seen.items():
            state = states.get(name)
            found = state.position if state is not None else NOWHERE
            if found != position or _wishes(state) != _wishes(known):
                self._request(live)

    async def _watch_data_version(self) -> None:
        """Notice what another process wrote to the same SQLite file, where no layer tells it."""
        while True:
            await asyncio.sleep(DATA_VERSION_SECONDS)
            if not isinstance(self._layer, InMemoryChannelLayer) or connections[alias()].vendor != "sqlite":
                continue
            if not any(live.waiters for live in self._channels.values()):
                continue
            with suppress(*DATABASE_ERRORS):
                thread, version = await run(_data_version)
                # A connection's first version counts too: what was written before it, nobody told.
                if self._data_versions.get(thread) != version:
                    await self.compare()
                    self._data_versions[thread] = version

    async def _tidy(self) -> None:
        """Let go of channels that nobody has read for a while."""
        limits = get_config().tail
        now = self.loop.time()
        free = [live for live in self._channels.values() if not live.waiters and not live.is_read]
        for live in free:
            if now - live.used > limits.idle_seconds:
                self._forget(live)
        while self._parting:
            await self._part(self._parting.pop())

    def _forget(self, live: LiveChannel) -> None:
        if live.waiters or live.is_read or self._channels.get(live.name) is not live:
            return
        del self._channels[live.name]
        self._unknown.pop(live.name, None)
        if live.tail is not None:
            self.bytes -= live.tail.bytes
        if live.joined:
            self._parting.append(live.name)

    async def _part(self, name: str) -> None:
        if name in self._channels or self._address is None:
            return
        with suppress(Exception):  # the layer is away: it forgets the group by itself
            async with asyncio.timeout(LAYER_TIMEOUT):
                await self._layer.group_discard(group_name(name), self._address)

    def _unused(self) -> bool:
        return not self._channels and self._idle_for() > get_config().tail.idle_seconds

    def _idle_for(self) -> float:
        if self._channels:
            self._empty_since = None
            return 0
        if self._empty_since is None:
            self._empty_since = self.loop.time()
        return self.loop.time() - self._empty_since

    # Trimming

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            with suppress(*DATABASE_ERRORS):
                if not await run(history.lease, "trim", _PROCESS, 2 * TRIM_SECONDS):
                    continue
                steps = history.trim(get_config())
                while await run(next, steps, None) is not None:
                    await run(history.lease, "trim", _PROCESS, 2 * TRIM_SECONDS)


_PROCESS = f"{socket.gethostname()[:60]}:{os.getpid()}"


def _retrieved(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _wishes(state: ChannelState | None) -> tuple[object, ...]:
    return () if state is None else (state.preset, state.max_events, state.max_age_seconds)


def _data_version() -> tuple[int, int]:
    with connections[alias()].cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        return threading.get_ident(), cursor.fetchone()[0]


def _look(name: str, known: Position | None, config: Config) -> _Reading:
    """Read what is new after *known*; everything that does not follow it densely starts anew."""
    state = history.states([name]).get(name)
    if state is None:
        return _Reading(state=None)
    limits = config.tail
    if (
        known is not None
        and known.life == state.life
        and 0 <= state.head - known.sequence <= limits.max_events
    ):
        events = _follow(state, known)
        if events is not None:
            return _Reading(state=state, events=events)
    # One more than the tail holds: the event that it drops leaves its tag, which cursors are compared with.
    events = history.newest(state, max_events=limits.max_events + 1, max_bytes=limits.max_bytes)
    return _Reading(state=state, events=events, fresh=True)


def _follow(state: ChannelState, known: Position) -> list[StoredEvent] | None:
    if state.head == known.sequence:
        return [] if "-" in (known.tag, state.head_tag) or known.tag == state.head_tag else None
    followed: list[StoredEvent] = []
    at = known
    while at.sequence < state.head:
        rows = history.replay(state, at.sequence)
        if rows and rows[0].sequence == at.sequence:
            if "-" not in (at.tag, rows[0].tag) and rows[0].tag != at.tag:
                return None
            rows = rows[1:]
        if not rows or any(row.sequence != at.sequence + 1 + index for index, row in enumerate(rows)):
            return None
        followed += rows
        at = rows[-1].position
    return followed


def poke(wakes: Sequence[tuple[str, str, int, bool]]) -> None:
    """Wake this process's own hubs, from any thread: (channel, life, sequence, ends_burst) each."""
    for loop, hub in list(hubs.items()):
        with suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(_wake_all, hub, wakes)


def _wake_all(hub: Hub, wakes: Sequence[tuple[str, str, int, bool]]) -> None:
    for name, life, sequence, ends_burst in wakes:
        hub.wake(name, life, sequence, ends_burst=ends_burst)
