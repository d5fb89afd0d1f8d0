"""Rows: what tables show of a node and of a socket, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext, ngettext, pgettext

from ..nodes.listing import SocketView
from ..nodes.reading import Fleet, NodeView
from ..nodes.telling import (
    ago,
    duration,
    node_label,
    progress_of,
    state_label,
)
from .amounts import NONE, delay, grouped, number, of, rate, share, shortened, size
from .ordering import CLOSE, DRAIN, DRAINS, RESUME
from .sockets import SocketPage, door_label, socket_state

__all__ = ["Button", "NodeRow", "SocketRow", "node_rows", "socket_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A way to the page that asks whether to do it. *about* is what it is about, for who cannot see."""

    label: str
    about: str
    kind: str
    node: int
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A process in a table: all texts are for people, shares in percent."""

    view: NodeView
    label: str
    state: str
    sockets: str
    sockets_share: float
    readers: str
    polls: str
    events: str
    descriptors: str
    descriptors_share: float
    breaker: str
    layer: str
    budget: str
    told: str
    up: str
    drain: Mapping[str, Any] | None
    buttons: Sequence[Button]
    troubled: bool


def node_rows(fleet: Fleet, may: Callable[[str], bool]) -> list[NodeRow]:
    """Return the rows of *fleet*, those that need a look first. *may*: whether a kind of order is allowed."""
    worst = ("silent", "draining", "full", "drained", "serving", "stopped")
    rank = {state: place for place, state in enumerate(worst)}
    nodes = sorted(fleet.shown, key=lambda node: (rank.get(node.state, 3), node.name))
    allowed = {kind for kind in (DRAIN, RESUME) if may(kind)}
    return [_node_row(node, fleet, allowed) for node in nodes]


def _node_row(node: NodeView, fleet: Fleet, allowed: Collection[str]) -> NodeRow:
    used, most = _pair(node.figures.get("descriptors"))
    layer = _layer(node)
    return NodeRow(
        view=node,
        label=shortened(node_label(node, fleet), 28),
        state=state_label(node.state),
        sockets=of(node.sockets, node.capacity or None),
        sockets_share=share(node.sockets, node.capacity),
        readers=grouped(node.readers) if node.state != "stopped" else NONE,
        polls=rate(node.rate("polls")) if node.is_live else "",
        events=rate(node.rate("delivered")) if node.is_live else "",
        descriptors=of(used, most),
        descriptors_share=share(used, most),
        breaker=_breaker(node),
        layer=layer,
        budget=_budget(node),
        told=ago(node.age),
        up=duration(node.up_seconds),
        drain=_drain(node),
        buttons=_buttons(node, fleet, allowed),
        troubled=node.state in ("silent", "full") or node.figures.get("layer") == "down",
    )


def _pair(told: Any) -> tuple[Any, Any]:
    return (told[0], told[1]) if isinstance(told, list | tuple) and len(told) == 2 else (None, None)


def _breaker(node: NodeView) -> str:
    told = node.figures.get("breaker")
    if not isinstance(told, Mapping):
        return NONE
    return pgettext("breaker", "open") if told.get("open") else pgettext("breaker", "closed")


def _layer(node: NodeView) -> str:
    words = {
        "live": pgettext("layer", "live"),
        "polling": pgettext("layer", "away, asks the database"),
        "down": pgettext("layer", "down"),
    }
    told = node.figures.get("layer")
    return words.get(told, NONE) if isinstance(told, str) else NONE


def _budget(node: NodeView) -> str:
    told = node.figures.get("budget")
    if not isinstance(told, Mapping):
        return pgettext("budget", "none")
    budget = number(told.get("budget"))
    wait = number(told.get("wait_ms"))
    if budget is None:
        return NONE
    count = ngettext("%(count)s socket", "%(count)s sockets", round(budget)) % {"count": grouped(budget)}
    if wait is None:
        return count
    return gettext("%(sockets)s, clients away for %(wait)s") % {"sockets": count, "wait": delay(wait / 1000)}


def _drain(node: NodeView) -> Mapping[str, Any] | None:
    drain = progress_of(node)
    if drain is None or node.state == "drained":
        return None
    total = max(drain.total, drain.left)
    return {
        "total": total,
        "gone": total - drain.left,
        "words": gettext("%(left)s left of %(total)s, about %(time)s")
        % {
            "left": grouped(drain.left),
            "total": grouped(total),
            "time": duration(max(1.0, drain.estimate)),
        },
    }


def _buttons(node: NodeView, fleet: Fleet, allowed: Collection[str]) -> list[Button]:
    label = node_label(node, fleet)
    if node.state == "stopped":
        return []
    if node.state in DRAINS:
        ends = node.drain is not None and node.drain.why == "signal"
        if ends or RESUME not in allowed:
            return []
        return [Button(label=gettext("Resume"), about=label, kind=RESUME, node=node.pk)]
    if DRAIN not in allowed:
        return []
    return [Button(label=gettext("Drain"), about=label, kind=DRAIN, node=node.pk)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketRow:
    """A socket in a table."""

    view: SocketView
    node: NodeView
    label: str
    channels: Sequence[tuple[str, str]]
    more: int
    who: str
    client: str
    address: str
    door: str
    state: str
    age: str
    behind: str
    events: str
    bytes: str
    bursts: str
    button: Button | None


def socket_rows(page: SocketPage, fleet: Fleet, *, closes: bool) -> list[SocketRow]:
    """Return the rows of a page of sockets."""
    labels = {node.pk: shortened(node_label(node, fleet), 28) for node in fleet.nodes}
    return [
        SocketRow(
            view=socket,
            node=node,
            label=labels[node.pk],
            channels=[(name, shortened(name)) for name in socket.channels],
            more=max(0, socket.of - len(socket.channels)),
            who=page.user(socket) if socket.user is not None else "",
            client=str(socket.client) if socket.client is not None else "",
            address=str(socket.address) if socket.address is not None else "",
            door=door_label(socket.door),
            state=socket_state(socket.state),
            age=duration(socket.age),
            behind=grouped(socket.behind),
            events=grouped(socket.events),
            bytes=size(socket.bytes),
            bursts=grouped(socket.bursts),
            button=Button(
                label=gettext("Close"),
                about=gettext("socket %(number)s of %(node)s")
                % {"number": socket.number, "node": labels[node.pk]},
                kind=CLOSE,
                node=node.pk,
                target=str(socket.number),
            )
            if closes and node.is_live
            else None,
        )
        for node, socket in page.rows
    ]
