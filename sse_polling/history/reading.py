"""Reading what is stored: channels' rows, and their events from any position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..conf import Config, Effective
from ..database import alias
from ..models import Channel, Event
from ..protocol.cursor import NOWHERE, Position
from ..protocol.event import StoredEvent

__all__ = ["ChannelState", "first_sequence", "head", "newest", "replay", "state_of", "states", "stored"]

PAGE = 128  # rows a read asks for: 128 events of the largest size are 32 MiB
NAMES = 400  # names or keys in one query


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """A channel's row as it was read."""

    pk: int
    name: str
    life: str
    head: int
    head_tag: str
    finished: bool
    preset: str
    max_events: int | None
    max_age_seconds: int | None

    @property
    def position(self) -> Position:
        return Position(self.life, self.head, self.head_tag)

    def effective(self, config: Config) -> Effective:
        return config.effective(
            self.name,
            preset=self.preset,
            max_events=self.max_events,
            max_age_seconds=self.max_age_seconds,
        )


def state_of(channel: Channel) -> ChannelState:
    """Return *channel* as a value."""
    return ChannelState(
        pk=channel.pk,
        name=channel.name,
        life=channel.life,
        head=channel.head,
        head_tag=channel.head_tag,
        finished=channel.finished is not None,
        preset=channel.preset,
        max_events=channel.max_events,
        max_age_seconds=channel.max_age_seconds,
    )


def states(names: Sequence[str]) -> dict[str, ChannelState]:
    """Return the rows of those of *names* that have one, a query for each 400."""
    found: dict[str, ChannelState] = {}
    for start in range(0, len(names), NAMES):
        rows = Channel.objects.using(alias()).filter(name__in=names[start : start + NAMES])
        # Not iterator(): on PostgreSQL that is a cursor of the server's, with three round trips for one.
        found |= {channel.name: state_of(channel) for channel in rows}
    return found


def replay(state: ChannelState, sequence: int, *, limit: int = PAGE) -> list[StoredEvent]:
    """Return the retained events from *sequence* on, itself included, at most *limit*, oldest first.

    One indexed query whatever the size of the history. The event at *sequence* lets the caller
    compare tags; a first one beyond it tells what was trimmed.
    """
    rows = Event.objects.using(alias()).filter(channel_id=state.pk, sequence__gte=sequence)
    return list(stored(rows.order_by("sequence")[: min(limit, PAGE) + 1], state.name, state.life))


def newest(state: ChannelState, *, max_events: int, max_bytes: int) -> list[StoredEvent]:
    """Return the newest consecutive events up to the state's head, oldest first.

    At most *max_events*, and no more than one over *max_bytes* of data.
    """
    rows = Event.objects.using(alias()).filter(channel_id=state.pk).order_by("-sequence")
    taken: list[StoredEvent] = []
    size, expected = 0, state.head
    while len(taken) < max_events and size <= max_bytes:
        limit = min(PAGE, max_events - len(taken))
        page = list(stored(rows.filter(sequence__lte=expected)[:limit], state.name, state.life))
        for event in page:
            if event.sequence != expected or size > max_bytes:
                return taken[::-1]
            taken.append(event)
            size += len(event.data)
            expected -= 1
        if len(page) < limit:
            break
    return taken[::-1]


def first_sequence(state: ChannelState) -> int | None:
    """Return the sequence of the first retained event, None if there is none."""
    rows = Event.objects.using(alias()).filter(channel_id=state.pk)
    return rows.order_by("sequence").values_list("sequence", flat=True).first()


def head(name: str) -> Position:
    """Return where channel *name* stands now."""
    state = states([name]).get(name)
    return state.position if state else NOWHERE


def stored(rows: Any, channel: str, life: str) -> Iterator[StoredEvent]:
    """Yield the events of a queryset of one channel's rows."""
    fields = ("sequence", "tag", "event", "data", "key", "ends_burst", "created")
    for sequence, tag, event, data, key, ends_burst, created in rows.values_list(*fields):
        yield StoredEvent(
            channel=channel,
            life=life,
            sequence=sequence,
            tag=tag,
            event=event,
            data=data,
            key=key,
            ends_burst=ends_burst,
            created=created,
        )
