"""What the app raises, and what it was told that it could not take."""

from __future__ import annotations

__all__ = [
    "ChannelFinished",
    "EventTooLarge",
    "InvalidChannel",
    "InvalidCursor",
    "InvalidEvent",
    "SSEPollingError",
]


class SSEPollingError(Exception):
    """Base of every error that sse_polling raises on purpose."""


class InvalidChannel(SSEPollingError, ValueError):
    """The text is no channel name, or one that the app keeps for itself."""


class InvalidEvent(SSEPollingError, ValueError):
    """An event's name, key or data cannot be stored or sent."""


class EventTooLarge(InvalidEvent):
    """An event's data is over ``MAX_EVENT_BYTES``."""


class ChannelFinished(SSEPollingError):
    """The channel was finished; only its known keys can still be published."""


class InvalidCursor(SSEPollingError, ValueError):
    """The text is no cursor: not an id that a stream of this app has sent."""
