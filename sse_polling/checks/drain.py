"""The drain: does what it promises fit into the time it has?"""

from __future__ import annotations

from typing import Any

from django.core import checks

from ..conf import get_config
from .values import is_readable

__all__ = ["check_drain"]


@checks.register
def check_drain(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    limits = get_config().drain
    wanted = limits.spread_seconds + limits.ack_seconds
    if wanted <= limits.seconds:
        return []
    return [
        checks.Warning(
            f"DRAIN: spread_seconds and ack_seconds are {wanted:g} s together, and seconds is "
            f"{limits.seconds:g}: streams are asked sooner than you wished, or not waited for.",
            hint="Make seconds at least the sum of both, and the time-outs of the server, its supervisor and "
            "its load balancer longer than that (docs/drain.md).",
            id="sse_polling.W015",
        )
    ]
