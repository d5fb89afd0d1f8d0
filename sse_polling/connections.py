"""This process's live connections: one for each open stream."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .places import Places

__all__ = ["Connection", "Registry", "registry"]


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One open stream, as operators see it. *opened* is a monotonic clock's seconds.

    *key* is the name that the client's streams are counted by, None where nothing tells it from others.
    *passing*: it has no place in the socket budget, sends what there is and ends.
    """

    channels: tuple[str, ...]
    door: str
    client: str | None = None
    user: str | None = None
    key: str | None = None
    priority: int = 0
    address: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    opened: float = field(default_factory=time.monotonic)
    passing: bool = False
    cursor: str = ""
    events: int = 0
    bytes: int = 0
    leaving: str | None = None
    on_leave: Callable[[], Any] | None = None
    abort_transport: Callable[[], Any] | None = None
    task: weakref.ref[asyncio.Task[Any]] | None = None

    def leave(self, reason: str) -> None:
        """Ask the stream to end at the next frame's edge. From any thread."""
        self.leaving = self.leaving or reason
        on_leave = self.on_leave
        if on_leave is not None:
            with suppress(RuntimeError):  # its loop is closed: there is nobody to ask
                on_leave()

    def abort(self) -> bool:
        """Cut the socket at once, in mid-frame if need be; False where it cannot be reached."""
        if self.abort_transport is None:
            return False
        self.abort_transport()
        return True

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

    def find(self, *, client: str) -> list[Connection]:
        """Return the connections of the client that named itself *client*."""
        return [each for each in self if each.client == client]

    def reap(self) -> int:
        """Release what no living task serves any more; return how many those were."""
        dead = [each for each in self if each.orphaned]
        for connection in dead:
            self.release(connection)
        return len(dead)


registry = Registry()
