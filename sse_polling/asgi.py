"""What an ``asgi.py`` imports: ``SSEPolling``.

It is imported before Django's app registry is ready, as often as not, so this module needs nothing
of it: the mount is imported once there is an application to wrap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

__all__ = ["SSEPolling"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class SSEPolling:
    """Wrap an ASGI application and answer the addresses of streams without Django's handler.

    Everything else, lifespan included, goes to *app*. *path* is where ``sse_polling.urls`` is
    included, found with ``reverse()`` if None. Streams pass by the site's own middleware: lists of
    addresses, tenants and the like must be asked in ``AUTHORIZE``. Sessions and users are loaded
    by channels' ``AuthMiddlewareStack``. *websocket*: answer the WebSocket addresses too.
    """

    def __init__(self, app: Any, *, path: str | None = None, websocket: bool = True) -> None:
        from .mount import Mount  # needs the app registry, which get_asgi_application() has filled by now

        self.app = app
        self.websocket = websocket
        self._mount = Mount(app, path=path, websocket=websocket)

    @property
    def path(self) -> str:
        """Where the streams are, from the site's root, with both slashes."""
        return self._mount.path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._mount(scope, receive, send)
