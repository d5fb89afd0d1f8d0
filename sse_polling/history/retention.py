"""Retention: what is kept, what goes, and which process sees to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from ..conf import Config
from ..database import alias
from ..models import Channel, Event, Lease
from .reading import state_of

__all__ = ["Trimmed", "erase", "lease", "trim"]

_BATCH = 500  # rows deleted in one transaction


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
    limits = state_of(channel).effective(config).retention
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
