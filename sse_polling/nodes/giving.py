"""Giving orders: what an operator asks of one process, or of many."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.db.models.functions import Now

from ..database import alias
from ..models import Order
from .beat import give_word

__all__ = ["give"]


def give(kind: str, nodes: Iterable[int], *, target: str = "", by: str = "") -> list[int]:
    """Order *kind* (:class:`Order.Kind`) of the processes of these primary keys; return the orders' own.

    *target*: a socket's number, or a channel. The processes are told through the channel layer at once,
    where it reaches them, and find the order at their next beat in any case. An order that is not taken
    up within a minute lapses.
    """
    using = alias()
    with transaction.atomic(using=using):
        made = [
            Order.objects.using(using).create(
                node_id=node, kind=kind, target=target, by=by[:150], created=Now()
            )
            for node in nodes
        ]
    transaction.on_commit(give_word, using=using)
    return [order.pk for order in made]
