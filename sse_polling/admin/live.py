"""Live: what the pages that move by themselves show, gathered from the fleet's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext, ngettext

from ..database import alias
from ..models import Order
from ..nodes.beat import LIVE_CHANNEL
from ..nodes.reading import Fleet, read_fleet
from ..nodes.rows import LATE_SECONDS
from ..nodes.telling import ago, node_label, order_result, sentence
from . import plots
from .amounts import grouped
from .ordering import CHANNEL, CLOSE, PERMISSIONS
from .rows import socket_rows
from .sockets import COLUMNS, DEFAULT_ORDER, DOORS, STATES, SocketPage, Wishes, door_label, select
from .totals import reasons

__all__ = [
    "LIVE_HEADER",
    "OrderRow",
    "channel_parts",
    "fleet_parts",
    "live_parts",
    "orders",
    "permitted",
    "socket_parts",
]

LIVE_HEADER = "X-SSE-Polling-Live"
"""Sent by live.js, which wants a page's parts only: it uses up no message that is for the next page."""
POLL_SECONDS = 5  # how often a page is fetched that hears nothing
HURRY_SECONDS = 1  # while something drains: the stream that would tell may have been drained as well
MOST_ORDERS = 10

_May = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order in a table."""

    told: str
    by: str
    kind: str
    target: str
    node: str
    result: str
    waits: bool


def live_parts(fleet: Fleet, *, hurries: bool = False) -> dict[str, Any]:
    """Return what every such page has: its sentence, and how it hears of news. *hurries*: it expects some."""
    try:
        stream = f"{reverse('sse_polling:stream', args=[LIVE_CHANNEL])}?{urlencode({'busy': 'stream'})}"
    except NoReverseMatch:
        stream = ""  # sse_polling.urls are not included
    hurries = hurries or bool(fleet.in_state("draining"))
    return {
        "fleet": fleet,
        "sentence": sentence(fleet),
        "told": ago(fleet.age) if fleet.age is not None else "",
        "live": {
            "stream": stream,
            "header": LIVE_HEADER,
            "every": HURRY_SECONDS if hurries else POLL_SECONDS,
        },
    }


def fleet_parts(fleet: Fleet) -> dict[str, Any]:
    """Return the plots, and what was refused and drained."""
    return {
        "plots": plots.draw(fleet),
        "plot_table": plots.table(fleet),
        "plot_size": {"width": plots.WIDTH, "height": plots.HEIGHT},
        "refused": reasons(fleet.nodes, "refused"),
        "farewells": reasons(fleet.nodes, "farewells"),
    }


def socket_parts(fleet: Fleet, query: Mapping[str, str], may: _May) -> dict[str, Any]:
    """Return the table of sockets that *query* asks for."""
    wishes = Wishes.read(query)
    page = select(fleet, wishes)
    return {
        "wishes": wishes,
        "page": page,
        "numbers": {
            "shown": grouped(len(page.rows)),
            "found": grouped(page.found),
            "listed": grouped(page.listed),
            "total": grouped(page.total),
        },
        "page_told": ago(page.age) if page.age is not None else "",
        "sockets": socket_rows(page, fleet, closes=may(CLOSE)),
        "may_close": may(CLOSE),
        "columns": _columns(wishes),
        "links": _links(wishes, page),
        "cleared": wishes.query(node=None, channel="", state="", door="", search=""),
        "default_order": DEFAULT_ORDER,
        "choices": {
            "states": list(STATES.items()),
            "doors": [(name, door_label(name)) for name in sorted({*DOORS, *page.doors})],
            "nodes": [(node.pk, node_label(node, fleet)) for node in fleet.shown],
        },
    }


def channel_parts(name: str, query: Mapping[str, str], may: _May) -> dict[str, Any]:
    """Return who reads a channel now, as far as processes list their sockets. Four queries."""
    fleet = read_fleet(sockets=True)
    asked = {"o": query.get("o", ""), "p": query.get("p", ""), "channel": name}
    parts = {**live_parts(fleet), **socket_parts(fleet, asked, may)}
    page: SocketPage = parts["page"]
    return {
        **parts,
        "sentence": _read_by(page.found, max((socket.behind for _node, socket in page.rows), default=0)),
        "may_drain": CHANNEL if may(CHANNEL) and fleet.nodes else "",
    }


def _read_by(sockets: int, behind: int) -> str:
    if not sockets:
        return gettext("No socket is listed that reads it at this moment.")
    told = ngettext("%(count)s socket reads it", "%(count)s sockets read it", sockets)
    late = ngettext("the last is %(count)s event behind", "the last is %(count)s events behind", behind)
    if not behind:
        late = gettext("none is behind")
    return gettext("%(sockets)s; %(late)s.") % {
        "sockets": told % {"count": grouped(sockets)},
        "late": late % {"count": grouped(behind)},
    }


def orders(fleet: Fleet, *, within: float | None = None) -> list[OrderRow]:
    """Return the last orders that these processes were given, *within* so many seconds; one query."""
    nodes = {node.pk: node for node in fleet.nodes}
    rows = Order.objects.using(alias()).filter(node__in=nodes).order_by("-pk")
    if within is not None:
        rows = rows.filter(created__gte=fleet.now - timedelta(seconds=within))
    found = []
    for order in rows[:MOST_ORDERS]:
        age = (fleet.now - order.created).total_seconds()
        lapsed = order.done is None and age > LATE_SECONDS
        found.append(
            OrderRow(
                told=ago(max(0.0, age)),
                by=order.by,
                kind=order.get_kind_display(),
                target=order.target,
                node=node_label(nodes[order.node_id], fleet),
                result=order_result(order.kind, "late" if lapsed else order.result),
                waits=order.done is None and not lapsed,
            )
        )
    return found


def _columns(wishes: Wishes) -> list[dict[str, Any]]:
    """Return the headings that sort: the same again turns the order around."""
    chosen, falls = wishes.order.removeprefix("-"), wishes.order.startswith("-")
    found = []
    for name, (label, _value) in COLUMNS.items():
        largest = not falls if name == chosen else name not in ("channel", "node")
        turned = f"-{name}" if largest else name
        sort = ("descending" if falls else "ascending") if name == chosen else ""
        found.append({"name": name, "label": label, "url": wishes.query(order=turned), "sort": sort})
    return found


def _links(wishes: Wishes, page: SocketPage) -> dict[str, str]:
    return {
        "before": wishes.query(page=page.page - 1) if page.page > 1 else "",
        "after": wishes.query(page=page.page + 1) if page.page < page.pages else "",
    }


def permitted(request: Any) -> _May:
    """Return a function that tells whether the user of *request* may give orders of a kind."""
    return lambda kind: bool(request.user.has_perm(PERMISSIONS[kind]))
