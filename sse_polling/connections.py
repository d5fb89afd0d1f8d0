"""This process's live connections: one for each open stream."""

from __future__ import annotations

import asyncio
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Connection", "Registry", "registry"]


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One open stream, as operators see it. *opened* is a monotonic clock's seconds."""

    channels: tuple[str, ...]
    door: str
    client: str | None = None
    user: str | None = None
    address: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    opened: float = field(default_factory=time.monotonic)
    cursor: str = ""
    events: int = 0
    bytes: int = 0
    leaving: str | None = None
    on_leave: Callable[[], None] | None = None
    abort_transport: Callable[[], Any] | None = None
    task: weakref.ref[asyncio.Task[Any]] | None = None

    def leave(self, reason: str) -> None:
        """Ask the stream to end at the next frame's edge. Call it on the stream's own loop."""
        self.leaving = self.leaving or reason
        if self.on_leave is not None:
            self.on_leave()

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
    """The connections of a process. Taking and giving back are idempotent and thread-safe."""

    def __init__(self) -> None:
        self._live: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._live.values()))

    def take(self, connection: Connection) -> None:
        self._live[connection.id] = connection

    def release(self, connection: Connection) -> None:
        """Forget *connection*. A stream ends in many ways, some of them twice."""
        self._live.pop(connection.id, None)

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
