"""The only code that changes task rows. What readers must hear of is published in the same transaction.

So a task's row and its channel cannot disagree: the row is over exactly when the channel has its `end`.
Rows are locked first, then the tasks' own channels in the order of their names, then `tasks`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce, Now

from project.models import Task
from sse_polling import finish, publish

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_WAITING",
    "STATES_CHANNEL",
    "beat",
    "cancel",
    "claim",
    "end",
    "held",
    "outline",
    "prune",
    "put_back",
    "release",
]

STATES_CHANNEL = "tasks"
MAX_ATTEMPTS = 5
MAX_WAITING = 50
KEPT = 500


def outline(task: Task) -> dict[str, Any]:
    """Return what the channel `tasks` says of a task."""
    return {
        "id": task.key,
        "kind": task.kind,
        "question": task.question,
        "state": task.state,
        "created": task.created,
        "ended": task.ended,
        "attempts": task.attempts,
        "parent": task.parent.key if task.parent else None,
    }


def tell(task: Task) -> None:
    """Publish how a task stands now."""
    task.refresh_from_db()
    publish(STATES_CHANNEL, outline(task))


def claim(queue: str, worker: str) -> Task | None:
    """Take the oldest task that waits, or whose worker is gone; None if there is none."""
    due = Task.objects.filter(queue=queue).filter(
        Q(state=Task.State.WAITING) | Q(state=Task.State.RUNNING, lease_until__lt=Now())
    )
    if not due.exists():  # without a transaction, which on SQLite all writers would wait for
        return None
    with transaction.atomic():
        task = due.select_for_update(skip_locked=True, of=("self",)).order_by("pk").first()
        if task is None:
            return None
        if task.attempts >= MAX_ATTEMPTS:
            _end([task], Task.State.FAILED, error=f"Its worker died {task.attempts} times.")
            return None
        attempt = task.attempts + 1
        Task.objects.filter(pk=task.pk).update(
            state=Task.State.RUNNING,
            holder=f"{worker}/{task.pk}/{attempt}",
            attempts=attempt,
            lease_until=Now() + _lease(),
            started=Coalesce(F("started"), Now()),
            released=None,
        )
        tell(task)
    return task


def beat(holders: Collection[str]) -> None:
    """Say that these attempts are alive."""
    _running(holders).update(lease_until=Now() + _lease())


def held(holders: Collection[str]) -> set[str]:
    """Return those attempts whose task is still theirs: not cancelled, and taken over by nobody."""
    return set(_running(holders).values_list("holder", flat=True))


def end(holder: str, state: Task.State, *, result: Any = None, error: str = "") -> bool:
    """End the task of an attempt; False if it is not that attempt's any more."""
    with transaction.atomic():
        task = _running([holder]).select_for_update(of=("self",)).first()
        if task is None:
            return False
        _end([task], state, result=result, error=error)
    return True


def put_back(holder: str) -> None:
    """Let another worker go on with it: this one leaves in order, so the attempt does not count."""
    with transaction.atomic():
        task = _running([holder]).select_for_update(of=("self",)).first()
        if task is not None:
            Task.objects.filter(pk=task.pk).update(
                state=Task.State.WAITING, holder="", lease_until=None, attempts=F("attempts") - 1
            )
            tell(task)


def release(holder: str) -> None:
    """Note that the worker's thread has left the task, however it stands."""
    Task.objects.filter(holder=holder).update(released=Now())


def cancel(key: str) -> Task | None:
    """Cancel a task, and what it has asked of others, unless it is over; None if there is no such task.

    It is over at once, for readers as well: what a worker may still want to write is refused by the
    finished channel, and within a moment it notices.
    """
    with transaction.atomic():
        rows = Task.objects.select_for_update(of=("self",))
        # One after the other: until the first is locked, it may still ask somebody.
        tasks = [*rows.filter(key=key), *rows.filter(parent__key=key).order_by("pk")]
        _end([each for each in tasks if not each.is_over], Task.State.CANCELLED)
    return Task.objects.filter(key=key).first()


def prune() -> None:
    """Forget the oldest tasks that are over; retention does the same for their channels.

    Not those that have asked others who are still at work: these would be forgotten with them.
    """
    unfinished = Task.objects.filter(state__in=[Task.State.WAITING, Task.State.RUNNING])
    asked = unfinished.filter(parent__isnull=False).values("parent")
    over = Task.objects.exclude(pk__in=unfinished.values("pk")).exclude(pk__in=asked)
    edge = over.order_by("-pk").values_list("pk", flat=True)[KEPT : KEPT + 1]
    if edge:
        over.filter(pk__lte=edge[0]).delete()


def _lease() -> timedelta:
    return timedelta(seconds=settings.TASK_LEASE_SECONDS)


def _running(holders: Collection[str]) -> QuerySet[Task]:
    return Task.objects.filter(holder__in=holders, state=Task.State.RUNNING)


def _end(tasks: Iterable[Task], state: Task.State, *, result: Any = None, error: str = "") -> None:
    """End tasks whose rows are locked: row, channel and news of it, all or nothing."""
    ended = sorted(tasks, key=lambda task: task.channel)
    for task in ended:
        Task.objects.filter(pk=task.pk).update(
            state=state,
            ended=Now(),
            result=result,
            error=error,
            lease_until=None,
            # Nobody works on what was never begun.
            **({"released": Now()} if task.state == Task.State.WAITING else {}),
        )
    for task in ended:
        finish(task.channel, {"status": state.value, **({"error": error} if error else {})})
    for task in ended:
        tell(task)
