"""Waking: tell every hub that a channel has grown, without ever hurting the publisher.

One thread and one event loop for each process send to the channel layer. What waits is at most one
wake for each channel; the newest wins. A wake may be lost: hubs compare heads with the database.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from . import layer
from .history import ChannelState
from .hub import poke
from .layer import Wake

__all__ = ["Sender", "look_again", "send", "sender", "wake"]

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
MAX_POSTS = 1_000
POSTS = 20  # between two looks at what wakes have come meanwhile: anybody may send acks
SEND_TIMEOUT = 5.0
FLUSH_SECONDS = 2.0


def wake(states: Sequence[ChannelState]) -> None:
    """Say that these channels have grown. Never raises, never blocks: it runs in ``on_commit``."""
    send([Wake(state.name, state.life, state.head, state.head_tag) for state in states])


def look_again(names: Iterable[str]) -> None:
    """Ask every hub to read these channels' rows: an operator has changed them, or they are gone."""
    send([Wake(name, "", 0) for name in names])  # no channel has the life "", so each hub reads


def send(wakes: Sequence[Wake]) -> None:
    """Hand *wakes* to this process's hubs and to the channel layer."""
    try:
        poke(wakes)
        sender.put(wakes)
    except Exception:
        logger.exception("sse_polling could not send a wake; readers will notice by comparing heads")


class Sender:
    """The process's own thread and loop: sends wakes, and runs the stream writers of sync code.

    ``missed`` counts the wakes of this process that no layer took. An outage is logged when it
    begins and when it is over.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as the child of a fork must: its parent's thread is not in it."""
        self._lock = threading.Lock()
        self._waiting: dict[str, Wake] = {}
        self._posts: deque[dict[str, Any]] = deque(maxlen=MAX_POSTS)  # the newest: each says it again
        self._loop: asyncio.AbstractEventLoop | None = None
        self._busy = False
        self._away_since: float | None = None
        self._missed_before = 0
        self.missed = 0

    def put(self, wakes: Sequence[Wake]) -> None:
        if layer.is_in_memory(layer.configured()):
            return  # it reaches this process alone, whose hubs have been poked
        with self._lock:
            for each in wakes:
                known = self._waiting.get(each.channel)
                if known is None and len(self._waiting) >= MAX_WAITING:
                    self.missed += 1
                # Two threads may come here in another order than they committed in.
                elif known is None or known.life != each.life or known.sequence <= each.sequence:
                    self._waiting[each.channel] = each
        loop = self.loop()
        loop.call_soon_threadsafe(self._begin)

    def post(self, message: dict[str, Any]) -> None:
        """Send *message* to all processes that share a channel layer, this one as well. Never blocks."""
        if not layer.is_in_memory(layer.configured()):
            self._posts.append({"type": layer.FLEET, **message})
            self.loop().call_soon_threadsafe(self._begin)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the background loop, started if there is none."""
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="sse_polling-wake", daemon=True
                )
                thread.start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def _begin(self) -> None:
        if not self._busy:
            self._busy = True
            self._task = asyncio.ensure_future(self._send_waiting())

    async def _send_waiting(self) -> None:
        try:
            while True:
                with self._lock:
                    batch, self._waiting = self._waiting, {}
                    posts = [self._posts.popleft() for _ in range(min(POSTS, len(self._posts)))]
                if not batch and not posts:
                    return
                if batch:
                    await self._send(list(batch.values()))
                for post in posts:
                    await self._post(post)
        finally:
            self._busy = False

    async def _post(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await layer.send(layer.configured(), layer.FLEET, message)
        except Exception as error:  # noqa: BLE001 - as below; what it says is in the database too
            logger.info("sse_polling could not tell the other processes: %s", layer.reason(error))

    async def _send(self, batch: list[Wake]) -> None:
        for index, each in enumerate(batch):
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await layer.send(layer.configured(), layer.group_name(each.channel), each.message())
            except Exception as error:  # noqa: BLE001 - each layer has errors of its own
                self._lose(len(batch) - index, error)
                return
        self._reached()

    def _lose(self, count: int, error: Exception) -> None:
        if self._away_since is None:
            self._away_since, self._missed_before = time.monotonic(), self.missed
            logger.warning(
                "sse_polling cannot reach the channel layer, wakes are missed: %s", layer.reason(error)
            )
        self.missed += count

    def _reached(self) -> None:
        if self._away_since is not None:
            logger.warning(
                "sse_polling reaches the channel layer again after %.1f s; %s wakes were missed",
                time.monotonic() - self._away_since,
                self.missed - self._missed_before,
            )
            self._away_since = None

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything is sent, at most *seconds*."""
        until = time.monotonic() + seconds
        while (self._waiting or self._posts or self._busy) and time.monotonic() < until:
            time.sleep(0.005)


sender = Sender()


os.register_at_fork(after_in_child=sender.reset)
atexit.register(sender.flush)
