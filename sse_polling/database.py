"""Calls to the database in the app's own threads, which wait out an outage or say that there is one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, OperationalError, connections, router

from .driver import Line, limit
from .gate import PATIENCE_SECONDS, Gate
from .models import Event
from .pools import executor, remember

__all__ = [
    "ANSWER_SECONDS",
    "ERRORS",
    "Away",
    "alias",
    "callers_connection",
    "data_version",
    "is_sqlite",
    "pass_by",
    "run",
    "run_aside",
    "run_aside_later",
    "run_writing",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ERRORS = (DatabaseError, InterfaceError)
LOST = (OperationalError, InterfaceError)
IDLE_SECONDS = 10.0
ANSWER_SECONDS = 10.0

_thread = threading.local()
_suspected = 0.0
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = WeakKeyDictionary()
_passing = Gate(patience=0)
_callers: list[contextvars.Context] = []


def alias() -> str:
    """Return the database that events are written to, and so read from: never a replica."""
    return router.db_for_write(Event)


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which may be called twice, in one of the pool's threads; return what it returns.

    A connection stays open from call to call. While the database is away one call at a time tries it,
    the others wait, and *function* is called again: for 5 s from the outage's begin, after which calls
    fail at once. Raises Django's ``OperationalError`` or ``InterfaceError`` then, and when there is no
    answer within 10 s; any error that left the connection well passes at once.
    """
    loop = asyncio.get_running_loop()
    if _callers:
        called: Coroutine[Any, Any, T] = sync_to_async(function)(*args, **kwargs)
        return await loop.create_task(called, name="sse_polling-caller", context=_callers[-1])
    gate = _gate(loop)
    until = loop.time() + PATIENCE_SECONDS
    while True:
        if not await gate.enter():
            raise OperationalError(f"The database has been away for a while: {gate.reason}") from gate.reason
        try:
            answer = await _answer(function, *args, **kwargs)
        except Away as away:
            _suspect()
            if gate.shut(away.error):
                logger.warning("sse_polling does not reach the database; who needs it waits: %s", away.error)
            if loop.time() >= until:
                raise away.error  # noqa: B904 - it has a cause already, the driver's error
        except _Busy:
            gate.give_up()
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


@contextmanager
def callers_connection() -> Iterator[None]:
    """Let :func:`run` use the connection of whoever calls, in the transaction that is open there.

    For tests: what a test has not committed no other connection can see. Enter it in a coroutine: its
    context tells asgiref in which thread that connection is.
    """
    context = contextvars.copy_context()
    _callers.append(context)  # for all, since the hub's tasks have a context of their own
    try:
        yield
    finally:
        _callers.remove(context)


class Away(Exception):
    """The connection is lost, cannot be had, or is mute; *error* says how, as Django raises it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _Busy(OperationalError):
    """No thread took the call up, which says nothing about the database itself."""


def _opened(gate: Gate) -> None:
    seconds = gate.open()
    if seconds is not None:
        logger.warning("sse_polling reaches the database again, after %.1f s", seconds)


def pass_by(loop: asyncio.AbstractEventLoop) -> None:
    """Let *loop*, made for one request (WSGI), share the outage of all such loops, and wait for no end of it.

    Each would otherwise find out for itself and keep a thread of the server meanwhile. Without patience
    the gate waits for nothing, so that it needs no loop of its own.
    """
    _gates[loop] = _passing


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
        if not line.began:
            # The others' queries are slow, or mute: then they will say so themselves.
            raise _Busy(f"No database thread was free within {ANSWER_SECONDS:g} s.") from None
        line.cut()  # else its thread would wait on, and the pool run out of threads
        raise Away(OperationalError(f"The database did not answer within {ANSWER_SECONDS:g} s.")) from None
    except asyncio.CancelledError:
        # Its thread works on for a caller who has gone; nobody else would notice that it waits for ever.
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, line.cut)
        raise


async def run_writing(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which writes, in a pool of its own, and wait for it however long it takes.

    A writer that waits for a channel's lock must not keep this process's readers waiting. Nothing is
    tried twice: who writes decides what an error means.
    """
    try:
        return await _run("writing", Line(), function, *args, **kwargs)
    except Away as away:
        _suspect()  # the other threads' connections may be as dead: no second writer is to find out
        raise away.error  # noqa: B904 - as above


async def run_aside(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which is the process's own affair, apart from readers and writers.

    A process whose stream writers all wait for a lock still says that it lives, and hears what it is asked.
    Nothing is tried twice. Raises as :func:`run` does, also when there is no answer within 10 s.
    """
    line = Line()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _run("aside", line, function, *args, **kwargs)
    except Away as away:
        _suspect()
        raise away.error  # noqa: B904 - as above
    except asyncio.CancelledError:
        line.cut()  # the process ends, which waits for this thread
        raise
    except TimeoutError:
        line.cut()
        raise OperationalError(f"The database did not answer within {ANSWER_SECONDS:g} s.") from None


def run_aside_later(function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """As :func:`run_aside`, and let nobody wait for it: at a process's end."""
    with suppress(RuntimeError):  # no thread can be started any more
        executor("aside").submit(_guarded, Line(), function, *args, **kwargs)


async def _run(pool: str, line: Line, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor(pool), lambda: _guarded(line, function, *args, **kwargs))


def _guarded(line: Line, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function* on this thread's connection. Raises :exc:`Away` when that is the error's reason.

    A connection that was idle for 10 s, or last used before another one failed, is tried first, so that a
    server that went and came back costs no call an error.
    """
    line.began = True
    remember(line)
    connection = connections[alias()]
    limit(connection)
    line.hold(connection)
    try:
        used = getattr(_thread, "used", 0.0)
        if (used < _suspected or time.monotonic() - used > IDLE_SECONDS) and not _is_well(connection):
            connections.close_all()
        if connection.connection is None:
            connection.ensure_connection()
            line.hold(connection)
        with connection.wrap_database_errors:  # not all that a driver raises passes through Django
            return function(*args, **kwargs)
    except BaseException as error:
        away = isinstance(error, LOST) and not _is_well(connection)
        connections.close_all()
        if away:
            raise Away(error) from error
        raise
    finally:
        line.release()
        _thread.used = time.monotonic()


def _is_well(connection: Any) -> bool:
    return connection.connection is not None and connection.is_usable()


def _suspect() -> None:
    """Let every thread try its connection before it uses it: one has failed."""
    global _suspected  # noqa: PLW0603 - of the whole process, as the pools
    _suspected = time.monotonic()


def is_sqlite() -> bool:
    return connections[alias()].vendor == "sqlite"


def data_version() -> tuple[int, int]:
    """Return this thread, and a number that changes when another connection has written (SQLite)."""
    with connections[alias()].cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        return threading.get_ident(), cursor.fetchone()[0]


def _forget() -> None:
    global _passing  # noqa: PLW0603 - of the whole process
    _gates.clear()
    _passing = Gate(patience=0)


os.register_at_fork(after_in_child=_forget)
