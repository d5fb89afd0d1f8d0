"""A few lines of raw ASGI that stream: what the harness itself is tested with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["application"]

Message = MutableMapping[str, Any]


async def application(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Send the next ten numbers after the cursor and end; 204 after the hundredth."""
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    headers = dict(scope["headers"])
    first = int(headers.get(b"last-event-id", b"0"))
    if first >= 100:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})
        return
    kind = [(b"content-type", b"text/event-stream"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": kind})
    opening = f"retry: 10\nid: {first}\n\n".encode()
    await send({"type": "http.response.body", "body": opening, "more_body": True})
    for number in range(first + 1, min(first + 11, 101)):
        event = f"id: {number}\ndata: {number}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body"})
