"""Rows of processes that are not there, as real ones write them."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from sse_polling.models import Node, NodeSockets
from sse_polling.protocol.histogram import DELAYS

__all__ = ["figures", "history", "make_node", "socket"]


def socket(number: int, **told: Any) -> list[Any]:
    """Return one socket as a process lists it."""
    values = {
        "channels": ["log"],
        "of": None,
        "client": f"client{number % 90 + 10}",
        "user": None,
        "address": f"10.0.{number // 250 % 250}.{number % 250}",
        "door": "mount",
        "state": "open",
        "age": 1.5,
        "cursor": f"AAAAbbbbCCCC.{number}.9fX2",
        "behind": 0,
        "events": 3,
        "bytes": 1234,
        "bursts": 7,
    } | told
    values["of"] = values["of"] or len(values["channels"])
    names = ("channels", "of", "client", "user", "address", "door", "state", "age", "cursor", "behind")
    return [number, *(values[name] for name in (*names, "events", "bytes", "bursts"))]


def figures(**told: Any) -> dict[str, Any]:
    """Return what a process says of itself."""
    return {
        "sockets": {"open": 40, "leaving": 0, "asked": 0, "flushing": 1, "kept": 2},
        "most": 80,
        "descriptors": [140, 1024],
        "breaker": {"open": False, "threshold": 0.9},
        "layer": "live",
        "budget": None,
        "admitted": 54_321,
        "refused": {"client": 3},
        "ended": {"hold": 50_000, "events": 4_000},
        "farewells": {},
        "states": {},
        "reconnects": 54_000,
        "published": 1_200,
        "delivered": 98_765,
        "bytes": 12_345_678,
        "gaps": {},
        "replays": {"tail": 54_000, "database": 12},
        "wakes_missed": 0,
        "age": {"counts": [0] * 12, "total": 0.0},
        "first": {"counts": [5, 4], "total": 0.1},
        "latency": {"counts": [50, 40, 9, 1], "total": 1.0},
        "pause_seconds": 0.02,
        "drain": None,
    } | told


def history(sockets: int = 40, readers: int = 600, *, points: int = 60, **told: Any) -> dict[str, Any]:
    """Return the last minutes of a process."""
    packed = []
    for number in range(points):
        wave = (number * 7) % 11
        counts = [20 + wave, 15, 8, 3, 1, 1, *[0] * (len(DELAYS) - 5)]
        packed.append(
            [
                5.0,
                sockets + wave,
                readers + 3 * wave,
                500 + 20 * wave,
                490 + 20 * wave,
                told.get("refused", 0),
                told.get("gaps", 0),
                900,
                90_000,
                *counts,
            ]
        )
    return {"age": 1.0, "points": packed}


def make_node(
    name: str = "web-1:4242:ab12",
    *,
    sockets: list[list[Any]] | None = None,
    total: int | None = None,
    silent: float = 0,
    stopped: bool = False,
    **told: Any,
) -> Node:
    """Write the row of a process and return it. *silent*: for so many seconds; *sockets*: those it lists."""
    host, pid = [*name.split(":"), "1"][:2]
    listed = sockets or []
    values: dict[str, Any] = {
        "host": host,
        "pid": int(pid) if pid.isdecimal() else 1,
        "server": "uvicorn",
        "state": "serving",
        "sockets": len(listed),
        "readers": 15 * len(listed),
        "capacity": 872,
        "figures": figures(),
        "history": history(),
    } | told
    seen = Now() - timedelta(seconds=silent)
    node = Node.objects.create(
        name=name,
        started=Now() - timedelta(hours=3),
        seen=seen,
        stopped=seen if stopped else None,
        **values,
    )
    if sockets is not None:
        packed = zlib.compress(json.dumps(listed).encode(), 1)
        NodeSockets.objects.create(
            node=node, taken=seen, total=len(listed) if total is None else total, packed=packed
        )
    return node
