"""Answers to HTTP requests at ASGI: what the mount sends, and how it watches the socket meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from django.core.exceptions import SuspiciousOperation

from .conf import Config, get_config
from .connections import SPEECHLESS, Connection
from .door import ACK_BYTES, acked, answer, bad_request, gather, method_not_allowed
from .lifecycle import node
from .protocol.burst import Cause
from .scopes import Receive, Scope, ScopeRequest, Send
from .sending import Outlet, Stalled
from .stream import Stream
from .transport import Socket, find_socket, longest_retry_ms
from .ways import Answer, Poll, Streaming, Way

__all__ = ["Asked", "outlet_of", "poll", "serve", "stream", "take_ack", "watch_for_end"]

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
    burst = given.stream is not None or given.connection is not None
    keep = burst and given.keeps and not config.close_socket and node.keeps(config)
    if not keep:
        socket.close_when_done()
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in given.headers]
    if not keep and scope.get("http_version", "1.1") in ("1.0", "1.1"):
        headers.append((b"connection", b"close"))
    window = socket.keep_open(config.keep_alive_seconds) if keep else 0.0
    if given.stream is None:
        if given.status != 204:
            headers.append((b"content-length", b"%d" % len(given.body)))
        if given.connection is not None:
            if await _send_whole(given, socket, send, headers, config) and keep:
                _keep(socket, window)
            return
        await send({"type": "http.response.start", "status": given.status, "headers": headers})
        await send({"type": "http.response.body", "body": given.body})
        return
    if keep:
        given.stream.longest_retry_ms = longest_retry_ms(window)
    try:
        await _send_stream(given.stream, socket, receive, send, headers, config)
    finally:
        given.stream.close()
        cause = given.stream.cause
        closes = cause is Cause.DRAIN and socket.close_when_done()
        if keep and not closes and cause not in (None, Cause.GONE, Cause.STALLED):
            _keep(socket, window)


def _keep(socket: Socket, window: float) -> None:
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
    outlet = outlet_of(stream, socket, send, config)
    watch = watch_for_end(stream.connection, receive)
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


def outlet_of(stream: Stream, socket: Socket, send: Send, config: Config) -> Outlet:
    """Return what *stream* is written to, which can cut it from then on."""
    connection = stream.connection
    connection.abort_transport = socket.abort if socket.reachable else None
    return Outlet(
        send,
        socket,
        config,
        on_stalled=partial(connection.leave, Cause.STALLED),
        is_over=lambda: stream.is_due,
        on_flush=partial(_flushes, connection),
    )


def _flushes(connection: Connection, waits: bool) -> None:
    (node.flushing.add if waits else node.flushing.discard)(connection)


async def _send_whole(
    given: Answer, socket: Socket, send: Send, headers: list[tuple[bytes, bytes]], config: Config
) -> bool:
    """Send an answer that a stream has made, and tell whether that went well.

    It is up to a burst, which a client may read slowly, or not at all.
    """
    on_flush = partial(_flushes, given.connection) if given.connection is not None else None
    outlet = Outlet(send, socket, config, on_flush=on_flush)
    try:
        await outlet.send({"type": "http.response.start", "status": given.status, "headers": headers})
        await outlet.write(given.body, last=True)
        return True
    except (Stalled, OSError):
        return False  # the client will be back with the cursor that it had
    finally:
        outlet.close()


async def stream(names: list[str], scope: Scope, receive: Receive, send: Send) -> Answer:
    """Open the stream of these channels, or of those that the query names."""
    return await _open(Streaming, names, scope, receive, send)


async def poll(names: list[str], scope: Scope, receive: Receive, send: Send) -> Answer:
    """Return the events of these channels, or of those that the query names, in one answer."""
    given = await _open(Poll, names, scope, receive, send)
    if given.stream is None:
        return given
    watch = watch_for_end(given.stream.connection, receive)
    try:
        answered = await gather(given)
        answered.keeps = given.keeps and given.stream.cause not in SPEECHLESS
        return answered
    finally:
        watch.cancel()
        given.stream.close()


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


def watch_for_end(connection: Connection, receive: Receive) -> asyncio.Task[None]:
    """Let the stream end when its client goes, which the server tells only through *receive*."""
    watch = asyncio.get_running_loop().create_task(_until_gone(receive), name="sse_polling-watch")
    watch.add_done_callback(lambda _: connection.leave(Cause.GONE))
    return watch


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
