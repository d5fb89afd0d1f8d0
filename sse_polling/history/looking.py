"""Looking: what a tail must take to be up to date with the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..protocol.cursor import Position, same_tag
from ..protocol.event import StoredEvent
from .reading import ChannelState, newest, replay, states

__all__ = ["Reading", "look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look into the database found. *fresh*: the tail starts anew."""

    state: ChannelState | None
    events: Sequence[StoredEvent] = ()
    fresh: bool = False


def look(name: str, known: Position | None, *, max_events: int, max_bytes: int) -> Reading:
    """Read what is new after *known*; everything that does not follow it densely starts anew.

    *max_events* and *max_bytes* are the tail's.
    """
    state = states([name]).get(name)
    if state is None:
        return Reading(state=None)
    if known is not None and known.life == state.life and 0 <= state.head - known.sequence <= max_events:
        events = _follow(state, known, max_bytes=max_bytes)
        if events is not None:
            return Reading(state=state, events=events)
    # One more than the tail holds: the event that it drops leaves its tag, which cursors are compared with.
    events = newest(state, max_events=max_events + 1, max_bytes=max_bytes)
    return Reading(state=state, events=events, fresh=True)


def _follow(state: ChannelState, known: Position, *, max_bytes: int) -> list[StoredEvent] | None:
    """Return the events after *known*, or None if a tail must start anew instead."""
    if state.head == known.sequence:
        return [] if same_tag(known.tag, state.head_tag) else None
    followed: list[StoredEvent] = []
    at = known
    size = 0
    while at.sequence < state.head:
        if size > max_bytes:
            return None  # the tail would drop the first of them at once: read the newest instead
        rows = replay(state, at.sequence)
        if rows and rows[0].sequence == at.sequence:
            if not same_tag(at.tag, rows[0].tag):
                return None
            rows = rows[1:]
        if not rows or any(row.sequence != at.sequence + 1 + index for index, row in enumerate(rows)):
            return None
        followed += rows
        size += sum(len(row.data) for row in rows)
        at = rows[-1].position
    return followed
