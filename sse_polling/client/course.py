"""A reader's course: where it stands, what an answer means to it, and how long it waits.

Pure: no socket, no clock of its own. The loops of asynchronous.py and synchronous.py do what it says.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Mapping
from random import Random, SystemRandom
from typing import TypedDict

import httpx

from ..exceptions import InvalidCursor
from .address import Address, place
from .event import Event, Gap, read
from .exceptions import EventsLost, GaveUp, NotAStream, StreamRefused
from .inflating import Inflater
from .parser import Block, Parser, is_sendable
from .waits import backoff, retry_after

__all__ = ["Answer", "Course", "Knobs"]

FIRST_RETRY_MS = 3000  # until the server has said one
POOL_DRAINING = "pool_draining"


class Knobs(TypedDict, total=False):
    """What may be turned, see :func:`sse_polling.client.stream_events`."""

    ack: bool
    raise_on_gap: bool
    silence_seconds: float | None
    connect_seconds: float | None
    max_wait_seconds: float
    backoff_seconds: float
    max_backoff_seconds: float
    max_errors: int | None
    max_event_bytes: int | None
    on_error: Callable[[Exception, float], object] | None
    rng: Random
    clock: Callable[[], float]


class Answer(enum.Enum):
    """What came: a stream to read, the end of it all, or a refusal."""

    STREAM = enum.auto()
    OVER = enum.auto()
    REFUSED = enum.auto()


class Course:
    """*last_event_id* is the cursor after all that :meth:`feed` has yielded, never further."""

    def __init__(
        self,
        url: str | httpx.URL,
        last_event_id: str | None,
        *,
        ack: bool = True,
        raise_on_gap: bool = False,
        silence_seconds: float | None = 65.0,
        connect_seconds: float | None = 10.0,
        max_wait_seconds: float = 300.0,
        backoff_seconds: float = 1.0,
        max_backoff_seconds: float = 60.0,
        max_errors: int | None = None,
        max_event_bytes: int | None = 4_194_304,
        on_error: Callable[[Exception, float], object] | None = None,
        rng: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not is_sendable(last_event_id or ""):
            raise InvalidCursor(f"Not an id that a header can carry: {(last_event_id or '')[:60]!a}.")
        self.address = Address(url, names_itself=ack)
        self.last_event_id = last_event_id or ""
        self.timeout = httpx.Timeout(silence_seconds, connect=connect_seconds)
        self.wait_seconds = 0.0
        self.is_over = False
        self.lets_go = False  # of this stream, whose rest does not matter
        self._ack = ack
        self._raise_on_gap = raise_on_gap
        self._max_wait_seconds = max_wait_seconds
        self._backoff_seconds = backoff_seconds
        self._max_backoff_seconds = max_backoff_seconds
        self._max_errors = max_errors
        self._max_event_bytes = max_event_bytes
        self._on_error = on_error
        self._rng = rng or SystemRandom()
        self.clock = clock
        self._retry_ms = FIRST_RETRY_MS
        self._errors = 0
        self._ended: set[str] = set()
        self._began = self._heard = clock()
        self._asked = False
        self._owes_ack = False
        self._answered: tuple[httpx.URL, str | None] | None = None

    def headers(self, more: Mapping[str, str] | None, *, closes: bool = False) -> httpx.Headers:
        """Return the next request's headers, *more* of the caller's included, and begin anew.

        *closes*: the connection is for this one request.
        """
        headers = httpx.Headers(more)
        if closes:
            headers["Connection"] = "close"
        headers["Accept-Encoding"] = "identity"
        # As browsers send it: in UTF-8, and without the spaces that no header's value keeps.
        if cursor := self.last_event_id.strip(" \t"):
            headers["Last-Event-ID"] = cursor
        self._began = self._heard = self.clock()
        self._asked = self._owes_ack = self.lets_go = False
        self._answered = None
        return headers

    def answered(self, response: httpx.Response) -> Answer:
        """Judge an answer by its head. Raises :exc:`NotAStream`."""
        if response.status_code == httpx.codes.NO_CONTENT:
            self.is_over = True
            return Answer.OVER
        if response.status_code != httpx.codes.OK:
            return Answer.REFUSED
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise NotAStream(
                f"Expected text/event-stream from {place(response.url)}, got {kind[:60] or 'no type'!r}."
            )
        self._inflater = Inflater(response.headers.get("content-encoding", ""))
        self._parser = Parser(last_event_id=self.last_event_id, max_bytes=self._max_event_bytes)
        self._answered = response.url, response.headers.get("x-sse-stream")
        return Answer.STREAM

    def feed(self, data: bytes) -> Iterator[Event | None]:
        """Yield the events that *data* ends, and None where the cursor alone has moved.

        It is never further than the event just yielded: save it before asking for the next.
        """
        self._heard = self.clock()
        for piece in self._inflater.feed(data):
            for block in self._parser.feed(piece):
                event = self._event(block)
                self.last_event_id = block.id
                if event is not None:
                    self._errors = 0
                yield event
                if block.retry_ms is not None:
                    self._retry_ms = block.retry_ms
                    self.lets_go = self._asked
                if self.is_over or self.lets_go:
                    self.lets_go = True
                    return

    def goodbye(self) -> tuple[httpx.URL, dict[str, str]] | None:
        """Return, once, where to post the ack that is owed, and its form."""
        if not self._owes_ack or self._answered is None:
            return None
        self._owes_ack = False
        return self.address.goodbye(*self._answered)

    def ended(self) -> None:
        """Learn that the stream ended well, as each burst does: come back when the server says."""
        self._errors = 0
        self.wait_seconds = min(self._retry_ms / 1000, self._max_wait_seconds)

    def failed(self, error: Exception) -> None:
        """Learn that there is no stream (any more): come back after a backoff. Raises :exc:`GaveUp`."""
        if self._asked:
            self.ended()  # who asks to leave may cut
            return
        self._count(error, None)

    def refused(self, response: httpx.Response, body: bytes) -> None:
        """Take a refusal, with the beginning of its body. Raises :exc:`StreamRefused`, :exc:`GaveUp`."""
        error = StreamRefused(response.status_code, _sentence(response, body))
        if response.status_code < 500 and response.status_code != httpx.codes.TOO_MANY_REQUESTS:
            raise error
        self._count(error, retry_after(response.headers, self._rng))

    def _event(self, block: Block) -> Event | None:
        """Return what a block says to the reader; None if it is for the client alone."""
        if block.data is None:
            return None
        if block.event == "close" and block.data == POOL_DRAINING:
            self._asked = True
            self._owes_ack = self._ack
            return None
        event = read(
            identifier=block.id,
            event=block.event,
            data=block.data,
            retry_ms=block.retry_ms,
            several=bool(self.address.channels),
        )
        if isinstance(event, Gap) and self._raise_on_gap:
            raise EventsLost(event)
        self._note_end(event)
        return event

    def _note_end(self, event: Event) -> None:
        """On a stream of several channels one's end is not that of all."""
        if not self.address.channels:
            self.is_over = event.event == "end"
        elif event.channel is not None:
            (self._ended.add if event.event == "end" else self._ended.discard)(event.channel)
            self.is_over = self._ended >= self.address.channels

    def _count(self, error: Exception, told_seconds: float | None) -> None:
        """Wait as long as was told, or a backoff: also if "at once" is told again and again."""
        if self._heard - self._began >= self._max_backoff_seconds:
            self._errors = 0  # a quiet stream that lived is no failed attempt; a mute one is
        self._errors += 1
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if self._max_errors is not None and self._errors > self._max_errors:
            raise GaveUp(f"{self._errors} attempts in a row failed, the last one: {cause!r}.") from cause
        base_seconds, max_seconds = self._backoff_seconds, self._max_backoff_seconds
        seconds = told_seconds
        if seconds is None or (self._errors > 1 and seconds < base_seconds):
            seconds = backoff(self._errors, self._rng, base_seconds=base_seconds, max_seconds=max_seconds)
        self.wait_seconds = min(seconds, self._max_wait_seconds)
        if self._on_error is not None:
            self._on_error(cause, self.wait_seconds)


def _sentence(response: httpx.Response, body: bytes) -> str:
    """Return what a refusal says in words; a page for browsers says less than its status."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    plain = kind == "text/plain" and "content-encoding" not in response.headers
    text = body.decode(errors="replace") if plain else ""
    # Without what a terminal may take for an order.
    words = "".join(each if each.isprintable() else " " for each in text).split()
    return " ".join(words)[:500] or response.reason_phrase or "no reason given"
