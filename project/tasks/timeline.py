"""Who said what when, where one agent reads another: by the sequence of each, and the database's time."""

from __future__ import annotations

from typing import Any

from project.models import Task
from sse_polling.models import Event

__all__ = ["timeline"]


def timeline(task: Task) -> list[dict[str, Any]]:
    """Return the moments of a task and of the one it reads, oldest first; empty if it reads none."""
    source = task.children.first()
    if source is None:
        return []
    moments = [*_moments(task, "reader"), *_moments(source, "source")]
    return sorted(moments, key=lambda moment: moment["at"])


def _moments(task: Task, who: str) -> list[dict[str, Any]]:
    events = list(
        Event.objects.filter(channel__name=task.channel)
        .order_by("sequence")
        .values_list("sequence", "event", "created")
    )
    found = [{"at": task.started, "who": who, "what": "started", "sequence": 0}] if task.started else []
    steps = [each for each in events if each[1] != "end"]
    for number, (sequence, _event, created) in enumerate(steps, 1):
        if number == 1 or who == "reader":
            what = "first step" if number == 1 else f"step {number}"
            found.append({"at": created, "who": who, "what": what, "sequence": sequence})
    found += [
        {"at": created, "who": who, "what": "end", "sequence": sequence}
        for sequence, event, created in events
        if event == "end"
    ]
    return found
