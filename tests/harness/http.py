"""HTTP/1.1 responses read byte by byte, with every chunk kept as it came (RFC 9112)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["BadResponse", "Response", "ResponseParser"]


class BadResponse(AssertionError):
    """Say what about the bytes is not HTTP."""


@dataclass(slots=True)
class Response:
    """One response, as far as it has come."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    #: The chunks of a chunked body; else the pieces as the socket gave them.
    chunks: list[bytes] = field(default_factory=list)
    #: `time.monotonic()` of each chunk.
    chunk_times: list[float] = field(default_factory=list)
    #: The beginning of a chunk whose end has not come.
    partial: bytes = b""
    chunked: bool = False
    #: The body came to its proper end: the last chunk, its length, or (without either) the close.
    complete: bool = False
    #: The server closed the connection, properly or by a reset.
    closed_by_server: bool = False

    def header(self, name: str, default: str = "") -> str:
        """Return a header's values, joined; an empty string when there is none."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) or default

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def keeps_alive(self) -> bool:
        """Tell whether the connection may carry another request."""
        framed = self.chunked or bool(self.header("content-length")) or self.status in {204, 304}
        return self.complete and framed and self.header("connection").lower() != "close"


class ResponseParser:
    """Feed it bytes; `response` fills up."""

    def __init__(self, *, method: str = "GET") -> None:
        self.response = Response()
        self.received = 0
        self._method = method
        self._buffer = b""
        self._state = "head"
        self._missing = 0
        self._partial: list[bytes] = []
        self._news: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Take bytes and return what they add to the body, the beginnings of chunks included."""
        self.received += len(data)
        self._buffer += data
        self._news = []
        while self._step():
            pass
        return b"".join(self._news)

    @property
    def has_head(self) -> bool:
        """Tell whether the status and all headers have come."""
        return self._state != "head"

    def close(self) -> None:
        """Say that the server closed the connection."""
        self.response.closed_by_server = True
        if self._state == "until-close":
            self.response.complete = True

    def _step(self) -> bool:
        if self._state == "head":
            return self._read_head()
        if self._state == "size":
            return self._read_size()
        if self._state == "chunk":
            return self._read_chunk()
        if self._state == "chunk-end":
            return self._read_chunk_end()
        if self._state == "trailer":
            return self._read_trailer()
        if self._state == "length":
            return self._read_length()
        if self._state == "until-close" and self._buffer:
            self._keep(self._buffer)
            self._buffer = b""
        elif self._state == "done" and self._buffer:
            raise BadResponse(f"bytes after the end of the body: {self._buffer[:80]!r}")
        return False

    def _read_head(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            if len(head) > 65_536:
                raise BadResponse("a head of more than 64 KiB")
            return False
        self._buffer = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest_of_line = first.partition(" ")
        status, _, reason = rest_of_line.partition(" ")
        if not version.startswith("HTTP/1.") or not status.isdigit():
            raise BadResponse(f"not a status line: {first!r}")
        response = self.response
        response.status, response.reason = int(status), reason
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise BadResponse(f"not a header: {line!r}")
            response.headers.append((name.lower(), value.strip()))
        if 100 <= response.status < 200:
            self.response.headers.clear()
            return True
        self._choose_body()
        return True

    def _choose_body(self) -> None:
        response = self.response
        length = response.header("content-length")
        response.chunked = response.header("transfer-encoding").lower() == "chunked"
        if (
            self._method == "HEAD"
            or response.status in {204, 304}
            or (length == "0" and not response.chunked)
        ):
            self._finish()
        elif response.chunked:
            self._state = "size"
        elif length:
            self._state, self._missing = "length", int(length)
        else:
            self._state = "until-close"

    def _read_size(self) -> bool:
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return False
        try:
            self._missing = int(line.split(b";")[0], 16)
        except ValueError:
            raise BadResponse(f"not the size of a chunk: {line[:80]!r}") from None
        self._buffer = rest
        self._state = "chunk" if self._missing else "trailer"
        return True

    def _read_chunk(self) -> bool:
        piece, self._buffer = self._buffer[: self._missing], self._buffer[self._missing :]
        self._missing -= len(piece)
        self._partial.append(piece)
        self._news.append(piece)
        if self._missing:
            self.response.partial = b"".join(self._partial)
            return False
        self._state = "chunk-end"
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        end, self._buffer = self._buffer[:2], self._buffer[2:]
        if end != b"\r\n":
            raise BadResponse(f"a chunk does not end on CRLF but on {end!r}")
        self._record(b"".join(self._partial))
        self._partial.clear()
        self.response.partial = b""
        self._state = "size"
        return True

    def _read_trailer(self) -> bool:
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return False
        self._buffer = rest
        if not line:
            self._finish()
        return True

    def _read_length(self) -> bool:
        if not self._buffer:
            return False
        piece, self._buffer = self._buffer[: self._missing], self._buffer[self._missing :]
        self._missing -= len(piece)
        self._keep(piece)
        if not self._missing:
            self._finish()
        return True

    def _finish(self) -> None:
        self._state = "done"
        self.response.complete = True

    def _keep(self, piece: bytes) -> None:
        self._news.append(piece)
        self._record(piece)

    def _record(self, piece: bytes) -> None:
        self.response.chunks.append(piece)
        self.response.chunk_times.append(time.monotonic())
