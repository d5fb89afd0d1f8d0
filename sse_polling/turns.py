"""Whose turn it is: streams are woken some at a time, the channels in turn.

A thousand streams that are woken at once keep the event loop for as long as they all take, and whatever
else has happened stands behind them: another channel's event, a new connection. So the loop is given back
after each few milliseconds of streams. Only their own time counts: where the loop has other work, fewer of
them in each turn would make that no shorter, and the crowd wait for it more often.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

__all__ = ["Turns"]

LEAST, USUAL, MOST = 4, 64, 256  # streams woken in one turn of the loop; the second for who comes first
LONG_SECONDS = 0.005  # a turn in which they took longer was too many
SHORT_SECONDS = 0.002


class Waits(Protocol):
    def set(self) -> None: ...


class Turns:
    """The streams of one loop that are to be woken. Each stands in its channel's row once at most."""

    def __init__(self) -> None:
        self.width = USUAL
        self._rows: OrderedDict[str, OrderedDict[Waits, None]] = OrderedDict()
        self._is_due = False  # the loop will give the next turn
        self._began = 0.0

    def queue(self, channel: str, waiters: Iterable[Waits]) -> None:
        """Let *waiters* be woken when it is their turn: now, where nobody else waits."""
        self._add(channel, waiters)
        if not self._is_due:
            # How fast the last crowd was tells little of the next one.
            self.width = min(self.width, USUAL)
            self._give()

    def again(self, channel: str, waiter: Waits) -> None:
        """Let *waiter*, which has just had its turn, be woken in a later turn of the loop."""
        self._add(channel, (waiter,))
        if not self._is_due:
            self._go_on()

    def _add(self, channel: str, waiters: Iterable[Waits]) -> None:
        row = self._rows.get(channel)
        if row is None:
            row = self._rows[channel] = OrderedDict()
        row.update(dict.fromkeys(waiters))

    def _give(self) -> None:
        self._is_due = False
        woken = self._next()
        is_measured = len(woken) >= LEAST
        # A loop runs what is called soon in order: between these two, those who are woken and nothing else.
        if is_measured:
            asyncio.get_running_loop().call_soon(self._begin)
        for waiter in woken:
            waiter.set()
        if is_measured:
            asyncio.get_running_loop().call_soon(self._end, len(woken))
        if self._rows:
            self._go_on()

    def _next(self) -> list[Waits]:
        """Take who is woken now from the rows, one of each channel after the other."""
        woken: list[Waits] = []
        while self._rows and len(woken) < self.width:
            channel, row = self._rows.popitem(last=False)
            if row:
                woken.append(row.popitem(last=False)[0])
            if row:
                self._rows[channel] = row
        return woken

    def _begin(self) -> None:
        self._began = asyncio.get_running_loop().time()

    def _end(self, count: int) -> None:
        took = asyncio.get_running_loop().time() - self._began
        if took > LONG_SECONDS:
            self.width = max(LEAST, self.width // 2)
        elif took < SHORT_SECONDS and count >= self.width:
            self.width = min(MOST, self.width * 2)

    def _go_on(self) -> None:
        self._is_due = True
        asyncio.get_running_loop().call_soon(self._give)
