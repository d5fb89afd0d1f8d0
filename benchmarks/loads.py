"""What the processes of ``benchmarks.publishing`` do: publish in a loop, or beside an open transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connections, transaction

from sse_polling import publish

__all__ = ["beside", "loop"]

TEXT = "x" * 100


def loop(channels: list[str], start: float, seconds: float) -> list[float]:
    """Publish to each channel from a thread of its own, one after another; return the durations."""
    durations: list[list[float]] = [[] for _ in channels]

    def run(channel: str, mine: list[float]) -> None:
        publish(channel, TEXT)  # connects
        time.sleep(max(0, start - time.monotonic()))
        until = max(start, time.monotonic()) + seconds
        while (begun := time.monotonic()) < until:
            publish(channel, TEXT)
            mine.append(time.monotonic() - begun)

    _together(
        [
            lambda channel=channel, mine=mine: run(channel, mine)
            for channel, mine in zip(channels, durations, strict=True)
        ]
    )
    return [each for mine in durations for each in mine]


def beside(channel: str, other: str, *, first: bool, seconds: float, times: int) -> dict[str, list[float]]:
    """Hold a transaction open for *seconds*, *times* times, and publish meanwhile from two threads.

    The transaction publishes to *channel* at its beginning or at its end. Just after its
    beginning one thread publishes to the same channel and one to *other*. Returns the durations.
    """
    found: dict[str, list[float]] = {"same": [], "other": [], "holder": []}
    opened, done = threading.Barrier(3), threading.Barrier(3)

    def hold() -> None:
        for _ in range(times):
            with transaction.atomic():
                begun = time.monotonic()
                if first:
                    publish(channel, "holder")
                else:
                    with connections["default"].cursor() as cursor:
                        cursor.execute("SELECT 1")
                opened.wait()
                time.sleep(seconds)
                if not first:
                    publish(channel, "holder")
            found["holder"].append(time.monotonic() - begun)
            done.wait()

    def probe(name: str, where: str) -> None:
        for _ in range(times):
            opened.wait()
            begun = time.monotonic()
            publish(where, repr(begun))
            found[name].append(time.monotonic() - begun)
            done.wait()

    _together([hold, lambda: probe("same", channel), lambda: probe("other", other)])
    return found


def _together(functions: list[Callable[[], Any]]) -> None:
    def run(function: Callable[[], Any]) -> None:
        try:
            function()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
