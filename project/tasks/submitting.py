"""Where questions are handed in: by the API, the console, and the page that only asks."""

from __future__ import annotations

from django.db import transaction

from project.models import Task

from . import ledger
from .agents import answer, index

__all__ = ["Full", "submit"]


class Full(Exception):
    """As many tasks wait as may; nothing was stored."""

    def __init__(self) -> None:
        super().__init__(f"{ledger.MAX_WAITING} tasks wait already. Try again in a moment.")


def submit(question: str, *, indexed: bool = False, pace: float | None = None) -> Task:
    """Enqueue a question; *indexed*: for the agent that reads along. Raises :exc:`Full`."""
    function = index if indexed else answer
    with transaction.atomic():
        made = function.enqueue(question=question, pace=pace)
        # It has told the channel `tasks`, whose lock no other has between its count and its commit.
        if Task.objects.filter(state=Task.State.WAITING).count() > ledger.MAX_WAITING:
            raise Full
    return Task.objects.get(key=made.id)
