"""Ordering: what the buttons ask of nodes, and who may press them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..models import Order
from ..nodes.reading import NodeView

__all__ = ["PERMISSIONS", "Asked", "Judgement"]

DRAIN, RESUME = str(Order.Kind.DRAIN), str(Order.Kind.RESUME)
CLOSE, CHANNEL = str(Order.Kind.CLOSE), str(Order.Kind.CHANNEL)
DRAIN_ALL, RESUME_ALL = "drain_all", "resume_all"

PERMISSIONS = {
    DRAIN: "sse_polling.drain_node",
    RESUME: "sse_polling.resume_node",
    DRAIN_ALL: "sse_polling.drain_all",
    RESUME_ALL: "sse_polling.resume_node",
    CHANNEL: "sse_polling.drain_channel",
    CLOSE: "sse_polling.close_socket",
}
BACKS = ("live", "node", "channel")
DRAINS = ("draining", "drained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a form asks for. *node*: a primary key; *target*: a socket's number, or a channel."""

    kind: str
    node: int | None = None
    target: str = ""
    back: str = "live"

    @classmethod
    def read(cls, data: Mapping[str, str]) -> Asked | None:
        """Return what *data* asks for, None if there is no such button."""
        kind, node, target = data.get("kind", ""), data.get("node", ""), data.get("target", "")
        if kind not in PERMISSIONS or len(target) > 200 or "\0" in target:
            return None
        back = data.get("back", "")
        return cls(
            kind=kind,
            node=int(node) if node.isascii() and node.isdecimal() and len(node) < 19 else None,
            target=target,
            back=back if back in BACKS else "live",
        )

    @property
    def order(self) -> str:
        """The kind of order that processes are given."""
        return {DRAIN_ALL: DRAIN, RESUME_ALL: RESUME}.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What would come of it. *refusal*: why it makes no sense, in words; then nothing is ordered.

    *title* and *button* ask, *effects* tell what will happen and *warnings* what may not; *harms*: somebody
    has to leave. *done* is the message once it is ordered, *log* what Django's admin log keeps.
    """

    nodes: Sequence[NodeView] = ()
    refusal: str = ""
    title: str = ""
    button: str = ""
    effects: Sequence[str] = ()
    warnings: Sequence[str] = field(default=())
    harms: bool = True
    done: str = ""
    log: str = ""
