"""The tasks framework's backend: a row in the demo's own table, which `manage.py worker` takes up.

django-tasks-db has one as well. Its tasks cannot be cancelled, and stay `running` when their worker is
killed (its issue 5), so a reader would wait for ever.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.db import transaction
from django.utils.module_loading import import_string

from project.models import Task

from . import ledger
from .framework import BaseTaskBackend, TaskError, TaskResult, TaskResultDoesNotExist, TaskResultStatus

__all__ = ["TableBackend", "as_result"]

_STATUS = {
    Task.State.WAITING: TaskResultStatus.READY,
    Task.State.RUNNING: TaskResultStatus.RUNNING,
    Task.State.DONE: TaskResultStatus.SUCCESSFUL,
    Task.State.FAILED: TaskResultStatus.FAILED,
    Task.State.CANCELLED: TaskResultStatus.FAILED,
}


class TableBackend(BaseTaskBackend):
    """Enqueues in the caller's transaction: a task of one that is rolled back never runs."""

    supports_get_result = True

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.validate_task(task)
        with transaction.atomic():
            row = Task.objects.create(
                key=secrets.token_hex(8),
                function=task.module_path,
                queue=task.queue_name,
                args=list(args),
                kwargs=dict(kwargs),
            )
            ledger.tell(row)
        return as_result(row)

    def get_result(self, result_id: str) -> Any:
        row = Task.objects.filter(key=result_id).first()
        if row is None:
            raise TaskResultDoesNotExist(result_id)
        return as_result(row)


def as_result(row: Task) -> TaskResult[Any, Any]:
    """Return a row as the framework has it."""
    error = (
        [TaskError(exception_class_path="builtins.RuntimeError", traceback=row.error)] if row.error else []
    )
    result: TaskResult[Any, Any] = TaskResult(
        task=import_string(row.function),
        id=row.key,
        status=_STATUS[Task.State(row.state)],
        enqueued_at=row.created,
        started_at=row.started,
        finished_at=row.ended,
        last_attempted_at=row.started,
        args=row.args,
        kwargs=row.kwargs,
        backend="default",
        errors=error,
        worker_ids=[row.holder] * row.attempts,
    )
    object.__setattr__(result, "_return_value", row.result)
    return result
