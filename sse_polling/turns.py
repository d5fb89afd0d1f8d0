"""Whose turn it is: streams are woken some at a time, the channels in turn.

A thousand streams that are woken at once keep the event loop for as long as they all take, and whatever
else has happened stands behind them: another channel's event, a new connection. So the loop is given back
after each few milliseconds of streams.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

__all__ = ["Turns"]

LEAST, MOST = 4, 64  # streams woken in one turn of the loop
LONG_SECONDS = 0.005  # a turn that took longer was too many
SHORT_SECONDS = 0.002


class Waits(Protocol):
    def set(self) -> None: ...


class Turns:
    """The streams of one loop that are to be woken. Each stands in its channel's row once at most."""

    def __init__(self) -> None:
        self.width = MOST
        self._rows: OrderedDict[str, OrderedDict[Waits, None]] = OrderedDict()
        self._began: float | None = None  # the turn that is under way

    def queue(self, channel: str, waiters: Iterable[Waits]) -> None:
        """Let *waiters* be woken when it is their turn: now, where nobody else waits."""
        self._add(channel, waiters)
        if self._began is None:
            self._give()

    def again(self, channel: str, waiter: Waits) -> None:
        """Let *waiter*, which has just had its turn, be woken in a later turn of the loop."""
        self._add(channel, (waiter,))
        if self._began is None:
            self._go_on()

    def _add(self, channel: str, waiters: Iterable[Waits]) -> None:
        row = self._rows.get(channel)
        if row is None:
            row = self._rows[channel] = OrderedDict()
        row.update(dict.fromkeys(waiters))

    def _give(self) -> None:
        if self._began is not None:
            took = asyncio.get_running_loop().time() - self._began
            if took > LONG_SECONDS:
                self.width = max(LEAST, self.width // 2)
            elif took < SHORT_SECONDS:
                self.width = min(MOST, self.width * 2)
        self._began = None
        for _ in range(self.width):
            if not self._rows:
                return
            channel, row = self._rows.popitem(last=False)
            if row:
                row.popitem(last=False)[0].set()
            if row:
                self._rows[channel] = row
        if self._rows:
            self._go_on()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        loop.call_soon(self._give)
