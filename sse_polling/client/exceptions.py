"""What the client raises. A server that is merely away is no reason: it is asked again."""

from __future__ import annotations

from ..exceptions import SSEPollingError
from .event import Gap

__all__ = ["EventsLost", "GaveUp", "NotAStream", "OversizedEvent", "StreamError", "StreamRefused"]


class StreamError(SSEPollingError):
    """Base of what ends an iteration early. Go on from the last committed id once the reason is gone."""


class StreamRefused(StreamError):
    """The server said no, with *status* and, in *sentence*, why: another request would be told the same."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{status}: {sentence}")
        self.status = status
        self.sentence = sentence


class NotAStream(StreamError):
    """What answers there sends no event stream, or one that cannot be read."""


class OversizedEvent(StreamError):
    """A line or an event is over ``max_event_bytes``."""


class GaveUp(StreamError):
    """More than ``max_errors`` attempts in a row failed; the last one's error is the cause."""


class EventsLost(StreamError):
    """A *gap* came, and ``raise_on_gap`` was asked for. The cursor still stands before it."""

    def __init__(self, gap: Gap) -> None:
        what = f"from {gap.first} to {gap.last}" if gap.last is not None else f"from {gap.first} on"
        super().__init__(f"Events of {gap.channel} are gone, {what}: {gap.reason}.")
        self.gap = gap
