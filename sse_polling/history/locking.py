"""Locking: a channel's row, held to the end of the transaction, made if there is none."""

from __future__ import annotations

import random

from django.db import connections
from django.db.models import F

from ..exceptions import SSEPollingError
from ..models import Channel
from ..protocol.cursor import new_life

__all__ = ["lock", "unmake"]

_TIMES = 5
_random = random.SystemRandom()


def lock(name: str, using: str) -> tuple[Channel, bool]:
    """Return the row of channel *name*, locked to the end of the transaction, and whether it is new.

    Whoever locks several does so in the order of their names. Making a row waits like a lock does: for
    the transaction that is making the same one, so the order holds for channels that are not there yet.

    The database's own errors pass through: a deadlock, a timeout, and under REPEATABLE READ or
    SERIALIZABLE a row that another transaction has changed or made since this one began.
    """
    rows = Channel.objects.using(using).filter(name=name)
    is_new = False
    for _ in range(_TIMES):
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
    raise SSEPollingError(
        f"Channel {name!r} can be neither found nor made after {_TIMES} tries. Either others make and delete "
        "it as fast, or this transaction's isolation level hides a row that was committed after it began; "
        "roll the transaction back and try it again."
    )


def unmake(channels: list[Channel], using: str) -> None:
    """Delete rows that this transaction has made and nothing refers to yet."""
    if channels:
        Channel.objects.using(using).filter(pk__in=[channel.pk for channel in channels]).delete()
