"""A client that behaves as a browser's EventSource does, and remembers everything it saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from .connection import Address, Connection
from .eventsource import Message, Parser
from .http import Response, ResponseParser

__all__ = ["Cut", "Entry", "EventSourceClient", "assert_clean_chunks"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where and how the client loses its connection: after so many bytes of the whole response."""

    after_bytes: int
    how: Literal["fin", "rst"] = "rst"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it arrived."""

    last_event_id: str
    type: str
    data: str
    #: `time.monotonic()` of its arrival.
    at: float
    #: Which response brought it, an index into `responses`.
    response: int


class EventSourceClient:
    """Read one address until told to stop, reconnecting as WHATWG HTML 9.2.2 and 9.2.3 say.

    - 200 with `text/event-stream` is read; when it ends, the client waits for `retry:`
      (`reconnect_seconds` replaces it; 0 for fast tests) and returns with `Last-Event-ID`.
    - 204, another status or another type ends it for good: `ended` is then True.
    - A lost or refused connection is tried again, like an end.
    - `cuts` says, connection by connection, where the client is cut off (None: not at all).
    - `keep_open` keeps its end of each connection open after the server closed its own.
    - `reuse` sends the next request over a connection that the server left open, as Chromium does.
    - `strict` forgets the cursor at a blank line before the first `id:` (see `Parser`).

    `run` and `read_until` raise TimeoutError with the transcript's end when the deadline passes.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        reconnect_seconds: float | None = 0.0,
        cuts: Iterable[Cut | None] = (),
        keep_open: bool = False,
        reuse: bool = True,
        strict: bool = False,
    ) -> None:
        self.address = Address(url)
        self.last_event_id = last_event_id
        self.headers = dict(headers or {})
        if cookies:
            self.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self.reconnect_seconds = reconnect_seconds
        self.keep_open = keep_open
        self.reuse = reuse
        self.strict = strict
        self.retry_ms = 3000
        self.transcript: list[Entry] = []
        #: How often the server asked it to leave.
        self.farewells = 0
        self.comments: list[str] = []
        #: One per request that got a whole head.
        self.responses: list[Response] = []
        #: TCP connections that were opened.
        self.connections = 0
        #: The `Last-Event-ID` that each request sent, an empty string for none.
        self.cursors_sent: list[str] = []
        self.ended = False
        self.kept: list[Connection] = []
        self._cuts: Iterator[Cut | None] = iter(cuts)
        self._idle: Connection | None = None

    @property
    def data(self) -> list[str]:
        return [entry.data for entry in self.transcript]

    @property
    def ids(self) -> list[str]:
        return [entry.last_event_id for entry in self.transcript]

    @property
    def types(self) -> list[str]:
        return [entry.type for entry in self.transcript]

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]

    async def run(self, *, deadline: float, until: Callable[[Self], bool] | None = None) -> Self:
        """Read until the server ends it for good, or `until` says so after an event or a response."""
        try:
            async with asyncio.timeout(deadline):
                if self.ended:
                    return self
                while not (until and until(self)) and await self._cycle(until):
                    await self._wait()
        except TimeoutError:
            raise TimeoutError(f"after {deadline} s: {self.summary()}") from None
        return self

    async def read_until(self, count: int, *, deadline: float) -> Self:
        """Read until so many events have arrived in all."""
        return await self.run(deadline=deadline, until=lambda client: len(client.transcript) >= count)

    async def one_response(self, *, deadline: float) -> Response:
        """Make one request, read it to its end, and return the response."""
        try:
            async with asyncio.timeout(deadline):
                await self._cycle(None)
        except TimeoutError:
            raise TimeoutError(f"after {deadline} s: {self.summary()}") from None
        if not self.responses:
            raise ConnectionError("there was no response")
        return self.responses[-1]

    def summary(self) -> str:
        """Describe where the client stands, for a failing test's message."""
        last = [(entry.type, entry.data[:60], entry.last_event_id) for entry in self.transcript[-5:]]
        return (
            f"{len(self.transcript)} events over {self.connections} connections,"
            f" statuses {self.statuses[-10:]}, cursor {self.last_event_id!r}, the last events {last}"
        )

    def close(self) -> None:
        """Close every connection that is still open."""
        for connection in [*self.kept, *([self._idle] if self._idle else [])]:
            connection.close()
        self.kept.clear()
        self._idle = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _wait(self) -> None:
        if self.reconnect_seconds is None:
            await asyncio.sleep(self.retry_ms / 1000)
        else:
            await asyncio.sleep(self.reconnect_seconds)

    async def _connect(self) -> tuple[Connection, bool]:
        if self._idle is not None:
            connection, self._idle = self._idle, None
            return connection, True
        connection = await Connection.open(self.address)
        self.connections += 1
        return connection, False

    def _request(self) -> bytes:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **self.headers}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        return self.address.head(headers)

    async def _cycle(self, until: Callable[[Self], bool] | None) -> bool:
        """Make one request and read its response; return whether to come back for another."""
        cut = next(self._cuts, None)
        try:
            connection, reused = await self._connect()
        except ConnectionError:
            await asyncio.sleep(0.02)  # a refusal comes at once: do not spin
            return True
        parser = ResponseParser()
        try:
            more = await self._read_response(connection, parser, cut, until)
        except ConnectionError:
            parser.close()
            more = True
        except BaseException:
            connection.close()
            raise
        self._settle(connection, parser.response)
        if reused and not parser.received:
            self.cursors_sent.pop()
            return await self._cycle(until)  # the server had closed it meanwhile: browsers ask again
        return more and not self.ended

    async def _read_response(
        self,
        connection: Connection,
        parser: ResponseParser,
        cut: Cut | None,
        until: Callable[[Self], bool] | None,
    ) -> bool:
        self.cursors_sent.append(self.last_event_id)
        await connection.send(self._request())
        events: Parser | None = None
        while not parser.response.complete:
            limit = 65_536 if cut is None else min(65_536, cut.after_bytes - parser.received)
            if cut is not None and limit <= 0:
                connection.reset() if cut.how == "rst" else connection.close()
                return True
            data = await connection.receive(limit)
            if not data:
                parser.close()
                return True
            body = parser.feed(data)
            if events is None and not self.ended and parser.has_head:
                self.responses.append(parser.response)
                if not self._admits(parser.response):
                    self.ended = True
                    continue
                events = Parser(last_event_id=self.last_event_id, strict=self.strict)
            if events is not None and self._take(events, body, until):
                connection.close()
                return False
        return True

    def _admits(self, response: Response) -> bool:
        kind = response.header("content-type").partition(";")[0].strip().lower()
        return response.status == 200 and kind == "text/event-stream"

    def _take(self, events: Parser, body: bytes, until: Callable[[Self], bool] | None) -> bool:
        comments = len(events.comments)
        for message in events.feed(body):
            self._keep(message)
            if until and until(self):
                self.last_event_id = message.last_event_id
                return True
        self.comments += events.comments[comments:]
        self.last_event_id = events.last_event_id
        if events.retry_ms is not None:
            self.retry_ms = events.retry_ms
        return False

    def _keep(self, message: Message) -> None:
        if (message.type, message.data) == ("close", "pool_draining"):
            self.farewells += 1  # of the server: no event of a channel
            return
        self.transcript.append(
            Entry(
                message.last_event_id, message.type, message.data, time.monotonic(), len(self.responses) - 1
            )
        )

    def _settle(self, connection: Connection, response: Response) -> None:
        if connection.closed:
            return
        if self.keep_open:
            self.kept.append(connection)
        elif self.reuse and not self.ended and response.keeps_alive and not response.closed_by_server:
            self._idle = connection
        else:
            connection.close()


def assert_clean_chunks(response: Response) -> None:
    """Assert that every chunk ends on a blank line or is one comment line (DESIGN.md, the wire)."""
    assert response.chunked, f"not chunked: {response.headers}"
    for chunk in response.chunks:
        comment = chunk.startswith(b":") and chunk.count(b"\n") == 1 and chunk.endswith(b"\n")
        assert chunk.endswith(b"\n\n") or comment, f"a chunk ends inside a block: {chunk[-200:]!r}"
