"""One EventSource: a logical reader that comes back with its cursor, over raw sockets."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlencode

from .events import EventParser, Message
from .response import BadResponse, ResponseParser
from .tally import Tally

__all__ = ["Client", "Counters", "Target"]

_SILENCE_SECONDS = 90
_FIRST_RETRY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where the stream is."""

    host: str
    port: int
    path: str


@dataclass(slots=True)
class Counters:
    """What all clients together have seen since the start."""

    sockets: int = 0
    connections: int = 0
    events: int = 0
    failures: int = 0
    gaps: int = 0
    ended: int = 0
    lags_ms: list[float] = field(default_factory=list)


class Client:
    """Connects, reads to the end, waits as `retry:` says, and connects again until cancelled."""

    def __init__(self, target: Target, counters: Counters) -> None:
        self.token = secrets.token_urlsafe(18)
        self.tally = Tally()
        self.answered: float | None = None
        self.ended = False
        self._target = target
        self._counters = counters
        self._parser = EventParser()

    @property
    def retry_seconds(self) -> float:
        retry_ms = self._parser.retry_ms
        return _FIRST_RETRY_SECONDS if retry_ms is None else retry_ms / 1000

    def reading(self, now: float) -> bool:
        """Tell whether this is a reader: one that was answered within its last two cycles."""
        return (
            self.answered is not None and not self.ended and now - self.answered < 2 * self.retry_seconds + 2
        )

    async def run(self) -> None:
        while not self.ended:
            await self._cycle()
            if not self.ended:
                await asyncio.sleep(self.retry_seconds)

    async def _cycle(self) -> None:
        loop = asyncio.get_running_loop()
        self._parser.begin()
        try:
            transport, protocol = await loop.create_connection(
                lambda: _Connection(self), self._target.host, self._target.port
            )
        except OSError:
            self._counters.failures += 1
            return
        self._counters.sockets += 1
        self._counters.connections += 1
        try:
            transport.write(self._request())
            # Heartbeats come far more often; a mute server is left, as a browser's user would.
            async with asyncio.timeout(_SILENCE_SECONDS):
                await protocol.done
        except (OSError, BadResponse, TimeoutError):
            self._counters.failures += 1
        finally:
            transport.abort()
            self._counters.sockets -= 1

    def _request(self) -> bytes:
        query = urlencode({"busy": "stream", "client": self.token})
        lines = [
            f"GET {self._target.path}?{query} HTTP/1.1",
            f"Host: {self._target.host}:{self._target.port}",
            "Accept: text/event-stream",
            "Cache-Control: no-cache",
        ]
        if self._parser.last_event_id:
            lines.append(f"Last-Event-ID: {self._parser.last_event_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def answer(self, response: ResponseParser, body: bytes) -> None:
        """Take what came, as an EventSource does: anything but a stream ends it for good."""
        self.answered = time.monotonic()
        if response.status is not None and response.status != 200 and not self.ended:
            self.ended = True
            self._counters.ended += 1
        elif response.status == 200:
            for message in self._parser.feed(body):
                self._take(message)

    def _take(self, message: Message) -> None:
        if message.event == "gap":
            self._counters.gaps += 1
        if message.event != "message":
            return
        data = cast("dict[str, float]", json.loads(message.data))
        self.tally.take(int(data["n"]))
        self._counters.events += 1
        self._counters.lags_ms.append(max(0.0, time.time() * 1000 - data["at"]))


class _Connection(asyncio.Protocol):
    def __init__(self, client: Client) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = client
        self._response = ResponseParser()

    def data_received(self, data: bytes) -> None:
        try:
            body = self._response.feed(data)
            self._client.answer(self._response, body)
        except (ValueError, KeyError, TypeError) as error:
            self._end(BadResponse(str(error)))
            return
        if self._response.complete:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response.status is None and exc is None:
            exc = ConnectionResetError("closed before the answer")
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
            self.done.exception()  # at the crowd's end nobody waits any more, and asyncio would complain
