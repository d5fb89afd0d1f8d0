"""The hub: one for each process and event loop, between the channel layer and all streams.

Invariants: a channel's readers are cursors on one shared tail; the layer only wakes; a tail grows
only by reading the database, one reading at a time for each channel.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from . import history, pauses
from .comparing import Comparison
from .conf import get_config
from .connections import registry
from .database import ERRORS, run
from .layer import Wake
from .live import LiveChannel, Waiter
from .protocol.cursor import same_tag
from .subscription import Subscription
from .supervisor import supervise
from .tails import Tails
from .trimmer import keep_trimmed

__all__ = ["Hub", "hubs", "on_fleet", "poke"]

logger = logging.getLogger(__name__)

JUDGE_SECONDS = 0.1
LAYER_PAUSE_SECONDS = 5.0  # at most, between two tries to reach the layer


hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
os.register_at_fork(after_in_child=hubs.clear)  # their loops run in the parent


class Hub:
    """The tails of one event loop and their subscription. Use :meth:`current`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.subscription = Subscription(
            names=lambda: self.tails.names, on_wake=self.wake, on_live=self._catch_up, on_fleet=_heard
        )
        self.tails = Tails(on_forget=self.subscription.part)
        self.comparison = Comparison(
            self.tails, on_change=self._request, in_memory=lambda: self.subscription.in_memory
        )
        self.replays = asyncio.Semaphore(max(1, get_config().database_threads - 1))
        self._tasks: list[asyncio.Task[None]] = []

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
        pauses.watch(self.loop, registry.__len__)
        self._tasks = [
            supervise("layer", self.subscription.listen, longest=LAYER_PAUSE_SECONDS),
            supervise("sync", self._sync),
            supervise("data-version", self.comparison.watch_data_version),
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
        return "polling" if self.comparison.works else "down"

    def stop(self) -> None:
        """End the hub's tasks; streams that are open fall asleep. For tests and idle loops."""
        hubs.pop(self.loop, None)
        pauses.unwatch(self.loop)
        for task in self._tasks:
            task.cancel()
        for live in self.tails:
            if live.worker is not None:
                live.worker.cancel()

    # Readers

    async def open(self, names: Iterable[str], waiter: Waiter | None = None) -> list[LiveChannel]:
        """Return the channels, each loaded: one bounded read however many wait for it.

        *waiter* is attached to each first, so that none is forgotten or grows unnoticed meanwhile.
        """
        now, limits = self.loop.time(), get_config().tail
        found = []
        for name in names:
            live = self.tails.use(name, now=now, limits=limits)
            if waiter is not None:
                live.waiters.add(waiter)
            found.append(live)
        cold = [live for live in found if live.tail is None]
        if cold:
            await asyncio.gather(*(self.refresh(live) for live in cold))
        return found

    def known(self, name: str) -> LiveChannel | None:
        """Return the channel if this hub has it, loaded or not."""
        return self.tails.get(name)

    def leave(self, names: Iterable[str], waiter: Waiter) -> None:
        """Detach *waiter* from the channels it was opened with. Idempotent, from any thread."""
        for name in names:
            live = self.tails.get(name)
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
        live = self.tails.get(wake.channel)
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
        limits = get_config().tail
        if live.name not in self.subscription.joined and self.subscription.hears:
            # Register first, then look: an event between the two wakes us again.
            await self.subscription.join(live.name)
        known = live.position if live.state is not None else None
        reading = await run(
            history.look, live.name, known, max_events=limits.max_events, max_bytes=limits.max_bytes
        )
        self.tails.apply(live, reading, limits)

    # Side tasks

    def _catch_up(self) -> None:
        """Notice what grew while nobody told: with one comparison, not with a reading for each channel."""
        for live in self.tails:
            # A reading that is on its way began before the channel was joined.
            if live.tail is None or live.is_read or live.name not in self.subscription.joined:
                self._request(live)
        self.comparison.want()

    async def _sync(self) -> None:
        while True:
            await self.comparison.due(get_config().sync_seconds)
            registry.reap()
            await self.comparison.attempt()
            now, limits = self.loop.time(), get_config().tail
            self.tails.tidy(now=now, limits=limits)
            if self.tails.empty_for(now) > limits.idle_seconds:
                self.stop()


on_fleet: list[Callable[[dict[str, Any]], object]] = []
"""Told each message to all processes, in the loop of a hub that hears it."""


def _heard(message: dict[str, Any]) -> None:
    for each in on_fleet:
        each(message)


def _retrieved(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def poke(wakes: Sequence[Wake]) -> None:
    """Wake this process's own hubs, from any thread."""
    for loop, hub in list(hubs.items()):
        with suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(_wake_all, hub, wakes)


def _wake_all(hub: Hub, wakes: Sequence[Wake]) -> None:
    for wake in wakes:
        hub.wake(wake)
