"""The app's own small pool of database threads.

The hub, replays and the stream writers read and write here, so that a process has at most
``DATABASE_THREADS`` connections for them, however many streams it holds.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, connections, router

from .conf import get_config
from .models import Event

__all__ = ["ERRORS", "alias", "data_version", "is_sqlite", "run", "shutdown"]

P = ParamSpec("P")
T = TypeVar("T")

ERRORS = (DatabaseError, InterfaceError)
IDLE_SECONDS = 10.0

_lock = threading.Lock()
_thread = threading.local()
_pool: ThreadPoolExecutor | None = None


def alias() -> str:
    """Return the database that events are written to, and so read from: never a replica."""
    return router.db_for_write(Event)


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function* in one of the pool's threads and return what it returns.

    A connection stays open from call to call. One that failed is closed, and one that was idle for
    10 s is tried first, so that a server that went and came back costs no call an error.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor(), lambda: _guarded(function, *args, **kwargs))


def _guarded(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    if time.monotonic() - getattr(_thread, "used", 0.0) > IDLE_SECONDS:
        for connection in connections.all(initialized_only=True):
            if connection.connection is not None and not connection.is_usable():
                connection.close()
    try:
        return function(*args, **kwargs)
    except ERRORS:
        connections.close_all()
        raise
    finally:
        _thread.used = time.monotonic()


def is_sqlite() -> bool:
    return connections[alias()].vendor == "sqlite"


def data_version() -> tuple[int, int]:
    """Return this thread, and a number that changes when another connection has written (SQLite)."""
    with connections[alias()].cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        return threading.get_ident(), cursor.fetchone()[0]


def _executor() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603 - the process's one pool
    with _lock:
        if _pool is None:
            threads = get_config().database_threads
            _pool = ThreadPoolExecutor(threads, thread_name_prefix="sse_polling-database")
        return _pool


def shutdown() -> None:
    """Close the pool's connections and end its threads; the next call starts others."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        started = len(pool._threads)
        barrier = threading.Barrier(started) if started else None

        def close() -> None:
            connections.close_all()
            if barrier is not None:
                barrier.wait(5)

        for _ in range(started):
            pool.submit(close)
        pool.shutdown()


def _forget() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
