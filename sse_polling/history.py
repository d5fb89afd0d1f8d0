"""The stored history: the only code that touches event rows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from .conf import Config, Effective
from .database import alias
from .exceptions import ChannelFinished, SSEPollingError
from .models import Channel, Event, Lease
from .protocol.cursor import NOWHERE, Position, new_end_tag, new_life, new_tag
from .protocol.event import END, StoredEvent

__all__ = [
    "ChannelState",
    "NewEvent",
    "Trimmed",
    "append",
    "erase",
    "first_sequence",
    "lease",
    "mark_burst_end",
    "newest",
    "replay",
    "states",
    "trim",
]

_random = random.SystemRandom()
_PAGE = 128  # rows a read asks for: 128 events of the largest size are 32 MiB
_BATCH = 500  # rows a trim deletes in one transaction
_NAMES = 400  # channel names in one query


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
        created: list[int] = []
        for name in sorted(by_channel):
            channel, is_new = _lock(name, using)
            locked.append(channel)
            if is_new:
                created.append(channel.pk)
            known = _known(channel, [events[index] for index in by_channel[name]], using)
            refused = _place(channel, events, by_channel[name], known, stored, using)
            if refused:
                break
        if refused:
            # Rows made for this call alone go with it. Nothing refers to them yet.
            Channel.objects.using(using).filter(pk__in=created).delete()
        else:
            grown = list(
                filter(None, (_write(channel, by_channel[channel.name], stored, using) for channel in locked))
            )
    if refused:
        raise refused
    return [stored[index] for index in range(len(events))], grown


def _lock(name: str, using: str) -> tuple[Channel, bool]:
    """Return the row of channel *name*, locked to the end of the transaction, and whether it is new."""
    rows = Channel.objects.using(using).filter(name=name)
    is_new = False
    for _ in range(5):
        if connections[using].features.has_select_for_update:
            found = rows.select_for_update().first()
        else:
            # SQLite: begin with a write, since a read that turns into one can be refused as locked.
            found = rows.first() if rows.update(head=F("head")) else None
        if found is not None:
            return found, is_new
        fresh = Channel(name=name, life=new_life(_random))
        Channel.objects.using(using).bulk_create([fresh], ignore_conflicts=True)
        is_new = rows.filter(life=fresh.life).exists()
    raise SSEPollingError(f"Channel {name!r} was made and deleted five times while this waited for it.")


def _known(channel: Channel, events: Iterable[NewEvent], using: str) -> dict[str, StoredEvent]:
    keys = [event.key for event in events if event.key is not None]
    if not keys or not channel.head:
        return {}
    rows = Event.objects.using(using).filter(channel_id=channel.pk)
    found: dict[str, StoredEvent] = {}
    for start in range(0, len(keys), _NAMES):
        for event in _stored(rows.filter(key__in=keys[start : start + _NAMES]), channel.name, channel.life):
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
    for event in _stored(rows, channel.name, channel.life):
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
    return _state(channel)


def _state(channel: Channel) -> ChannelState:
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


def mark_burst_end(channel: str, life: str, sequence: int, *, using: str) -> bool:
    """Let the stored event at *sequence* end the bursts that send it; tell whether it was there."""
    rows = Event.objects.using(using).filter(channel__name=channel, channel__life=life, sequence=sequence)
    return bool(rows.update(ends_burst=True))


def states(names: Sequence[str]) -> dict[str, ChannelState]:
    """Return the rows of those of *names* that have one, a query for each 400."""
    found: dict[str, ChannelState] = {}
    for start in range(0, len(names), _NAMES):
        rows = Channel.objects.using(alias()).filter(name__in=names[start : start + _NAMES])
        found |= {channel.name: _state(channel) for channel in rows.iterator()}
    return found


def replay(state: ChannelState, sequence: int, *, limit: int = _PAGE) -> list[StoredEvent]:
    """Return the retained events from *sequence* on, itself included, at most *limit*, oldest first.

    One indexed query whatever the size of the history. The event at *sequence* lets the caller
    compare tags; a first one beyond it tells what was trimmed.
    """
    rows = Event.objects.using(alias()).filter(channel_id=state.pk, sequence__gte=sequence)
    return list(_stored(rows.order_by("sequence")[: min(limit, _PAGE) + 1], state.name, state.life))


def newest(state: ChannelState, *, max_events: int, max_bytes: int) -> list[StoredEvent]:
    """Return the newest consecutive events up to the state's head, oldest first.

    At most *max_events*, and no more than one over *max_bytes* of data.
    """
    rows = Event.objects.using(alias()).filter(channel_id=state.pk).order_by("-sequence")
    taken: list[StoredEvent] = []
    size, expected = 0, state.head
    while len(taken) < max_events and size <= max_bytes:
        limit = min(_PAGE, max_events - len(taken))
        page = list(_stored(rows.filter(sequence__lte=expected)[:limit], state.name, state.life))
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


def head(name: str) -> tuple[Position, bool]:
    """Return where channel *name* stands now, and whether it is finished."""
    state = states([name]).get(name)
    return (state.position, state.finished) if state else (NOWHERE, False)


def _stored(rows: object, channel: str, life: str) -> Iterator[StoredEvent]:
    fields = ("sequence", "tag", "event", "data", "key", "ends_burst", "created")
    for sequence, tag, event, data, key, ends_burst, created in rows.values_list(*fields):  # type: ignore[attr-defined]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """One step of a trim: what went from one channel."""

    channel: str
    events: int
    deleted: bool = False


def trim(
    config: Config, *, channel: str | None = None, now: datetime | None = None, dry_run: bool = False
) -> Iterator[Trimmed]:
    """Apply the retention of each channel, or of one, a small transaction a step.

    Only ever the oldest events go, so what is retained has no holes; an ``end`` goes with its
    channel. A channel that is finished, or empty and idle, for longer than its age is deleted.
    """
    using = alias()
    rows = Channel.objects.using(using).order_by("pk")
    if channel is not None:
        rows = rows.filter(name=channel)
    after = 0
    while True:
        page = list(rows.filter(pk__gt=after)[:100])
        if not page:
            return
        after = page[-1].pk
        for row in page:
            yield from _trim_channel(row, config, now or timezone.now(), dry_run, using)


def _trim_channel(
    channel: Channel, config: Config, now: datetime, dry_run: bool, using: str
) -> Iterator[Trimmed]:
    limits = _state(channel).effective(config).retention
    oldest = now - timedelta(seconds=limits.max_age_seconds) if limits.max_age_seconds is not None else None
    if oldest is not None and channel.finished is not None and channel.finished < oldest:
        yield from _delete_channel(channel, dry_run, using)
        return
    rows = Event.objects.using(using).filter(channel_id=channel.pk).order_by("sequence")
    keep_from = channel.head - limits.max_events + 1 if limits.max_events is not None else 0
    # The end outlives the age of the others: without it its readers would never be told.
    last_allowed = channel.head - 1 if channel.finished is not None else channel.head
    start, empty = 0, False
    while not empty:
        page = list(rows.filter(sequence__gt=start).values_list("sequence", "created")[:_BATCH])
        doomed = 0
        for sequence, created in page:
            too_old = oldest is not None and created < oldest
            if sequence > last_allowed or not (sequence < keep_from or too_old):
                break
            start = sequence
            doomed += 1
        all_doomed = doomed == len(page)
        if doomed:
            if not dry_run:
                doomed, _ = rows.filter(sequence__lte=start).order_by().delete()
            yield Trimmed(channel=channel.name, events=doomed)
        if not all_doomed:
            return
        empty = len(page) < _BATCH
    if oldest is not None and channel.published < oldest and not _is_wished(channel):
        yield from _delete_channel(channel, dry_run, using, idle=True)


def _is_wished(channel: Channel) -> bool:
    """Tell whether the row carries an operator's wishes: then it stays, however idle."""
    return bool(channel.preset) or channel.max_events is not None or channel.max_age_seconds is not None


def erase(name: str, *, dry_run: bool = False) -> Iterator[Trimmed]:
    """Delete channel *name* and all its events, a small transaction a step."""
    using = alias()
    channel = Channel.objects.using(using).filter(name=name).first()
    if channel is not None:
        yield from _delete_channel(channel, dry_run, using)


def _delete_channel(channel: Channel, dry_run: bool, using: str, *, idle: bool = False) -> Iterator[Trimmed]:
    """Delete the channel's events and its row; *idle*: it had none, and is kept if that has changed."""
    rows = Event.objects.using(using).filter(channel_id=channel.pk)
    if dry_run:
        # An idle channel's events were counted on the way here.
        yield Trimmed(channel=channel.name, events=0 if idle else rows.count(), deleted=True)
        return
    while not idle:  # no event may go before the lock has told that none was published
        bound = rows.order_by("sequence").values_list("sequence", flat=True)[_BATCH - 1 : _BATCH].first()
        if bound is None:
            break
        count, _ = rows.filter(sequence__lte=bound).delete()
        yield Trimmed(channel=channel.name, events=count)
    with transaction.atomic(using=using):
        locked = Channel.objects.using(using).filter(pk=channel.pk)
        if connections[using].features.has_select_for_update:
            locked = locked.select_for_update()
        else:
            locked.update(head=F("head"))
        current = locked.first()
        if current is None or (idle and (current.head != channel.head or _is_wished(current))):
            return
        count, _ = rows.delete()
        current.delete()
    yield Trimmed(channel=channel.name, events=count, deleted=True)


def lease(name: str, holder: str, seconds: float) -> bool:
    """Take or keep the lease *name* for *seconds* of the database's clock; tell whether it is ours."""
    rows = Lease.objects.using(alias()).filter(name=name)
    until = Now() + timedelta(seconds=seconds)
    if rows.filter(Q(until__lt=Now()) | Q(holder=holder)).update(holder=holder, until=until):
        return True
    if rows.exists():
        return False
    Lease.objects.using(alias()).bulk_create(
        [Lease(name=name, holder=holder, until=timezone.now())], ignore_conflicts=True
    )
    return bool(rows.filter(holder=holder).update(until=until))
