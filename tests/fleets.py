"""Rows of processes as tests want them, with the figures that a real process writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from sse_polling.conf import Config
from sse_polling.connections import Registry
from sse_polling.lifecycle import Node as Admission
from sse_polling.measures import Measures
from sse_polling.models import Node
from sse_polling.nodes import rows
from sse_polling.nodes.figures import gather

__all__ = ["drain_of", "figures", "row"]


def figures(
    admission: Admission | None = None, measures: Measures | None = None, **given: Any
) -> dict[str, Any]:
    """Return what a process that has just begun says of itself, with *given* in place of some of it."""
    told = gather(admission or Admission(Registry()), measures or Measures(), Config(max_sockets=1000))
    capacity = told.pop("capacity")
    assert capacity == 1000
    return {**told, **given}


def drain_of(left: int, *, total: int = 80, estimate: float = 4.0) -> dict[str, Any]:
    return {"why": "order", "total": total, "left": left, "seconds": 2.0, "estimate": estimate}


def row(
    name: str = "web:1:aa", *, server: str = "uvicorn", age: float = 0, stopped: bool = False, **given: Any
) -> Node:
    """Write the row of the process *name*, as of *age* seconds ago; return it."""
    host, pid, _ = name.rsplit(":", 2)
    identity = {"name": name, "host": host, "pid": int(pid), "server": server}
    values = {"state": "serving", "sockets": 0, "readers": 0, "capacity": 1000, "history": {}}
    rows.write(identity, {**values, "figures": figures(), **given}, ends=stopped)
    if age:
        Node.objects.filter(name=name).update(seen=Now() - timedelta(seconds=age))
    return Node.objects.get(name=name)
