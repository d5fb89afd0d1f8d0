"""What is reported of a trial, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .publishers import Known
from .readers import Reader

__all__ = ["Verdict"]


@dataclass(slots=True, kw_only=True)
class Verdict:
    """One trial's figures. Durations are seconds, moments the wall clock's."""

    began: float = 0.0
    healed: float = 0.0
    #: Seconds from healing until every reader had what was committed by then.
    recovery: float = 0.0
    #: Seconds from healing until every server said that the layer wakes it.
    hearing: float = 0.0
    events: int = 0
    read: int = 0
    reconnects: int = 0
    #: Seconds from a publish to its arrival, the worst of what was published during the fault, and after.
    worst_during: float = 0.0
    worst_after: float = 0.0
    median: float = 0.0
    longest_publish: float = 0.0
    longest_waking: float = 0.0
    retried_transactions: int = 0
    longest_retry_ms: int = 0

    def fill(self, latencies: Sequence[tuple[float, float]], known: Known, readers: Sequence[Reader]) -> Self:
        """Fill in what readers and publishers have counted; *latencies*: when published, and how late."""
        during = [late for at, late in latencies if self.began <= at < self.healed]
        after = [late for at, late in latencies if at >= self.healed]
        every = sorted(late for _, late in latencies)
        self.worst_during, self.worst_after = max(during, default=0.0), max(after, default=0.0)
        self.median = every[len(every) // 2] if every else 0.0
        self.events = len(known.acknowledged)
        self.read = sum(reader.events for reader in readers)
        self.reconnects = sum(reader.connections - 1 for reader in readers)
        self.longest_publish = known.longest
        self.longest_waking = known.longest_waking
        self.retried_transactions = known.retried
        self.longest_retry_ms = max(reader.longest_retry_ms for reader in readers)
        return self
