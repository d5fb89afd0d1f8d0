"""The ways in which a server misbehaves, and what a client makes of each; test_ways.py goes through them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sse_polling.client import GaveUp, NotAStream, OversizedEvent, StreamRefused

from .scripted import Say, answer, chunked, stream

__all__ = ["WAYS", "Way"]

A = b"id: 1\ndata: a\n\n"
B = b"id: 2\ndata: b\n\n"
RETRY = b"retry: 20\n\n"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A script, after which the server answers 204, and the outcome.

    `cursors` are the ids of all requests. Of a random wait half of its limit is waited, and a twentieth is
    added to a Retry-After.
    """

    says: Sequence[Say | bytes]
    data: Sequence[str] = ()
    waits: Sequence[float] = ()
    cursors: Sequence[str] | None = None
    error: type[Exception] | None = None
    match: str = ""
    given: dict[str, Any] = field(default_factory=dict)


def refusal(status: str, body: bytes = b"Not now.", *headers: str) -> bytes:
    return answer(status, body, "Content-Type: text/plain", *headers)


def deflated(body: bytes) -> bytes:
    return stream(zlib.compress(body), "Content-Encoding: deflate")


def gzipped(*members: bytes) -> bytes:
    return stream(b"".join(map(gzip.compress, members)), "Content-Encoding: gzip")


def redirect(status: str, to: str, body: bytes = b"") -> bytes:
    return answer(status, body, f"Location: {to}")


class Late:
    """A clock that is a minute later whenever something could have been heard, and was not."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 61
        return self.now


TEN_DAYS_MS = 10 * 86_400_000
SMALL = {"max_event_bytes": 1000}
QUICK = {"silence_seconds": 0.03}
FOREVER = {"endless": b"x" * 65_536}

WAYS: dict[str, Way] = {
    # Ends
    "a burst ends: come back after exactly `retry`": Way(
        says=[stream(b"retry: 1234\nid: 0\n\n" + A + RETRY)], data=["a"], waits=[0.02], cursors=["", "1"]
    ),
    "a stream that never says `retry`: 3 s": Way(says=[stream(A)], data=["a"], waits=[3], cursors=["", "1"]),
    "204: over": Way(says=[], cursors=[""]),
    "an empty body: an empty burst": Way(says=[stream(b"")], waits=[3], cursors=["", ""]),
    "comments only: an empty burst": Way(says=[stream(b":\n\n: x\n\n:\n")], waits=[3], cursors=["", ""]),
    "an id without data: the cursor moves": Way(
        says=[stream(b"retry: 20\nid: 7\n\n"), stream(b"id: 8\n\n")],
        waits=[0.02, 0.02],
        cursors=["", "7", "8"],
    ),
    "cut in mid-block, by FIN: the block is dropped": Way(
        says=[stream(A + RETRY + b"id: 2\ndata: b\n"), stream(B)],
        data=["a", "b"],
        waits=[0.02, 0.02],
        cursors=["", "1", "2"],
    ),
    "cut in mid-chunk: an error": Way(
        says=[chunked(A, last=b"20\r\nid: 2\n")], data=["a"], waits=[0.5], cursors=["", "1"]
    ),
    "cut after a whole chunk, without the last: an error": Way(
        says=[chunked(A, last=b"")], data=["a"], waits=[0.5], cursors=["", "1"]
    ),
    "cut by RST before a byte: an error": Way(says=[Say(b"", end="rst")], waits=[0.5], cursors=["", ""]),
    "an empty response: an error": Way(says=[b""], waits=[0.5], cursors=["", ""]),
    "a Content-Length that is not reached: an error": Way(
        says=[stream(A, "Content-Length: 99")], data=["a"], waits=[0.5], cursors=["", "1"]
    ),
    "silence after an event: another connection": Way(
        says=[Say(chunked(A, last=b""), end="hold")], data=["a"], waits=[0.5], cursors=["", "1"], given=QUICK
    ),
    "silence before the answer: another connection": Way(
        says=[Say(b"", end="hold")], waits=[0.5], cursors=["", ""], given=QUICK
    ),
    "silence, again and again, for as long as a quiet stream lives: up to max_errors": Way(
        says=[Say(b"", end="hold"), Say(stream(b""), end="hold")] * 2,
        waits=[0.5, 1],
        cursors=[""] * 3,
        error=GaveUp,
        match="3 attempts in a row failed",
        given={**QUICK, "max_errors": 2, "max_backoff_seconds": 60, "clock": Late()},
    ),
    "a slow drip: read all the same": Way(
        says=[Say(chunked(A, b":\n", B, RETRY), step=1)], data=["a", "b"], waits=[0.02], cursors=["", "2"]
    ),
    "connection refused: backs off, up to max_errors": Way(
        says=[],
        waits=[0.5, 1],
        cursors=[],
        error=GaveUp,
        match="3 attempts in a row failed, the last one: ConnectError",
        given={"max_errors": 2, "client": None},
    ),
    # Not HTTP, or barely
    "garbage: an error": Way(says=[b"What do you want?\r\n\r\n"], waits=[0.5], cursors=["", ""]),
    "HTTP/1.0": Way(says=[stream(A, version="1.0")], data=["a"], waits=[3], cursors=["", "1"]),
    "an early hint before the answer": Way(
        says=[b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + stream(A)], data=["a"], waits=[3]
    ),
    "chunk extensions and trailers": Way(
        says=[chunked(A, B, extension=";a=b", last=b"0;x\r\nTrailer: y\r\n\r\n")], data=["a", "b"], waits=[3]
    ),
    "a chunk size that is none: an error": Way(
        says=[chunked(A, last=b"zz\r\n")], data=["a"], waits=[0.5], cursors=["", "1"]
    ),
    "two Content-Lengths: an error": Way(
        says=[stream(A, "Content-Length: 15", "Content-Length: 16")], waits=[0.5], cursors=["", ""]
    ),
    "a head without an end: an error": Way(
        says=[Say(b"HTTP/1.1 200 OK\r\nX: ", **FOREVER)], waits=[0.5], cursors=["", ""]
    ),
    # Answers
    "another content type": Way(
        says=[answer("200 OK", A, "Content-Type: text/html")],
        error=NotAStream,
        match="Expected text/event-stream from http://.*, got 'text/html'",
    ),
    "no content type": Way(says=[answer("200 OK", A)], error=NotAStream, match="got 'no type'"),
    "a content type in capitals, with a charset: UTF-8 all the same": Way(
        says=[answer("200 OK", "data: é\n\n".encode(), "Content-Type: Text/Event-Stream; charset=latin-1")],
        data=["é"],
        waits=[3],
    ),
    "401": Way(
        says=[refusal("401 Unauthorized", b"Log in\n first.")],
        error=StreamRefused,
        match="401: Log in first.",
    ),
    "403 with a page": Way(
        says=[answer("403 Forbidden", b"<p>No", "Content-Type: text/html")],
        error=StreamRefused,
        match="403: Forbidden",
    ),
    "404 with a body without an end": Way(
        says=[Say(refusal("404 Not Found", b""), **FOREVER)], error=StreamRefused, match="404: x{500}$"
    ),
    "206": Way(says=[answer("206 Partial Content", A)], error=StreamRefused, match="206: Partial Content"),
    "429 with seconds: waits for them": Way(
        says=[refusal("429 Too Many", b"", "Retry-After: 10"), stream(A)], data=["a"], waits=[10.5, 3]
    ),
    "503 with seconds: waits for them": Way(
        says=[refusal("503 Full", b"", "Retry-After: 30"), stream(A)], data=["a"], waits=[31.5, 3]
    ),
    "503 with a date: waits for it, by the server's clock": Way(
        says=[
            refusal(
                "503 Full",
                b"",
                "Date: Thu, 01 Jan 1970 00:00:10 GMT",
                "Retry-After: Thu, 01 Jan 1970 00:00:50 GMT",
            )
        ],
        waits=[42],
    ),
    "503 with a date that is over: at once": Way(
        says=[refusal("503 Full", b"", "Retry-After: Thursday, 01-Jan-70 00:00:50 GMT")], waits=[0]
    ),
    "503 with a date in a hundred years: five minutes": Way(
        says=[refusal("503 Full", b"", "Retry-After: Thu, 01 Jan 2099 00:00:50 GMT")], waits=[300]
    ),
    "503 with nonsense: backs off": Way(
        says=[refusal("503 Full", b"", "Retry-After: soon"), refusal("503 Full", b"", "Retry-After: -7")],
        waits=[0.5, 1],
    ),
    "503 with a date in the year 10**11: backs off": Way(
        says=[refusal("503 Full", b"", "Retry-After: Thu, 01 Jan 99999999999 00:00:00 GMT")], waits=[0.5]
    ),
    "503 that says at once, again and again: backs off from the second on": Way(
        says=[refusal("503 Full", b"", "Retry-After: 0")] * 4, waits=[0, 1, 2, 4]
    ),
    "503 that says when, again and again: waits for it": Way(
        says=[refusal("503 Full", b"", "Retry-After: 1")] * 4, waits=[1.05] * 4
    ),
    "a refusal with orders for a terminal: its words alone": Way(
        says=[refusal("403 No", b"\x1b]0;mine\x07 N\xc2\x9bo.")],
        error=StreamRefused,
        match="^403: ]0;mine N o.$",
    ),
    "500, again and again: backs off": Way(
        says=[refusal("500 Oops")] * 8, waits=[0.5, 1, 2, 4, 8, 16, 30, 30], cursors=[""] * 9
    ),
    "500, more often than max_errors": Way(
        says=[refusal("500 Oops")] * 3,
        waits=[0.5, 1],
        cursors=[""] * 3,
        error=GaveUp,
        match="the last one: StreamRefused.*500: Not now",
        given={"max_errors": 2},
    ),
    "an event between errors: they are counted anew": Way(
        says=[refusal("500 Oops"), chunked(A, last=b""), refusal("500 Oops")],
        data=["a"],
        waits=[0.5, 0.5, 1],
        cursors=["", "", "1", "1"],
        given={"max_errors": 2},
    ),
    # Redirects
    "redirects: followed, and the next request begins at the first address": Way(
        says=[redirect("301 Moved", "/b/"), redirect("307 Moved", "c/"), stream(A + RETRY)],
        data=["a"],
        waits=[0.02],
        cursors=["", "", "", "1"],
    ),
    "redirects in a circle": Way(
        says=[redirect("302 Moved", "/b/")] * 11,
        cursors=[""] * 11,
        error=NotAStream,
        match="More than 10 redirects",
    ),
    "a redirect with a body without an end: the body is not read": Way(
        says=[Say(redirect("301 Moved", "/b/"), **FOREVER), stream(A)], data=["a"], waits=[3]
    ),
    "a redirect to nowhere": Way(says=[answer("302 Found")], error=StreamRefused, match="302: Found"),
    "a redirect to another kind of address": Way(
        says=[redirect("302 Found", "ftp://127.0.0.1/")],
        error=Exception,
        match="unsupported protocol 'ftp://'",
    ),
    # Encodings
    "gzip, though not asked for": Way(says=[gzipped(A)], data=["a"], waits=[3]),
    "gzip, a member for each chunk": Way(says=[gzipped(A, B, RETRY)], data=["a", "b"], waits=[0.02]),
    "deflate": Way(says=[deflated(A + B)], data=["a", "b"], waits=[3]),
    "gzip that is damaged: an error": Way(says=[stream(b"\xff" * 60, "Content-Encoding: gzip")], waits=[0.5]),
    "gzip that is cut: what was whole is read": Way(
        says=[stream(gzip.compress(A)[:-9], "Content-Encoding: gzip")],
        data=["a"],
        waits=[3],
        cursors=["", "1"],
    ),
    "a coding that was not asked for": Way(
        says=[stream(A, "Content-Encoding: br")], error=NotAStream, match="encoded as 'br'"
    ),
    "a bomb": Way(says=[gzipped(b"data: " + b"x" * 10**8)], error=OversizedEvent, match="4,194,304"),
    "a bomb within a bomb": Way(
        says=[stream(gzip.compress(gzip.compress(b"x" * 10**7)), "Content-Encoding: gzip, gzip")],
        error=NotAStream,
        match="encoded as 'gzip, gzip'",
    ),
    # Events
    "CR only": Way(
        says=[stream(b"id: 1\rdata: a\r\rid: 2\rdata: b\r\r")], data=["a", "b"], waits=[3], cursors=["", "2"]
    ),
    "a byte order mark": Way(says=[stream(b"\xef\xbb\xbf" + A)], data=["a"], waits=[3], cursors=["", "1"]),
    "an id with NUL: none": Way(
        says=[stream(A + b"id: 2\0\ndata: b\n\n")], data=["a", "b"], waits=[3], cursors=["", "1"]
    ),
    "an id that is not ASCII: sent in UTF-8": Way(
        says=[stream("id: ü \ndata: a\n\n".encode())], data=["a"], waits=[3], cursors=["", "ü"]
    ),
    "the same id twice: both events": Way(
        says=[stream(A + A)], data=["a", "a"], waits=[3], cursors=["", "1"]
    ),
    "an empty event is an event": Way(
        says=[stream(b"id: 1\ndata:\n\n:\n\n")], data=[""], waits=[3], cursors=["", "1"]
    ),
    "retries that are none: as if nothing was said": Way(
        says=[stream(A + b"retry: soon\n\nretry: -20\n\nretry: 1e3\n\nretry:\n\nretry: 0x5\n\n")],
        data=["a"],
        waits=[3],
    ),
    "a retry of ten days: five minutes": Way(says=[stream(b"retry: %d\n\n" % TEN_DAYS_MS)], waits=[300]),
    "a retry of 5,000 digits: five minutes": Way(
        says=[stream(b"retry: " + b"9" * 5000 + b"\n\n")], waits=[300]
    ),
    "a retry of 0: at once": Way(says=[stream(b"retry: 0\n\n")], waits=[0]),
    "a line without an end": Way(
        says=[Say(stream(A + b"data: "), **FOREVER)],
        data=["a"],
        error=OversizedEvent,
        match="1,000",
        given=SMALL,
    ),
    "a comment without an end": Way(
        says=[Say(stream(A + b":"), **FOREVER)], data=["a"], error=OversizedEvent, match="1,000", given=SMALL
    ),
    "an event without an end": Way(
        says=[Say(stream(A), endless=b"data: x\n" * 1000)],
        data=["a"],
        error=OversizedEvent,
        match="1,000",
        given=SMALL,
    ),
    "a huge event within the limit": Way(
        says=[stream(b"data: " + b"x" * 4_000_000 + b"\n\n")], data=["x" * 4_000_000], waits=[3]
    ),
    "an `end`: over, and nothing after it": Way(
        says=[Say(stream(A + b"id: 2\nevent: end\ndata: {}\n\n" + B), end="hold")],
        data=["a", "{}"],
        cursors=[""],
    ),
    "a `close` of somebody else's: an event": Way(
        says=[stream(b"event: close\ndata: the shop\n\n")], data=["the shop"], waits=[3]
    ),
    "a `gap` of somebody else's: an event": Way(
        says=[stream(b"event: gap\ndata: mind it\n\n")],
        data=["mind it"],
        waits=[3],
        given={"raise_on_gap": True},
    ),
}
