"""Replay: what a position is to be sent next, from the tail or from the database.

The judge of every cursor: the same rules hold when a stream opens, while it follows, and when the
history under it was trimmed, erased or restored from a backup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import history
from .database import run
from .hub import Hub
from .live import LiveChannel
from .protocol.cursor import NOWHERE, Position, same_tag
from .protocol.event import Gap
from .protocol.tail import Entry, Tail

__all__ = ["Batch", "at_end", "at_hand", "earliest", "next_batch"]

FIRST_ROWS = 32  # rows of a channel whose events may be of any size
MOST_LOOKS = 4  # at the database, by one call: more often only while what this process knows is replaced
TRIMMED = "trimmed"
RESET = "reset"


@dataclass(slots=True)
class Batch:
    """What to send next, in order, and where the client stands after it."""

    after: Position
    items: Sequence[Gap | Entry] = field(default_factory=list)


async def next_batch(
    hub: Hub, live: LiveChannel, position: Position, *, max_events: int, max_bytes: int
) -> Batch:
    """Return what follows *position* on *live*, within both limits; nothing if it is up to date.

    Both limits are at least 1, and the first item is returned whatever its size. A batch ends
    after an event that ends the burst. Database errors pass.
    """
    judged = False
    looks = 0
    while True:
        state, tail = live.state, live.tail
        nowhere = position.life == NOWHERE.life
        if state is None or tail is None:
            if nowhere:
                return Batch(position)
            if judged:
                return Batch(position) if position.at_end else _reset(live, position, NOWHERE)
        else:
            # From nowhere a client goes on at the first event of whichever life there is by now.
            here = Position(state.life, 0, NOWHERE.tag) if nowhere else position
            if _fits(state, tail, here):
                if tail.covers(here.sequence):
                    entries = tail.after(here.sequence, max_events=max_events, max_bytes=max_bytes)
                    return Batch(entries[-1].after if entries else position, entries)
                batch = await _from_database(
                    hub, live, here, judged=judged, max_events=max_events, max_bytes=max_bytes
                )
                looks += 1
                if batch is not None:
                    # Without items the tail is another by now: look again, or when its wake comes.
                    if batch.items or looks == MOST_LOOKS:
                        return batch
                    continue
            if judged and not nowhere:
                # Neither this process nor the primary knows such a position: another life.
                return _reset(live, position, await earliest(live))
        # Never judge by what this process happens to know: ask the database first, once for all who wait.
        await hub.judge(live)
        judged = True


def at_hand(live: LiveChannel, position: Position) -> bool:
    """Tell whether what follows *position* is in memory, so that :func:`next_batch` does not wait."""
    state, tail = live.state, live.tail
    if state is None or tail is None:
        return position.life == NOWHERE.life
    return _fits(state, tail, position) and tail.covers(position.sequence)


async def at_end(hub: Hub, live: LiveChannel, position: Position) -> bool:
    """Tell whether a client at *position* has been sent ``end``, also if the channel is gone since."""
    if not position.at_end:
        return False
    if live.position != position:
        await hub.judge(live)
    return live.state is None or live.position == position


async def earliest(live: LiveChannel) -> Position:
    """Return the position just before the first retained event."""
    looks = 0
    while True:
        # What is known before the database is asked: events that come meanwhile may not be in its answer.
        state, tail, known = live.state, live.tail, live.position
        if state is None or tail is None:
            return NOWHERE
        if tail.base == 0:
            return Position(state.life, 0, NOWHERE.tag)
        first = await run(history.first_sequence, state)
        looks += 1
        if live.position.life != state.life and looks < MOST_LOOKS:
            continue
        if first is None or first > known.sequence:
            return known.from_now
        return Position(state.life, first - 1, NOWHERE.tag)


def _fits(state: history.ChannelState, tail: Tail, position: Position) -> bool:
    """Tell whether *position* may be of the life that this process knows."""
    if position.life != state.life or position.sequence > tail.head:
        return False
    return position.sequence < tail.base or same_tag(tail.tag_at(position.sequence), position.tag)


def _reset(live: LiveChannel, position: Position, after: Position) -> Batch:
    gap = Gap(channel=live.name, first=position.sequence + 1, last=None, reason=RESET, after=after)
    return Batch(after, [gap])


async def _from_database(
    hub: Hub, live: LiveChannel, position: Position, *, judged: bool, max_events: int, max_bytes: int
) -> Batch | None:
    """Return the batch for a reader behind the tail; None if its tag is not that of the stored event.

    None also if nothing is stored between it and a tail that is not *judged*: of another history, maybe.
    A batch without items if nothing was stored and the tail is another by now: look again.
    """
    state, tail, known = live.state, live.tail, live.position
    if state is None or tail is None:
        return None
    limit = min(max_events, _rows_for(tail, max_bytes))
    # Not all threads are for replays: who is behind on one channel does not delay what the hub reads for all.
    # That nothing is stored is said only by a reading that is newer than what is known here.
    stored = await live.pages.read(state, position.sequence, limit=limit, newer=judged, among=hub.replays)
    if live.state is None or live.tail is None or live.state.life != state.life:
        return None
    if stored and stored[0].event.sequence == position.sequence:
        if not same_tag(stored[0].event.tag, position.tag):
            return None
        stored = stored[1:]
    # What lies beyond this process's head was committed, but the tail will bring it in order.
    entries = [entry for entry in stored if entry.event.sequence <= live.tail.head]
    if entries:
        return _placed(live, position, entries, max_events=max_events, max_bytes=max_bytes)
    if not judged:
        return None
    if live.tail is not tail:
        return Batch(position)
    # All that was known is gone; the tail itself may still hold what the table does not. What came while
    # the database was asked may be stored, and the tail may have run past it.
    base = Position(state.life, tail.base, tail.tag_at(tail.base)) if tail.base < known.sequence else known
    return Batch(base, [_trimmed(live, position.sequence + 1, base)])


def _rows_for(tail: Tail | None, max_bytes: int) -> int:
    """Return how many rows to ask for, by the size of the channel's newest events: 2 at least."""
    if tail is None or not len(tail):
        return FIRST_ROWS
    return max(2, max_bytes * len(tail) // tail.bytes + 1)


def _placed(
    live: LiveChannel, position: Position, entries: Sequence[Entry], *, max_events: int, max_bytes: int
) -> Batch:
    items: list[Gap | Entry] = []
    size = 0
    for entry in entries[:max_events]:
        event = entry.event
        if event.sequence != position.sequence + 1:
            before = Position(event.life, event.sequence - 1, NOWHERE.tag)
            items.append(_trimmed(live, position.sequence + 1, before))
            position = before
        if len(items) == max_events:
            break
        size += len(entry.frame)
        if size > max_bytes and items:
            break
        items.append(entry)
        position = entry.after
        if event.ends_burst:
            break
    return Batch(position, items)


def _trimmed(live: LiveChannel, first: int, after: Position) -> Gap:
    return Gap(channel=live.name, first=first, last=after.sequence, reason=TRIMMED, after=after)
