"""An ASGI scope as a request, for the doors that pass by Django's handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

from channels.db import database_sync_to_async
from channels.sessions import SessionMiddlewareStack
from django.apps import apps
from django.http import QueryDict
from django.http.request import HttpHeaders

from .users import Nobody, session_user

__all__ = ["Receive", "Scope", "ScopeRequest", "Send"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class ScopeRequest:
    """A scope as :class:`~sse_polling.door.DoorRequest`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, door: str) -> None:
        self.door = door
        self.scope: Mapping[str, Any] = scope
        self._receive, self._send = receive, send
        self.GET = QueryDict(scope.get("query_string", b"").decode())
        self.plain_headers: Mapping[str, str] = _headers(scope)
        client = scope.get("client")
        self.address: str | None = client[0] if client else None
        self.user: Any = None
        self.session: Any = None

    @cached_property
    def headers(self) -> Mapping[str, str]:
        return HttpHeaders(
            {HttpHeaders.to_wsgi_name(name): value for name, value in self.plain_headers.items()}
        )

    async def load_user(self) -> Any:
        if not apps.is_installed("django.contrib.auth") or not apps.is_installed("django.contrib.sessions"):
            return Nobody()
        with_session: Any = SessionMiddlewareStack
        await with_session(self._remember)(dict(self.scope), self._receive, self._send)
        self.user = await database_sync_to_async(session_user)(self.session)
        self.scope = {**self.scope, "user": self.user}
        return self.user

    async def _remember(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.scope, self.session = scope, scope["session"]


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their names in lower case, repeated ones joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        if b"_" in raw_name:
            continue  # as Django does: it would pass for the header that a proxy vouches for
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
