"""The app's own small pools of database threads.

The hub and replays read in one, stream writers write in another, so that a process has at most
``DATABASE_THREADS`` connections for its readers, however many streams it holds, and as many again once
it uses stream writers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router

from .conf import get_config
from .driver import Line, limit
from .gate import PATIENCE_SECONDS, Gate
from .models import Event

__all__ = ["ANSWER_SECONDS", "ERRORS", "alias", "data_version", "is_sqlite", "run", "run_writing", "shutdown"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ERRORS = (DatabaseError, InterfaceError)
AWAY = (OperationalError, InterfaceError)
IDLE_SECONDS = 10.0
ANSWER_SECONDS = 10.0

_lock = threading.Lock()
_thread = threading.local()
_pools: dict[str, ThreadPoolExecutor] = {}
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = WeakKeyDictionary()


def alias() -> str:
    """Return the database that events are written to, and so read from: never a replica."""
    return router.db_for_write(Event)


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which may be called twice, in one of the pool's threads; return what it returns.

    A connection stays open from call to call. While the database is away one call at a time tries it,
    the others wait, and *function* is called again: for 5 s from the outage's begin, after which calls
    fail at once. Raises Django's ``OperationalError`` or ``InterfaceError`` then, and when there is no
    answer within 10 s; other errors at once.
    """
    loop = asyncio.get_running_loop()
    gate = _gate(loop)
    until = loop.time() + PATIENCE_SECONDS
    while True:
        if not await gate.enter():
            raise OperationalError(f"The database has been away for a while: {gate.reason}") from gate.reason
        try:
            answer = await _answer(function, *args, **kwargs)
        except AWAY as error:
            if gate.shut(error):
                logger.warning("sse_polling does not reach the database; who needs it waits: %s", error)
            if loop.time() >= until:
                raise
        except ERRORS:
            _opened(gate)
            raise
        except BaseException:
            gate.give_up()
            raise
        else:
            _opened(gate)
            return answer


def _opened(gate: Gate) -> None:
    seconds = gate.open()
    if seconds is not None:
        logger.warning("sse_polling reaches the database again, after %.1f s", seconds)


def _gate(loop: asyncio.AbstractEventLoop) -> Gate:
    gate = _gates.get(loop)
    if gate is None:
        gate = _gates[loop] = Gate()
    return gate


async def _answer(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    line = Line()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _run("reading", line, function, *args, **kwargs)
    except TimeoutError:
        line.cut()  # else its thread would wait on, and the pool run out of threads
        raise OperationalError(f"The database did not answer within {ANSWER_SECONDS:g} s.") from None


async def run_writing(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which writes, in a pool of its own, and wait for it however long it takes.

    A writer that waits for a channel's lock must not keep this process's readers waiting. Nothing is
    tried twice: who writes decides what an error means.
    """
    return await _run("writing", Line(), function, *args, **kwargs)


async def _run(pool: str, line: Line, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor(pool), lambda: _guarded(line, function, *args, **kwargs))


def _guarded(line: Line, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function* on this thread's connection, which is closed after an error.

    One that was idle for 10 s is tried first, so that a server that went and came back costs no call
    an error.
    """
    connection = connections[alias()]
    limit(connection)
    line.hold(connection)
    try:
        if time.monotonic() - getattr(_thread, "used", 0.0) > IDLE_SECONDS:
            for each in connections.all(initialized_only=True):
                if each.connection is not None and not each.is_usable():
                    each.close()
        if connection.connection is None:
            connection.ensure_connection()
            line.hold(connection)
        with connection.wrap_database_errors:  # not all that a driver raises passes through Django
            return function(*args, **kwargs)
    except BaseException:
        connections.close_all()
        raise
    finally:
        line.release()
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
    _gates.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
