"""Appending: the one place where a sequence is given out, under the channel row's lock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from ..exceptions import ChannelFinished, SSEPollingError
from ..models import Channel, Event
from ..protocol.cursor import new_end_tag, new_tag
from ..protocol.event import END, StoredEvent
from .locking import lock, unmake
from .reading import NAMES, ChannelState, state_of
from .reading import stored as stored_events

__all__ = ["NewEvent", "append", "mark_burst_end"]

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event to append, checked already. ``event == "end"`` finishes the channel."""

    channel: str
    event: str
    data: str
    key: str | None = None
    ends_burst: bool = False


def append(events: Sequence[NewEvent], *, using: str) -> tuple[list[StoredEvent], list[ChannelState]]:
    """Store *events*, all or none, and return them with the state of each channel that grew.

    Channels are locked in the order of their names. An event whose key is known is returned as it
    was first stored. Raises :exc:`~sse_polling.exceptions.ChannelFinished`, never from within the
    atomic block, so that a transaction of the caller's stays usable.
    """
    by_channel: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        by_channel.setdefault(event.channel, []).append(index)
    stored: dict[int, StoredEvent] = {}
    refused: SSEPollingError | None = None
    grown: list[ChannelState] = []
    with transaction.atomic(using=using, savepoint=False):
        locked: list[Channel] = []
        made: list[Channel] = []
        for name in sorted(by_channel):
            channel, is_new = lock(name, using)
            locked.append(channel)
            if is_new:
                made.append(channel)
            known = _known(channel, [events[index] for index in by_channel[name]], using)
            refused = _place(channel, events, by_channel[name], known, stored, using)
            if refused:
                break
        if refused:
            unmake(made, using)  # for this call alone
        else:
            grown = list(
                filter(None, (_write(channel, by_channel[channel.name], stored, using) for channel in locked))
            )
    if refused:
        raise refused
    return [stored[index] for index in range(len(events))], grown


def _known(channel: Channel, events: Iterable[NewEvent], using: str) -> dict[str, StoredEvent]:
    keys = [event.key for event in events if event.key is not None]
    if not keys or not channel.head:
        return {}
    rows = Event.objects.using(using).filter(channel_id=channel.pk)
    found: dict[str, StoredEvent] = {}
    for start in range(0, len(keys), NAMES):
        for event in stored_events(
            rows.filter(key__in=keys[start : start + NAMES]), channel.name, channel.life
        ):
            if event.key is not None:
                found[event.key] = event
    return found


def _place(
    channel: Channel,
    events: Sequence[NewEvent],
    indexes: Iterable[int],
    known: dict[str, StoredEvent],
    stored: dict[int, StoredEvent],
    using: str,
) -> SSEPollingError | None:
    """Give each new event its position on *channel*; return why one cannot have any."""
    sequence = channel.head
    finished = channel.finished is not None
    now = timezone.now()
    end: StoredEvent | None = None
    for index in indexes:
        event = events[index]
        if event.key is not None and event.key in known:
            stored[index] = known[event.key]
            continue
        is_end = event.event == END
        if finished and is_end:
            stored[index] = end or _end(channel, using)
            continue
        if finished:
            return ChannelFinished(
                f"Channel {channel.name!r} is finished; publish to another, or erase it first."
            )
        sequence += 1
        stored[index] = placed = StoredEvent(
            channel=channel.name,
            life=channel.life,
            sequence=sequence,
            tag=new_end_tag(_random) if is_end else new_tag(_random),
            event=event.event,
            data=event.data,
            key=event.key,
            ends_burst=event.ends_burst,
            created=now,
        )
        if event.key is not None:
            known[event.key] = placed
        if is_end:
            finished, end = True, placed
    return None


def _end(channel: Channel, using: str) -> StoredEvent:
    rows = Event.objects.using(using).filter(channel_id=channel.pk, sequence=channel.head)
    for event in stored_events(rows, channel.name, channel.life):
        return event
    # Its row was deleted behind the app's back; the position is still the channel's end.
    return StoredEvent(
        channel=channel.name,
        life=channel.life,
        sequence=channel.head,
        tag=channel.head_tag,
        event=END,
        data="{}",
    )


def _write(
    channel: Channel, indexes: Iterable[int], stored: Mapping[int, StoredEvent], using: str
) -> ChannelState | None:
    fresh = {
        stored[index].sequence: stored[index] for index in indexes if stored[index].sequence > channel.head
    }
    if not fresh:
        return None
    Event.objects.using(using).bulk_create(
        Event(
            channel_id=channel.pk,
            sequence=event.sequence,
            tag=event.tag,
            event=event.event,
            data=event.data,
            key=event.key,
            ends_burst=event.ends_burst,
            created=event.created or timezone.now(),
        )
        for event in fresh.values()
    )
    last = fresh[max(fresh)]
    channel.head, channel.head_tag, channel.published = (
        last.sequence,
        last.tag,
        last.created or timezone.now(),
    )
    if last.event == END:
        channel.finished = channel.published
    channel.save(using=using, update_fields=["head", "head_tag", "published", "finished"])
    return state_of(channel)


def mark_burst_end(channel: str, life: str, sequence: int, *, using: str) -> bool:
    """Let the stored event at *sequence* end the bursts that send it; tell whether it was there."""
    rows = Event.objects.using(using).filter(channel__name=channel, channel__life=life, sequence=sequence)
    return bool(rows.update(ends_burst=True))
