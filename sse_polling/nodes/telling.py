"""Telling: the words of the fleet, for pages and terminals. All are translated where they are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from django.utils.formats import number_format
from django.utils.text import get_text_list
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from ..lifecycle import Farewell, Refusal
from ..models import Order
from ..protocol.burst import Cause
from .reading import Drain, Fleet, NodeView

__all__ = [
    "ago",
    "cause",
    "duration",
    "farewell",
    "node_label",
    "order_result",
    "progress_of",
    "refusal_reason",
    "sentence",
    "state_label",
]

Words = dict[str, Any]  # enums of texts, and lazy ones

MOST_NAMED = 3  # nodes in one clause
DAYS_FROM_SECONDS = 36 * 3600  # a time is told in days

_STATES: Words = {
    "serving": _("serving"),
    "full": _("full"),
    "draining": _("draining"),
    "drained": _("drained"),
    "silent": _("silent"),
    "stopped": _("stopped"),
}
_REFUSALS: Words = {
    Refusal.CAPACITY: _("over capacity"),
    Refusal.PRIORITY: _("over capacity for its priority"),
    Refusal.BUDGET: _("over the budget"),
    Refusal.CLIENT: _("too many of one client"),
    Refusal.ARRIVING: _("too many being asked who they are"),
    Refusal.DATABASE: _("the database was away"),
    Refusal.DRAINING: _("draining"),
}
_CAUSES: Words = {
    Cause.EVENTS: _("as many events as a burst may have"),
    Cause.BYTES: _("as many bytes as a burst may have"),
    Cause.SECONDS: _("as long as a burst may be"),
    Cause.LINGER: _("quiet after its events"),
    Cause.HOLD: _("nothing came"),
    Cause.PUBLISHER: _("the publisher ended it"),
    Cause.END: _("the channel is finished"),
    Cause.BUDGET: _("made room, by the budget"),
    Cause.DRAIN: pgettext_lazy("why a stream ended", "drained"),
    Cause.DATABASE: _("the database was away"),
    Cause.FAILED: _("an error"),
    Cause.GONE: _("the client went"),
    Cause.STALLED: _("the client did not read"),
}
_FAREWELLS: Words = {
    Farewell.ACKED: _("said goodbye"),
    Farewell.CLOSED: _("closed by itself"),
    Farewell.NOT_ASKED: _("not asked (it gave no name)"),
    Farewell.NOT_ACKED: _("asked, and did not answer"),
    Farewell.CUT: _("cut, the time was up"),
}
_RESULTS: dict[tuple[str, str], Any] = {
    (Order.Kind.DRAIN, "begun"): _("it drains"),
    (Order.Kind.DRAIN, "already"): _("it was draining already"),
    (Order.Kind.RESUME, "begun"): _("it takes streams again"),
    (Order.Kind.RESUME, "already"): _("it was taking streams already"),
    (Order.Kind.RESUME, "ends"): _("it was told to end, and does not take streams again"),
    (Order.Kind.CLOSE, "gone"): _("the socket was gone already"),
    (Order.Kind.CHANNEL, "gone"): _("nobody was reading the channel there"),
}
_ANY_RESULT: Words = {
    "": _("waiting for the process"),
    "busy": _("it was closing too many others, try again"),
    "late": _("not carried out: the process did not take it up within a minute"),
    "unknown": _("not carried out: the process runs another version"),
}


def sentence(fleet: Fleet) -> str:
    """Return how the fleet is, for somebody who is tired: readers and sockets, then what hurts first."""
    if not fleet.nodes:
        return gettext("No process has served a stream yet.")
    lost = fleet.lost
    clauses = [_served(fleet, lost), *_losses(fleet, lost), *_unwell(fleet), *_drains(fleet)]
    return gettext("%(clauses)s.") % {"clauses": "; ".join(clauses)}


def _served(fleet: Fleet, lost: int) -> str:
    if not fleet.live:
        return gettext("No process is serving streams")
    readers = ngettext("%(count)s reader", "%(count)s readers", fleet.readers)
    sockets = ngettext("%(count)s socket", "%(count)s sockets", fleet.sockets)
    told = {
        "readers": readers % {"count": _grouped(fleet.readers)},
        "sockets": sockets % {"count": _grouped(fleet.sockets)},
    }
    if lost:
        return gettext("%(readers)s on %(sockets)s") % told
    return gettext("%(readers)s on %(sockets)s, nothing lost") % told


def _losses(fleet: Fleet, lost: int) -> Iterable[str]:
    """Yield what readers have lost. Why is counted since processes began, and told if it is one reason."""
    if not lost:
        return
    reasons = {
        reason
        for node in fleet.nodes
        if isinstance(told := node.figures.get("gaps"), dict)
        for reason, count in told.items()
        if count
    }
    count = ngettext("%(count)s gap in the last 5 minutes", "%(count)s gaps in the last 5 minutes", lost)
    why = gettext("events that readers still needed were gone")
    if reasons == {"trimmed"}:
        why = gettext("retention had removed events that readers still needed")
    elif reasons == {"reset"}:
        why = gettext("channels were made anew, or an older copy of the database was restored")
    yield gettext("%(gaps)s: %(why)s") % {"gaps": count % {"count": _grouped(lost)}, "why": why}


def _unwell(fleet: Fleet) -> Iterable[str]:
    """Yield what is wrong with processes, the worst first."""
    live = fleet.live
    if down := [node for node in live if node.figures.get("layer") == "down"]:
        yield ngettext(
            "node %(nodes)s hears neither from the channel layer nor from the database",
            "nodes %(nodes)s hear neither from the channel layer nor from the database",
            len(down),
        ) % {"nodes": _named(down, fleet)}
    for node in sorted(fleet.in_state("silent"), key=lambda each: each.age)[:MOST_NAMED]:
        yield gettext("node %(node)s has said nothing for %(time)s") % {
            "node": node_label(node, fleet),
            "time": duration(node.age),
        }
    if (more := len(fleet.in_state("silent")) - MOST_NAMED) > 0:
        yield ngettext("%(count)s more is silent", "%(count)s more are silent", more) % {
            "count": _grouped(more)
        }
    if full := fleet.in_state("full"):
        told = ngettext("node %(nodes)s is full", "nodes %(nodes)s are full", len(full))
        yield told % {"nodes": _named(full, fleet)}
    if refused := fleet.refused:
        yield ngettext(
            "%(count)s stream refused in the last 5 minutes",
            "%(count)s streams refused in the last 5 minutes",
            refused,
        ) % {"count": _grouped(refused)}
    if polling := [node for node in live if node.figures.get("layer") == "polling"]:
        yield ngettext(
            "node %(nodes)s does not hear the channel layer and asks the database for events",
            "nodes %(nodes)s do not hear the channel layer and ask the database for events",
            len(polling),
        ) % {"nodes": _named(polling, fleet)}


def _drains(fleet: Fleet) -> Iterable[str]:
    if draining := fleet.in_state("draining"):
        told = ngettext("node %(nodes)s is draining", "nodes %(nodes)s are draining", len(draining))
        clause = told % {"nodes": _named(draining, fleet)}
        if progress := [drain for node in draining if (drain := progress_of(node)) is not None]:
            clause = gettext("%(draining)s, %(left)s left, about %(time)s") % {
                "draining": clause,
                "left": _grouped(sum(each.left for each in progress)),
                "time": duration(max(1.0, *(each.estimate for each in progress))),
            }
        yield clause
    if drained := fleet.in_state("drained"):
        told = ngettext("node %(nodes)s is drained", "nodes %(nodes)s are drained", len(drained))
        yield told % {"nodes": _named(drained, fleet)}


def progress_of(node: NodeView) -> Drain | None:
    """Return how far a process's drain is, None where it serves or its row says what cannot be."""
    drain = node.drain
    if drain is None:
        return None
    numbers: Sequence[Any] = (drain.total, drain.left, drain.seconds, drain.estimate)
    return drain if all(isinstance(each, int | float) and isfinite(each) for each in numbers) else None


def node_label(node: NodeView, fleet: Fleet | None = None) -> str:
    """Return a process's short name: host and process, and its own suffix if two in *fleet* share those."""
    if fleet is not None and sum((each.host, each.pid) == (node.host, node.pid) for each in fleet.nodes) > 1:
        return node.name
    return f"{node.host}:{node.pid}"


def _named(nodes: Sequence[NodeView], fleet: Fleet) -> str:
    names = [node_label(node, fleet) for node in nodes[:MOST_NAMED]]
    if (more := len(nodes) - MOST_NAMED) > 0:
        names.append(ngettext("%(count)s more", "%(count)s more", more) % {"count": _grouped(more)})
    return get_text_list(names, gettext("and"))


def state_label(state: str) -> str:
    """Return a word for one of :data:`~.reading.STATES`; what another version calls otherwise, as it is."""
    return str(_STATES.get(state, state))


def refusal_reason(reason: str) -> str:
    """Return words for a :class:`~sse_polling.lifecycle.Refusal`."""
    return str(_REFUSALS.get(reason, reason))


def cause(cause: str) -> str:
    """Return words for a :class:`~sse_polling.protocol.burst.Cause`: why a burst is over."""
    return str(_CAUSES.get(cause, cause))


def farewell(kind: str) -> str:
    """Return words for a :class:`~sse_polling.lifecycle.Farewell`: how a stream went that a drain ended."""
    return str(_FAREWELLS.get(kind, kind))


def order_result(kind: str, result: str) -> str:
    """Return words for what came of an order of *kind*, as its row says it (:func:`~.obeying.obey`)."""
    word, _space, number = result.partition(" ")
    if word == "closing" and number.isdecimal():
        count = int(number)
        told = ngettext("%(count)s stream was asked to leave", "%(count)s streams were asked to leave", count)
        return told % {"count": _grouped(count)}
    return str(_RESULTS.get((kind, result)) or _ANY_RESULT.get(result, result))


def duration(seconds: float) -> str:
    """Return *seconds* in words, to one unit."""
    if seconds < 90:
        return gettext("%(number)s s") % {"number": _grouped(max(0, round(seconds)))}
    if seconds < 90 * 60:
        return gettext("%(number)s min") % {"number": _grouped(round(seconds / 60))}
    if seconds < DAYS_FROM_SECONDS:
        return gettext("%(number)s h") % {"number": _grouped(round(seconds / 3600))}
    days = _days(seconds)
    return ngettext("%(number)s day", "%(number)s days", days) % {"number": _grouped(days)}


def ago(seconds: float) -> str:
    """Return how long ago something was."""
    if seconds < 1:
        return gettext("just now")
    if seconds >= DAYS_FROM_SECONDS:
        # Whole: some languages decline the day that is ago, and not the units' signs.
        days = _days(seconds)
        return ngettext("%(number)s day ago", "%(number)s days ago", days) % {"number": _grouped(days)}
    return gettext("%(time)s ago") % {"time": duration(seconds)}


def _days(seconds: float) -> int:
    return round(seconds / 86_400)


def _grouped(number: int) -> str:
    return number_format(number, use_l10n=True, force_grouping=True)
