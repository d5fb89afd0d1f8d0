"""Settling: whether a transaction whose commit was never answered has stored its events."""

from __future__ import annotations

import logging

from django.db import transaction

from ..models import Event
from ..protocol.cursor import Position
from .locking import lock, unmake
from .reading import ChannelState, state_of

__all__ = ["settle"]

logger = logging.getLogger(__name__)


def settle(name: str, position: Position, *, using: str) -> ChannelState | None:
    """Return the state of channel *name* if the event that was given *position* is stored, else None.

    *position* was given out in a transaction whose end is not known. That transaction holds the row's
    lock as long as it can still commit, and this waits for the lock: the answer is final. A tag is
    random, so the same one at the same place is that event, and its transaction was stored whole.

    Where retention has removed that place since, or the channel is of another life, nobody can know;
    the answer is None. To store again what is gone repeats it for those who have seen it; not to may
    lose it for all.
    """
    with transaction.atomic(using=using):
        channel, is_new = lock(name, using)
        if is_new:
            unmake([channel], using)
            return None
        if channel.life != position.life or channel.head < position.sequence:
            return None
        tag: str | None = channel.head_tag
        if channel.head > position.sequence:
            rows = Event.objects.using(using).filter(channel_id=channel.pk, sequence=position.sequence)
            tag = rows.values_list("tag", flat=True).first()
        if tag is None:
            logger.warning(
                "sse_polling cannot know whether event %s of channel %s was stored: it was trimmed since",
                position.sequence,
                name,
            )
        return state_of(channel) if tag == position.tag else None
