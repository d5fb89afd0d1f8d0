"""The door through Django's URLs: async views, exempt from what would break a stream."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from .conf import get_config
from .database import pass_by
from .door import ACK_BYTES, acked, answer, bad_request, gather, method_not_allowed
from .hub import hubs
from .lifecycle import capacity, node
from .nodes.beat import beat
from .threads import give_thread_back
from .transport import SHORTEST_WINDOW, find_socket, longest_retry_ms
from .users import Nobody
from .ways import Answer, Poll, Streaming, Way

__all__ = ["ack", "exempt", "poll", "polls", "ready", "stream", "streams"]

View = Callable[..., Any]
CUT_BYTES = 65_536  # Django's ASGI handler cuts every part of a response at this size


def exempt(view: View) -> View:
    """Exempt *view* from ``LoginRequiredMiddleware`` and, on every database, ``ATOMIC_REQUESTS``.

    From the CSRF check as well: it changes nothing, and another method is told 405 in words.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return csrf_exempt(login_not_required(view))


class _ViewRequest:
    """An ``HttpRequest`` as :class:`~sse_polling.door.DoorRequest`."""

    door = "view"

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self.GET = request.GET
        self.headers: Mapping[str, str] = request.headers
        self.plain_headers: Mapping[str, str] = {
            name.lower(): value for name, value in request.headers.items()
        }
        self.scope: Mapping[str, Any] = getattr(request, "scope", {})
        self.session = getattr(request, "session", None)
        self.COOKIES = request.COOKIES
        self.META = request.META
        self.address: str | None = request.META.get("REMOTE_ADDR")
        self.user: Any = None

    async def load_user(self) -> Any:
        load = getattr(self._request, "auser", None)
        return await load() if load is not None else Nobody()


@exempt
async def stream(request: HttpRequest, channel: str) -> HttpResponseBase:
    """Stream one channel."""
    return await _respond(request, [channel], Streaming)


@exempt
async def streams(request: HttpRequest) -> HttpResponseBase:
    """Stream several channels: ``?channel=a&channel=b``."""
    return await _respond(request, [], Streaming)


@exempt
async def poll(request: HttpRequest, channel: str) -> HttpResponseBase:
    """Answer with the events of one channel, as JSON."""
    return await _respond(request, [channel], Poll)


@exempt
async def polls(request: HttpRequest) -> HttpResponseBase:
    """Answer with the events of several channels: ``?channel=a&channel=b``."""
    return await _respond(request, [], Poll)


@exempt
async def ack(request: HttpRequest) -> HttpResponseBase:
    """Take a client's goodbye to a ``close``."""
    if request.method != "POST":
        return _plain(method_not_allowed(request.method or "", allowed="POST"), request)
    try:
        body = request.read(ACK_BYTES + 1)
    except OSError as error:
        return _plain(bad_request(error), request)
    return _plain(acked(body), request)


@exempt
async def ready(request: HttpRequest) -> HttpResponseBase:
    """Tell a load balancer how this process is: 503 while it drains, and only then.

    ``layer`` is how it learns of events: ``live``, ``polling`` or ``down`` (``Hub.state``), None before
    its first stream.
    """
    if request.method not in ("GET", "HEAD"):
        return _plain(method_not_allowed(request.method or ""))
    config = get_config()
    hub = hubs.get(asyncio.get_running_loop())
    body = {
        "state": node.state(config),
        "sockets": node.sockets,
        "capacity": capacity(config),
        "layer": hub.state if hub is not None else None,
    }
    status = 503 if node.draining else 200
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})


async def _respond(request: HttpRequest, names: list[str], kind: type[Way]) -> HttpResponseBase:
    if request.method != "GET":
        return _plain(method_not_allowed(request.method or ""), request)
    try:
        asked = names or request.GET.getlist("channel")
        finite = not isinstance(request, ASGIRequest)
        if finite:
            refused = _refuse_to_wait(request.GET.get("wait", "0"))
            if refused is not None:
                return _plain(refused)
            pass_by(asyncio.get_running_loop())
        else:
            beat.start()
        given = await answer(_ViewRequest(request), asked, several=not names, kind=kind, finite=finite)
    except (SuspiciousOperation, UnicodeError) as error:
        return _plain(bad_request(error), request)
    if given.stream is None:
        return _plain(given, request)
    try:
        if not isinstance(request, ASGIRequest):
            # Under WSGI the body is gathered in another event loop than this view's: send what there is.
            return _plain(await gather(given))
        given.stream.connection.abort_transport = find_socket(None, request.scope, by_address=True).abort
        await give_thread_back()
        config = get_config()
        keep = given.keeps and not config.close_socket and node.keeps(config)
        if keep:
            # Which server's socket this is, a view cannot see.
            given.stream.longest_retry_ms = longest_retry_ms(SHORTEST_WINDOW)
        if kind.is_answer and not given.stream.may_wait:
            return _plain(await gather(given), request, keep=keep)
        # An answer that waits does so as a stream: behind sync middleware this view has a thread.
        chunks = _late(given) if kind.is_answer else given.stream.run()
        response = StreamingHttpResponse(map_whole(chunks), headers=dict(given.headers))
        response._resource_closers.append(partial(given.stream.close))  # type: ignore[attr-defined]
        if keep:
            guess = partial(node.kept.guess, SHORTEST_WINDOW)
            response._resource_closers.append(guess)  # type: ignore[attr-defined]
        else:
            _close_socket(request, response)
        # Django drops a response without closing it when the client goes while middleware still has it.
        weakref.finalize(response, given.stream.close).atexit = False
    except BaseException:
        given.stream.close()
        raise
    return response


async def _late(given: Answer) -> AsyncGenerator[bytes, None]:
    yield (await gather(given)).body


def _refuse_to_wait(wait: str) -> Answer | None:
    """Refuse what asks WSGI, where a thread of the server would wait, for more than what there is."""
    try:
        if float(wait) <= 0:
            return None
    except ValueError:
        pass
    return bad_request(
        ValueError(
            f"wait is {wait[:20]!r}, and this server runs under WSGI, which cannot hold a stream. Ask with "
            "wait=0 and come back, or have the site served through ASGI."
        )
    )


def _plain(given: Answer, request: HttpRequest | None = None, *, keep: bool = False) -> HttpResponse:
    response = HttpResponse(given.body, status=given.status, headers=dict(given.headers))
    if keep:
        node.kept.guess(SHORTEST_WINDOW)
    else:
        _close_socket(request, response)
    return response


def _close_socket(request: HttpRequest | None, response: HttpResponseBase) -> None:
    """Ask for the socket's end after *response*; WSGI and HTTP/2 have no such header."""
    if not isinstance(request, ASGIRequest):
        return
    if request.scope.get("http_version", "1.1") != "2":
        response.headers["Connection"] = "close"


class Whole(bytes):
    """Bytes that Django's ASGI handler sends as one part.

    The handler slices what is longer than 64 KiB; a proxy that loses the rest would then hold half
    a frame. This says it is short, and a slice of it is all of it.
    """

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> Any:
        return bytes.__getitem__(self, slice(None))

    def __bytes__(self) -> Whole:
        return self


async def map_whole(chunks: Any) -> Any:
    try:
        async for chunk in chunks:
            yield Whole(chunk) if len(chunk) > CUT_BYTES else chunk
    finally:
        await chunks.aclose()
