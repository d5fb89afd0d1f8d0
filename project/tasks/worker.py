"""A worker: one process that takes up tasks of one queue, several at once, each in a thread of its own."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import connection, connections
from django.utils.module_loading import import_string

from project.models import Task
from project.outage import AWAY, outlast
from sse_polling.exceptions import ChannelFinished

from . import ledger
from .backend import as_result
from .framework import TaskContext
from .run import Run, Stopped

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2
PRUNE_SECONDS = 60.0
LEAVE_SECONDS = 4.0


class Worker:
    """Its main thread only looks after the others: it beats, claims, and tells who must stop.

    A task that is cancelled, or taken over since this process was frozen, is stopped within a tick and the
    time to the task's next look.
    """

    def __init__(self, queue: str, *, at_once: int) -> None:
        self.queue = queue
        self.at_once = at_once
        self.name = secrets.token_hex(4)
        self._runs: dict[str, tuple[Run, threading.Thread]] = {}
        self._beat_due = self._prune_due = 0.0

    def work(self, stop: threading.Event, *, orphaned: Callable[[], bool] = lambda: False) -> None:
        """Work until *stop* is set or the owner is gone, then give back what is unfinished."""
        away = False
        while not stop.wait(TICK_SECONDS) and not orphaned():
            try:
                self._tick(time.monotonic())
            except AWAY as error:
                connection.close()
                if not away:
                    logger.warning("The database is away, trying again: %s", str(error).strip())
                away = True
            else:
                away = False
        self._leave()

    def _tick(self, now: float) -> None:
        self._runs = {holder: each for holder, each in self._runs.items() if each[1].is_alive()}
        if self._runs:
            if now >= self._beat_due:
                self._beat_due = now + settings.TASK_LEASE_SECONDS / 5
                ledger.beat(list(self._runs))
            held = ledger.held(list(self._runs))
            for holder, (run, _thread) in self._runs.items():
                if holder not in held:
                    run.stop("it is not this worker's any more")
        if now >= self._prune_due:
            self._prune_due = now + PRUNE_SECONDS
            ledger.prune()
        while len(self._runs) < self.at_once and (task := ledger.claim(self.queue, self.name)):
            run = Run(task.channel, task.key, task.holder)
            thread = threading.Thread(
                target=_carry_out, args=(run, task), name=f"task-{task.key}", daemon=True
            )
            self._runs[task.holder] = run, thread
            thread.start()

    def _leave(self) -> None:
        for run, _thread in self._runs.values():
            run.stop(_LEAVING)
        deadline = time.monotonic() + LEAVE_SECONDS
        for _run, thread in self._runs.values():
            thread.join(max(0.0, deadline - time.monotonic()))


_LEAVING = "the worker leaves"


def _carry_out(run: Run, task: Task) -> None:
    try:
        with run:
            result = _call(task)
        outlast(lambda: ledger.end(run.holder, Task.State.DONE, result=result))
    except Stopped:
        if run.why == _LEAVING:
            with suppress(*AWAY):
                ledger.put_back(run.holder)
    except ChannelFinished:
        pass  # it was cancelled, or another attempt has ended it
    except Exception as error:
        logger.exception("Task %s failed", task.key)
        message = f"{type(error).__name__}: {error}"
        with suppress(*AWAY):  # then its lease runs out
            outlast(lambda: ledger.end(run.holder, Task.State.FAILED, error=message))
    finally:
        with suppress(*AWAY):
            ledger.release(run.holder)
        connections.close_all()


def _call(task: Task) -> Any:
    function = import_string(task.function)
    context: list[Any] = [TaskContext(task_result=as_result(task))] if function.takes_context else []
    return function.call(*context, *task.args, **task.kwargs)
