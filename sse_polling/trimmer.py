"""Trimming, by one serving process at a time."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from . import history
from .conf import get_config
from .database import ERRORS, run

__all__ = ["keep_trimmed"]

TRIM_SECONDS = 60.0


async def keep_trimmed() -> None:
    """Apply every channel's retention once a minute, as long as this process has the lease."""
    holder = f"{socket.gethostname()[:60]}:{os.getpid()}"
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        with suppress(*ERRORS):
            if not await run(history.lease, "trim", holder, 2 * TRIM_SECONDS):
                continue
            steps = history.trim(get_config())
            while await run(next, steps, None) is not None:
                await run(history.lease, "trim", holder, 2 * TRIM_SECONDS)
