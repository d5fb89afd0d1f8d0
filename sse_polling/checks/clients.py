"""Clients: can it be asked who one is, and is it a proxy that says so?"""

from __future__ import annotations

from typing import Any

from django.core import checks

from ..conf import get_config
from .reading import fault
from .values import is_readable

__all__ = ["check_client_key", "check_trusted_proxies"]


@checks.register
def check_client_key(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    rule = get_config().per_client.key
    why = fault(rule) if rule is not None else ""
    if not why:
        return []
    return [
        checks.Error(
            f"SSE_POLLING: PER_CLIENT['key'] is {rule!r}, which {why}.",
            hint="Give it a callable(request), or the dotted path of one, that returns a text that tells one "
            "client from another, or None for one without a limit.",
            id="sse_polling.E004",
        )
    ]


@checks.register
def check_trusted_proxies(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    return [
        checks.Warning(
            f"SSE_POLLING: TRUSTED_PROXIES has {str(network)!r}: every client is believed, and may call "
            "itself by any address it likes.",
            hint="Name the proxies alone: the addresses that connections to this server come from.",
            id="sse_polling.W010",
        )
        for network in get_config().trusted_proxies.networks
        if network.prefixlen == 0
    ]
