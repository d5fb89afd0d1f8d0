"""The hub: one for each process and event loop, between the channel layer and all streams.

Invariants: a channel's readers are cursors on one shared tail; the layer only wakes; a tail grows
only by reading the database, one reading at a time for each channel.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress

from . import history
from .conf import Config, get_config
from .connections import registry
from .database import ERRORS, data_version, is_sqlite, run
from .history import ChannelState, Reading
from .layer import Wake
from .live import LiveChannel, Waiter
from .protocol.cursor import NOWHERE, same_tag
from .protocol.tail import Tail
from .subscription import Subscription
from .supervisor import supervise
from .trimmer import keep_trimmed

__all__ = ["Hub", "hubs", "poke"]

logger = logging.getLogger(__name__)

DATA_VERSION_SECONDS = 0.1
JUDGE_SECONDS = 0.1
LAYER_PAUSE_SECONDS = 5.0  # at most, between two tries to reach the layer


hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
os.register_at_fork(after_in_child=hubs.clear)  # their loops run in the parent


class Hub:
    """The tails of one event loop and their subscription. Use :meth:`current`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.bytes = 0
        self.subscription = Subscription(
            names=lambda: self._channels, on_wake=self.wake, on_live=self._catch_up
        )
        self._channels: OrderedDict[str, LiveChannel] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self._data_versions: dict[int, int] = {}
        self._empty_since: float | None = None
        self._catching_up = Waiter()
        self._compared = False
        self._unknown: OrderedDict[str, LiveChannel] = OrderedDict()  # those nobody published to

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
        self._tasks = [
            supervise("layer", self.subscription.listen, longest=LAYER_PAUSE_SECONDS),
            supervise("sync", self._sync),
            supervise("data-version", self._watch_data_version),
            supervise("trim", keep_trimmed),
        ]

    @property
    def state(self) -> str:
        """How this hub learns that a channel has grown.

        ``live``: the channel layer tells it. ``polling``: the layer is away, and comparing heads with
        the database does. ``down``: neither gets through; streams send what is in memory.
        """
        if self.subscription.hears:
            return "live"
        return "polling" if self._compared else "down"

    def stop(self) -> None:
        """End the hub's tasks; streams that are open fall asleep. For tests and idle loops."""
        hubs.pop(self.loop, None)
        for task in self._tasks:
            task.cancel()
        for live in self._channels.values():
            if live.worker is not None:
                live.worker.cancel()

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

    def wake(self, wake: Wake) -> None:
        """Learn that an event was committed. A wake may be lost, repeated, late: all harmless."""
        live = self._channels.get(wake.channel)
        if live is None:
            return
        known, tail = live.position, live.tail
        if tail is None or known.life != wake.life or not tail.covers(wake.sequence):
            self._request(live)
        elif not same_tag(tail.tag_at(wake.sequence), wake.tag):
            self._request(live)  # of another history: a restored backup that went on
        elif wake.ends_burst and known.sequence == wake.sequence:
            last = tail.last()
            if last is not None:
                last.ends_burst = True
                live.notify()

    # Reading the database: one worker for each channel, gone when there is nothing to do

    def _request(self, live: LiveChannel) -> asyncio.Future[None]:
        if live.pending is None:
            live.pending = self.loop.create_future()
            live.pending.add_done_callback(_retrieved)
        if live.worker is None or live.worker.done():
            live.worker = self.loop.create_task(
                self._read(live), name=f"sse_polling-read-{live.name}", context=contextvars.Context()
            )
        return live.pending

    async def _read(self, live: LiveChannel) -> None:
        done: asyncio.Future[None] | None = None
        try:
            while live.pending is not None:
                done, live.pending = live.pending, None
                try:
                    await self._read_once(live)
                except Exception as error:
                    if not isinstance(error, ERRORS):
                        logger.exception("sse_polling could not read channel %s", live.name)
                    if not done.done():
                        done.set_exception(error)
                else:
                    if not done.done():
                        done.set_result(None)
        finally:
            for future in (done, live.pending):
                if future is not None and not future.done():
                    future.cancel()
            live.pending = None

    async def _read_once(self, live: LiveChannel) -> None:
        config = get_config()
        if live.name not in self.subscription.joined and self.subscription.hears:
            # Register first, then look: an event between the two wakes us again.
            await self.subscription.join(live.name)
        known = live.position if live.state is not None else None
        limits = config.tail
        reading = await run(
            history.look, live.name, known, max_events=limits.max_events, max_bytes=limits.max_bytes
        )
        self._apply(live, reading, config)

    def _apply(self, live: LiveChannel, reading: Reading, config: Config) -> None:
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

    def _catch_up(self) -> None:
        """Notice what grew while nobody told: with one comparison, not with a reading for each channel."""
        for live in self._channels.values():
            # A reading that is on its way began before the channel was joined.
            if live.tail is None or live.is_read or live.name not in self.subscription.joined:
                self._request(live)
        self._catching_up.set()

    # Comparing heads

    async def _sync(self) -> None:
        while True:
            await self._catching_up.wait(get_config().sync_seconds)
            self._catching_up.clear()
            registry.reap()
            try:
                await self.compare()
            except ERRORS:
                self._compared = False
            else:
                self._compared = True
            self._tidy()
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
            if not self.subscription.in_memory or not is_sqlite():
                continue
            if not any(live.waiters for live in self._channels.values()):
                continue
            with suppress(*ERRORS):
                thread, version = await run(data_version)
                # A connection's first version counts too: what was written before it, nobody told.
                if self._data_versions.get(thread) != version:
                    await self.compare()
                    self._data_versions[thread] = version

    def _tidy(self) -> None:
        """Let go of channels that nobody has read for a while."""
        limits = get_config().tail
        now = self.loop.time()
        free = [live for live in self._channels.values() if not live.waiters and not live.is_read]
        for live in free:
            if now - live.used > limits.idle_seconds:
                self._forget(live)

    def _forget(self, live: LiveChannel) -> None:
        if live.waiters or live.is_read or self._channels.get(live.name) is not live:
            return
        del self._channels[live.name]
        self._unknown.pop(live.name, None)
        if live.tail is not None:
            self.bytes -= live.tail.bytes
        self.subscription.part(live.name)

    def _unused(self) -> bool:
        return self._idle_for() > get_config().tail.idle_seconds

    def _idle_for(self) -> float:
        if self._channels:
            self._empty_since = None
            return 0
        if self._empty_since is None:
            self._empty_since = self.loop.time()
        return self.loop.time() - self._empty_since


def _retrieved(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _wishes(state: ChannelState | None) -> tuple[object, ...]:
    return () if state is None else (state.preset, state.max_events, state.max_age_seconds)


def poke(wakes: Sequence[Wake]) -> None:
    """Wake this process's own hubs, from any thread."""
    for loop, hub in list(hubs.items()):
        with suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(_wake_all, hub, wakes)


def _wake_all(hub: Hub, wakes: Sequence[Wake]) -> None:
    for wake in wakes:
        hub.wake(wake)
