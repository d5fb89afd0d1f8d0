"""The bugs to plant in the processes of a fleet, which read their name in PLANTED_BUG when they start."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import Any

__all__ = ["PLANTED_BUG", "plant_here", "primary_key", "register"]

PLANTED_BUG = "PLANTED_BUG"
_HERE = "__import__('tests.faults.planted', fromlist=['planted'])"
_planted = ExitStack()


def plant_here() -> None:
    """Let this process have the bug that its environment names, if any. After ``django.setup()``."""
    from sse_polling import acks, shutdown, stream, supervisor
    from sse_polling.history import appending, locking
    from tests.property.planted import PLANTED, edited

    bugs = {
        "wakes are data": PLANTED["wakes as data: only the event that was told is added"],
        "the sequence is the primary key": [
            (appending, "_place", "sequence += 1", f"sequence = {_HERE}.primary_key(using)"),
            (locking, "lock", "rows.select_for_update().first()", "rows.first()"),
        ],
        "replay, then register": [
            (
                stream.Stream,
                "run",
                "if self.cause is not None:",
                f"await {_HERE}.register(self, chunk)\n            if self.cause is not None:",
            )
        ],
        "nobody supervises the receiving task": [
            (supervisor, "_forever", "while True:", "for _ in range(1):")
        ],
        "no drain before the end": [
            (shutdown, "listen", "loop = asyncio.get_running_loop()", "return"),
        ],
        "a drain takes its clients back": [
            (
                stream.Stream,
                "_closing",
                'wire.close("pool_draining") + last',
                'b"id: %b\\n" % self.opened_at.encode() + wire.close("pool_draining") + last',
            ),
            (stream.Stream, "run", "priming = ", "self.opened_at = self.cursor\n        priming = "),
        ],
        "acks reach no other process": [(acks, "ack", "sender.post(", "(lambda told: None)(")],
    }
    if name := os.environ.get(PLANTED_BUG):
        _planted.enter_context(edited(bugs[name]))


def primary_key(using: str) -> int:
    """Return what PostgreSQL would number the next row with, whoever commits first."""
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('sse_polling_event', 'id'))")
        return int(cursor.fetchone()[0])


async def register(stream: Any, chunk: bytes) -> None:
    """Do what a subscription does that is made once all is replayed: hear of what comes from then on."""
    if chunk or getattr(stream, "registered", False):
        return
    stream.registered = True
    await asyncio.sleep(0.01)  # a SUBSCRIBE there and back
    for reader in stream._readers:
        reader.position = reader.live.position
