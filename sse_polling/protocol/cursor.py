"""Cursors: where a client is, as text that it hands back.

A position is ``life.sequence.tag``. The life ``-`` is that of a channel nobody has published
to yet; the tag ``-`` says that the event at that position is not known (trimmed, or none).
On a stream of several channels the cursor is ``hash.life.sequence.tag`` for each, joined by ``_``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from ..exceptions import InvalidCursor
from .names import channel_hash

__all__ = [
    "EARLIEST",
    "MAX_CHANNELS",
    "NOWHERE",
    "Cursor",
    "Position",
    "format_cursor",
    "new_end_tag",
    "new_life",
    "new_tag",
    "parse_cursor",
    "same_tag",
]

EARLIEST = "earliest"
MAX_CHANNELS = 10
MAX_LENGTH = 1024
MAX_SEQUENCE = 2**63 - 1
UNKNOWN = "-"
END_MARK = "~"
_ALPHABET = string.ascii_letters + string.digits
_POSITION = r"([A-Za-z0-9]{1,16}|-)\.(0|[1-9][0-9]{0,18})\.(~?[A-Za-z0-9]{1,8}|-)"
_SINGLE = re.compile(_POSITION)
_PART = re.compile(rf"([0-9a-f]{{12}})\.{_POSITION}")


class Position(NamedTuple):
    """A place in one life of one channel: just after the event at *sequence*."""

    life: str
    sequence: int
    tag: str

    def __str__(self) -> str:
        return f"{self.life}.{self.sequence}.{self.tag}"

    @property
    def at_end(self) -> bool:
        """True if the event here is the channel's ``end``, also once the channel is gone."""
        return self.tag.startswith(END_MARK)

    @property
    def from_now(self) -> Position:
        """Where a client starts that wants what comes from now on: before ``end`` if that came."""
        return Position(self.life, self.sequence - 1, UNKNOWN) if self.at_end else self


NOWHERE = Position(UNKNOWN, 0, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A parsed cursor. A channel that it does not name starts now. *text* is the id as it came."""

    single: Position | None = None
    many: Mapping[str, Position] | None = None
    earliest: bool = False
    text: str = ""

    def position(self, channel: str) -> Position | None:
        if self.single is not None:
            return self.single
        return None if self.many is None else self.many.get(channel_hash(channel))


def parse_cursor(text: str, *, several: bool = False) -> Cursor:
    """Return the cursor that *text* says; *several* if it is for a stream of several channels.

    Empty text is no cursor, ``earliest`` the first retained event. A stream of one channel also
    takes the cursor of several, which may name it. Raises :exc:`InvalidCursor`.
    """
    if not text:
        return Cursor()
    if text == EARLIEST:
        return Cursor(earliest=True)
    if len(text) > MAX_LENGTH:
        raise InvalidCursor(f"Not a cursor: {len(text)} characters, at most {MAX_LENGTH} are expected.")
    if match := _SINGLE.fullmatch(text):
        if several:
            raise InvalidCursor(
                "This is the cursor of a stream of one channel; send back an id of a stream of these several."
            )
        return Cursor(single=_position(*match.groups()), text=text)
    many: dict[str, Position] = {}
    for part in text.split("_"):
        found = _PART.fullmatch(part)
        if found is None or len(many) == MAX_CHANNELS or found[1] in many:
            raise InvalidCursor(
                f"Not a cursor: {text[:60]!a}. Expected an id that a stream sent, unchanged, or {EARLIEST!r}."
            )
        many[found[1]] = _position(*found.groups()[1:])
    return Cursor(many=many, text=text)


def format_cursor(positions: Iterable[tuple[str, Position]]) -> str:
    """Return the cursor of a stream of several channels."""
    return "_".join(f"{channel_hash(name)}.{position}" for name, position in positions)


def new_life(rng: Random) -> str:
    """Return 12 random characters for a channel's row (71 bits)."""
    return "".join(rng.choices(_ALPHABET, k=12))


def new_tag(rng: Random) -> str:
    """Return 5 random characters for an event (30 bits)."""
    return "".join(rng.choices(_ALPHABET, k=5))


def new_end_tag(rng: Random) -> str:
    """Return the tag of an ``end``, which a cursor shows even when the channel's row is gone."""
    return END_MARK + new_tag(rng)


def same_tag(tag: str, other: str) -> bool:
    """Tell whether both may be of the same event: equal, or one of them not known."""
    return tag == other or UNKNOWN in (tag, other)


def _position(life: str, sequence: str, tag: str) -> Position:
    number = int(sequence)
    if number > MAX_SEQUENCE:
        raise InvalidCursor(f"Not a cursor: its sequence {number} is over {MAX_SEQUENCE}.")
    if life == UNKNOWN and number:
        raise InvalidCursor("Not a cursor: a sequence without a life.")
    return Position(life, number, tag)
