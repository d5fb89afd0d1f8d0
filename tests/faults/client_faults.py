"""What happens to clients, and between them and the servers."""

from __future__ import annotations

from .readers import Pace
from .trial import BULK_EVENTS, Trial

__all__ = ["connections_cut", "cut_anywhere", "never_reading", "trickling"]

SLOW_READERS = 10


async def cut_anywhere(trial: Trial, seconds: float) -> None:
    """Let every client cut each of its connections after a random number of bytes."""
    for reader in trial.readers:
        reader.cut_bytes = 1500
    await trial.pause(seconds)
    for reader in trial.readers:
        reader.cut_bytes = None


async def trickling(trial: Trial, seconds: float) -> None:
    """Let some clients with small buffers read one byte a second of a large history."""
    await _slow(trial, seconds, "trickle")


async def never_reading(trial: Trial, seconds: float) -> None:
    """Let some clients with small buffers ask for a large history and not read it."""
    await _slow(trial, seconds, "still")


async def connections_cut(trial: Trial, seconds: float) -> None:
    """Delay and cut at random what passes between clients and servers, then refuse it, then swallow it."""
    for proxy in trial.fleet.client_proxies:
        await trial.misbehave(proxy, seconds / len(trial.fleet.client_proxies), mean_bytes=2000, delay=0.1)


async def _slow(trial: Trial, seconds: float, pace: Pace) -> None:
    slow = await trial.add_slow_readers(SLOW_READERS, pace)
    await trial.pause(seconds)
    assert all(reader.events < BULK_EVENTS for reader in slow), "they were not slow"
    assert all(reader.connections == 1 for reader in slow)
    for reader in slow:
        reader.hurry()
