"""Comparing heads with the database: what tells of events where no wake did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from . import history
from .database import ERRORS, data_version, is_sqlite, run
from .history import ChannelState
from .live import LiveChannel, Waiter
from .protocol.cursor import NOWHERE
from .tails import Tails

__all__ = ["Comparison"]

DATA_VERSION_SECONDS = 0.1


class Comparison:
    """Compares the heads of *tails* with the database's; *on_change* is told each channel that differs.

    *in_memory* tells whether the channel layer reaches this process alone. ``works`` is False while
    the database does not let it compare.
    """

    def __init__(
        self,
        tails: Tails,
        *,
        on_change: Callable[[LiveChannel], object],
        in_memory: Callable[[], bool],
    ) -> None:
        self.works = True
        self._tails = tails
        self._on_change = on_change
        self._in_memory = in_memory
        self._wanted = Waiter()
        self._data_versions: dict[int, int] = {}

    def want(self) -> None:
        """Let the next comparison be due now."""
        self._wanted.set()

    async def due(self, seconds: float) -> None:
        """Return when one is wanted, or after *seconds*."""
        await self._wanted.wait(seconds)
        self._wanted.clear()

    async def attempt(self) -> None:
        """Compare, and note in ``works`` whether the database answered."""
        try:
            await self.compare()
        except ERRORS:
            self.works = False
        else:
            self.works = True

    async def compare(self) -> None:
        """Compare every tail's head, and the operator's wishes. Database errors pass."""
        loaded = [live for live in self._tails if live.tail is not None]
        seen = {live.name: (live, live.position, live.state) for live in loaded}
        if not seen:
            return
        states = await run(history.states, list(seen))
        for name, (live, position, known) in seen.items():
            state = states.get(name)
            found = state.position if state is not None else NOWHERE
            if found != position or _wishes(state) != _wishes(known):
                self._on_change(live)

    async def watch_data_version(self) -> None:
        """Notice what another process wrote to the same SQLite file, where no layer tells it."""
        while True:
            await asyncio.sleep(DATA_VERSION_SECONDS)
            if not self._in_memory() or not is_sqlite():
                continue
            if not any(live.waiters for live in self._tails):
                continue
            with suppress(*ERRORS):
                thread, version = await run(data_version)
                # A connection's first version counts too: what was written before it, nobody told.
                if self._data_versions.get(thread) != version:
                    await self.compare()
                    self._data_versions[thread] = version


def _wishes(state: ChannelState | None) -> tuple[object, ...]:
    return () if state is None else (state.preset, state.max_events, state.max_age_seconds)
