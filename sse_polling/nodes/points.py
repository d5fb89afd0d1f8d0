"""The last minutes of a process: a point every five seconds, for plots and rates."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from ..lifecycle import Node
from ..measures import Measures
from ..protocol.histogram import DELAYS, quantile

__all__ = ["KEPT_POINTS", "POINT_SECONDS", "Point", "Points"]

POINT_SECONDS = 5.0
KEPT_POINTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """*seconds* of a process's life: *sockets* and *readers* at their end, all others within them.

    *polls*: streams opened. *reconnects*: those of them with a cursor. *latency*: counts for the bounds
    :data:`~sse_polling.protocol.histogram.DELAYS`.
    """

    seconds: float
    sockets: int
    readers: int
    polls: int
    reconnects: int
    refused: int
    gaps: int
    delivered: int
    bytes: int
    latency: tuple[int, ...]

    def packed(self) -> list[Any]:
        """Return it for JSON, without the empty buckets at the end."""
        counts = list(self.latency)
        while counts and not counts[-1]:
            counts.pop()
        numbers = (self.sockets, self.readers, self.polls, self.reconnects)
        others = (self.refused, self.gaps, self.delivered, self.bytes)
        return [round(self.seconds, 2), *numbers, *others, *counts]

    @classmethod
    def unpacked(cls, packed: Iterable[Any]) -> Self:
        """Return what :meth:`packed` has packed. Raises ``ValueError`` or ``TypeError`` if it has not."""
        seconds, sockets, readers, polls, reconnects, refused, gaps, delivered, size, *counts = packed
        latency = [*map(int, counts), *[0] * (len(DELAYS) + 1 - len(counts))]
        taken = float(seconds)
        if not 0 < taken < math.inf or len(latency) > len(DELAYS) + 1:
            raise ValueError(f"no point of {taken} s with {len(latency)} counts is made here")
        return cls(
            seconds=taken,
            sockets=int(sockets),
            readers=int(readers),
            polls=int(polls),
            reconnects=int(reconnects),
            refused=int(refused),
            gaps=int(gaps),
            delivered=int(delivered),
            bytes=int(size),
            latency=tuple(latency),
        )

    def delay(self, share: float) -> float | None:
        """Return the latency, in seconds, that the *share* (0 to 1) of the measured events had at most."""
        return quantile(share, DELAYS, self.latency)


class Points:
    """The points of this process. *now* is a monotonic clock's seconds."""

    def __init__(self, *, now: float) -> None:
        self._points: deque[Point] = deque(maxlen=KEPT_POINTS)
        self._at = now
        self._before: tuple[list[int], list[int]] | None = None

    def is_due(self, now: float) -> bool:
        return now - self._at >= POINT_SECONDS

    def age(self, now: float) -> float:
        """Return how old the newest point is, in seconds."""
        return now - self._at

    def take(self, node: Node, measures: Measures, *, now: float) -> None:
        """Add the point of the time since the last one."""
        totals = [
            node.counts.admitted,
            measures.reconnects,
            sum(node.counts.refused.values()),
            sum(measures.gaps.values()),
            measures.delivered,
            measures.bytes,
        ]
        counts = list(measures.latency.counts)
        totals_before, counts_before = self._before or ([0] * len(totals), [0] * len(counts))
        polls, reconnects, refused, gaps, delivered, size = (
            max(0, total - before) for total, before in zip(totals, totals_before, strict=True)
        )
        self._points.append(
            Point(
                seconds=now - self._at,
                sockets=node.sockets,
                readers=node.readers,
                polls=polls,
                reconnects=reconnects,
                refused=refused,
                gaps=gaps,
                delivered=delivered,
                bytes=size,
                latency=tuple(now_ - before for now_, before in zip(counts, counts_before, strict=True)),
            )
        )
        self._before = totals, counts
        self._at = now

    def packed(self, now: float) -> dict[str, Any]:
        """Return them for JSON, oldest first, and how old the newest is."""
        return {"age": round(self.age(now), 2), "points": [each.packed() for each in self._points]}
