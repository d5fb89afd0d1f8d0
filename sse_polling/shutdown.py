"""The end of a server's process, which begins with a drain: without it servers cut streams in mid-frame.

No server tells its applications in time. daphne cancels them as soon as it is asked to stop; uvicorn,
hypercorn and granian wait for open streams in silence. So :func:`listen` puts itself between the signal
and the server. What each server does is in ``docs/drain.md``.
"""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

from asgiref.sync import AsyncToSync

from .conf import get_config
from .connections import registry
from .draining import draining
from .pools import let_go

__all__ = ["listen"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
FLUSH_SECONDS = 0.2  # between the last write and the server's end, which drops what it has not sent
ROW_SECONDS = 2.0  # for the process's last row
END_SECONDS = 0.4  # what a server has left of its limit after a drain that knows it
SAME_SECONDS = 1.0  # hypercorn's parent tells a worker twice, uvicorn's repeats what the terminal said
LATE_SECONDS = 2.0  # after which a drain that should be over is waited for no more
LOOK_SECONDS = 0.25
TOLD_SECONDS = 0.1  # by then the loop has handed the first signal to its server

UVICORN = "uvicorn.server"

#: Whose handlers are called at once: these servers wait for streams. An event loop's does nothing, and the
#: server behind it (hypercorn, granian) hears the signal from the loop whatever is installed here.
PATIENT = (UVICORN, "granian._signals", "asyncio.unix_events", "uvloop.loop")

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_watch: Watch | None = None


def listen() -> None:
    """Have this process drain before its server stops it. In a running loop; idempotent and cheap.

    Nothing happens outside the main thread, where no signal is heard (``runserver`` with its reloader), and
    in the loops that ``async_to_sync`` makes for one call (WSGI).
    """
    global _watch  # noqa: PLW0603 - signals are the process's
    loop = asyncio.get_running_loop()
    if _watch is not None and _watch.loop is loop:
        _watch.look()
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if loop in getattr(AsyncToSync, "loop_thread_executors", ()):
        return
    if _watch is not None:
        _watch.stop()
    _watch = Watch(loop)
    _watch.start()


class Watch:
    """The signals of this process, while *loop* is the main thread's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._previous: dict[int, Handler] = {}
        self._asked: tuple[int, float] | None = None  # the first signal, and when it came
        self._found = "hypercorn.asyncio.run" not in sys.modules  # True: there is nothing to look for
        self._let_go = False  # the server was told, and no drain goes before its end any more
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take the signals over from whoever has them; those that are ignored stay ignored."""
        draining.bind(self.loop)
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous is None or previous is signal.SIG_IGN:  # None: not set from Python
                continue
            self._previous[number] = previous
            with suppress(ValueError):  # not the main interpreter
                signal.signal(number, self._on_signal)
                signal.siginterrupt(number, False)
        self._look_again()
        self._run("listen", self._until_cancelled())

    def stop(self) -> None:
        """Give the signals back, unless somebody has taken them since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                # asyncio.run has not taken its own back, and what it made is of no use to the next loop.
                runners = getattr(getattr(previous, "func", None), "__module__", None) == "asyncio.runners"
                signal.signal(number, signal.default_int_handler if runners else previous)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        context = contextvars.Context()
        task = self.loop.create_task(work, name=f"sse_polling-shutdown-{name}", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _until_cancelled(self) -> None:
        try:
            await self.loop.create_future()
        finally:
            self.stop()  # the loop's end cancels its tasks
            if draining.why == "signal":
                let_go()

    def _look_again(self, pause: float = 0.01) -> None:
        if not self.look():
            self.loop.call_later(pause, self._look_again, min(2 * pause, LOOK_SECONDS))

    def look(self) -> bool:
        """Look for what tells a hypercorn worker to stop, which is no signal; True once there is no need.

        A task of the server waits for it. It is made after the application's startup.
        """
        if not self._found:
            code = sys.modules["hypercorn.utils"].raise_shutdown.__code__
            for task in asyncio.all_tasks(self.loop):
                if getattr(task.get_coro(), "cr_code", None) is code:
                    task.add_done_callback(lambda _: draining.begin("signal", within=self._limit()))
                    self._found = True
        return self._found

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Between any two lines of the main thread: nothing here may wait for a lock.
        now = time.monotonic()
        if self.loop.is_closed():
            self._pass_on(number, frame)
        elif self._asked is None:
            self._asked = number, now
            draining.begin("signal", within=self._limit(number))
            if self._waits(number):
                self._pass_on(number, frame)
                self.loop.call_soon_threadsafe(self._keep, number)
            else:
                self.loop.call_soon_threadsafe(lambda: self._run("let-go", self._let_go_later(number)))
        elif not _is_same(self._asked, (number, now)):
            self.loop.call_soon_threadsafe(self._cut)
            self._pass_on(number, frame)

    def _waits(self, number: int) -> bool:
        """Tell whether the server, once it is told, waits for all that is open."""
        told = getattr(self._previous[number], "__module__", None)
        if told == UVICORN and any(each.door == "websocket" for each in registry):
            return False  # it closes those at once
        return told in PATIENT

    def _limit(self, number: int | None = None) -> float | None:
        """Return after how many seconds the server will cut, less what it takes to end; None: not known."""
        server = getattr(self._previous.get(number or 0), "__self__", None)
        seconds = getattr(getattr(server, "config", None), "timeout_graceful_shutdown", None)  # uvicorn's
        # From Python 3.12 on hypercorn waits for all connections before its limit begins.
        if seconds is None and "hypercorn.asyncio.run" in sys.modules and sys.version_info < (3, 12):
            serve = getattr(sys.modules["hypercorn.asyncio.run"], "worker_serve", None)
            for task in asyncio.all_tasks(self.loop):
                coroutine: Any = task.get_coro()
                if serve is not None and getattr(coroutine, "cr_code", None) is serve.__code__:
                    seconds = getattr(coroutine.cr_frame.f_locals.get("config"), "graceful_timeout", None)
        return max(0.1, seconds - END_SECONDS) if isinstance(seconds, int | float) else None

    def _keep(self, number: int) -> None:
        """Keep uvicorn until the drain is over: it ends, by the signal, as soon as it has no streams."""
        server = getattr(self._previous[number], "__self__", None)
        tasks = getattr(getattr(server, "server_state", None), "tasks", None)
        if isinstance(tasks, set):
            task = self._run("keep", _until_over())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if "granian" in sys.modules:
            self.loop.call_later(TOLD_SECONDS, self._tell_no_more)
            # It stops its loop with the last stream, cancels no task, and its worker waits for the pools.
            threading.Thread(
                target=_let_go_after, args=[self.loop], name="sse_polling-shutdown-end", daemon=True
            ).start()

    def _tell_no_more(self) -> None:
        """Keep further signals from the loop's handler: granian's blocks for good at the third."""
        for number in self._previous:
            if self.loop.remove_signal_handler(number):
                signal.signal(number, self._on_signal)

    async def _let_go_later(self, number: int) -> None:
        """Let the server go after the drain: it would cancel its applications at once."""
        _stop_accepting(self.loop, self._previous[number])
        await _until_over()
        if not self._let_go:
            self._pass_on(number, None)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._let_go = True
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _cut(self) -> None:
        """Leave a server that still waits for streams nothing to wait for."""
        for connection in registry:
            connection.leave("gone")
        self.loop.call_later(FLUSH_SECONDS, draining.cut)


def _is_same(first: tuple[int, float], other: tuple[int, float]) -> bool:
    """Tell whether *other* is no second wish but the first one again; a number and when it came."""
    # Ctrl-C reaches all that a terminal runs, then their parents tell them in their own way and time.
    differs, soon = first[0] != other[0], other[1] < first[1] + SAME_SECONDS
    if multiprocessing.parent_process() is None:
        return differs and soon
    told = first[0] == signal.SIGINT and other[0] == signal.SIGTERM
    return soon or told


async def _until_over() -> None:
    """Wait for the drain, and as long as its last words need to reach clients, the log, the node's row."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed: it is over anyway
            loop.call_soon_threadsafe(over.set)

    draining.when_over(tell)
    with suppress(TimeoutError):
        async with asyncio.timeout(get_config().drain.seconds + LATE_SECONDS):
            await over.wait()
    await asyncio.sleep(FLUSH_SECONDS)
    until = loop.time() + ROW_SECONDS
    while not draining.is_told() and loop.time() < until:  # noqa: ASYNC110 - two seconds at most
        await asyncio.sleep(0.02)
    let_go()


def _let_go_after(loop: asyncio.AbstractEventLoop) -> None:
    while loop.is_running():
        time.sleep(0.05)
    let_go()


def _stop_accepting(loop: asyncio.AbstractEventLoop, handler: Handler) -> None:
    """Close the listening sockets of uvicorn, if *handler* is its, and of Twisted, if that runs *loop*.

    They go on accepting until they are told to stop.
    """
    if getattr(handler, "__module__", None) == UVICORN:
        for listening in getattr(getattr(handler, "__self__", None), "servers", ()):
            listening.close()
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if getattr(reactor, "_asyncioEventloop", None) is loop:
        for reader in reactor.getReaders():
            if hasattr(reader, "stopListening"):
                reader.stopListening()


def _forget() -> None:
    global _watch  # noqa: PLW0603 - as above
    if _watch is not None:
        with suppress(ValueError):
            _watch.stop()
        _watch = None


os.register_at_fork(after_in_child=_forget)
