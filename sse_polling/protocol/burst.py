"""The burst: what one stream sends before the server closes it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, fields

__all__ = ["Burst", "BurstLimits", "Cause"]


class Cause(enum.StrEnum):
    """Why a burst is over."""

    EVENTS = "events"
    BYTES = "bytes"
    SECONDS = "seconds"
    LINGER = "linger"
    HOLD = "hold"
    PUBLISHER = "publisher"
    END = "end"
    BUDGET = "budget"
    DRAIN = "drain"
    DATABASE = "database"
    FAILED = "failed"
    GONE = "gone"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstLimits:
    """How much and how long a burst may be. Durations are seconds."""

    max_events: int = 500
    max_bytes: int = 1_048_576
    max_seconds: float = 30
    linger_seconds: float = 0.5
    hold_seconds: float = 2

    @classmethod
    def strictest(cls, limits: Iterable[BurstLimits]) -> BurstLimits:
        """Return the smallest of each limit: what a stream of several channels keeps to."""
        several = list(limits)
        if len(several) == 1:
            return several[0]
        return cls(
            **{field.name: min(getattr(each, field.name) for each in several) for field in fields(cls)}
        )


class Burst:
    """The state of one burst. *now* is a monotonic clock's reading in seconds.

    The hold runs from admission to the first event (an event of a replay or a gap counts, a
    heartbeat does not), the linger from the last one. Neither outlasts ``max_seconds``.
    """

    __slots__ = ("bytes", "events", "last", "limits", "opened")

    def __init__(self, limits: BurstLimits, *, now: float) -> None:
        self.limits = limits
        self.opened = now
        self.last = now
        self.events = 0
        self.bytes = 0

    def sent(self, *, events: int, size: int, now: float) -> None:
        self.events += events
        self.bytes += size
        self.last = now

    @property
    def events_left(self) -> int:
        return self.limits.max_events - self.events

    @property
    def bytes_left(self) -> int:
        return self.limits.max_bytes - self.bytes

    def deadline(self) -> float:
        """Return when the burst is over if nothing more comes."""
        quiet = (
            self.last + self.limits.linger_seconds if self.events else self.opened + self.limits.hold_seconds
        )
        return min(quiet, self.opened + self.limits.max_seconds)

    def full(self, now: float) -> Cause | None:
        """Return the limit that forbids to send one more event, if any."""
        if self.events_left <= 0:
            return Cause.EVENTS
        if self.bytes_left <= 0:
            return Cause.BYTES
        if self.events and now >= self.opened + self.limits.max_seconds:
            return Cause.SECONDS
        return None

    def quiet(self, now: float) -> Cause | None:
        """Return why a stream that has nothing to send is over, or None while it may wait."""
        if now < self.deadline():
            return None
        if now >= self.opened + self.limits.max_seconds:
            return Cause.SECONDS
        return Cause.LINGER if self.events else Cause.HOLD
