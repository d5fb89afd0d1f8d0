"""Totals: the figures of all nodes together, and of one since it began, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext, pgettext

from ..lifecycle import Farewell, Refusal
from ..nodes.reading import Fleet, NodeView
from ..nodes.telling import cause, duration, farewell, refusal_reason
from ..protocol.histogram import AGES, DELAYS, quantile
from .amounts import NONE, counts, delay, grouped, number, rate, size

__all__ = ["figures", "reasons", "totals"]


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
