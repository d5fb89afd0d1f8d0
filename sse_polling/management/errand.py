"""An errand: what was ordered of some processes, and how far each is with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..database import alias
from ..models import Order
from ..nodes.giving import give
from ..nodes.reading import Fleet, NodeView
from ..nodes.telling import duration, node_label, order_result, progress_of, state_label

__all__ = ["Errand", "NoSuchProcess", "choose"]

MOST_NAMED = 20
SILENT_LOOKS = 4  # all are silent for a moment when the database comes back
GOOD = ("begun", "already")


class NoSuchProcess(LookupError):
    """No process has such a name."""


class Errand:
    """What was ordered of which processes, and how far each is."""

    def __init__(self, kind: Order.Kind, chosen: Fleet) -> None:
        self.failed: list[str] = []
        self._kind = kind
        self._fleet = chosen
        self._orders: dict[int, int] = {}  # by the process's key
        self._results: dict[int, str] = {}
        self._pending: list[NodeView] = list(chosen.nodes)
        self._silent: Counter[int] = Counter()  # looks at which a process was silent
        self._looked = False

    @property
    def is_over(self) -> bool:
        """True once there is nobody left to wait for."""
        return self._looked and not self._pending

    def begin(self) -> None:
        """Give the orders. Who is drained, and not about to take streams again, needs none."""
        keys = [node.pk for node in self._fleet.nodes if node.state != "stopped"]
        if self._kind == Order.Kind.DRAIN:
            open_orders = Order.objects.using(alias()).filter(
                node__in=keys, done=None, kind=Order.Kind.RESUME
            )
            resuming = set(open_orders.values_list("node_id", flat=True))
            drained = {node.pk for node in self._fleet.in_state("drained")} - resuming
            keys = [key for key in keys if key not in drained]
        self._orders = dict(zip(keys, give(self._kind, keys, by="sse_drain"), strict=True))

    def look(self, fleet: Fleet) -> None:
        """Learn from the rows how far each is."""
        rows = Order.objects.using(alias()).filter(pk__in=self._orders.values()).exclude(done=None)
        self._results = dict(rows.values_list("node_id", "result"))
        self._looked = True
        known = {node.pk: node for node in fleet.nodes}
        # A row that is no more there is that of a process that has ended.
        nodes = [known[node.pk] for node in self._fleet.nodes if node.pk in known]
        self._silent = Counter(
            {each.pk: self._silent[each.pk] + 1 for each in nodes if each.state == "silent"}
        )
        self._fleet = Fleet(nodes=nodes, now=fleet.now)
        self.failed = [self._why(node) for node in nodes if self._has_failed(node)]
        self._pending = [node for node in nodes if not self._is_done(node) and not self._has_failed(node)]

    def give_up(self, seconds: float) -> None:
        """Learn that time ran out."""
        left = [f"{self._label(node)}: {self._left(node)}" for node in self._pending]
        told = f" {_listed(left)}." if left else ""
        self.failed.insert(0, f"Time ran out after {duration(seconds)}.{told}")

    def _is_done(self, node: NodeView) -> bool:
        if node.state == "stopped":
            return True
        if self._kind == Order.Kind.RESUME:
            return self._results.get(node.pk) in GOOD
        return node.state == "drained" and (node.pk not in self._orders or node.pk in self._results)

    def _has_failed(self, node: NodeView) -> bool:
        if self._is_done(node):
            return self._kind == Order.Kind.RESUME and node.state == "stopped"
        is_gone = self._silent[node.pk] >= SILENT_LOOKS  # nobody may ever answer for it
        return is_gone or self._results.get(node.pk, "") not in ("", *GOOD)

    def _why(self, node: NodeView) -> str:
        label, result = self._label(node), self._results.get(node.pk, "")
        if node.state == "stopped":
            return f"{label} has stopped, and does not take streams again."
        if result not in ("", *GOOD):
            return f"{label}: {order_result(self._kind, result)}."
        return self._silence(node)

    def _silence(self, node: NodeView) -> str:
        return f"{self._label(node)} has said nothing for {duration(node.age)}: nobody knows what it holds."

    def _left(self, node: NodeView) -> str:
        if node.pk in self._orders and node.pk not in self._results:
            return "has not taken up the order"
        return f"{_count(node.sockets, 'socket')} left, {state_label(node.state)}"

    def _label(self, node: NodeView) -> str:
        return node_label(node, self._fleet)

    def _labels(self) -> str:
        return _listed(self._label(node) for node in self._fleet.nodes)

    def beginning(self) -> str:
        if not self._fleet.nodes:
            return "No process is serving streams."
        asked = [self._label(node) for node in self._fleet.nodes if node.pk in self._orders]
        if not asked:
            return f"Nothing to ask of {self._labels()}."
        silent = "".join(f" {self._silence(node)}" for node in self._fleet.in_state("silent"))
        what = "take streams again" if self._kind == Order.Kind.RESUME else "let their streams go"
        return f"Asked to {what}: {_listed(asked)}.{silent}"

    def progress(self) -> str:
        """Return what is left where."""
        told = [f"{self._label(node)}: {self._left(node)}" for node in self._pending]
        draining = self._pending if self._kind == Order.Kind.DRAIN else ()
        drains = [drain for node in draining if (drain := progress_of(node)) is not None]
        more = f"; about {duration(max(1.0, *(each.estimate for each in drains)))}" if drains else ""
        return f"{_listed(told)}{more}."

    def end(self) -> str:
        if self._kind == Order.Kind.RESUME:
            return f"They take streams: {self._labels()}." if self._fleet.nodes else "Nobody was to be asked."
        return "No socket is left."


def choose(fleet: Fleet, names: Sequence[str]) -> Fleet:
    """Return those of the fleet that are meant: all that have not stopped, or those that were named."""
    nodes = [node for node in fleet.nodes if not _is_superseded(node, fleet)]
    if not names:
        return Fleet(nodes=[node for node in nodes if node.state != "stopped"], now=fleet.now)
    found: dict[int, NodeView] = {}
    for name in names:
        fits = [node for node in fleet.nodes if name == node.name]
        fits = fits or [node for node in nodes if name in (f"{node.host}:{node.pid}", node.host)]
        if not fits:
            known = _listed(node_label(node, fleet) for node in nodes if node.state != "stopped")
            raise NoSuchProcess(f"There is no process {name!r}. Known: {known or 'none'}.")
        found |= {node.pk: node for node in fits}
    return Fleet(nodes=list(found.values()), now=fleet.now)


def _is_superseded(node: NodeView, fleet: Fleet) -> bool:
    """Tell whether another process has its number since it was heard of: in a container that is always 1."""
    return node.state == "silent" and any(
        (each.host, each.pid) == (node.host, node.pid) and each.is_live and each.up_seconds < node.age
        for each in fleet.nodes
    )


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    more = f" and {len(named) - MOST_NAMED:,} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
