"""A channel as one hub knows it, and what a stream waits on."""

from __future__ import annotations

import asyncio

from .conf import Config, Effective
from .history import ChannelState
from .pages import Pages
from .protocol.cursor import NOWHERE, Position
from .protocol.tail import Tail
from .turns import Turns

__all__ = ["LiveChannel", "Waiter"]


class Waiter:
    """Something a stream waits on: set by any of its channels, or by the wish that it leave.

    Its timer outlives a wait: the next one is mostly for later, and the timer then goes on when it rings.
    """

    __slots__ = ("_due", "_future", "_set", "_timer")

    def __init__(self) -> None:
        self._set = False
        self._future: asyncio.Future[None] | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

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
        self._due = loop.time() + seconds
        if self._timer is None or self._timer.when() > self._due:
            self._wind(loop)
        self._future = loop.create_future()
        try:
            await self._future
        finally:
            self._future = None

    def close(self) -> None:
        """Drop the timer, at the end of the last wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close()
        self._timer = loop.call_at(self._due, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._future is None or self._future.done():
            return
        if loop.time() < self._due:
            self._wind(loop)
        else:
            self._future.set_result(None)


class LiveChannel:
    """A channel as this hub knows it. ``state`` is None while nobody has published to it."""

    __slots__ = (
        "_effective",
        "_turns",
        "judged",
        "name",
        "pages",
        "pending",
        "state",
        "tail",
        "used",
        "waiters",
        "worker",
    )

    def __init__(self, name: str, now: float, turns: Turns) -> None:
        self.name = name
        self._turns = turns
        self.state: ChannelState | None = None
        self.tail: Tail | None = None
        self._effective: tuple[object, object, Effective] | None = None
        self.waiters: set[Waiter] = set()
        self.used = now
        self.judged = 0.0
        self.pending: asyncio.Future[None] | None = None
        self.worker: asyncio.Task[None] | None = None
        self.pages = Pages()

    @property
    def head(self) -> int:
        """The sequence of the newest event that this hub knows, 0 without one."""
        return self.tail.head if self.tail is not None else 0

    @property
    def position(self) -> Position:
        """Where a reader stands who has seen everything that this hub knows."""
        if self.state is None or self.tail is None:
            return NOWHERE
        return Position(self.state.life, self.tail.head, self.tail.head_tag)

    def effective(self, config: Config) -> Effective:
        """Return what holds for the channel, its row's wishes included, under *config*."""
        known = self._effective
        if known is None or known[0] is not config or known[1] is not self.state:
            found = self.state.effective(config) if self.state is not None else config.effective(self.name)
            self._effective = known = (config, self.state, found)
        return known[2]

    @property
    def is_read(self) -> bool:
        """True while a reading of the database is on its way, or wanted."""
        return self.pending is not None or (self.worker is not None and not self.worker.done())

    def notify(self) -> None:
        """Wake all who wait, each when it is its turn."""
        self._turns.queue(self.name, self.waiters)

    def go_on(self, waiter: Waiter) -> None:
        """Wake one who has sent a chunk and has more to send, when it is its turn again."""
        self._turns.again(self.name, waiter)
