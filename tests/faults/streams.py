"""The settings that make bursts short and memory small, so that faults meet every part of the app."""

from __future__ import annotations

from typing import Any

__all__ = ["BULK", "HELD", "ROLLING", "SOAKING", "STREAMS"]

#: A channel whose name ends so is held open for long bursts.
HELD = ".held"
#: A channel with a large history, for clients that do not keep up.
BULK = ".bulk"

STREAMS: dict[str, Any] = {
    "AUTHORIZE": "sse_polling.access.public",
    "BURST": {"max_events": 25, "hold_seconds": 0.5, "linger_seconds": 0.2, "max_seconds": 5},
    "RETRY": {"base_ms": 150, "behind_ms": 20, "jitter": 0.5},
    "HEARTBEAT_SECONDS": 0.4,
    "SYNC_SECONDS": 1,
    # Small: whoever was away for a second is served from the database.
    "TAIL": {"max_events": 30, "idle_seconds": 10},
    # Nothing is trimmed, so any gap is a failure.
    "RETENTION": {"max_events": 1_000_000, "max_age_seconds": 86_400},
    "CHANNELS": [
        (
            f"*{HELD}",
            {"BURST": {"max_events": 150, "hold_seconds": 15, "linger_seconds": 15, "max_seconds": 15}},
        ),
        (f"*{BULK}", {"BURST": {"max_events": 500, "max_bytes": 8_388_608, "max_seconds": 60}}),
    ],
}


#: For many clients on a small machine: bursts that let them keep up.
SOAKING: dict[str, Any] = {**STREAMS, "BURST": {**STREAMS["BURST"], "max_events": 100}}

#: For processes that are told to stop: most clients have a stream open at any moment, and drains are short.
ROLLING: dict[str, Any] = {
    **STREAMS,
    "BURST": {"max_events": 200, "hold_seconds": 6, "linger_seconds": 6, "max_seconds": 8},
    "RETRY": {"base_ms": 300, "behind_ms": 20, "jitter": 0.5},
    "HEARTBEAT_SECONDS": 1,
    "CHANNELS": [],
    "DRAIN": {"seconds": 30, "ack_seconds": 1.5, "spread_seconds": 0.5},
    # What a process that drains tells who comes, unless it knows of others: a browser would wait so long.
    "BREAKER": {"retry_after_seconds": 3},
    "METRICS_TOKEN": "a token of tests",
}
