"""The rows of processes and their orders: the only code that writes them. All times are the database's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

from ..database import alias
from ..models import Lease, Node, NodeSockets, Order

__all__ = [
    "LATE_SECONDS",
    "SILENT_SECONDS",
    "fulfil",
    "is_watched",
    "orders",
    "others",
    "stop",
    "tidy",
    "write",
    "write_sockets",
]

SILENT_SECONDS = 15.0  # a process that has said nothing for so long is silent
LATE_SECONDS = 60.0  # an order that nobody has taken up for so long is not carried out any more
STOPPED_SECONDS = 360.0  # a process that has said that it ends: what it told counts for the last minutes
DEAD_SECONDS = 600.0  # and one that has not
DONE_SECONDS = 86_400.0  # an order that was carried out is shown for so long at most
TIDIED = 500  # rows at a time
WATCH = "sse_polling.live"


def write(identity: Mapping[str, Any], values: Mapping[str, Any], *, ends: bool = False) -> None:
    """Write this process's row, made if there is none: *identity* has its name, host, pid and server.

    *ends*: it is the last time.
    """
    rows = Node.objects.using(alias())
    values = {**values, "seen": Now(), "stopped": Now() if ends else None}
    if not rows.filter(name=identity["name"]).update(**values):
        # Tidied while the process stood still, or the first time.
        rows.bulk_create([Node(**identity, started=Now(), **values)], ignore_conflicts=True)


def stop(name: str) -> None:
    """Note that the process ends."""
    rows = Node.objects.using(alias()).filter(name=name)
    rows.update(seen=Now(), stopped=Now(), state="drained", sockets=0, readers=0)
    NodeSockets.objects.using(alias()).filter(node__name=name).delete()


def write_sockets(name: str, total: int, packed: bytes) -> None:
    """Write the list of the process's sockets."""
    using = alias()
    values = {"taken": Now(), "total": total, "packed": packed}
    rows = NodeSockets.objects.using(using)
    if rows.filter(node__name=name).update(**values):
        return
    node = Node.objects.using(using).filter(name=name).values_list("pk", flat=True).first()
    if node is not None:
        rows.bulk_create([NodeSockets(node_id=node, **values)], ignore_conflicts=True)


def orders(name: str) -> list[tuple[Order, bool]]:
    """Return what the process is asked to do, in order, and of each whether it comes too late."""
    late = Now() - timedelta(seconds=LATE_SECONDS)
    rows = Order.objects.using(alias()).filter(node__name=name, done=None).order_by("pk")[:100]
    is_late = ExpressionWrapper(Q(created__lt=late), output_field=BooleanField())
    return [(order, bool(order.late)) for order in rows.annotate(late=is_late)]


def fulfil(results: Iterable[tuple[int, str]]) -> None:
    """Note what came of orders."""
    for key, result in results:
        Order.objects.using(alias()).filter(pk=key, done=None).update(done=Now(), result=result)


def others(name: str) -> bool:
    """Tell whether another process is known to serve."""
    recent = Now() - timedelta(seconds=SILENT_SECONDS)
    rows = Node.objects.using(alias()).filter(seen__gte=recent, state="serving", stopped=None)
    return rows.exclude(name=name).exists()


def is_watched() -> bool:
    """Tell whether anybody looks at the pages: then processes write more often."""
    return Lease.objects.using(alias()).filter(name=WATCH, until__gt=Now()).exists()


def tidy() -> int:
    """Delete the rows of dead processes, some at a time, and orders long done; return how many processes."""
    stopped = Q(stopped__lt=Now() - timedelta(seconds=STOPPED_SECONDS))
    dead = Q(seen__lt=Now() - timedelta(seconds=DEAD_SECONDS))
    using = alias()
    with transaction.atomic(using=using):
        doomed = list(Node.objects.using(using).filter(stopped | dead).values_list("pk", flat=True)[:TIDIED])
        Order.objects.using(using).filter(done__lt=Now() - timedelta(seconds=DONE_SECONDS)).delete()
        if doomed:
            Node.objects.using(using).filter(pk__in=doomed).delete()
    return len(doomed)
