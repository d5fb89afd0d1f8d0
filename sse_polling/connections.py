"""This process's live connections: one for each open stream."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .places import Places

__all__ = ["SPEECHLESS", "Connection", "Registry", "registry"]

SPEECHLESS = frozenset({"gone", "stalled"})
"""Reasons to leave after which nothing can be said to the client."""

_numbers = itertools.count(1)


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One open stream, as operators see it. *opened* is a monotonic clock's seconds.

    *key* is the name that the client's streams are counted by, None where nothing tells it from others.
    *passing*: it has no place in the socket budget, sends what there is and ends. *number* is unique in
    the process and no secret, unlike *id*, by which a client acks. *behind* tells how many events the
    stream has still to send, as far as this process knows. *asked*: the client was told to close, and to
    ack. *cut*: its socket was closed on it. *burst*: the how manieth of this client's bursts here it is, None
    if nothing tells.
    """

    channels: tuple[str, ...]
    door: str
    client: str | None = None
    user: str | None = None
    key: str | None = None
    priority: int = 0
    address: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    number: int = field(default_factory=partial(next, _numbers))
    burst: int | None = None
    opened: float = field(default_factory=time.monotonic)
    passing: bool = False
    cursor: str = ""
    events: int = 0
    bytes: int = 0
    leaving: str | None = None
    asked: bool = False
    acked: bool = False
    waited: bool = False
    cut: bool = False
    behind: Callable[[], int] | None = None
    on_leave: Callable[[], Any] | None = None
    abort_transport: Callable[[], Any] | None = None
    task: weakref.ref[asyncio.Task[Any]] | None = None

    def leave(self, reason: str) -> None:
        """Ask the stream to end at the next frame's edge. From any thread.

        The first reason holds, unless there is nobody to say good-bye to any more.
        """
        if self.leaving is None or (reason in SPEECHLESS and self.leaving not in SPEECHLESS):
            self.leaving = reason
        self._wake()

    def ack(self) -> bool:
        """Learn that the client has let go; False if it was not asked to. From any thread."""
        if not self.asked:
            return False
        self.acked = True
        self._wake()
        return True

    def give_up(self) -> None:
        """Let the stream end without its client's ack: the time is up. From any thread."""
        self.waited = True
        self._wake()

    def _wake(self) -> None:
        on_leave = self.on_leave
        if on_leave is not None:
            with suppress(RuntimeError):  # its loop is closed: there is nobody to ask
                on_leave()

    def abort(self) -> bool:
        """Cut the socket at once, in mid-frame if need be; False where it cannot be reached."""
        if self.abort_transport is None:
            return False
        self.cut, before = True, self.cut
        reached = self.abort_transport() is not False
        self.cut = reached or before
        return reached

    @property
    def orphaned(self) -> bool:
        """True once the task that served the stream has ended without releasing it."""
        if self.task is None:
            return False
        task = self.task()
        return task is None or task.done()


class Registry:
    """The connections of a process. Taking and giving back are idempotent and thread-safe.

    A stream may be released by a finalizer, and so in the middle of anything that this thread does, of
    another release too: releasing never waits. Whoever holds the lock forgets what is on the list.
    """

    def __init__(self) -> None:
        self._live: dict[str, Connection] = {}
        self._by_key: dict[str, int] = {}
        self._asked: dict[str, dict[str, Connection]] = {}  # by the client's name, and by id
        self._places: Places[Connection] = Places()
        self._lock = threading.Lock()
        self._released: deque[Connection] = deque()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._live.values()))

    def count(self, *, key: str) -> int:
        """Return how many streams the client of that name holds."""
        return self._by_key.get(key, 0)

    def take(self, connection: Connection) -> None:
        with self._lock:
            self._forget()
            if connection.id not in self._live:
                self._live[connection.id] = connection
                if not connection.passing:
                    self._places.add(connection)
                if connection.key is not None:
                    self._by_key[connection.key] = self._by_key.get(connection.key, 0) + 1
        self._settle()

    def release(self, connection: Connection) -> None:
        """Forget *connection*. A stream ends in many ways, some of them twice."""
        self._released.append(connection)
        self._settle()

    def _settle(self) -> None:
        # Looked at again after the lock is given back: what came meanwhile found it taken.
        while self._released and self._lock.acquire(blocking=False):
            try:
                self._forget()
            finally:
                self._lock.release()

    def _forget(self) -> None:
        while self._released:
            connection = self._released.popleft()
            self._places.discard(connection)
            if connection.client is not None and (asked := self._asked.get(connection.client)) is not None:
                asked.pop(connection.id, None)
                if not asked:
                    del self._asked[connection.client]
            if self._live.pop(connection.id, None) is None or connection.key is None:
                continue
            left = self._by_key[connection.key] - 1
            if left:
                self._by_key[connection.key] = left
            else:
                del self._by_key[connection.key]

    @property
    def places(self) -> int:
        """How many streams have not been picked to make room."""
        return len(self._places)

    def pick(self, newcomer: Connection, *, many: int, before: float) -> Connection | None:
        """Return the stream that gives its place up for *newcomer*'s sake (:meth:`Places.pick`)."""
        with self._lock:
            self._forget()
            picked = self._places.pick(newcomer, many=many, before=before)
        self._settle()
        return picked

    def ask(self, connection: Connection) -> None:
        """Note that the client of *connection* was told to close, and to ack."""
        connection.asked = True
        with self._lock:
            self._forget()
            if connection.id in self._live and connection.client is not None:
                self._asked.setdefault(connection.client, {})[connection.id] = connection
        self._settle()

    def ack(self, *, stream: str | None = None, client: str | None = None) -> int:
        """Ack the stream of that id, or all of the client that named itself so; return how many heard it.

        Only streams that were told to close listen.
        """
        if stream is not None:
            found = self._live.get(stream)
            return int(found is not None and found.ack())
        return sum(each.ack() for each in list(self._asked.get(client or "", {}).values()))

    def find(self, *, client: str) -> list[Connection]:
        """Return the connections of the client that named itself *client*."""
        return [each for each in self if each.client == client]

    def has(self, connection: Connection) -> bool:
        """Tell whether *connection* is open."""
        return connection.id in self._live

    def numbered(self, number: int) -> Connection | None:
        """Return the connection of that number, None if it is not open."""
        return next((each for each in self if each.number == number), None)

    def reap(self) -> int:
        """Release what no living task serves any more; return how many those were."""
        dead = [each for each in self if each.orphaned]
        for connection in dead:
            self.release(connection)
        return len(dead)


registry = Registry()
