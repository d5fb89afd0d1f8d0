"""Erasing channels within the time of one request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .. import history
from ..models import Channel
from ..wake import look_again

__all__ = ["Erased", "erase"]

ERASE_SECONDS = 20.0  # below what proxies wait for an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What went. *unfinished* names the channel that was begun when time was up."""

    channels: int
    events: int
    unfinished: str | None = None


def erase(
    channels: Iterable[Channel],
    *,
    begin: Callable[[Channel], object] = lambda channel: None,
    seconds: float = ERASE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Erased:
    """Erase *channels* in small transactions for about *seconds*; *begin* is told of each before it goes."""
    until = clock() + seconds
    done = events = 0
    for channel in channels:
        begin(channel)
        for step in history.erase(channel.name):
            events += step.events
            done += step.deleted
            if not step.deleted and clock() >= until:
                look_again([channel.name])
                return Erased(channels=done, events=events, unfinished=channel.name)
        look_again([channel.name])
    return Erased(channels=done, events=events)
