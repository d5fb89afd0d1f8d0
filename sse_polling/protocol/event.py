"""Events as values: what was stored, and what may be published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..exceptions import EventTooLarge, InvalidEvent
from .cursor import Position

__all__ = ["END", "RESERVED_EVENTS", "Gap", "StoredEvent", "check_data", "check_event", "check_key"]

END = "end"
RESERVED_EVENTS = frozenset({"gap", END, "close"})
MAX_NAME = 100
MAX_KEY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One entry of a channel, as it was stored. *data* is the wire's text."""

    channel: str
    life: str
    sequence: int
    tag: str
    event: str
    data: str
    ends_burst: bool = False
    key: str | None = None
    created: datetime | None = None

    @property
    def position(self) -> Position:
        return Position(self.life, self.sequence, self.tag)

    @property
    def id(self) -> str:
        """The wire's id on a stream of this channel alone; opaque to clients."""
        return f"{self.life}.{self.sequence}.{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Events that a cursor still needed and that are gone.

    *first* and *last* are inclusive sequences; *last* is None when nobody can know it (a reset).
    *after* is where the client stands now: just before the first retained event.
    """

    channel: str
    first: int
    last: int | None
    reason: str
    after: Position


def check_event(name: object) -> str:
    """Return *name* if it can be an event's name: 1 to 100 characters, one line, not reserved."""
    if not isinstance(name, str):
        raise InvalidEvent(f"An event name is a str; got {type(name).__name__}.")
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidEvent(f"An event name has 1 to {MAX_NAME} characters; got {len(name)}.")
    if any(mark in name for mark in "\r\n\0"):
        raise InvalidEvent(f"An event name holds no CR, LF or NUL; got {name!r}.")
    if name in RESERVED_EVENTS:
        raise InvalidEvent(
            f"The event name {name!r} is the app's own; choose another (finish() sends 'end')."
        )
    _encoded(name, "An event name")
    return name


def check_key(key: object) -> str | None:
    """Return *key* if it is None or a str of 1 to 200 characters without NUL."""
    if key is None:
        return None
    if not isinstance(key, str):
        raise InvalidEvent(f"A key is a str; got {type(key).__name__}.")
    if not 1 <= len(key) <= MAX_KEY or "\0" in key:
        raise InvalidEvent(f"A key has 1 to {MAX_KEY} characters and no NUL; got {len(key)} characters.")
    _encoded(key, "A key")
    return key


def check_data(data: str, *, max_bytes: int) -> str:
    """Return *data* if it is text without NUL of at most *max_bytes* in UTF-8."""
    size = len(_encoded(data, "An event's data"))
    if size > max_bytes:
        raise EventTooLarge(f"An event's data has at most {max_bytes} bytes (MAX_EVENT_BYTES); got {size}.")
    if "\0" in data:
        raise InvalidEvent(
            "An event's data holds no NUL: PostgreSQL stores none. Send binary data as base64."
        )
    return data


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"{what} must be encodable as UTF-8: {error.reason} at {error.start}.") from None
