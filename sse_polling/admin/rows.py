"""Rows: what the pages show of a process, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext, ngettext, pgettext

from ..lifecycle import Farewell, Refusal
from ..nodes.listing import SocketView
from ..nodes.reading import Fleet, NodeView
from ..nodes.telling import (
    ago,
    cause,
    duration,
    farewell,
    node_label,
    progress_of,
    refusal_reason,
    state_label,
)
from ..protocol.histogram import AGES, DELAYS, quantile
from .amounts import NONE, counts, delay, grouped, number, of, rate, share, shortened, size
from .ordering import CLOSE, DRAIN, DRAINS, RESUME
from .sockets import SocketPage, door_label, socket_state

__all__ = ["Button", "NodeRow", "SocketRow", "figures", "node_rows", "reasons", "socket_rows", "totals"]


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
    nodes = sorted(fleet.nodes, key=lambda node: (rank.get(node.state, 3), node.name))
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


def totals(fleet: Fleet) -> list[tuple[str, str, str]]:
    """Return (what, how much, a word on it) of the whole fleet."""
    live = fleet.live
    latency: Counter[int] = Counter()
    for moment in fleet.moments:
        latency.update(dict(enumerate(moment.latency)))
    median, most = (
        quantile(each, DELAYS, [latency[at] for at in range(len(DELAYS) + 1)]) for each in (0.5, 0.95)
    )
    minutes = gettext("in the last 5 minutes")
    within = gettext("median; 95 %% within %(most)s") % {"most": delay(most)}
    return [
        (gettext("Readers"), grouped(fleet.readers), gettext("clients seen within their last two polls")),
        (
            gettext("Sockets"),
            grouped(fleet.sockets),
            gettext("of %(most)s that nodes may hold") % {"most": grouped(fleet.capacity)},
        ),
        (gettext("Polls"), rate(sum(node.rate("polls") for node in live)), gettext("a second")),
        (
            gettext("Events"),
            rate(sum(node.rate("delivered") for node in live)),
            gettext("delivered a second"),
        ),
        (gettext("Delivery"), delay(median), within if median is not None else minutes),
        (gettext("Refused"), grouped(fleet.refused), minutes),
        (gettext("Gaps"), grouped(fleet.lost), gettext("told to readers in the last 5 minutes")),
    ]


def reasons(nodes: Iterable[NodeView], name: str) -> list[tuple[str, str, int]]:
    """Return (reason, count, number) of ``refused`` or ``farewells``, since the processes began."""
    known, words = {
        "refused": (list(map(str, Refusal)), refusal_reason),
        "farewells": (list(map(str, Farewell)), farewell),
        "ended": ([], cause),
    }[name]
    total: Counter[str] = Counter(dict.fromkeys(known, 0))
    for node in nodes:
        total.update(counts(node.figures.get(name)))
    rows = [(words(reason), grouped(count), count) for reason, count in total.items()]
    return rows if name != "ended" else sorted(rows, key=lambda row: -row[2])


def figures(node: NodeView) -> list[tuple[str, str]]:
    """Return all that a process tells of itself, since it began."""
    told = node.figures
    sockets = counts(told.get("sockets"))
    rows = [
        (gettext("Server"), node.server),
        (gettext("Host and process"), f"{node.host}, {node.pid}"),
        (gettext("Running for"), duration(node.up_seconds)),
        (gettext("Streams open"), grouped(sockets.get("open"))),
        (gettext("Asked to leave"), grouped(sockets.get("leaving"))),
        (gettext("Their goodbye is waited for"), grouped(sockets.get("asked"))),
        (gettext("Over, not yet read to the end"), grouped(sockets.get("flushing"))),
        (gettext("Kept for the client's next poll"), grouped(sockets.get("kept"))),
        (gettext("Most open at once"), grouped(told.get("most"))),
        (gettext("Streams opened"), grouped(told.get("admitted"))),
        (gettext("With a cursor (reconnects)"), grouped(told.get("reconnects"))),
        (gettext("Published here"), grouped(told.get("published"))),
        (gettext("Delivered"), grouped(told.get("delivered"))),
        (gettext("Bytes sent"), size(told.get("bytes"))),
        (gettext("Delivery latency, median"), _quantile(told.get("latency"), DELAYS)),
        (gettext("Until the first byte, median"), _quantile(told.get("first"), DELAYS)),
        (gettext("Age of a stream at its end, median"), _quantile(told.get("age"), AGES)),
        (gettext("Wakes that were not sent"), grouped(told.get("wakes_missed"))),
        (gettext("Paused by the garbage collector"), delay(number(told.get("pause_seconds")))),
    ]
    gaps = {"trimmed": pgettext("gap", "trimmed"), "reset": pgettext("gap", "reset")}
    rows += [
        (gettext("Gaps: %(reason)s") % {"reason": gaps.get(name, name)}, grouped(count))
        for name, count in counts(told.get("gaps")).items()
    ]
    sources = {"tail": pgettext("replay", "tail"), "database": pgettext("replay", "database")}
    rows += [
        (gettext("Replays from: %(source)s") % {"source": sources.get(name, name)}, grouped(count))
        for name, count in counts(told.get("replays")).items()
    ]
    return rows


def _quantile(told: Any, bounds: Sequence[float]) -> str:
    values = told.get("counts") if isinstance(told, Mapping) else None
    if not isinstance(values, list) or not all(isinstance(each, int) for each in values):
        return NONE
    return delay(quantile(0.5, bounds, values))
