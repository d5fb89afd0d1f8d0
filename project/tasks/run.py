"""One attempt at a task, as its function sees it: where it writes steps, and hears that it must stop."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from django.core.serializers.json import DjangoJSONEncoder

from project.agent.schema import check_step
from project.agent.steps import Step
from project.outage import AWAY, outlast
from sse_polling import stream_writer
from sse_polling.models import Event

__all__ = ["Diverged", "Run", "Stopped", "current"]

_current: ContextVar[Run] = ContextVar("run")


class Stopped(BaseException):
    """The attempt must end at once. No Exception, so that no task takes it for an error of its own."""


class Diverged(Exception):
    """A resumed task found something else than at its first attempt: what is stored is not continued."""


def current() -> Run:
    """Return the run of the task function that asks."""
    return _current.get()


class Run:
    """Writes the steps of one attempt, each once however many attempts there are.

    A task is resumed by running it anew. Its steps have numbers and these are their keys, so those that an
    earlier attempt stored are compared instead of stored, and the first new one goes on where it stopped.
    That needs a task that finds the same again; one that does not fails with :exc:`Diverged`.
    """

    def __init__(self, channel: str, key: str, holder: str) -> None:
        self.channel = channel
        self.key = key
        self.holder = holder
        self.why = ""
        self._stop = threading.Event()
        self._number = 0
        self._stored: list[Any] = []
        self._writer = stream_writer(channel, flush_ms=50)

    def stop(self, why: str) -> None:
        """Let the function's next look end it. Called from the worker's own thread."""
        self.why = self.why or why
        self._stop.set()

    def check(self) -> None:
        """Raise :exc:`Stopped` if this attempt must end; cheap enough for a loop."""
        if self._stop.is_set():
            raise Stopped(self.why)

    def pause(self, seconds: float) -> None:
        """Wait, unless this attempt catches up with an earlier one. Raises :exc:`Stopped` at once."""
        if self._number >= len(self._stored):
            self._stop.wait(seconds)
        self.check()

    def write(self, step: Step) -> None:
        """Publish a step. Raises :exc:`BadStep` before it is stored, :exc:`Stopped`, :exc:`Diverged`."""
        self._number += 1
        data = step.data(self._number)
        check_step(data)
        self.check()
        if self._number <= len(self._stored):
            self._compare(data)
            return
        outlast(lambda: self._writer.write(data, key=f"step-{self._number}"))
        if step.ends_paragraph:
            outlast(self._writer.end_burst)

    def _compare(self, data: dict[str, object]) -> None:
        again = json.loads(json.dumps(data, cls=DjangoJSONEncoder))
        if self._stored[self._number - 1] != again:
            raise Diverged(f"Step {self._number} is not what an earlier attempt has published.")

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        events = Event.objects.filter(channel__name=self.channel).exclude(event="end").order_by("sequence")
        self._stored = [
            json.loads(data) for data in outlast(lambda: list(events.values_list("data", flat=True)))
        ]
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        # Who is told to stop leaves to the next attempt what the database cannot take now.
        with suppress(*AWAY if kind is Stopped else ()):
            self._writer.__exit__(kind, error, trace)
