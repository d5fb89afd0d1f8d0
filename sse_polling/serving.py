"""Answers to HTTP requests at ASGI: what the mount sends, and how it watches the socket meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from django.core.exceptions import SuspiciousOperation

from .conf import Config, get_config
from .connections import SPEECHLESS, Connection
from .door import ACK_BYTES, acked, answer, bad_request, method_not_allowed
from .lifecycle import node
from .protocol.burst import Cause
from .scopes import Receive, Scope, ScopeRequest, Send
from .sending import Outlet, Stalled
from .stream import Stream
from .transport import Socket, find_socket, longest_retry_ms
from .ways import Answer, Poll, Streaming, Way

__all__ = ["Asked", "outlet_of", "poll", "serve", "stream", "take_ack"]

ACK_SECONDS = 10.0

Asked = Callable[[Scope, Receive, Send], Awaitable[Answer]]


async def serve(scope: Scope, receive: Receive, send: Send, asked: Asked) -> None:
    """Answer one request for a stream, a long-poll or an ack."""
    config = get_config()
    socket = find_socket(send, scope)
    if socket.owner is not None:
        node.kept.discard(socket.owner)
    try:
        given = await asked(scope, receive, send)
    except BaseException:
        socket.close_when_done()
        raise
    # Refusals close too: a crowd of those who are sent away would hold what they were refused.
    keep = given.stream is not None and given.keeps and not config.close_socket and node.keeps(config)
    if not keep:
        socket.close_when_done()
    start = partial(_start, given, scope)
    if given.stream is None:
        await send(start(closes=True, size=len(given.body) if given.status != 204 else None))
        await send({"type": "http.response.body", "body": given.body})
        return
    window = socket.keep_open(config.keep_alive_seconds) if keep else 0.0
    if keep:
        given.stream.longest_retry_ms = longest_retry_ms(window)
    try:
        closes = await _send_stream(given.stream, socket, receive, send, start, config, closes=not keep)
        if not closes:
            if socket.is_open is not None and socket.owner is not None:
                node.kept.add(socket.owner, socket.is_open)
            else:
                node.kept.guess(window, owner=socket.owner)
    finally:
        given.stream.close()


def _start(given: Answer, scope: Scope, *, closes: bool, size: int | None = None) -> dict[str, Any]:
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in given.headers]
    if closes and scope.get("http_version", "1.1") in ("1.0", "1.1"):
        headers.append((b"connection", b"close"))
    if size is not None:
        headers.append((b"content-length", b"%d" % size))
    return {"type": "http.response.start", "status": given.status, "headers": headers}


async def _send_stream(
    stream: Stream,
    socket: Socket,
    receive: Receive,
    send: Send,
    start: Callable[..., Mapping[str, Any]],
    config: Config,
    *,
    closes: bool,
) -> bool:
    """Send the burst, and tell whether the socket closes after it, as *closes* or for another reason.

    A stream begins at once, one answer with its first bytes, which are all of it as often as not.
    """
    outlet = outlet_of(stream, socket, send, config)
    watch = _watch_for_end(stream.connection, receive)
    chunks = stream.run()
    begun = not stream.is_answer
    try:
        if begun:
            await outlet.send(start(closes=closes))
        ended = False
        async for chunk in chunks:
            ended = stream.is_last
            if stream.cause is Cause.DRAIN:  # also a socket that was to be kept
                closes = socket.close_when_done() or closes or not begun
            if chunk and not begun:
                begun = True
                await outlet.send(start(closes=closes, size=len(chunk) if ended else None))
            await outlet.write(chunk, last=ended)
        if not begun:
            await outlet.send(start(closes=True, size=0))  # its client has gone
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
    return closes or stream.cause in (None, *SPEECHLESS)


def outlet_of(stream: Stream, socket: Socket, send: Send, config: Config) -> Outlet:
    """Return what *stream* is written to, which can cut it from then on."""
    connection = stream.connection
    connection.abort_transport = socket.abort if socket.reachable else None
    return Outlet(
        send,
        socket,
        config,
        heartbeat=stream.heartbeat,
        on_stalled=partial(connection.leave, Cause.STALLED),
        is_over=lambda: stream.is_due,
        on_flush=partial(_flushes, connection),
    )


def _flushes(connection: Connection, waits: bool) -> None:
    (node.flushing.add if waits else node.flushing.discard)(connection)


async def stream(names: list[str], scope: Scope, receive: Receive, send: Send) -> Answer:
    """Open the stream of these channels, or of those that the query names."""
    return await _open(Streaming, names, scope, receive, send)


async def poll(names: list[str], scope: Scope, receive: Receive, send: Send) -> Answer:
    """Return the events of these channels, or of those that the query names, in one answer."""
    return await _open(Poll, names, scope, receive, send)


async def _open(kind: type[Way], names: list[str], scope: Scope, receive: Receive, send: Send) -> Answer:
    if scope["method"] != "GET":
        return method_not_allowed(scope["method"])
    try:
        request = ScopeRequest(scope, receive, send, door="mount")
        return await answer(request, names or request.GET.getlist("channel"), several=not names, kind=kind)
    except (SuspiciousOperation, UnicodeError) as error:
        return bad_request(error)


async def take_ack(scope: Scope, receive: Receive, send: Send) -> Answer:
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


def _watch_for_end(connection: Connection, receive: Receive) -> asyncio.Task[None]:
    """Let the stream end when its client goes, which the server tells only through *receive*."""
    watch = asyncio.get_running_loop().create_task(_until_gone(receive), name="sse_polling-watch")
    watch.add_done_callback(lambda _: connection.leave(Cause.GONE))
    return watch


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
