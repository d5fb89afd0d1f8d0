"""The app's own small pools of database threads.

The hub and replays read in one, stream writers write in another, so that a process has at most
``DATABASE_THREADS`` connections for its readers, however many streams it holds, and as many again once
it uses stream writers.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router

from .conf import get_config
from .models import Event

__all__ = ["ERRORS", "alias", "data_version", "is_sqlite", "run", "run_writing", "shutdown"]

P = ParamSpec("P")
T = TypeVar("T")

ERRORS = (DatabaseError, InterfaceError)
IDLE_SECONDS = 10.0
ANSWER_SECONDS = 10.0

_lock = threading.Lock()
_thread = threading.local()
_pools: dict[str, ThreadPoolExecutor] = {}


def alias() -> str:
    """Return the database that events are written to, and so read from: never a replica."""
    return router.db_for_write(Event)


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which reads, in one of the pool's threads and return what it returns.

    A connection stays open from call to call. One that failed is closed, and one that was idle for
    10 s is tried first, so that a server that went and came back costs no call an error. Raises
    ``OperationalError`` when there is no answer within 10 s; the thread is busy until there is one.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _run("reading", function, *args, **kwargs)
    except TimeoutError:
        raise OperationalError(f"The database did not answer within {ANSWER_SECONDS:g} s.") from None


async def run_writing(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which writes, in a pool of its own, and wait for it however long it takes.

    A writer that waits for a channel's lock must not keep this process's readers waiting.
    """
    return await _run("writing", function, *args, **kwargs)


async def _run(pool: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor(pool), lambda: _guarded(function, *args, **kwargs))


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


def _executor(pool: str = "reading") -> ThreadPoolExecutor:
    with _lock:
        if pool not in _pools:
            threads = get_config().database_threads
            _pools[pool] = ThreadPoolExecutor(threads, thread_name_prefix=f"sse_polling-database-{pool}")
        return _pools[pool]


def shutdown() -> None:
    """Close the pools' connections and end their threads; the next call starts others."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        _close(pool)


def _close(pool: ThreadPoolExecutor) -> None:
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
    global _lock  # noqa: PLW0603 - the parent's may be held
    _pools.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
