"""What a publishing process does: transactions at a pace, each until it is known how it ended.

Django is imported when it is used: a module that starts a process is read before ``django.setup()``.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

__all__ = ["GIVE_UP_SECONDS", "Load", "Log", "commit"]

RETRY_SECONDS = (0.02, 0.4)
#: After this a transaction that the database refuses is given up, its outcome unknown.
GIVE_UP_SECONDS = 60.0


class RolledBack(Exception):
    """End a transaction that was never to be committed."""


class Log:
    """One JSON line for each transaction."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, **what: Any) -> None:
        with self._lock:
            self._file.write(json.dumps(what, separators=(",", ":")) + "\n")
            self._file.flush()


class Load:
    """Threads that publish to a few channels each, at a pace, over errors of the database."""

    def __init__(
        self,
        log: Log,
        *,
        name: str,
        channels: list[list[str]],
        per_second: float,
        rollback: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.log = log
        self.rollback = rollback
        self.per_second = per_second
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(
                target=self._run,
                args=(f"{name}.{index}", mine, random.Random(f"{seed}.{index}")),
                daemon=True,
            )
            for index, mine in enumerate(channels)
        ]
        for thread in self.threads:
            thread.start()

    def stop(self) -> bool:
        """Let each thread end its transaction; tell whether all did."""
        self.stopping.set()
        until = time.monotonic() + GIVE_UP_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def _run(self, name: str, channels: list[str], rng: random.Random) -> None:
        from django.db import connections

        number = 0
        try:
            while not self.stopping.is_set():
                count = rng.choice((1, 1, 2, 3, 4, 4))
                places = [
                    (channels[0] if rng.random() < 0.6 else rng.choice(channels), f"{name}.{number + n}")
                    for n in range(count)
                ]
                number += count
                commit(
                    self.log,
                    places,
                    fill=rng.randrange(20, 400),
                    roll_back=rng.random() < self.rollback,
                    at_once=rng.random() < 0.5,
                )
                self.stopping.wait(rng.uniform(0.5, 1.5) / self.per_second)
        except BaseException as error:
            self.log.write(outcome="died", error=repr(error))
            raise
        finally:
            connections.close_all()


def commit(
    log: Log, places: list[tuple[str, str]], *, fill: int, roll_back: bool, at_once: bool = True
) -> None:
    """Publish one event for each (channel, number) in one transaction, until it is known how it ended.

    The number is the event's key: a commit whose answer was lost is repeated without a second event.
    """
    from django.db import DatabaseError, InterfaceError, connection

    pause, most = RETRY_SECONDS
    until = time.monotonic() + GIVE_UP_SECONDS
    attempts, longest, error = 0, 0.0, ""
    while time.monotonic() < until:
        attempts += 1
        began = time.monotonic()
        try:
            found, waking = _transaction(places, fill=fill, roll_back=roll_back, at_once=at_once)
        except RolledBack:
            log.write(outcome="rolled back", events=places)
            return
        except (DatabaseError, InterfaceError) as caught:
            longest, error = max(longest, time.monotonic() - began), repr(caught)
            with suppress(Exception):
                connection.close()
            if roll_back:
                log.write(outcome="rolled back", events=places, error=error)
                return
            time.sleep(pause)
            pause = min(pause * 2, most)
        else:
            seconds = time.monotonic() - began
            log.write(
                outcome="acknowledged",
                events=[[event.channel, event.key, event.id] for event in found],
                seconds=round(seconds, 4),
                waking=round(waking, 4),
                attempts=attempts,
                longest_failure=round(longest, 4),
                error=error,
                at=time.time(),
            )
            return
    log.write(outcome="unknown", events=places, attempts=attempts, error=error)


def _transaction(
    places: list[tuple[str, str]], *, fill: int, roll_back: bool, at_once: bool
) -> tuple[list[Any], float]:
    """Return the events, and how long the app's own ``on_commit`` took."""
    from django.db import transaction

    from sse_polling import Draft, publish_many

    marks: list[float] = []
    drafts = [
        Draft(
            {"n": number, "at": time.time(), "fill": "é" + "x" * fill},
            channel=channel,
            key=number,
            event="log" if number.endswith("7") else "message",
            ends_burst=number.endswith("33"),
        )
        for channel, number in places
    ]
    with transaction.atomic():
        transaction.on_commit(lambda: marks.append(time.monotonic()))
        if at_once:
            events = publish_many(places[0][0], drafts)
        else:
            # In the order of the channels' names, as `publish_many` locks them: no deadlocks.
            drafts.sort(key=lambda draft: draft.channel or "")
            events = [event for draft in drafts for event in publish_many(places[0][0], [draft])]
        transaction.on_commit(lambda: marks.append(time.monotonic()))
        if roll_back:
            raise RolledBack
    return events, marks[-1] - marks[0]
