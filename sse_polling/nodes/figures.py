"""What a process says of itself in its row: one flat dictionary for JSON, counts since it began."""

from __future__ import annotations

import os
from typing import Any

from .. import lifecycle
from ..conf import Config
from ..draining import draining
from ..hub import hubs
from ..lifecycle import Node, capacity
from ..measures import Measures
from ..pauses import watched
from ..protocol.histogram import Histogram
from ..wake import sender

__all__ = ["gather"]

LAYER_STATES = ("down", "polling", "live")  # the worst first


def gather(node: Node, measures: Measures, config: Config) -> dict[str, Any]:
    """Return the figures of this process, as ``reading.NodeView.figures`` documents them."""
    leaving = sum(each.leaving is not None for each in node.registry)
    asked = sum(each.asked for each in node.registry)
    states = {hub.state for hub in list(hubs.values())}
    budget = node.budget(config)
    progress = draining.progress
    return {
        "sockets": {
            "open": len(node.registry) - leaving,
            "leaving": leaving - asked,
            "asked": asked,
            "flushing": len(node.flushing),
            "kept": len(node.kept) + node.kept.guessed,
        },
        "most": node.counts.most,
        "descriptors": _descriptors(),
        "breaker": {"open": node.state(config) == "full", "threshold": config.breaker.threshold},
        "layer": next((each for each in LAYER_STATES if each in states), None),
        "budget": (
            None
            if budget is None
            else {
                "budget": budget.budget,
                "places": budget.places,
                "wait_ms": round(1000 * budget.mean_wait),
            }
        ),
        "capacity": capacity(config),
        "admitted": node.counts.admitted,
        "refused": {str(why): count for why, count in node.counts.refused.items()},
        "ended": {str(cause): count for cause, count in node.counts.ended.items()},
        "farewells": {str(how): count for how, count in node.counts.farewells.items()},
        "states": dict(node.counts.states),
        "reconnects": measures.reconnects,
        "published": measures.published,
        "delivered": measures.delivered,
        "bytes": measures.bytes,
        "gaps": dict(measures.gaps),
        "replays": dict(measures.replays),
        "wakes_missed": sender.missed,
        "age": _packed(measures.age),
        "first": _packed(measures.first),
        "latency": _packed(measures.latency),
        "pause_seconds": round(watched.figures().total_seconds, 3),
        "drain": (
            None
            if progress is None
            else {
                "why": progress.why,
                "total": progress.total,
                "left": progress.left,
                "seconds": round(progress.seconds, 1),
                "estimate": round(progress.estimate, 1),
            }
        ),
    }


def _descriptors() -> list[int | None]:
    """Return how many descriptors are open, None where the system does not tell, and how many may be."""
    try:
        used: int | None = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    except OSError:
        used = None
    return [used, lifecycle.descriptors()]


def _packed(histogram: Histogram) -> dict[str, Any]:
    return {"counts": list(histogram.counts), "total": round(histogram.total, 3)}
