"""Stored events as readers behind the tail are sent them: one reading for all who wait for it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from . import history
from .database import run
from .history import ChannelState
from .protocol.tail import Entry

__all__ = ["Pages"]

FRESH_SECONDS = 0.5  # a page that others keep alive is not used for longer: a backup may have been restored


@dataclass(frozen=True, slots=True)
class _Page:
    """What was stored from *begin* on when it was asked for, of one life: the channel's reading *number*."""

    number: int
    life: str
    begin: int
    read: float
    entries: Sequence[Entry]

    def after(self, life: str, sequence: int, *, now: float) -> Sequence[Entry] | None:
        """Return the entries from *sequence* on as a reading of its own would; None if it must be made."""
        if life != self.life or now > self.read + FRESH_SECONDS:
            return None
        if sequence == self.begin:
            return self.entries
        index = bisect_left(self.entries, sequence, key=lambda entry: entry.event.sequence)
        # Only from an event that is here: what was trimmed before it is not known otherwise.
        if index + 1 < len(self.entries) and self.entries[index].event.sequence == sequence:
            return self.entries[index:]
        return None


class Pages:
    """The readings of one channel: one at a time, each kept only while somebody waits for his.

    A crowd that comes back far behind would ask the database once for each; those who stand at the same
    place, or a little further on, take what the first of them was given.
    """

    __slots__ = ("_begun", "_lock", "_page", "_waiting")

    def __init__(self) -> None:
        self._begun = 0
        self._lock = asyncio.Lock()
        self._page: _Page | None = None
        self._waiting = 0

    async def read(
        self, state: ChannelState, sequence: int, *, limit: int, newer: bool, among: asyncio.Semaphore
    ) -> Sequence[Entry]:
        """Return the stored events from *sequence* on, itself included: about *limit*, one at least.

        *newer*: only of a reading that begins after this call, others' or its own; an older one lacks what
        was committed since. *among* bounds the readings of all channels. Database errors pass.
        """
        begun = self._begun
        self._waiting += 1
        try:
            async with self._lock:
                now = asyncio.get_running_loop().time()
                found, page = None, self._page
                if page is not None and (page.number > begun or not newer):
                    found = page.after(state.life, sequence, now=now)
                if found is None:
                    async with among:
                        self._begun = number = self._begun + 1
                        rows = await run(history.replay, state, sequence, limit=limit)
                    found = [Entry.of(row) for row in rows]
                    self._page = _Page(number, state.life, sequence, now, found)
                return found
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._page = None
