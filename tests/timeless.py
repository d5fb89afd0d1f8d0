"""An event loop whose clock moves only when told, and a database that answers only when asked.

A test steps through a race in the order it wants, and no test waits for a real second. Queries run
in a thread of their own, on a connection of their own: what a transaction of the test's thread has
not committed is not seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from django.db import OperationalError, connections

from sse_polling import database

__all__ = ["Stuck", "Timeless", "timeless"]

T = TypeVar("T")


class Stuck(AssertionError):
    """What was to be finished waits for something that will not happen by itself."""


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class _Job:
    """One call to the database: first it looks, then what it found arrives; a test may hold either."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._function = function
        self._found: Future[Any] | None = None

    def look(self, thread: ThreadPoolExecutor) -> None:
        if self._found is None:
            self._found = thread.submit(self._function)
            self._found.exception()

    def arrive(self, thread: ThreadPoolExecutor) -> None:
        self.look(thread)
        assert self._found is not None
        if self.future.cancelled():
            return
        error = self._found.exception()
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._found.result())


class Timeless(Executor):
    """The loop and the database's executor. ``slow``: queries wait for :meth:`look` and :meth:`arrive`."""

    def __init__(self) -> None:
        self.loop = _Loop()
        self.slow = False
        self.jobs: list[_Job] = []
        self.queries = 0  # calls to the database so far
        self.fail: Exception | None = None  # what every call to the database raises instead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="timeless-database")

    # The executor

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.queries += 1
        fail = self.fail

        def call() -> Any:
            if fail is not None:
                raise database.Away(fail) if isinstance(fail, OperationalError) else fail
            return function(*args, **kwargs)

        job = _Job(call)
        self.jobs.append(job)
        return job.future

    def look(self, index: int = 0) -> None:
        """Let a held query read the database now; what it found stays on its way."""
        if self.jobs:
            self.jobs[index % len(self.jobs)].look(self._thread)

    def arrive(self, index: int = 0) -> None:
        """Let a held query's answer arrive; it looks now unless it has looked before."""
        if self.jobs:
            self.jobs.pop(index % len(self.jobs)).arrive(self._thread)
        self.settle()

    # The clock

    def time(self) -> float:
        return self.loop.time()

    def settle(self) -> None:
        """Run everything that can run without time passing."""
        for _ in range(100_000):
            if self._ready():
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
            elif self.jobs and not self.slow:
                self.jobs.pop(0).arrive(self._thread)
            else:
                return
        raise Stuck("something runs in circles without time passing")

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what falls due, each thing at its time."""
        until = self.loop.now + seconds
        self.settle()
        while (due := self._next_timer()) is not None and due <= until:
            self.loop.now = max(self.loop.now, due)
            self.settle()
        self.loop.now = until
        self.settle()

    def run(self, awaitable: Awaitable[T], *, within: float = 3600) -> T:
        """Return what *awaitable* returns; time passes as it needs, at most *within* seconds."""
        task = self.start(awaitable)
        until = self.loop.now + within
        self.settle()
        while not task.done():
            due = self._next_timer()
            if due is None or due > until:
                task.cancel()
                self.settle()
                raise Stuck(f"{awaitable!r} still waits after {within} s, or for nothing at all")
            self.loop.now = max(self.loop.now, due)
            self.settle()
        return task.result()

    def start(self, awaitable: Awaitable[T]) -> asyncio.Task[T]:
        """Begin *awaitable* and run it as far as it comes without time passing."""

        async def wait() -> T:
            return await awaitable

        task = self.loop.create_task(wait())
        task.add_done_callback(_retrieved)
        self.settle()
        return task

    def close(self) -> None:
        self.slow = False
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self._thread.submit(connections.close_all).result()
        self._thread.shutdown()

    def _ready(self) -> bool:
        scheduled = self.loop._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self.loop._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            handle = scheduled.pop(0)
            handle._scheduled = False
            scheduled.sort()
        return bool(self.loop._ready) or bool(scheduled and scheduled[0]._when <= self.loop.now)  # type: ignore[attr-defined]

    def _next_timer(self) -> float | None:
        self._ready()
        scheduled = self.loop._scheduled  # type: ignore[attr-defined]
        return scheduled[0]._when if scheduled else None


def _retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


@contextmanager
def timeless() -> Iterator[Timeless]:
    """Put a :class:`Timeless` below the app's own database threads."""
    machine = Timeless()
    try:
        with mock.patch.object(database, "executor", return_value=machine):
            yield machine
    finally:
        machine.close()
