"""The circuit breaker: when a process takes no more streams, and when it does again."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["Breaker", "limit_for"]

MARGIN = 0.1  # of the limit: so far below it the breaker closes again
SPREAD = 0.2  # of the limit: so much earlier the least important streams are refused


def limit_for(priority: int, priorities: Collection[int], *, capacity: int, threshold: float) -> int:
    """Return how many streams may be open before one of *priority* is refused, at least 1.

    Among the *priorities* in use the highest is refused at *threshold* of *capacity*, the lowest a fifth
    earlier, those between evenly between. A single one is the highest.
    """
    ranks = sorted({*priorities, priority})
    behind = (len(ranks) - 1 - ranks.index(priority)) / max(1, len(ranks) - 1)
    return max(1, int(capacity * threshold * (1 - SPREAD * behind)))


class Breaker:
    """Open once the limit is reached, closed again a tenth below it: it does not flap at the edge."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = False

    def admits(self, count: int, *, limit: int) -> bool:
        """Tell whether one more may come while *count* are there."""
        if self.is_open:
            self.is_open = count > min(limit - 1, int(limit * (1 - MARGIN)))
        elif count >= limit:
            self.is_open = True
        return not self.is_open
