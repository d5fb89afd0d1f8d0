"""Reading: the fleet as its processes' rows tell it, for pages, metrics and terminals.

Nothing here reaches into a process: what it says is as old as each row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now

from ..database import alias
from ..models import Node, NodeSockets
from ..protocol.histogram import DELAYS, quantile
from .listing import SocketView, unpack
from .points import KEPT_POINTS, POINT_SECONDS, Point
from .rows import SILENT_SECONDS

__all__ = ["STATES", "Drain", "Fleet", "Moment", "NodeView", "read_fleet"]

STATES = ("serving", "full", "draining", "drained", "silent", "stopped")
SHOWN_SECONDS = 60.0  # of a process that has stopped
MOST_NODES = 1_000  # those that spoke last: a crash loop leaves a row each time
RATE_SECONDS = 15.0  # rates are over so much of the last minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How far a drain has come, as of the row. *why*: ``signal`` or ``order``; times in seconds."""

    why: str
    total: int
    left: int
    seconds: float
    estimate: float


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """One process as its row tells it; *age*: how old that is, in seconds of the database's clock.

    *state* is one of :data:`STATES`: ``silent`` has said nothing for 15 s, ``stopped`` has said that it ends.
    *figures*, counts since the process began: ``sockets`` (``open``, ``leaving``, ``asked``, ``flushing``,
    ``kept``), ``most`` at once, ``descriptors`` ``[used or None, limit or None]``, ``breaker``
    ``{"open", "threshold"}``, ``layer`` (``live``, ``polling``, ``down`` or None), ``budget`` (None or
    ``{"budget", "places", "wait_ms"}``), ``admitted``, ``refused`` by reason, ``ended`` by cause,
    ``farewells`` by kind, ``states``, ``reconnects``, ``published``, ``delivered``, ``bytes``, ``gaps`` by
    reason, ``replays`` by source, ``wakes_missed``, ``pause_seconds`` of the collector, the histograms
    ``age``, ``first``, ``latency`` (``{"counts", "total"}``, bounds in ``protocol.histogram``), ``drain``.
    """

    pk: int
    name: str
    host: str
    pid: int
    server: str
    state: str
    started: datetime
    age: float
    up_seconds: float
    sockets: int
    readers: int
    capacity: int
    figures: Mapping[str, Any]
    points: Sequence[Point]
    points_age: float
    listed: Sequence[SocketView] = ()
    listed_total: int = 0
    listed_age: float | None = None

    @property
    def is_live(self) -> bool:
        """True unless nothing is known of it any more."""
        return self.state not in ("silent", "stopped")

    @property
    def drain(self) -> Drain | None:
        """Its drain, None while it serves (or what it says cannot be read)."""
        told = self.figures.get("drain")
        if not isinstance(told, Mapping) or not self.is_live:
            return None
        try:
            return Drain(
                why=str(told["why"]),
                total=int(told["total"]),
                left=int(told["left"]),
                seconds=float(told["seconds"]),
                estimate=float(told["estimate"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def count(self, name: str) -> int:
        """Return a figure that is a number, or the sum of one by reason; 0 where it is not told."""
        told = self.figures.get(name, 0)
        if isinstance(told, Mapping):
            return sum(each for each in told.values() if isinstance(each, int))
        return told if isinstance(told, int) else 0

    def rate(self, name: str) -> float:
        """Return how many a second there were of late: ``polls``, ``delivered``, ``bytes`` and so on."""
        seconds = total = 0.0
        for point in reversed(self.points):
            if seconds >= RATE_SECONDS:
                break
            seconds += point.seconds
            total += getattr(point, name)
        return total / seconds if seconds else 0.0


@dataclass(slots=True)
class Moment:
    """Five seconds of the fleet: sums over its processes, *ago* seconds before now. None: nobody told."""

    ago: float
    sockets: int | None = None
    readers: int | None = None
    polls: float = 0.0
    reconnects: float = 0.0
    refused: int = 0
    gaps: int = 0
    delivered: float = 0.0
    latency: list[int] = field(default_factory=lambda: [0] * (len(DELAYS) + 1))

    def delay(self, share: float) -> float | None:
        """Return the latency, in seconds, that the *share* (0 to 1) of the measured events had at most."""
        return quantile(share, DELAYS, self.latency)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All processes whose rows are there, by name."""

    nodes: Sequence[NodeView]
    now: datetime

    @property
    def shown(self) -> list[NodeView]:
        """Those worth a line: a process that has stopped only for a minute, though its past still counts."""
        return [each for each in self.nodes if each.state != "stopped" or each.age <= SHOWN_SECONDS]

    @property
    def live(self) -> list[NodeView]:
        return [node for node in self.nodes if node.is_live]

    def in_state(self, state: str) -> list[NodeView]:
        return [node for node in self.nodes if node.state == state]

    @property
    def sockets(self) -> int:
        return sum(node.sockets for node in self.live)

    @property
    def readers(self) -> int:
        return sum(node.readers for node in self.live)

    @property
    def capacity(self) -> int:
        return sum(node.capacity for node in self.live)

    @property
    def age(self) -> float | None:
        """How old the oldest figures of those that live are, in seconds; None without one."""
        return max((node.age for node in self.live), default=None)

    @cached_property
    def moments(self) -> list[Moment]:
        """The last five minutes, oldest first."""
        found = [Moment(ago=POINT_SECONDS * number) for number in range(KEPT_POINTS)]
        for node in self.nodes:
            ago = node.age + node.points_age
            begun = 0 if node.is_live else int(ago / POINT_SECONDS)  # who lives is as it was last
            for point in reversed(node.points):
                index = int(ago / POINT_SECONDS)
                if index >= len(found):
                    break
                ago += point.seconds
                # A point is a little longer than a moment, so now and then it has two of them.
                ends = max(index + 1, int(ago / POINT_SECONDS))
                for moment in found[begun:ends]:
                    _show(moment, point)
                _add(found[index], point)
                begun = ends
        return found[::-1]

    @property
    def lost(self) -> int:
        """How many gaps readers were told of in the last five minutes."""
        return sum(moment.gaps for moment in self.moments)

    @property
    def refused(self) -> int:
        """How many streams were refused in the last five minutes."""
        return sum(moment.refused for moment in self.moments)


def _show(moment: Moment, point: Point) -> None:
    """Add what a process was like at that *moment*, and at what rate it worked."""
    moment.polls += point.polls / point.seconds
    moment.reconnects += point.reconnects / point.seconds
    moment.delivered += point.delivered / point.seconds
    moment.sockets = (moment.sockets or 0) + point.sockets
    moment.readers = (moment.readers or 0) + point.readers


def _add(moment: Moment, point: Point) -> None:
    """Add what happened, which is counted once."""
    moment.refused += point.refused
    moment.gaps += point.gaps
    moment.latency = [one + other for one, other in zip(moment.latency, point.latency, strict=True)]


def read_fleet(*, node: int | None = None, sockets: bool = False) -> Fleet:
    """Return the fleet, or one process of it by its primary key; *sockets*: with the lists of sockets.

    One query, and one more with *sockets*. Database errors pass.
    """
    rows = Node.objects.using(alias())
    if node is not None:
        rows = rows.filter(pk=node)
    latest = rows.order_by("-seen")[:MOST_NODES]
    found = sorted(
        latest.annotate(now=ExpressionWrapper(Now(), output_field=DateTimeField())), key=lambda row: row.name
    )
    listings = {}
    if sockets:
        chosen = NodeSockets.objects.using(alias()).filter(node__in=[row.pk for row in found])
        listings = {each.node_id: each for each in chosen}
    views = [_view(row, listings.get(row.pk)) for row in found]
    now = found[0].now if found else datetime.now().astimezone()
    return Fleet(nodes=views, now=now)


def _view(row: Any, listing: NodeSockets | None) -> NodeView:
    age = max(0.0, (row.now - row.seen).total_seconds())
    state = row.state
    if row.stopped is not None:
        state = "stopped"
    elif age > SILENT_SECONDS:
        state = "silent"
    points, points_age = _points(row.history)
    return NodeView(
        pk=row.pk,
        name=row.name,
        host=row.host,
        pid=row.pid,
        server=row.server,
        state=state,
        started=row.started,
        age=age,
        up_seconds=max(0.0, (row.now - row.started) / timedelta(seconds=1)),
        sockets=row.sockets,
        readers=row.readers,
        capacity=row.capacity,
        figures=row.figures if isinstance(row.figures, dict) else {},
        points=points,
        points_age=points_age,
        listed=unpack(bytes(listing.packed)) if listing is not None else (),
        listed_total=listing.total if listing is not None else 0,
        listed_age=max(0.0, (row.now - listing.taken).total_seconds()) if listing is not None else None,
    )


def _points(history: Any) -> tuple[list[Point], float]:
    """Return the points that a row tells; none if another version has written them."""
    try:
        age = float(history["age"])
        points = [Point.unpacked(each) for each in history["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return [], 0.0
    return (points, age) if 0 <= age < math.inf else ([], 0.0)
