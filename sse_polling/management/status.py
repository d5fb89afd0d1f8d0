"""The status of the fleet, as ``sse_status`` prints it: for people, and as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.utils.translation import gettext

from ..nodes.numbers import number, numbers
from ..nodes.reading import Fleet, NodeView
from ..nodes.telling import (
    duration,
    node_label,
    progress_of,
    refusal_reason,
    sentence,
    state_label,
)

__all__ = ["as_json", "as_text", "progress_line"]

Paint = Callable[[str, str], str]
# The first of them goes first where the terminal is too narrow for all.
SPARE = ("server", "events/s", "breaker", "files", "layer", "polls/s", "readers")
LEFT = ("node", "server", "state", "layer", "breaker")
LABEL_CHARACTERS = 30


def as_text(fleet: Fleet, *, width: int, paint: Paint = lambda text, state: text) -> str:
    """Return the sentence, a table, and what is worth a line, none wider than *width* where it can be.

    *paint* gets a text and the state that it is about.
    """
    lines = [sentence(fleet)]
    if fleet.nodes:
        lines += ["", *_table(fleet, width, paint)]
    details = [
        *(line for node in fleet.nodes if (line := progress_line(node, fleet)) is not None),
        *_sum(gettext("Refused"), fleet, "refused", refusal_reason),
        *_sum(gettext("Gaps"), fleet, "gaps", str),
    ]
    return "\n".join([*lines, *([""] if details else []), *details])


def progress_line(node: NodeView, fleet: Fleet) -> str | None:
    """Return how far a process's drain is, None if it does not drain."""
    drain = progress_of(node)
    if drain is None or node.state != "draining":
        return None
    return gettext("%(node)s drains: %(left)s of %(total)s left after %(time)s, about %(more)s more.") % {
        "node": node_label(node, fleet),
        "left": f"{drain.left:,}",
        "total": f"{max(drain.total, drain.left):,}",
        "time": duration(drain.seconds),
        "more": duration(max(1.0, drain.estimate)),
    }


def as_json(fleet: Fleet) -> dict[str, Any]:
    """Return the object that ``docs/reference.md`` lists. A number that is not known is None."""
    return {
        "sentence": sentence(fleet),
        "time": fleet.now.isoformat(),
        "age_seconds": _rounded(fleet.age),
        "sockets": fleet.sockets,
        "readers": fleet.readers,
        "capacity_sockets": fleet.capacity,
        "gaps_last_300_seconds": fleet.lost,
        "refused_last_300_seconds": fleet.refused,
        "nodes": [_node_as_json(node, fleet) for node in fleet.nodes],
    }


def _node_as_json(node: NodeView, fleet: Fleet) -> dict[str, Any]:
    drain, layer = progress_of(node), node.figures.get("layer")
    return {
        "name": node.name,
        "label": node_label(node, fleet),
        "host": node.host,
        "pid": node.pid,
        "server": node.server,
        "state": node.state,
        "age_seconds": _rounded(node.age),
        "up_seconds": _rounded(node.up_seconds),
        "sockets": node.sockets,
        "readers": node.readers,
        "capacity_sockets": node.capacity,
        "most_sockets": number(node, "most"),
        "descriptors_used": number(node, "descriptors", 0),
        "descriptors_limit": number(node, "descriptors", 1),
        "layer": layer if isinstance(layer, str) else None,
        "breaker_open": _is_open(node),
        "budget_sockets": number(node, "budget", "budget"),
        "budget_places": number(node, "budget", "places"),
        "polls_per_second": _rounded(node.rate("polls")),
        "events_per_second": _rounded(node.rate("delivered")),
        "bytes_per_second": _rounded(node.rate("bytes")),
        "admitted_total": number(node, "admitted"),
        "refused_total": numbers(node, "refused"),
        "ended_total": numbers(node, "ended"),
        "gaps_total": numbers(node, "gaps"),
        "drain": None
        if drain is None
        else {
            "why": str(drain.why),
            "total": drain.total,
            "left": drain.left,
            "elapsed_seconds": drain.seconds,
            "estimate_seconds": drain.estimate,
        },
    }


def _table(fleet: Fleet, width: int, paint: Paint) -> Iterable[str]:
    rows = [_cells(node, fleet) for node in fleet.shown]
    columns = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    spare = [name for name in SPARE if name in columns]
    gap = 2
    while sum(widths[name] + gap for name in columns) - gap > width:
        if gap == 2:
            gap = 1
        elif spare:
            columns.remove(spare.pop(0))
        else:
            break
    yield _line({name: name for name in columns}, columns, widths, gap).rstrip()
    for node, row in zip(fleet.shown, rows, strict=True):
        yield paint(_line(row, columns, widths, gap).rstrip(), node.state)
    if gone := [name for name in rows[0] if name not in columns]:
        yield gettext("Not shown, for lack of width: %(columns)s.") % {"columns": ", ".join(gone)}


def _line(row: Mapping[str, str], columns: Iterable[str], widths: Mapping[str, int], gap: int) -> str:
    padded = [
        row[name].ljust(widths[name]) if name in LEFT else row[name].rjust(widths[name]) for name in columns
    ]
    return (" " * gap).join(padded)


def _cells(node: NodeView, fleet: Fleet) -> dict[str, str]:
    label = node_label(node, fleet)
    if len(label) > LABEL_CHARACTERS:
        label = f"…{label[1 - LABEL_CHARACTERS :]}"  # the end tells processes apart
    used, limit = number(node, "descriptors", 0), number(node, "descriptors", 1)
    layer, is_open = node.figures.get("layer"), _is_open(node)
    breaker = "-" if is_open is None else "open" if is_open else "closed"
    places, budget = number(node, "budget", "places"), number(node, "budget", "budget")
    if places is not None and budget is not None and not is_open:
        breaker = f"{_short(places)}/{_short(budget)}"
    rate = node.rate if node.is_live else lambda name: 0.0
    return {
        "node": label,
        "server": node.server,
        "state": state_label(node.state),
        "sockets": f"{_short(node.sockets)}/{_short(node.capacity)}",
        "readers": f"{node.readers:,}",
        "files": "-" if used is None else f"{_short(used)}/{'∞' if limit is None else _short(limit)}",
        "layer": layer if isinstance(layer, str) else "-",
        "breaker": breaker,
        "polls/s": f"{rate('polls'):,.1f}",
        "events/s": f"{rate('delivered'):,.1f}",
        "age": duration(node.age),
    }


def _sum(what: str, fleet: Fleet, figure: str, words: Callable[[str], str]) -> Iterable[str]:
    """Yield one line of what has happened since the processes began, the most frequent first."""
    total: Counter[str] = Counter()
    for node in fleet.nodes:
        total.update({reason: int(count) for reason, count in numbers(node, figure).items()})
    told = [f"{words(reason)} {count:,}" for reason, count in total.most_common() if count]
    if told:
        yield gettext("%(what)s since the processes began: %(reasons)s.") % {
            "what": what,
            "reasons": ", ".join(told),
        }


def _is_open(node: NodeView) -> bool | None:
    breaker = node.figures.get("breaker")
    told = breaker.get("open") if isinstance(breaker, Mapping) else None
    return told if isinstance(told, bool) else None


def _short(count: float) -> str:
    """Return a number in at most five characters: 9,999 and then 10k, 999k, 1M."""
    if count < 10_000:
        return f"{int(count):,}"
    return f"{int(count) // 1000}k" if count < 1_000_000 else f"{int(count) // 1_000_000}M"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
