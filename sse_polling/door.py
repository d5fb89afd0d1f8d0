"""What all doors share: from a request to an answer, each step with its refusal in words."""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from random import SystemRandom
from time import monotonic
from typing import Any, Protocol
from urllib.parse import parse_qsl

from .access import Visitor, authorize
from .acks import InvalidAck, ack
from .conf import Config, Effective, get_config
from .connections import Connection
from .database import ERRORS
from .exceptions import InvalidChannel, InvalidCursor
from .hub import Hub
from .lifecycle import Crowded, Refusal, node
from .nodes.beat import LIVE_CHANNEL, beat
from .protocol.cursor import MAX_CHANNELS, Cursor, format_cursor, parse_cursor
from .protocol.names import check_channel
from .protocol.retry import RetryLimits, next_retry
from .stream import DATABASE_RETRY_MS, Stream, open_stream
from .ways import Answer, Streaming, Way, words

__all__ = ["ACK_BYTES", "DoorRequest", "acked", "answer", "bad_request", "method_not_allowed"]

ACK_BYTES = 512

_FULL = (Refusal.CAPACITY, Refusal.PRIORITY, Refusal.BUDGET)
_CLIENT = re.compile(r"[A-Za-z0-9_-]{16,64}")
_rng = SystemRandom()


class DoorRequest(Protocol):
    """A request as a door hands it over; *GET* is a ``QueryDict``.

    *headers* is for ``AUTHORIZE`` and ignores case, *plain_headers* has the names in lower case.
    """

    user: Any
    GET: Any
    plain_headers: Mapping[str, str]
    scope: Mapping[str, Any]
    door: str
    address: str | None

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def load_user(self) -> Any:
        """Return the user, ``AnonymousUser`` for nobody."""


async def answer(
    request: DoorRequest,
    names: list[str],
    *,
    several: bool,
    kind: type[Way] = Streaming,
    finite: bool = False,
) -> Answer:
    """Open the stream that *request* asks for, or say why not: 204, 400, 403, 503 or a polite refusal.

    *kind* is the way in. A stream in the answer is registered: whoever takes it must see that it is closed.
    """
    config = get_config()
    forwarded = request.plain_headers.get("x-forwarded-for")
    request.address = config.trusted_proxies.client_address(request.address, forwarded)
    try:
        asked = _Asked(
            request=request,
            channels=_channels(names),
            cursor=_cursor(request, several=several),
            client=_client(request),
            several=several,
            finite=finite,
            way=kind(request.GET, several=several, config=config),
            config=config,
            # A finite stream runs in a loop made for it alone (WSGI): nothing would stop a hub's tasks there.
            hub=Hub(asyncio.get_running_loop()) if finite else Hub.current(),
        )
    except (InvalidChannel, InvalidCursor, ValueError) as error:
        return words(400, str(error))
    refusal = asked.refuses()
    if refusal is not None:
        return asked.refused(refusal)
    try:
        visitor = await authorize(
            request,
            asked.channels,
            address=request.address,
            door=request.door,
            headers=request.plain_headers,
            effective=asked.effective,
            config=config,
            load_user=request.load_user,
            asking=nullcontext() if finite else node.arrival(config),
        )
    except (*ERRORS, TimeoutError):
        return asked.refused(node.refuse(Refusal.DATABASE))
    except Crowded:
        return asked.refused(node.refuse(Refusal.ARRIVING))
    if visitor is None:
        what = f"channel {asked.channels[0]}" if len(asked.channels) == 1 else "these channels"
        return words(403, f"You may not read {what}.")
    if not finite:
        asked.hub = Hub.current()  # the one from before may have ended for want of readers
    given = await asked.admit(visitor)
    if given.stream is not None and LIVE_CHANNEL in asked.channels:
        beat.show()  # only now: it costs the whole fleet a beat
    return given


@dataclass(slots=True, kw_only=True)
class _Asked:
    """What a request asks for, once it is understood."""

    request: DoorRequest
    channels: tuple[str, ...]
    cursor: Cursor
    client: str | None
    several: bool
    finite: bool
    way: Way
    config: Config
    hub: Hub
    hurried: bool = False  # answered at once, since there is no place to wait

    @property
    def priority(self) -> int:
        """That of the least important channel: the strictest wins."""
        return min(self.effective(name).priority for name in self.channels)

    def effective(self, name: str) -> Effective:
        live = self.hub.known(name)
        return live.effective(self.config) if live is not None else self.config.effective(name)

    def refuses(self) -> Refusal | None:
        """Return why no stream is taken now, None if one is, or an answer can be given at once."""
        refusal = node.refuses(self.priority, self.config, finite=self.finite)
        if refusal in _FULL and self.way.is_answer:
            self.hurried, refusal = True, None
        return refusal

    async def admit(self, visitor: Visitor) -> Answer:
        """Take the stream's place and open it."""
        task = asyncio.current_task()
        connection = Connection(
            channels=self.channels,
            door=self.request.door,
            client=self.client,
            user=visitor.user,
            key=visitor.key if not self.finite else None,  # it holds no socket
            passing=self.hurried,
            address=self.request.address,
            task=weakref.ref(task) if task is not None else None,
        )
        refusal = node.admit(connection, self.priority, self.config, finite=self.finite or self.hurried)
        if refusal in (*_FULL, Refusal.CLIENT) and self.way.is_answer and not (self.finite or self.hurried):
            self.hurried = connection.passing = True
            refusal = node.admit(connection, self.priority, self.config, finite=True)
        if refusal is not None:
            return self.refused(refusal)
        stream: Stream | None = None
        try:
            stream = await open_stream(
                self.hub,
                connection,
                self.cursor,
                several=self.several,
                finite=self.finite,
                encoder=self.way.encoder,
                longest_wait=self.way.longest_wait,
                config=self.config,
                node=node,
                rng=_rng,
                clock=monotonic,
            )
        except ERRORS:
            return self.refused(node.refuse(Refusal.DATABASE))
        finally:
            if stream is None:
                node.registry.release(connection)
        if stream is None:
            return self.way.ended(self.cursor.text)
        headers = [*self.way.headers, ("X-SSE-Stream", connection.id)]
        return Answer(200, headers, stream=stream, keeps=not self.hurried)

    def refused(self, why: Refusal) -> Answer:
        """Return a 503, or a stream that only says when to come back: a browser never returns from a 503.

        That stream says the client's own cursor, so that none is lost by a client that forgets; without
        one, where the channels stand now if this process knows, so that nothing of the wait is lost.
        """
        seconds = self.config.breaker.retry_after_seconds
        if why in (Refusal.CAPACITY, Refusal.PRIORITY, Refusal.ARRIVING) and not self.way.is_polite:
            return _full(seconds, self.request)
        wait_ms = seconds * 1000
        if why is Refusal.DATABASE:
            wait_ms = DATABASE_RETRY_MS
        elif why is Refusal.BUDGET or (why is Refusal.DRAINING and node.is_replaced):
            shortest = max(self.effective(name).retry.base_ms for name in self.channels)
            wait_ms = max(shortest, node.wait_ms(fresh=False))
        jitter = RetryLimits(jitter=RetryLimits(**self.config.retry).jitter)
        retry_ms = next_retry(jitter, _rng, at_least_ms=wait_ms)
        # A client over its limit is counted by the streams that it has, one sent elsewhere there.
        if why is not Refusal.CLIENT and not (why is Refusal.DRAINING and node.is_replaced):
            node.sent_away(retry_ms)
        return self.way.refused(retry_ms=retry_ms, identifier=self._here())

    def _here(self) -> str | None:
        if self.cursor.text or self.cursor.earliest:
            return self.cursor.text or None
        found = [live for live in map(self.hub.known, self.channels) if live and live.tail is not None]
        if len(found) < len(self.channels):
            return None
        positions = [(live.name, live.position.from_now) for live in found]
        return format_cursor(positions) if self.several else str(positions[0][1])


async def gather(given: Answer) -> Answer:
    """Return the one answer that the stream in *given* makes, once its burst is over."""
    stream = given.stream
    if stream is None:
        return given
    return replace(given, body=b"".join([chunk async for chunk in stream.run()]), stream=None)


def acked(body: bytes) -> Answer:
    """Take a client's ack, the form that *body* is: 204 if a stream here heard it, 202 if others are told."""
    try:
        if len(body) > ACK_BYTES:
            raise InvalidAck(f"An ack has at most {ACK_BYTES} bytes; got more.")
        heard = ack(dict(parse_qsl(body.decode("ascii"), max_num_fields=4)))
    except ValueError as error:
        return words(400, str(error))
    return Answer(204 if heard else 202, [("Cache-Control", "no-store")])


def bad_request(error: Exception) -> Answer:
    """Refuse a request whose query or headers Django cannot read: too many parameters, say."""
    return words(400, f"Bad request: {error}")


def method_not_allowed(method: str, *, allowed: str = "GET") -> Answer:
    refused = words(405, f"{method[:20]} is not offered here; use {allowed}.")
    refused.headers.append(("Allow", allowed))
    return refused


def _channels(names: list[str]) -> tuple[str, ...]:
    channels = tuple(dict.fromkeys(check_channel(name) for name in names))
    if not 1 <= len(channels) <= MAX_CHANNELS:
        raise InvalidChannel(
            f"Name 1 to {MAX_CHANNELS} channels, as ?channel=a&channel=b; got {len(channels)}."
        )
    return channels


def _cursor(request: DoorRequest, *, several: bool) -> Cursor:
    text = request.plain_headers.get("last-event-id") or request.GET.get("last_event_id") or ""
    return parse_cursor(text.strip(" "), several=several)


def _client(request: DoorRequest) -> str | None:
    client: str | None = request.GET.get("client")
    if client is not None and not _CLIENT.fullmatch(client):
        raise ValueError(f"client has 16 to 64 letters, digits, _ or -; got {len(client)} characters.")
    return client


def _full(seconds: int, request: DoorRequest) -> Answer:
    refused = words(503, f"Connection pool exhausted. Retry in {seconds}s.")
    query = request.GET.urlencode()
    # Relative to the stream's own address, wherever a proxy has put it (RFC 8288, 3.1).
    poll = f"poll/?{query}" if query else "poll/"
    refused.headers += [("Retry-After", str(seconds)), ("Link", f'<{poll}>; rel="alternate"')]
    return refused
