"""What one attempt may take, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

__all__ = [
    "ACK_TIMEOUT",
    "MAX_REDIRECTS",
    "REFUSAL_BYTES",
    "REFUSAL_SECONDS",
    "Lost",
    "hurry",
    "on_the_way",
]

MAX_REDIRECTS = 10
REFUSAL_BYTES = 4096  # of a refusal's body, and
REFUSAL_SECONDS = 5.0  # for it
# Streams that share a client of few connections do not wait for each other's: letting go is an ack as well.
ACK_TIMEOUT = httpx.Timeout(5.0, pool=0.2)


class Lost(Exception):
    """The network or the server failed: worth another attempt. What the consumer raises is never this."""


@contextmanager
def on_the_way() -> Iterator[None]:
    """Turn what happens to bytes on their way into :exc:`Lost`; a request that cannot be sent passes."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
        raise
    except httpx.TransportError as error:
        raise Lost from error


def hurry(response: httpx.Response) -> None:
    """Let the body of a refusal be waited for no longer than it is read. Call it before the first byte."""
    limits = response.request.extensions.get("timeout", {})
    limits["read"] = min(limits.get("read") or REFUSAL_SECONDS, REFUSAL_SECONDS)
