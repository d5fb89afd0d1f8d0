"""The two task functions: an agent that answers a question, and one that reads along and indexes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import django
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from project.agent.index import Index
from project.agent.investigation import investigate
from project.agent.library import Library
from project.agent.steps import Step
from project.models import Task
from project.outage import outlast
from sse_polling.client import Gap, stream_events

from .framework import task
from .run import Run, Stopped, current

__all__ = ["AGENTS", "READERS", "answer", "index", "read_library"]

AGENTS, READERS = "agents", "readers"
T = TypeVar("T")


@cache
def read_library() -> Library:
    """Return the installed Django's source, read and outlined once for each process."""
    library = Library.read(Path(django.__file__).parent)
    library.definitions()
    return library


@task(queue_name=AGENTS)
def answer(question: str, pace: float | None = None) -> dict[str, Any]:
    """Answer a question about Django's source. A paragraph is a burst.

    *pace*: seconds between two steps, for people who read along; the site's own if None.
    """
    run = current()
    for step in investigate(replace(read_library(), check=run.check), question):
        run.write(step)
        run.pause(settings.TASK_PACE_SECONDS if pace is None else pace)
    content = step.content
    assert not isinstance(content, str)  # noqa: S101 - the last step is the final one
    return {name: content[name] for name in ("answer", "where") if name in content}


@task(queue_name=READERS)
def index(question: str, pace: float | None = None) -> dict[str, Any]:
    """Let another agent answer, and read it as any client does: over HTTP, from a process of its own."""
    run = current()
    run.write(
        Step(
            "reasoning",
            {"text": "I ask the first agent, and index what it says while it says it.", "question": question},
            ends_paragraph=True,
        )
    )
    source = outlast(lambda: _delegate(run.key, question, pace))
    return asyncio.run(_until_stopped(run, _read(run, source)))


def _delegate(key: str, question: str, pace: float | None) -> Task:
    """Ask the first agent, once however often this is tried."""
    with transaction.atomic():
        me = Task.objects.select_for_update(of=("self",)).get(key=key)
        if me.is_over:
            raise Stopped("it was cancelled before it asked")
        if (asked := me.children.first()) is None:
            asked = Task.objects.get(key=answer.enqueue(question=question, pace=pace).id)
            Task.objects.filter(pk=asked.pk).update(parent=me)
    return asked


async def _read(run: Run, source: Task) -> dict[str, Any]:
    url = f"{settings.TASK_SERVER_URL}{reverse('sse_polling:stream', args=[source.channel])}"
    found, status = Index(), "unknown"
    # From its first event, also when this is resumed: the index is made anew, and its steps are not repeated.
    async for event in stream_events(url, "earliest", max_backoff_seconds=2):
        if isinstance(event, Gap):
            raise RuntimeError(f"Steps {event.first} to {event.last} of {source.key} are gone.")
        if event.event == "end":
            status = str(event.json()["status"])
        else:
            for step in found.take(event.json()):
                await asyncio.to_thread(run.write, step)
    for step in found.close(status):
        await asyncio.to_thread(run.write, step)
    return {"read": source.key, "status": status, "paragraphs": found.paragraphs}


async def _until_stopped(run: Run, work: Awaitable[T]) -> T:
    """Wait for *work*, and cancel it when the run must stop."""
    working = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([working], timeout=0.1))[0]:
            run.check()
        return working.result()
    finally:
        working.cancel()
