"""The mount: streams answered at ASGI, without Django's handler. Its face is in ``asgi``."""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import (
    NoReverseMatch,
    Resolver404,
    URLResolver,
    get_resolver,
    get_script_prefix,
    reverse,
)

from . import views
from .consumers import consume
from .nodes.beat import beat
from .protocol.names import RESERVED_NAMES
from .scopes import Receive, Scope, Send
from .serving import Asked, poll, serve, stream, take_ack

__all__ = ["Mount"]

REMEMBERED = 4096  # addresses of which is known where the URLconf leads
REMEMBERED_LENGTH = 256  # of what is longer, nothing is a channel's name


class Mount:
    """An ASGI application that answers the streams under *path* and hands the rest to *app*."""

    def __init__(self, app: Any, *, path: str | None, websocket: bool = True) -> None:
        self.app = app
        self._websocket = websocket
        _start_with_daphne()
        self._given = path is not None
        self._route = "/"  # the path as the URLconf knows it, without a script prefix
        self._path = path if path is None else "/" + path.strip("/") + "/" if path.strip("/") else "/"

    @property
    def path(self) -> str:
        """Where the streams are, from the site's root, with both slashes."""
        if self._path is None:
            try:
                self._path = reverse("sse_polling:streams")
                self._route = "/" + self._path[len(get_script_prefix()) :]
            except NoReverseMatch:
                raise ImproperlyConfigured(
                    'SSEPolling finds no address: add path("events/", include("sse_polling.urls")) to the '
                    "root URLconf, or give it path=."
                ) from None
        return self._path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        beat.start()
        rest = self._rest(scope) if kind in ("http", "websocket") else None
        if rest is None:
            await self.app(scope, receive, send)
        elif kind == "http":
            asked = self._asked(rest)
            await (self.app(scope, receive, send) if asked is None else serve(scope, receive, send, asked))
        elif (names := self._sockets(rest)) is not None:
            await consume(names, scope, receive, send)
        elif self._asked(rest) is not None:
            # A stream's address, and Django would log a traceback.
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self.app(scope, receive, send)

    def _rest(self, scope: Scope) -> str | None:
        """Return what follows our path, None if it is not the start of this one."""
        path: str = scope["path"]
        root = scope.get("root_path", "")
        for prefix in (self.path, root.rstrip("/") + self.path):
            if path.startswith(prefix):
                return path[len(prefix) :]
        return None

    def _asked(self, rest: str) -> Asked | None:
        """Return what answers our address *rest*, None if it is not ours."""
        if rest == "ack/":
            asked, view = take_ack, views.ack
        elif rest == "poll/":
            asked, view = partial(poll, []), views.polls
        elif not rest:
            return partial(stream, [])
        else:
            name, _, more = rest[:-1].partition("/")
            if not rest.endswith("/") or not name or more not in ("", "poll") or name in RESERVED_NAMES:
                return None
            if rest.count("/") != (2 if more else 1):
                return None
            asked, view = (
                (partial(poll, [name]), views.poll) if more else (partial(stream, [name]), views.stream)
            )
        return asked if self._is_ours(rest, view) else None

    def _sockets(self, rest: str) -> list[str] | None:
        """As :meth:`_asked` for a WebSocket, whose address Django's URLconf does not have: the channels."""
        name = rest.removeprefix("ws/").removesuffix("/")
        if not self._websocket or not rest.startswith("ws/") or not rest.endswith("/") or "/" in name:
            return None
        if not self._is_ours("", views.streams):
            return None
        return [name] if name else []

    def _is_ours(self, rest: str, view: Any) -> bool:
        """Tell whether the site's URLconf leads there too: an address before the include is the site's."""
        if self._given:
            return True
        leads = _leads_to if len(rest) <= REMEMBERED_LENGTH else _leads_to.__wrapped__
        return leads(get_resolver(), self._route + rest) is view


@lru_cache(maxsize=REMEMBERED)
def _leads_to(resolver: URLResolver, address: str) -> Any:
    """Return the view at *address*, None without one. Another ROOT_URLCONF is another resolver."""
    try:
        return resolver.resolve(address).func
    except Resolver404:
        return None


def _start_with_daphne() -> None:
    """Begin the beat once daphne's reactor runs: it tells no application that it starts."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if hasattr(reactor, "callWhenRunning") and not getattr(reactor, "running", True):
        reactor.callWhenRunning(reactor.callLater, 0, beat.start)
