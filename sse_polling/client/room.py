"""Room for so many connections to a host, whichever streams they belong to.

Each stream has an httpx client of its own, unless it is given one: none sees another's cookies, and none can
leave a connection behind in another's pool. httpx bounds one client; this bounds all of them together.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
from anyio.lowlevel import current_token

from .attempts import Lost

__all__ = ["MOST_CONNECTIONS", "AsyncRoom", "Room"]

MOST_CONNECTIONS = 100
WAIT_SECONDS = 60.0

_lock = threading.Lock()
_rooms: dict[Hashable, _Shared] = {}


class _Shared:
    """What the streams of one host share: in one event loop, or in all threads."""

    def __init__(self, free: Any) -> None:
        self.free = free  # a semaphore
        self.streams = 0


class _Room:
    """One stream's part of it. With more streams than connections no idle one is kept, see *is_crowded*."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    @property
    def is_crowded(self) -> bool:
        return self._shared.streams > MOST_CONNECTIONS


class AsyncRoom(_Room):
    """*waits*: for another stream's connection to end, a minute at most. Raises :exc:`Lost` without one."""

    @classmethod
    @contextmanager
    def enter(cls, host: str) -> Iterator[AsyncRoom]:
        """Count one more stream of *host* in this event loop."""
        with _entered((current_token(), host), anyio.Semaphore) as shared:
            yield cls(shared)

    @asynccontextmanager
    async def connection(self, *, waits: bool = True) -> AsyncIterator[None]:
        free: anyio.Semaphore = self._shared.free
        try:
            if waits:
                with anyio.fail_after(WAIT_SECONDS):
                    await free.acquire()
            else:
                free.acquire_nowait()
        except (TimeoutError, anyio.WouldBlock):
            raise Lost from _full()
        try:
            yield
        finally:
            free.release()


class Room(_Room):
    """The same for threads."""

    @classmethod
    @contextmanager
    def enter(cls, host: str) -> Iterator[Room]:
        """Count one more stream of *host* in this process's threads."""
        with _entered((None, host), threading.Semaphore) as shared:
            yield cls(shared)

    @contextmanager
    def connection(self, *, waits: bool = True) -> Iterator[None]:
        free: threading.Semaphore = self._shared.free
        if not free.acquire(timeout=WAIT_SECONDS if waits else 0):
            raise Lost from _full()
        try:
            yield
        finally:
            free.release()


@contextmanager
def _entered(key: Hashable, semaphore: type) -> Iterator[_Shared]:
    with _lock:
        shared = _rooms.get(key)
        if shared is None:
            shared = _rooms[key] = _Shared(semaphore(MOST_CONNECTIONS))
        shared.streams += 1
    try:
        yield shared
    finally:
        with _lock:
            shared.streams -= 1
            if not shared.streams:
                del _rooms[key]


def _full() -> TimeoutError:
    return TimeoutError(f"All {MOST_CONNECTIONS} connections to this server are in use.")
