"""A simulated crowd on a simulated server, to see what the socket budget does to both.

No socket and no waiting: events on a heap. The server has one core and answers one request after
another; a request and an event that is sent to a held stream each cost processor time. A client comes,
is held as long as the budget says, is away as long as it was told, and comes again.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from sse_polling.protocol.budget import HELD_SECONDS, SocketBudget

__all__ = ["Crowd", "Sample", "quantiles"]

JITTER = 0.3
LONGEST_SECONDS = 30.0  # the longest burst of the preset `live`
SECOND_OF_EVENTS = 0.05  # the fan-out is charged in slices of so many seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """A second of the simulation. *sockets* is the mean, *most* the maximum, *busy* the core's share."""

    time: float
    sockets: float
    most: int
    polls: int
    refused: int
    busy: float
    readers: int
    wait: float


@dataclass(slots=True)
class Crowd:
    """Clients that follow the rules, but for *wait_of*: what a client makes of the wait it was told.

    *poll_seconds*, *hold_seconds* and *event_seconds*: the processor time of a request, what it costs more
    to hold it, and that of one event to one held client. *base*: the share of the core that goes elsewhere.
    *events*: how many events a client's channel has a second.
    """

    budget: SocketBudget
    rng: Random = field(default_factory=lambda: Random(1))
    poll_seconds: float = 0.0004
    hold_seconds: float = 0.0001
    event_seconds: float = 0.00004
    base: float = 0.0
    events: float = 1.0
    wait_of: Callable[[float], float] = lambda told: told
    now: float = 0.0
    size: int = 0  # clients wished for; those above it do not come back
    samples: list[Sample] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)  # (from, to)
    held: list[tuple[float, float]] = field(default_factory=list)
    _heap: list[tuple[float, int, str, int]] = field(default_factory=list)
    _open: dict[int, float] = field(default_factory=dict)  # stream: since when, the oldest first
    _sockets: int = 0
    _alive: int = 0
    _free: float = 0.0  # when the core has done what it was given
    _cpu: float = 0.0
    _number: int = 0
    _left: dict[int, float] = field(default_factory=dict)  # client: away since
    _ends: dict[int, float] = field(default_factory=dict)  # stream: when it will end

    def join(self, clients: int, *, within: float = 0.0) -> None:
        """Let new clients come, spread over *within* seconds."""
        self.size += clients
        for index in range(clients):
            self._push(self.now + within * index / clients, "come", self._next())

    def leave(self, clients: int) -> None:
        """Let clients vanish: those who are open hang up now, others do not come back."""
        self.size = max(0, self.size - clients)
        gone = self._alive - self.size
        for number in list(self._open)[: max(0, gone)]:
            self._end(number, comes_back=False)

    def run(self, seconds: float) -> Iterator[Sample]:
        """Go on for *seconds* and yield a sample of each."""
        for _ in range(round(seconds)):
            yield self._second()

    def go(self, seconds: float) -> list[Sample]:
        return list(self.run(seconds))

    @property
    def open_since(self) -> list[float]:
        """When each of the streams was opened that are open now."""
        return list(self._open.values())

    def _second(self) -> Sample:
        until, polls, refused, most = self.now + 1.0, 0, 0, self._sockets
        area, last, cpu = 0.0, self.now, self._cpu
        slices: deque[float] = deque(
            self.now + SECOND_OF_EVENTS * each for each in range(1, round(1 / SECOND_OF_EVENTS) + 1)
        )
        for each in slices:
            self._push(each, "events", 0)
        while self._heap and self._heap[0][0] <= until:
            at, _, what, number = heapq.heappop(self._heap)
            area += self._sockets * (at - last)
            self.now = last = at
            if what == "come":
                polls += 1
                self._come(number)
            elif what == "served":
                refused += self._served(number)
            elif what == "end" and self._ends.get(number) == at:
                self._end(number)
            elif what == "events":
                held = len(self._open) * self.events * self.event_seconds
                self._work((held + self.base) * SECOND_OF_EVENTS)
            most = max(most, self._sockets)
        area += self._sockets * (until - last)
        self.now = until
        sample = Sample(
            time=until,
            sockets=area,
            most=most,
            polls=polls,
            refused=refused,
            busy=self._cpu - cpu,
            readers=self.budget.readers,
            wait=self.budget.mean_wait,
        )
        self.samples.append(sample)
        return sample

    def _come(self, number: int) -> None:
        if number not in self._left:
            self._alive += 1
        self._sockets += 1
        self._push(self._work(self.poll_seconds), "served", number)

    def _served(self, number: int) -> int:
        """Admit the request or turn it away; return 1 for the latter."""
        since = self._left.pop(number, None)
        if since is not None:
            self.away.append((since, self.now))
        if not self.budget.admits(len(self._open)):
            self._sockets -= 1
            self._away(number, fresh=False)
            return 1
        self._open[number] = self.now
        self._observe()
        for _ in range(self.budget.excess(len(self._open))):
            oldest, since = next(iter(self._open.items()))
            if self.now - since < HELD_SECONDS:  # who has a place keeps it: this one passes
                self._end(number)
                return 0
            self._end(oldest)
        self._work(self.hold_seconds)
        self._ends[number] = end = self.now + LONGEST_SECONDS
        self._push(end, "end", number)
        return 0

    def _end(self, number: int, *, comes_back: bool = True) -> None:
        opened = self._open.pop(number, None)
        if opened is None:
            return
        self._ends.pop(number, None)
        self._sockets -= 1
        self.held.append((opened, self.now))
        self._observe()
        if comes_back:
            self._away(number, fresh=True)
        else:
            self._alive -= 1

    def _away(self, number: int, *, fresh: bool) -> None:
        told = self.budget.wait(fresh=fresh) * (1 + JITTER * (2 * self.rng.random() - 1))
        self.budget.sent_away(self.now, told, fresh=fresh)
        if self._alive > self.size:
            self._alive -= 1
            return
        self._left[number] = self.now
        self._push(self.now + self.wait_of(told), "come", number)

    def _observe(self) -> None:
        self.budget.observe(self.now, count=len(self._open))
        if self.budget.is_due(self.now):
            self.budget.learn(self.now, cpu=self._cpu)

    def _work(self, seconds: float) -> float:
        """Return when the core has done this as well."""
        self._free = max(self._free, self.now) + seconds
        self._cpu += seconds
        return self._free

    def _push(self, at: float, what: str, number: int) -> None:
        heapq.heappush(self._heap, (at, self._next(), what, number))

    def _next(self) -> int:
        self._number += 1
        return self._number


def quantiles(
    crowd: Crowd, shares: tuple[float, ...], *, since: float, rng: Random | None = None
) -> list[float]:
    """Return the latencies, in seconds, below which these shares of the events stay.

    Events come evenly over time: one that comes while its client is open is there at once, another when
    the client is back.
    """
    rng = rng or Random(2)
    away = [(max(begin, since), end) for begin, end in crowd.away if end > since]
    held = [(max(begin, since), end) for begin, end in crowd.held if end > since]
    held += [(max(begin, since), crowd.now) for begin in crowd.open_since]
    late = [(rng.random() * (end - begin), end - begin) for begin, end in away]
    late += [(0.0, end - begin) for begin, end in held]
    late.sort()
    whole = sum(weight for _, weight in late)
    found, passed, wanted = [], 0.0, list(shares)
    for latency, weight in late:
        passed += weight
        while wanted and passed >= wanted[0] * whole:
            found.append(latency)
            wanted.pop(0)
    return found
