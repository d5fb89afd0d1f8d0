"""The course of a drain: how many streams have been asked by when, and how long it will take."""

from __future__ import annotations

__all__ = ["Course"]


class Course:
    """*total* streams asked to leave, spread evenly over *spread_seconds*, and all over within *seconds*.

    Times are a monotonic clock's seconds. The last is asked early enough to have *ack_seconds* left.
    """

    __slots__ = ("ack_seconds", "began", "seconds", "spread_seconds", "total")

    def __init__(
        self, total: int, *, now: float, seconds: float, ack_seconds: float, spread_seconds: float
    ) -> None:
        self.total = total
        self.began = now
        self.seconds = seconds
        self.ack_seconds = min(ack_seconds, seconds)
        self.spread_seconds = min(spread_seconds, seconds - self.ack_seconds)

    def end_within(self, seconds: float, *, now: float) -> None:
        """Be over *seconds* from *now* at the latest: the server cuts then."""
        self.seconds = min(self.seconds, now - self.began + seconds)
        self.ack_seconds = min(self.ack_seconds, self.seconds)
        self.spread_seconds = max(0.0, min(self.spread_seconds, self.seconds - self.ack_seconds))

    def due(self, now: float) -> int:
        """Return how many should have been asked by *now*; the first at once."""
        if now >= self.began + self.spread_seconds:
            return self.total
        return min(self.total, 1 + int(self.total * (now - self.began) / self.spread_seconds))

    def is_late(self, now: float) -> bool:
        """Tell whether whoever is left is cut."""
        return now >= self.began + self.seconds

    def estimate(self, now: float, left: int) -> float:
        """Return in about how many seconds none of the *left* streams will be open."""
        if not left:
            return 0.0
        end = self.began + self.seconds
        gone = self.total - left
        # Until the last was asked nobody knows how many will ack; then the pace so far tells.
        asking = max(0.0, self.began + self.spread_seconds - now)
        pace = left * (now - self.began) / gone if gone > 0 else asking + self.ack_seconds
        return max(0.0, min(max(asking, pace), end - now))
