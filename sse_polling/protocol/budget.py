"""The socket budget: how long streams stay open, and clients away, so that sockets stay under a number.

The budget is a row of places. While the crowd fits, streams are held as the `live` preset holds them. When
the places are taken, whoever comes takes that of the stream that has been open longest: it ends with its
burst, and its client is away for a while. To be held for a moment only costs more than it brings, so a
stream keeps its place for 20 s at least; who comes meanwhile is sent what there is, as by `reclaim`. So the
sockets stay at the target whatever the crowd does, and with N clients and T places a share of T / N is open
at any time, everyone in turn.

What is left to choose is the wait. It slides from `live`'s 0.25 s to the 2 s of `reclaim` as the share of
the crowd that fits goes down, and further where so many polls would use more than most of a core; how many
polls a second that is, is learned. The crowd is those who are open and those who were sent away and are
not due yet.
"""

from __future__ import annotations

import math

from .absence import Absence

__all__ = ["HELD_SECONDS", "MOST_SHARE", "SocketBudget"]

TARGET = 0.85  # of the budget: the places
MOST_SHARE = 1.25  # of the budget: above it a new stream is closed at once
HELD_SECONDS = 20.0  # a stream that has a place keeps it for so long: each change has its price
LIVE_WAIT, RECLAIM_WAIT = 0.25, 2.0
BUSY = 0.7  # of a core: more, and clients are to come less often
FIRST_RATE = 1000.0  # polls a second that are thought affordable before anything was measured
SLOWEST, FASTEST = 1.0, 1e6
STEP_SECONDS = 0.25
FRESH, STALE = 0.5, 1.0  # the weights of a wait after a burst with events, and without


class SocketBudget:
    """Keep the open sockets of one process under *budget*.

    Times are a monotonic clock's seconds, *cpu* the processor seconds that the process has used. Tell it each
    stream that comes and ends, with :meth:`observe`, each client sent away, with :meth:`sent_away`, and the
    processor time when it :meth:`is_due`, with :meth:`learn`. *longest_wait* bounds every wait, in seconds.
    """

    def __init__(self, budget: int, *, longest_wait: float = 60.0, absence: Absence | None = None) -> None:
        self.budget = budget
        self.longest_wait = longest_wait
        self.absence = absence if absence is not None else Absence()
        self.rate = FIRST_RATE  # polls a second that cost BUSY, as far as is known
        self._open = 0
        self._polls = 0
        self._stepped: tuple[float, float] | None = None  # when, and the processor seconds then
        self._weight = STALE  # the mean of those given

    @property
    def places(self) -> int:
        """How many streams may be open before one has to make room for another."""
        return max(1, int(TARGET * self.budget))

    @property
    def readers(self) -> int:
        """How many clients there are: open, or away and not due yet."""
        return self._open + self.absence.count

    @property
    def mean_wait(self) -> float:
        """How long a client is away, in seconds, over all."""
        beyond = self.readers - self.places
        if beyond <= 0:
            return min(LIVE_WAIT, self.longest_wait)
        share = self.places / self.readers
        slide = LIVE_WAIT + (RECLAIM_WAIT - LIVE_WAIT) * (1 - share)
        return min(max(slide, beyond / self.rate), self.longest_wait)

    def admits(self, count: int) -> bool:
        """Tell whether one more stream may stay while *count* are open; else it is closed at once."""
        return count < max(self.places + 1, int(MOST_SHARE * self.budget))

    def excess(self, count: int) -> int:
        """Return how many of *count* streams have to make room: those that were opened first."""
        return max(0, count - self.places)

    def observe(self, now: float, *, count: int) -> None:
        """Learn that *count* streams are open from *now* on."""
        self._polls += max(0, count - self._open)
        self._open = count
        self.absence.settle(now)

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to :meth:`learn`: every quarter of a second, since asking has its price."""
        return self._stepped is None or now - self._stepped[0] >= STEP_SECONDS

    def learn(self, now: float, *, cpu: float) -> None:
        """Correct the affordable rate by what has happened since the last time."""
        if self._stepped is not None and now > self._stepped[0]:
            since, cpu_then = self._stepped
            self._correct(now - since, busy=(cpu - cpu_then) / (now - since))
        self._stepped, self._polls = (now, cpu), 0

    def sent_away(self, now: float, wait_seconds: float, *, fresh: bool | None = None) -> None:
        """Learn that a client was told to come back after *wait_seconds*; *fresh* as it was asked for."""
        if fresh is not None:
            self._weight += 0.01 * ((FRESH if fresh else STALE) - self._weight)
        self.absence.add(now, wait_seconds)

    def wait(self, *, fresh: bool) -> float:
        """Return how long the client of a burst should be away; *fresh*: the burst had events.

        Who follows a channel on which things happen comes back sooner than who waits in vain. The mean
        over all stays :attr:`mean_wait`.
        """
        weight = FRESH if fresh else STALE
        return min(self.mean_wait * weight / self._weight, self.longest_wait)

    def _correct(self, seconds: float, *, busy: float) -> None:
        if busy <= BUSY and self._polls / seconds < self.rate / 2:
            return  # a rate that nobody reaches teaches nothing
        # What is changed now shows when the clients come back: a quicker hand would overshoot.
        pull = min(1.0, 0.5 * seconds / max(2.0, self.mean_wait))
        wish = min(1.0, max(-1.0, math.log(BUSY / min(max(busy, 0.01), 100.0))))
        self.rate = min(FASTEST, max(SLOWEST, self.rate * math.exp(wish * pull)))
