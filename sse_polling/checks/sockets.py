"""Kept sockets: does a client come back while its socket is still there, and what do they take from whom?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core import checks

from ..conf import Config, get_config
from ..transport import longest_retry_ms
from .values import is_readable

__all__ = ["check_keep_alive"]


@checks.register
def check_keep_alive(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    config = get_config()
    latest = longest_retry_ms(config.keep_alive_seconds)
    if config.close_socket:
        return []
    return [*_check_retry(config, latest), *_check_budget(config)]


def _check_budget(config: Config) -> list[checks.CheckMessage]:
    if config.budget is None:
        return []
    return [
        checks.Warning(
            f"CLOSE_SOCKET is False and BUDGET is {config.budget}: kept sockets count, so that idle ones "
            "would have most of the budget.",
            hint="Set CLOSE_SOCKET to True: a budget then is for the streams that are open.",
            id="sse_polling.W014",
        )
    ]


def _check_retry(config: Config, latest: int) -> list[checks.CheckMessage]:
    # A pattern need not match itself: each entry's options are looked at as if they held for all channels.
    bases = [("", replace(config, channels=()).effective("").retry.base_ms)]
    for pattern, chosen in config.channels:
        alone = replace(config, channels=(("*", chosen),))
        bases.append((pattern, alone.effective("").retry.base_ms))
    beyond = [
        f"channels {pattern!r} wait {base} ms" if pattern else f"RETRY['base_ms'] is {base}"
        for pattern, base in bases
        if base > latest
    ]
    if not beyond:
        return []
    return [
        checks.Warning(
            f"CLOSE_SOCKET is False and KEEP_ALIVE_SECONDS {config.keep_alive_seconds:g} s, and by then a "
            f"client would not be back: {'; '.join(beyond)}.",
            hint=f"Clients are told to come back within {latest} ms, more often than you asked for. Set "
            "KEEP_ALIVE_SECONDS to 1.25 times the longest base_ms, or CLOSE_SOCKET to True. On hypercorn and "
            "granian the server's own window holds instead: 5 s (its keep_alive_timeout) and 30 s.",
            id="sse_polling.W013",
        )
    ]
