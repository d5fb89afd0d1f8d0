"""The mount: streams answered at ASGI, without Django's handler. Its face is in ``asgi``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any

from channels.db import database_sync_to_async
from channels.sessions import SessionMiddlewareStack
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.http import QueryDict
from django.http.request import HttpHeaders
from django.urls import (
    NoReverseMatch,
    Resolver404,
    URLResolver,
    get_resolver,
    get_script_prefix,
    reverse,
)

from . import views
from .access import Nobody, session_user
from .conf import Config, get_config
from .door import ACK_BYTES, Answer, acked, answer, bad_request, method_not_allowed
from .lifecycle import node
from .nodes.beat import beat
from .protocol.burst import Cause
from .protocol.names import RESERVED_NAMES
from .sending import Outlet, Stalled
from .stream import Stream
from .transport import Socket, find_socket, longest_retry_ms

__all__ = ["Mount"]

ACK = "ack/"
ACK_SECONDS = 10.0
REMEMBERED = 4096  # addresses of which is known where the URLconf leads
REMEMBERED_LENGTH = 256  # of what is longer, nothing is a channel's name

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Mount:
    """An ASGI application that answers the streams under *path* and hands the rest to *app*."""

    def __init__(self, app: Any, *, path: str | None) -> None:
        self.app = app
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
        if rest is not None and kind == "http" and rest == ACK and self._is_ours(rest, views.ack):
            await _serve(scope, receive, send, None)
            return
        names = self._channels(rest) if rest is not None else None
        if names is None:
            await self.app(scope, receive, send)
        elif kind == "websocket":
            # No WebSocket is offered at a stream's address, and Django would log a traceback.
            await receive()
            await send({"type": "websocket.close"})
        else:
            await _serve(scope, receive, send, names)

    def _rest(self, scope: Scope) -> str | None:
        """Return what follows our path, None if it is not the start of this one."""
        path: str = scope["path"]
        root = scope.get("root_path", "")
        for prefix in (self.path, root.rstrip("/") + self.path):
            if path.startswith(prefix):
                return path[len(prefix) :]
        return None

    def _channels(self, rest: str) -> list[str] | None:
        """Return [] for several channels (named in the query), [name] for one, None if not ours."""
        if not rest:
            return []
        name = rest[:-1]
        if rest.endswith("/") and name and "/" not in name and name not in RESERVED_NAMES:
            return [name] if self._is_ours(rest, views.stream) else None
        return None

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


class _MountRequest:
    """A scope as :class:`~sse_polling.door.DoorRequest`."""

    door = "mount"

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
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


async def _serve(scope: Scope, receive: Receive, send: Send, names: list[str] | None) -> None:
    config = get_config()
    socket = find_socket(send, scope)
    if socket.owner is not None:
        node.kept.discard(socket.owner)
    try:
        given = await (_take(scope, receive) if names is None else _answer(scope, receive, send, names))
    except BaseException:
        socket.close_when_done()
        raise
    # Refusals close too: a crowd of those who are sent away would hold what they were refused.
    keep = not config.close_socket and given.stream is not None and node.keeps(config)
    if not keep:
        socket.close_when_done()
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in given.headers]
    if not keep and scope.get("http_version", "1.1") in ("1.0", "1.1"):
        headers.append((b"connection", b"close"))
    if given.stream is None:
        if given.status != 204:
            headers.append((b"content-length", b"%d" % len(given.body)))
        await send({"type": "http.response.start", "status": given.status, "headers": headers})
        await send({"type": "http.response.body", "body": given.body})
        return
    if keep:
        window = socket.keep_open(config.keep_alive_seconds)
        given.stream.longest_retry_ms = longest_retry_ms(window)
    try:
        await _send_stream(given.stream, socket, receive, send, headers, config)
    finally:
        given.stream.close()
        cause = given.stream.cause
        closes = cause is Cause.DRAIN and socket.close_when_done()
        if keep and not closes and cause not in (None, Cause.GONE, Cause.STALLED):
            if socket.is_open is not None and socket.owner is not None:
                node.kept.add(socket.owner, socket.is_open)
            else:
                node.kept.guess(window, owner=socket.owner)


async def _send_stream(
    stream: Stream,
    socket: Socket,
    receive: Receive,
    send: Send,
    headers: list[tuple[bytes, bytes]],
    config: Config,
) -> None:
    stream.connection.abort_transport = socket.abort if socket.reachable else None
    outlet = Outlet(
        send,
        socket,
        config,
        on_stalled=partial(stream.connection.leave, Cause.STALLED),
        is_over=lambda: stream.is_due,
        on_flush=lambda waits: (node.flushing.add if waits else node.flushing.discard)(stream.connection),
    )
    # The server tells only through receive() that the client has gone.
    watch = asyncio.get_running_loop().create_task(_until_gone(receive), name="sse_polling-watch")
    watch.add_done_callback(lambda _: stream.connection.leave(Cause.GONE))
    chunks = stream.run()
    try:
        await outlet.send({"type": "http.response.start", "status": 200, "headers": headers})
        ended = False
        async for chunk in chunks:
            ended = stream.is_last
            if stream.cause is Cause.DRAIN:
                socket.close_when_done()  # also one that was to be kept
            await outlet.write(chunk, last=ended)
        if not ended:
            await outlet.send({"type": "http.response.body", "body": b"", "more_body": False})
    except Stalled:
        stream.cause = Cause.STALLED
    except OSError:
        pass  # the client went in mid-send; it will be back with its cursor
    finally:
        watch.cancel()
        outlet.close()
        stream.close()
        await chunks.aclose()


async def _answer(scope: Scope, receive: Receive, send: Send, names: list[str]) -> Answer:
    if scope["method"] != "GET":
        return method_not_allowed(scope["method"])
    try:
        request = _MountRequest(scope, receive, send)
        return await answer(request, names or request.GET.getlist("channel"), several=not names)
    except (SuspiciousOperation, UnicodeError) as error:
        return bad_request(error)


async def _take(scope: Scope, receive: Receive) -> Answer:
    """Take an ack."""
    if scope["method"] != "POST":
        return method_not_allowed(scope["method"], allowed="POST")
    body, more = b"", True
    try:
        async with asyncio.timeout(ACK_SECONDS):
            while more and len(body) <= ACK_BYTES:
                message = await receive()
                if message["type"] != "http.request":
                    break
                body += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        return bad_request(TimeoutError(f"the ack did not come within {ACK_SECONDS:g} s"))
    return acked(body)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their names in lower case, repeated ones joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        if b"_" in raw_name:
            continue  # as Django does: it would pass for the header that a proxy vouches for
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
