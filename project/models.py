"""The demo's own table: its background tasks."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

__all__ = ["Task"]


class Task(models.Model):
    """A call of a task function, waiting, running or over. Only `project.tasks.ledger` changes it.

    All times are the database's, so that workers on several machines agree on whose lease is over.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    key = models.CharField(max_length=32, unique=True, help_text="What addresses and the channel call it.")
    function = models.CharField(max_length=200, help_text="The task function's dotted path.")
    queue = models.CharField(max_length=32)
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")

    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    created = models.DateTimeField(db_default=Now())
    started = models.DateTimeField(null=True, help_text="When its first attempt began.")
    ended = models.DateTimeField(null=True)
    released = models.DateTimeField(null=True, help_text="When the worker's thread had left it.")

    holder = models.CharField(max_length=80, blank=True, help_text="The attempt that may end it.")
    lease_until = models.DateTimeField(
        null=True, help_text="Without a heartbeat until then, it is taken over."
    )
    attempts = models.PositiveIntegerField(default=0)

    result = models.JSONField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["queue", "state"], name="project_task_due")]

    def __str__(self) -> str:
        return f"{self.key} ({self.state})"

    @property
    def channel(self) -> str:
        return f"task.{self.key}"

    @property
    def is_over(self) -> bool:
        return self.state not in {self.State.WAITING, self.State.RUNNING}

    @property
    def question(self) -> str:
        return str(self.kwargs.get("question", ""))

    @property
    def kind(self) -> str:
        """The function's own name."""
        return self.function.rpartition(".")[2]
