"""The tail: the newest events of a channel, encoded once, shared by all its readers."""

from __future__ import annotations

from dataclasses import dataclass, field

from .cursor import Position
from .event import StoredEvent
from .wire import envelope, frame

__all__ = ["Entry", "Tail"]

OVERHEAD = 400  # bytes of Python objects an entry costs beside its text, measured with tracemalloc


@dataclass(slots=True)
class Entry:
    """An event of the tail with its encoded forms, each made once."""

    event: StoredEvent
    ends_burst: bool
    frame: bytes
    after: Position
    _envelope: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, event: StoredEvent) -> Entry:
        return cls(event, event.ends_burst, frame(event), event.position)

    @property
    def envelope(self) -> bytes:
        if self._envelope is None:
            self._envelope = envelope(self.event)
        return self._envelope

    @property
    def json(self) -> bytes:
        """The event as ``{"channel", "id", "event", "data"}``, on one line."""
        # It is the envelope's data, and an event's name has no line end.
        return (b"\n" + self.envelope).partition(b"\ndata: ")[2][:-2]

    @property
    def size(self) -> int:
        # The envelope is charged from the start, so that reading never makes a tail outgrow its bound.
        return 3 * len(self.frame) + OVERHEAD


class Tail:
    """A ring of consecutive entries: ``base`` < sequence <= ``head``.

    Invariant: the entries' sequences are dense. ``base_tag`` is the tag at ``base`` where known.
    """

    __slots__ = ("_entries", "_start", "base", "base_tag", "bytes", "head", "max_bytes", "max_events")

    def __init__(self, *, max_events: int, max_bytes: int, base: int = 0, base_tag: str = "-") -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._entries: list[Entry] = []
        self._start = 0  # the list is cut only once half of it is dead: dropping is O(1) a time
        self.base = self.head = base
        self.base_tag = base_tag
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries) - self._start

    @property
    def head_tag(self) -> str:
        return self.tag_at(self.head)

    def tag_at(self, sequence: int) -> str:
        """Return the tag at *sequence*, which :meth:`covers` must hold; ``-`` where unknown."""
        if sequence == self.base:
            return self.base_tag
        return self._entries[self._start + sequence - self.base - 1].event.tag

    def covers(self, sequence: int) -> bool:
        """Tell whether a reader that stands at *sequence* can read on from here."""
        return self.base <= sequence <= self.head

    def append(self, event: StoredEvent) -> Entry:
        """Add the event that follows the head; older ones leave to stay within the bounds."""
        if event.sequence != self.head + 1:
            raise ValueError(f"expected sequence {self.head + 1}, got {event.sequence}")
        entry = Entry.of(event)
        self._entries.append(entry)
        self.head = event.sequence
        self.bytes += entry.size
        while len(self) > self.max_events or (self.bytes > self.max_bytes and len(self) > 1):
            self._drop()
        return entry

    def last(self) -> Entry | None:
        return self._entries[-1] if len(self) else None

    def after(self, sequence: int, *, max_events: int, max_bytes: int) -> list[Entry]:
        """Return the entries after *sequence*, at least one if there is any, within both limits."""
        first = self._start + sequence - self.base
        taken = self._entries[first : first + max_events]
        total = 0
        for count, entry in enumerate(taken):
            total += len(entry.frame)
            if total > max_bytes and count:
                return taken[:count]
            if entry.ends_burst:
                return taken[: count + 1]
        return taken

    def clear(self) -> None:
        """Forget every entry, not the head: readers that are behind it go to the database."""
        self.base, self.base_tag = self.head, self.head_tag
        self._entries.clear()
        self._start = 0
        self.bytes = 0

    def _drop(self) -> None:
        entry = self._entries[self._start]
        self.base, self.base_tag = entry.event.sequence, entry.event.tag
        self.bytes -= entry.size
        self._start += 1
        if self._start * 2 > len(self._entries):
            del self._entries[: self._start]
            self._start = 0
