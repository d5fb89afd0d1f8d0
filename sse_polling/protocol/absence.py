"""Absence: how many clients are away between two bursts."""

from __future__ import annotations

import math

__all__ = ["Absence"]

BUCKET_SECONDS = 0.25


class Absence:
    """The clients that were sent away and are not due yet, by the quarter of a second they are due in.

    Nobody is recognized: a client that comes back counts as one that is here, and who does not come back
    is forgotten once they were due. So the numbers of several processes add up, wherever clients go.
    Times are a monotonic clock's seconds.
    """

    __slots__ = ("_due", "_passed", "count")

    def __init__(self) -> None:
        self.count = 0
        self._due: dict[int, int] = {}  # bucket of time: how many are due in it
        self._passed: int | None = None  # the last bucket that was

    def add(self, now: float, seconds: float) -> None:
        """Learn that a client was told to come back in *seconds*."""
        self.settle(now)
        bucket = math.ceil((now + seconds) / BUCKET_SECONDS)
        if self._passed is not None and bucket <= self._passed:
            return  # due already
        self._due[bucket] = self._due.get(bucket, 0) + 1
        self.count += 1

    def settle(self, now: float) -> None:
        """Forget those who are due by *now*: they are back, or are no readers any more."""
        bucket = math.floor(now / BUCKET_SECONDS)
        if self._passed is None:
            self._passed = bucket
        if bucket - self._passed > len(self._due):
            for due in [each for each in self._due if each <= bucket]:
                self.count -= self._due.pop(due)
            self._passed = bucket
        while self._passed < bucket:
            self._passed += 1
            self.count -= self._due.pop(self._passed, 0)
