"""The app's own small pools of database threads, each with a connection of its own.

The hub and replays read in one, stream writers write in another, so that a process has at most
``DATABASE_THREADS`` connections for its readers, however many streams it holds, and as many again once
it uses stream writers. Its beat has a thread of its own, which waits for neither.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

from django.db import connections

from .conf import get_config
from .driver import Line

__all__ = ["executor", "let_go", "remember", "shutdown"]

CLOSE_SECONDS = 5.0
LAST_SECONDS = 1.0  # for what a process says at its end, which waits for it

_lock = threading.Lock()
_pools: dict[str, ThreadPoolExecutor] = {}
_lines: weakref.WeakSet[Line] = weakref.WeakSet()


def executor(pool: str) -> ThreadPoolExecutor:
    """Return the pool of that name: ``reading``, ``writing`` or ``aside``, which has one thread."""
    with _lock:
        if pool not in _pools:
            threads = 1 if pool == "aside" else get_config().database_threads
            _pools[pool] = ThreadPoolExecutor(threads, thread_name_prefix=f"sse_polling-database-{pool}")
        return _pools[pool]


def remember(line: Line) -> None:
    """Let :func:`let_go` cut *line*'s call."""
    _lines.add(line)


def let_go() -> None:
    """Cut off, in a second and from then on, what still waits for an answer: the process ends.

    The interpreter waits for the pools' threads, and a database that is mute would keep it for ever.
    """
    threading.Thread(target=_cut_off, name="sse_polling-database-end", daemon=True).start()


def _cut_off() -> None:
    while True:  # as long as the interpreter waits for the pools' threads
        time.sleep(LAST_SECONDS)
        for pool in list(_pools.values()):
            pool.shutdown(wait=False, cancel_futures=True)
        for line in list(_lines):
            line.cut()


def shutdown() -> None:
    """Close the pools' connections and end their threads; the next call starts others."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        _close(pool)


def _close(pool: ThreadPoolExecutor) -> None:
    closed, may_end = threading.Semaphore(0), threading.Event()

    def close() -> None:
        connections.close_all()
        closed.release()
        may_end.wait(CLOSE_SECONDS)  # another of these calls is for another thread

    calls = 0
    while calls < len(pool._threads):  # a call may start one more, while those that are there still work
        pool.submit(close)
        calls += 1
    until = time.monotonic() + CLOSE_SECONDS
    for _ in range(calls):
        closed.acquire(timeout=max(0.0, until - time.monotonic()))
    may_end.set()
    pool.shutdown()


def _forget() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be held
    _pools.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
