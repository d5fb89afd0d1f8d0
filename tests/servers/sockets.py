"""WebSockets of the `websockets` package, as a client that keeps its cursor would use them."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.connection import request
from tests.harness.http import Response

__all__ = ["Burst", "handshake", "open_socket", "read_burst", "ws_url"]

Frame = dict[str, Any]


def ws_url(server: str, channel: str | Sequence[str], **query: str) -> str:
    """Return the WebSocket's address of a channel, or of several, on the server at `http://…`."""
    base = "ws" + server.removeprefix("http") + "/events/ws/"
    if isinstance(channel, str):
        return f"{base}{channel}/" + (f"?{urlencode(query)}" if query else "")
    return f"{base}?" + urlencode([*(("channel", each) for each in channel), *query.items()])


@dataclass
class Burst:
    """What one connection brought."""

    frames: list[Frame] = field(default_factory=list)
    code: int = 0

    @property
    def events(self) -> list[Frame]:
        return [each for each in self.frames if "event" in each]

    @property
    def data(self) -> list[str]:
        return [each["data"] for each in self.events]

    @property
    def cursor(self) -> str | None:
        """Return the last cursor that a frame said; an event's own id where it says no other."""
        said = [each.get("last_event_id", each.get("id")) for each in self.frames]
        return next((each for each in reversed(said) if each is not None), None)


def open_socket(url: str, **options: Any) -> Any:
    """Connect, without compression and proxies: `async with open_socket(url) as socket`."""
    return connect(url, compression=None, proxy=None, open_timeout=20, close_timeout=5, **options)


async def read_burst(
    socket: ClientConnection, *, until: Callable[[Burst], bool] | None = None, deadline: float = 20
) -> Burst:
    """Read to the close, or until the condition holds after a frame."""
    burst = Burst()
    async with asyncio.timeout(deadline):
        try:
            async for message in socket:
                assert isinstance(message, str)
                assert "\n" not in message
                burst.frames.append(json.loads(message))
                if until is not None and until(burst):
                    return burst
        except ConnectionClosed:
            pass
    burst.code = socket.close_code or 0
    return burst


async def handshake(url: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return the HTTP response to a WebSocket's handshake that is refused."""
    parts = urlsplit(url)
    address = f"http://{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    return await request(address, headers={**asked, **(headers or {})})
