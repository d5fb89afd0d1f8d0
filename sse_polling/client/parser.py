"""The event stream format, read. Source: WHATWG HTML, 9.2.5 and 9.2.6 (server-sent events).

Own code, since the decoder of httpx-sse (0.4.3) cannot tell an ``id:`` alone from an event with empty data,
repeats an event's id as an empty event at each blank line, as after a comment, takes retries that are none
(``-5``, ``1_0``), keeps a byte order mark, decodes as ``Content-Type`` says and not as UTF-8, and buffers a
line of any length. It is tested against both (tests/client/test_parser.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .exceptions import OversizedEvent

__all__ = ["LONGEST_RETRY_MS", "Block", "Parser", "is_sendable"]

LONGEST_RETRY_MS = 10**15
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
# What no header can carry back. WHATWG names NUL alone; browsers then fail to send the others.
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def is_sendable(identifier: str) -> bool:
    """Tell whether a request can carry *identifier* in ``Last-Event-ID``."""
    return not _UNSENDABLE.search(identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a blank line ended. *id* is the cursor after it. *data* is None if it only moves the cursor."""

    id: str
    event: str
    data: str | None
    retry_ms: int | None


class Parser:
    """Takes bytes as they come, split anywhere. What a cut leaves unfinished is never returned.

    *last_event_id* goes on from stream to stream, as browsers have it (the standard forgets it at a blank
    line before the first id). *max_bytes* bounds a line, comments too, and an event; None: nothing does.
    """

    def __init__(self, *, last_event_id: str = "", max_bytes: int | None = None) -> None:
        self._id = last_event_id
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._after_cr = False
        self._at_start = True
        self._begin()

    def feed(self, data: bytes) -> Iterator[Block]:
        """Yield the blocks that *data* ends, all before the next call. Raises :exc:`OversizedEvent`."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")  # the other half of a CRLF
            self._after_cr = False
        *lines, rest = _LINE_END.split(data)
        self._after_cr = self._after_cr or data.endswith(b"\r")
        for line in lines:
            if self._rest:
                self._rest += line
                line, self._rest = bytes(self._rest), bytearray()  # noqa: PLW2901 - the whole of it
            self._check(len(line))
            if self._at_start:
                line, self._at_start = line.removeprefix(_BOM), False  # noqa: PLW2901
            if line:
                self._take(line)
            elif self._said:
                yield self._end()
        self._rest += rest
        self._check(len(self._rest))

    def _begin(self) -> None:
        self._data = bytearray()
        self._event = ""
        self._retry_ms: int | None = None
        self._said = False

    def _check(self, more: int) -> None:
        if self._max_bytes is not None and len(self._data) + more > self._max_bytes:
            raise OversizedEvent(
                f"A line or an event is longer than max_event_bytes ({self._max_bytes:,} bytes); "
                "allow more, or look at what is published."
            )

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value + b"\n"
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and is_sendable(text := value.decode(errors="replace")):
            self._id = text
        elif name == b"retry" and value.isdigit():
            # Python would refuse to read thousands of digits.
            self._retry_ms = min(int(value.lstrip(b"0")[:20] or b"0"), LONGEST_RETRY_MS)
        else:
            return
        self._said = True

    def _end(self) -> Block:
        data = self._data[:-1].decode(errors="replace") if self._data else None
        block = Block(id=self._id, event=self._event or "message", data=data, retry_ms=self._retry_ms)
        self._begin()
        return block
