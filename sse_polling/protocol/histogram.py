"""A histogram: how often something took how long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

__all__ = ["AGES", "DELAYS", "Histogram", "quantile"]

DELAYS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of latencies, in seconds."""
AGES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of a stream's age at its end, in seconds."""


class Histogram:
    """Counts of what was observed, one for each bound and one for all above the last; and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def count(self) -> int:
        return sum(self.counts)


def quantile(share: float, bounds: Sequence[float], counts: Iterable[int]) -> float | None:
    """Return about how large the *share* (0 to 1) of what was observed is at most; None if nothing was.

    Straight within a bucket, and the last bound for what is above it, as Prometheus does it.
    """
    taken = list(counts)
    total = sum(taken)
    if not total:
        return None
    rank, below, low = share * total, 0, 0.0
    for bound, count in zip(bounds, taken, strict=False):
        if count and below + count >= rank:
            return low + (bound - low) * (rank - below) / count
        below += count
        low = bound
    return low
