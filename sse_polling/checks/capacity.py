"""How many sockets: does what the settings ask for fit this process?"""

from __future__ import annotations

from typing import Any

from django.core import checks

from ..conf import get_config
from ..lifecycle import RESERVE, capacity, descriptors
from ..protocol.budget import MOST_SHARE
from .values import is_readable

__all__ = ["check_budget", "check_capacity"]


@checks.register
def check_capacity(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    wanted, limit = get_config().max_sockets, descriptors()
    if wanted is None or limit is None or wanted + RESERVE <= limit:
        return []
    return [
        checks.Warning(
            f"SSE_POLLING: MAX_SOCKETS is {wanted:,}, and a process may have {limit:,} descriptors here, of "
            f"which {RESERVE} are for the database, the channel layer, logs and the server itself.",
            hint=f"Raise the limit to {wanted + RESERVE:,} (ulimit -n, systemd's LimitNOFILE=), lower "
            "MAX_SOCKETS, or leave it out: it is derived from the limit then.",
            id="sse_polling.W011",
        )
    ]


@checks.register
def check_budget(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    config = get_config()
    if config.budget is None:
        return []
    refused_at = int(capacity(config) * config.breaker.threshold)
    most = int(config.budget * MOST_SHARE)
    if most <= refused_at:
        return []
    return [
        checks.Warning(
            f"SSE_POLLING: BUDGET is {config.budget:,}, for which up to {most:,} streams may be open for a "
            f"moment, and the circuit breaker refuses new ones from {refused_at:,} on.",
            hint="A reader that is refused is lost or late; one that the budget sends away is neither. Lower "
            f"BUDGET to {int(refused_at / MOST_SHARE):,}, or raise MAX_SOCKETS (or the descriptor limit).",
            id="sse_polling.W012",
        )
    ]
