"""The server's socket below an ASGI ``send``, where the server lets itself be reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["abort", "close_when_done"]


def close_when_done(send: Any) -> bool:
    """Make daphne close the socket after this response; True if it is daphne.

    daphne sends a ``Connection: close`` header and keeps the socket all the same. *send* is the one
    the server made: a middleware's wrapper hides the server's request.
    """
    channel = getattr(_twisted_request(send), "channel", None)
    if channel is None or not hasattr(channel, "persistent"):
        return False
    channel.persistent = False
    return True


def abort(send: Any) -> Callable[[], Any] | None:
    """Return what cuts the socket at once: daphne's and uvicorn's transports; None elsewhere."""
    channel = getattr(_twisted_request(send), "channel", None)
    twisted = getattr(getattr(channel, "transport", None), "abortConnection", None)
    if twisted is not None:
        return twisted  # type: ignore[no-any-return]
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    return getattr(transport, "abort", None)


def _twisted_request(send: Any) -> Any:
    return send.args[0] if isinstance(send, partial) and send.args else None
