"""The WebSocket door: the same bursts as JSON frames. Source of the close codes: RFC 6455, 7.4."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http.request import split_domain_port, validate_host
from django.utils.http import is_same_domain

from . import transport
from .conf import get_config
from .connections import SPEECHLESS, Connection
from .door import answer, bad_request
from .lifecycle import node
from .protocol.burst import Cause
from .scopes import Receive, Scope, ScopeRequest, Send
from .sending import Stalled
from .serving import outlet_of
from .stream import Stream
from .transport import find_socket
from .ways import Answer, Socket, words

__all__ = ["consume"]

logger = logging.getLogger(__name__)

OVER, GOING_AWAY, TRY_AGAIN_LATER = 1000, 1001, 1013
REFUSED_SECONDS = 1.0  # for the close of one who was sent nothing but when to come back
TURNS = 4  # of the loop, in which a server closes a connection that it has refused
MESSAGE_BYTES = 1_024  # of what a client may say, which is that it lets go
MOST_MESSAGES = 1_000  # in a burst: who says more keeps the loop from others


async def consume(names: list[str], scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the WebSocket of these channels, or of those that the query names, for one burst.

    A frame is one JSON object (:class:`~sse_polling.protocol.encoding.JsonLines`). The client comes back
    with ``last_event_id``, after ``retry`` milliseconds. To a ``close`` it may answer ``{"ack": true}``.
    """
    await receive()  # websocket.connect
    given = await _answer(names, scope, receive, send)
    try:
        if given.status >= 400:
            await _refuse(given, scope, send)
            return
        socket = find_socket(send, scope)
        await send({"type": "websocket.accept"})
        if given.stream is None:
            await _say(given.body, send)
            code: int | None = OVER if given.status == 204 else TRY_AGAIN_LATER
        else:
            code = await _serve(given.stream, socket, receive, send)
        if code is not None:
            await _close(code, given, socket, send)
    except OSError:
        pass  # the client has gone, maybe before it was accepted
    finally:
        if given.stream is not None:
            given.stream.close()


async def _answer(names: list[str], scope: Scope, receive: Receive, send: Send) -> Answer:
    try:
        request = ScopeRequest(scope, receive, send, door="websocket")
        origin = request.plain_headers.get("origin")
        if origin is not None and not _may_come_from(origin, request.plain_headers):
            return words(403, f"No WebSocket for pages of {origin[:100]}: see CSRF_TRUSTED_ORIGINS.")
        asked = names or request.GET.getlist("channel")
        return await answer(request, asked, several=not names, kind=Socket)
    except (SuspiciousOperation, UnicodeError) as error:
        return bad_request(error)


def _may_come_from(origin: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a page of *origin* may read: browsers let every page open a WebSocket, with cookies.

    ``ALLOWED_HOSTS`` names the site's own hosts. Its ``*`` names none: there the page must be of the host
    that it asks, as Django's own CSRF check wants it.
    """
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return False
    allowed = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed:
        allowed = [".localhost", "127.0.0.1", "[::1]"]
    host = f"[{host}]" if ":" in host else host
    if validate_host(host, [pattern for pattern in allowed if pattern != "*"]):
        return True
    if "*" in allowed:
        forwarded = headers.get("x-forwarded-host") if settings.USE_X_FORWARDED_HOST else None
        asked, _ = split_domain_port(forwarded or headers.get("host", ""))
        if asked and asked == host:
            return True
    for trusted in settings.CSRF_TRUSTED_ORIGINS:
        known = urlsplit(trusted)
        pattern = known.netloc.removeprefix("*")
        if known.scheme == parts.scheme and is_same_domain(parts.netloc, pattern):
            return True
    return False


async def _refuse(given: Answer, scope: Scope, send: Send) -> None:
    """Refuse the handshake, with status and words where the server can send them, else with its 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in given.headers]
    headers.append((b"content-length", b"%d" % len(given.body)))
    await send({"type": "websocket.http.response.start", "status": given.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": given.body})
    for _ in range(TURNS):
        # uvicorn takes a refusal for a handshake that was forgotten, and logs an error, until it has closed.
        await asyncio.sleep(0)


async def _serve(stream: Stream, socket: transport.Socket, receive: Receive, send: Send) -> int | None:
    """Send the burst, and return with which code to close; None if there is nobody any more."""
    connection = stream.connection
    listens = asyncio.get_running_loop().create_task(
        _listen(connection, receive), name="sse_polling-websocket"
    )
    listens.add_done_callback(lambda _: connection.leave(Cause.GONE))

    async def frames(message: Mapping[str, Any]) -> None:
        await _say(message["body"], send)

    outlet = outlet_of(stream, socket, frames, get_config())
    chunks = stream.run()
    try:
        async for chunk in chunks:
            await outlet.write(chunk)
        has_gone = connection.leaving in SPEECHLESS
    except Stalled:
        stream.cause, has_gone = Cause.STALLED, True
    except OSError:
        stream.cause, has_gone = Cause.GONE, True
    finally:
        listens.cancel()
        outlet.close()
        stream.close()
        await chunks.aclose()
    if has_gone:
        return None
    return GOING_AWAY if stream.cause is Cause.DRAIN else OVER


async def _close(code: int, given: Answer, socket: transport.Socket, send: Send) -> None:
    """Send the close frame. Servers wait some seconds for the client's own, and its socket counts meanwhile.

    Not that of one who was refused: many of them would have all others refused.
    """
    connection = given.stream.connection if given.stream is not None else None
    if socket.close_websocket(code, get_config().send.stall_seconds if connection else REFUSED_SECONDS):
        if connection is not None and socket.is_open is not None:
            node.kept.add(socket.owner, socket.is_open)
        return
    if connection in node.flushing:
        connection = None  # its last frames count already
    if connection is not None:
        node.flushing.add(connection)
    try:
        await send({"type": "websocket.close", "code": code})
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - it raises no other
        # autobahn's own, where a wrapper of `send` hides daphne's socket: it takes no such code but 1000.
        await send({"type": "websocket.close", "code": OVER})
    finally:
        if connection is not None:
            node.flushing.discard(connection)


async def _say(chunk: bytes, send: Send) -> None:
    for line in chunk.split(b"\n")[:-1]:
        await send({"type": "websocket.send", "text": line.decode()})


async def _listen(connection: Connection, receive: Receive) -> None:
    """Hear the client out: until it goes, and whether it lets go. Who does not stop talking is cut."""
    for _ in range(MOST_MESSAGES):
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text: Any = message.get("text")
        if text is None or len(text) > MESSAGE_BYTES:
            continue
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict) and told.get("ack") is True:
            connection.ack()
    logger.info("sse_polling cuts a WebSocket that has said %s messages", MOST_MESSAGES)
    connection.abort()
