"""Obeying: how this process carries out what operators have ordered."""

from __future__ import annotations

from ..draining import ORDER, SIGNAL, Draining
from ..lifecycle import Node
from ..models import Order

__all__ = ["obey"]


def obey(order: Order, node: Node, draining: Draining, *, late: bool) -> str:
    """Carry *order* out, in the loop where drains run, and return what came of it, in a word or two.

    ``begun``, ``already`` (it drains, or serves), ``ends`` (a process that was told to end does not
    resume), ``closing 3`` (streams that were asked to leave), ``gone`` (there is no such stream), ``busy``,
    ``late`` (nobody took the order up in time), ``unknown``.
    """
    if late:
        return "late"
    if order.kind == Order.Kind.DRAIN:
        if node.draining:
            return "already"
        draining.begin(ORDER)
        return "begun"
    if order.kind == Order.Kind.RESUME:
        if not node.draining:
            return "already"
        draining.resume()
        if draining.why == SIGNAL:
            return "ends"
        return "begun"
    if order.kind == Order.Kind.CLOSE:
        found = node.registry.numbered(int(order.target)) if order.target.isdecimal() else None
        chosen = [found] if found is not None else []
    elif order.kind == Order.Kind.CHANNEL:
        chosen = [each for each in node.registry if order.target in each.channels]
    else:
        return "unknown"
    if not chosen:
        return "gone"
    try:
        draining.close(chosen)
    except RuntimeError:
        return "busy"
    return f"closing {len(chosen)}"
