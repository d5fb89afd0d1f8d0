"""One process of many that publish at once: random transactions from a seed, and a log of what committed."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from dataclasses import dataclass, field
from random import Random
from typing import Any

from django.db import OperationalError, connection, connections, transaction

from sse_polling import Draft, finish, publish, publish_many
from sse_polling.exceptions import ChannelFinished
from sse_polling.protocol.event import StoredEvent

__all__ = ["CHANNELS", "main"]

#: One that half of all events go to, some, and some that are finished while others publish to them.
CHANNELS = ["hot", *(f"many.{number}" for number in range(6)), *(f"short.{number}" for number in range(12))]


class RolledBack(Exception):
    pass


@dataclass
class Worker:
    """One thread's publisher. *committed* is its log: for each commit, the events as they were returned."""

    name: str
    rng: Random
    committed: list[list[StoredEvent]] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    deadlocks: int = 0
    error: str = ""
    _texts: int = 0
    _floor: int = 0

    def run(self, transactions: int, start: threading.Event) -> None:
        start.wait()
        try:
            for _ in range(transactions):
                self._transact()
        except Exception:  # noqa: BLE001 - reported
            self.error = traceback.format_exc()
        finally:
            connections.close_all()

    def _transact(self) -> None:
        # In the order of their names nothing can deadlock; now and then a transaction does not care.
        self._floor = 0 if connection.vendor == "sqlite" or self.rng.random() < 0.8 else -1
        done: list[StoredEvent] = []
        before = self._texts
        try:
            with transaction.atomic():
                self._publish(done, self.rng.randint(1, 5))
                if self.rng.random() < 0.15:
                    raise RolledBack
        except RolledBack:
            self.undone += [self._text(number) for number in range(before, self._texts)]
        except OperationalError as error:
            if type(error.__cause__).__name__ != "DeadlockDetected":
                raise
            self.deadlocks += 1
            self.undone += [self._text(number) for number in range(before, self._texts)]
        else:
            self.committed.append(done)

    def _publish(self, done: list[StoredEvent], steps: int, depth: int = 0) -> None:
        for _ in range(steps):
            kind = self.rng.random()
            try:
                if kind < 0.45:
                    done.append(publish(self._channel(), self._next(), key=self._key()))
                elif kind < 0.65:
                    done += self._several()
                elif kind < 0.75:
                    done.append(finish(self._channel("short")))
                elif kind < 0.85:
                    done.append(publish(self._channel("short"), self._next()))
                elif depth < 2:
                    self._savepoint(done, depth)
            except ChannelFinished:
                pass  # and the transaction goes on

    def _several(self) -> list[StoredEvent]:
        drafts = [
            Draft(self._next(), channel=name, key=self._key())
            for name in [self._channel(keep=True) for _ in range(self.rng.randint(2, 6))]
        ]
        self._floor = max([self._floor, *(CHANNELS.index(each.channel or "") for each in drafts)])
        return publish_many("hot", drafts)

    def _savepoint(self, done: list[StoredEvent], depth: int) -> None:
        inner: list[StoredEvent] = []
        before = self._texts
        try:
            with transaction.atomic():
                self._publish(inner, self.rng.randint(1, 2), depth + 1)
                if self.rng.random() < 0.5:
                    raise RolledBack
        except RolledBack:
            self.undone += [self._text(number) for number in range(before, self._texts)]
        else:
            done += inner

    def _channel(self, kind: str = "lasting", *, keep: bool = False) -> str:
        names = [name for name in CHANNELS if name.startswith("short") == (kind == "short")]
        if self._floor < 0:
            return self.rng.choice(names)
        allowed = [name for name in names if CHANNELS.index(name) >= self._floor] or CHANNELS[-1:]
        chosen = allowed[0] if self.rng.random() < 0.5 else self.rng.choice(allowed)
        if not keep:
            self._floor = CHANNELS.index(chosen)
        return chosen

    def _key(self) -> str | None:
        return f"key.{self.rng.randrange(25)}" if self.rng.random() < 0.25 else None

    def _next(self) -> str:
        self._texts += 1
        return self._text(self._texts - 1)

    def _text(self, number: int) -> str:
        return f"{self.name}.{number}"

    def report(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "committed": [
                [[each.channel, each.life, each.sequence, each.tag, each.data, each.key] for each in events]
                for events in self.committed
            ],
            "undone": self.undone,
            "deadlocks": self.deadlocks,
            "error": self.error,
        }


def main(process: str, seed: str, threads: str, transactions: str) -> None:
    """Say ``ready``, begin at a line on stdin, and print one report for each thread."""
    start = threading.Event()
    workers = [
        Worker(f"{process}.{number}", Random(f"{seed}.{process}.{number}")) for number in range(int(threads))
    ]
    running = [
        threading.Thread(target=worker.run, args=(int(transactions), start), name=worker.name)
        for worker in workers
    ]
    for thread in running:
        thread.start()
    print("ready", flush=True)  # noqa: T201 - to the test
    sys.stdin.readline()
    start.set()
    for thread in running:
        thread.join()
    print(json.dumps([worker.report() for worker in workers]), flush=True)  # noqa: T201 - to the test
