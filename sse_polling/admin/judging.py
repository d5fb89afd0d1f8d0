"""Judging: what an order would do, in words, before it is confirmed and once more before it is given."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext, ngettext

from ..conf import get_config
from ..nodes.listing import SocketView
from ..nodes.reading import Fleet, NodeView
from ..nodes.telling import node_label
from .amounts import grouped
from .ordering import CHANNEL, CLOSE, DRAIN, DRAIN_ALL, DRAINS, RESUME, RESUME_ALL, Asked, Judgement

__all__ = ["judge"]


def judge(asked: Asked, fleet: Fleet, *, sees: bool) -> Judgement:
    """Return what *asked* would do to *fleet*, as its rows tell it. *sees*: to one who may look at it."""
    if asked.kind == DRAIN_ALL:
        return _drain_all(fleet)
    if asked.kind == RESUME_ALL:
        return _resume_all(fleet)
    if asked.kind == CHANNEL:
        return _channel(asked, fleet)
    node = next((each for each in fleet.nodes if each.pk == asked.node), None)
    if node is None:
        return Judgement(refusal=gettext("There is no such node any more."))
    if node.state == "stopped":
        return Judgement(refusal=gettext("Node %(node)s has stopped.") % {"node": node_label(node)})
    if asked.kind == CLOSE:
        return _close(asked, node, sees=sees)
    return {DRAIN: _drain, RESUME: _resume}[asked.kind](asked, node, fleet)


def _drain(asked: Asked, node: NodeView, fleet: Fleet) -> Judgement:
    label = {"node": node_label(node)}
    if node.state in DRAINS:
        return Judgement(refusal=gettext("Node %(node)s drains already.") % label)
    others = [each for each in fleet.live if each.pk != node.pk and each.state not in DRAINS]
    return Judgement(
        nodes=[node],
        title=gettext("Drain node %(node)s?") % label,
        button=gettext("Yes, drain it"),
        effects=[
            _leave(node.sockets),
            _elsewhere(others=bool(others)),
            gettext(
                "It takes no new streams, and its ready/ address fails, until you let it serve again or it "
                "is restarted."
            ),
        ],
        warnings=_silence([node]),
        done=gettext("Node %(node)s was asked to drain.") % label,
        log=gettext("Asked to drain."),
    )


def _resume(asked: Asked, node: NodeView, fleet: Fleet) -> Judgement:
    label = {"node": node_label(node)}
    if node.is_live and node.state not in DRAINS:
        return Judgement(refusal=gettext("Node %(node)s takes streams already.") % label)
    if node.drain is not None and node.drain.why == "signal":
        return Judgement(
            refusal=gettext("Node %(node)s was told to end: it cannot serve again. Start another.") % label
        )
    return Judgement(
        nodes=[node],
        title=gettext("Let node %(node)s serve again?") % label,
        button=gettext("Yes, let it serve"),
        effects=[
            gettext("It takes streams again, and its ready/ address says so."),
            gettext("Streams that were asked to leave already still go; their clients come back."),
        ],
        warnings=_silence([node]),
        harms=False,
        done=gettext("Node %(node)s was asked to take streams again.") % label,
        log=gettext("Asked to take streams again."),
    )


def _drain_all(fleet: Fleet) -> Judgement:
    nodes = [node for node in fleet.nodes if node.state not in (*DRAINS, "stopped")]
    if not nodes:
        return Judgement(refusal=gettext("No node is there to drain, or all of them drain already."))
    count = {"count": grouped(len(nodes))}
    return Judgement(
        nodes=nodes,
        title=gettext("Drain all nodes?"),
        button=gettext("Yes, drain all"),
        effects=[
            _leave(sum(node.sockets for node in nodes)),
            ngettext(
                "%(count)s node takes no new streams until you let it serve again or it is restarted.",
                "%(count)s nodes take no new streams until you let them serve again or they are restarted.",
                len(nodes),
            )
            % count,
            _elsewhere(others=False),
        ],
        warnings=_silence(nodes),
        done=ngettext(
            "%(count)s node was asked to drain.", "%(count)s nodes were asked to drain.", len(nodes)
        )
        % count,
        log=gettext("Asked to drain, with all others."),
    )


def _resume_all(fleet: Fleet) -> Judgement:
    nodes = [
        node
        for node in fleet.live
        if node.state in DRAINS and (node.drain is None or node.drain.why != "signal")
    ]
    if not nodes:
        return Judgement(refusal=gettext("No node drains that could serve again."))
    count = {"count": grouped(len(nodes))}
    return Judgement(
        nodes=nodes,
        title=gettext("Let all nodes serve again?"),
        button=gettext("Yes, let them serve"),
        effects=[
            ngettext(
                "%(count)s node takes streams again.",
                "%(count)s nodes take streams again.",
                len(nodes),
            )
            % count
        ],
        harms=False,
        done=ngettext(
            "%(count)s node was asked to take streams again.",
            "%(count)s nodes were asked to take streams again.",
            len(nodes),
        )
        % count,
        log=gettext("Asked to take streams again, with all others."),
    )


def _channel(asked: Asked, fleet: Fleet) -> Judgement:
    if not asked.target:
        return Judgement(refusal=gettext("No channel was named."))
    nodes = [node for node in fleet.nodes if node.state != "stopped"]
    if not nodes:
        return Judgement(refusal=gettext("No node is there that could have readers."))
    name = {"channel": asked.target}
    seen = sum(asked.target in socket.channels for node in nodes for socket in node.listed)
    return Judgement(
        nodes=nodes,
        title=gettext("Drain channel %(channel)s?") % name,
        button=gettext("Yes, drain it"),
        effects=[
            _leave(seen),
            gettext("Their clients come back at once and go on where they were: nothing is lost or deleted."),
            gettext("To keep them out, take their access away first: this does not close the channel."),
        ],
        warnings=_silence(nodes),
        done=ngettext(
            "%(count)s node was asked to drain channel %(channel)s.",
            "%(count)s nodes were asked to drain channel %(channel)s.",
            len(nodes),
        )
        % {**name, "count": grouped(len(nodes))},
        log=gettext("Its streams were asked to leave, on all nodes."),
    )


def _close(asked: Asked, node: NodeView, *, sees: bool) -> Judgement:
    label = {"node": node_label(node), "number": asked.target}
    if not asked.target.isascii() or not asked.target.isdecimal() or len(asked.target) > 18:
        return Judgement(refusal=gettext("No socket was named."))
    socket = next((each for each in node.listed if each.number == int(asked.target)), None)
    if socket is None and node.listed_total <= len(node.listed):
        return Judgement(refusal=gettext("Socket %(number)s of node %(node)s is gone.") % label)
    effects = [
        gettext("It is asked to leave between two events; if it stays, it is cut."),
        gettext(
            "Its client comes back and goes on where it was. To keep it out, take its access away first."
        ),
    ]
    return Judgement(
        nodes=[node],
        title=gettext("Close socket %(number)s of node %(node)s?") % label,
        button=gettext("Yes, close it"),
        effects=[_described(socket), *effects] if socket is not None and sees else effects,
        warnings=_silence([node]),
        done=gettext("Node %(node)s was asked to close socket %(number)s.") % label,
        log=gettext("Asked to close socket %(number)s.") % label,
    )


def _described(socket: SocketView) -> str:
    return gettext("It reads %(channels)s, from %(address)s.") % {
        "channels": ", ".join(socket.channels),
        "address": socket.address or gettext("an unknown address"),
    }


def _leave(count: int) -> str:
    limits = get_config().drain
    return ngettext(
        "%(count)s stream is asked to leave, within %(spread)s s. Whoever is still there after %(most)s s is "
        "cut.",
        "%(count)s streams are asked to leave, one after the other within %(spread)s s. Whoever is still "
        "there after %(most)s s is cut.",
        count,
    ) % {
        "count": grouped(count),
        "spread": f"{limits.spread_seconds:g}",
        "most": f"{limits.seconds:g}",
    }


def _elsewhere(*, others: bool) -> str:
    if others:
        return gettext("Their clients come back elsewhere and go on where they were: nothing is lost.")
    return gettext(
        "No other node takes streams: clients ask again until one does, and go on where they were then."
    )


def _silence(nodes: Sequence[NodeView]) -> list[str]:
    silent = [node for node in nodes if node.state == "silent"]
    if not silent:
        return []
    return [
        ngettext(
            "Node %(nodes)s is silent: it does this only if it is back within a minute.",
            "Nodes %(nodes)s are silent: they do this only if they are back within a minute.",
            len(silent),
        )
        % {"nodes": ", ".join(node_label(node) for node in silent[:5])}
    ]
