"""Kept sockets: does a client come back while its socket is still there?"""

from __future__ import annotations

from typing import Any

from django.core import checks

from ..conf import get_config
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
    bases = {name: config.effective(name).retry.base_ms for name in ("", *dict(config.channels))}
    beyond = [
        f"channels {name!r} wait {base} ms" if name else f"RETRY['base_ms'] is {base}"
        for name, base in bases.items()
        if base > latest
    ]
    if not beyond:
        return []
    return [
        checks.Warning(
            f"CLOSE_SOCKET is False and KEEP_ALIVE_SECONDS {config.keep_alive_seconds:g} s, and by then a "
            f"client would not be back: {'; '.join(beyond)}.",
            hint=f"Clients are told to come back within {latest} ms, more often than you asked for. Set "
            "KEEP_ALIVE_SECONDS to 1.25 times the longest base_ms, or CLOSE_SOCKET to True.",
            id="sse_polling.W013",
        )
    ]
