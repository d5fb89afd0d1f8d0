"""The producer's own numbering: what readers count lost and repeated events against.

Each event of a numbered channel carries `n` in its data, one more than the one
before. The app knows nothing of it, so it cannot flatter itself.
"""

from __future__ import annotations

import json

from sse_polling.models import Channel, Event

__all__ = ["NUMBERED", "last_number"]

NUMBERED = ("ask.", "task.", "crowd", "crowd.stats", "machine", "server")


def last_number(channel: str) -> int:
    """Return the number to go on from: the newest event's, or the head if all were trimmed."""
    newest = Event.objects.filter(channel__name=channel).order_by("-sequence").first()
    if newest is not None:
        try:
            return int(json.loads(newest.data)["n"])
        except (ValueError, KeyError, TypeError):
            return int(newest.sequence)
    row = Channel.objects.filter(name=channel).first()
    return row.head if row is not None else 0
