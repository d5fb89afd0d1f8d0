"""Read one HTTP/1.1 response from the bytes of a socket."""

from __future__ import annotations

__all__ = ["BadResponse", "ResponseParser"]

_MAX_HEAD = 65_536


class BadResponse(ValueError):
    """What came is no HTTP response."""


class ResponseParser:
    """Takes bytes as they come and gives the body's; `complete` says that the body has ended."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = b""
        self._left: int | None = None
        self._chunked = False

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that `data` brought. Raises BadResponse."""
        self._buffer += data
        if self.status is None and not self._read_head():
            return b""
        if self._chunked:
            return self._read_chunks()
        body, self._buffer = self._buffer, b""
        if self._left is not None:
            self._left -= len(body)
            self.complete = self._left <= 0
        return body

    def _read_head(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            if len(self._buffer) > _MAX_HEAD:
                raise BadResponse("The head of the response does not end.")
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise BadResponse(f"This is no status line: {first[:80]!r}")
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.status, self._buffer = int(words[1]), rest
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        if self.status in {204, 304}:
            self._left = 0
            self.complete = True
        elif "content-length" in self.headers and not self._chunked:
            self._left = int(self.headers["content-length"])
            self.complete = self._left == 0
        return True

    def _read_chunks(self) -> bytes:
        parts: list[bytes] = []
        while not self.complete:
            if not self._left:
                size, end, rest = self._buffer.partition(b"\r\n")
                if not end:
                    break
                try:
                    length = int(size.split(b";")[0], 16)
                except ValueError:
                    raise BadResponse(f"This is no chunk size: {size[:40]!r}") from None
                self.complete = length == 0
                # The chunk and the line end after it.
                self._left, self._buffer = length + 2, rest
            elif self._left > 2:
                part = self._buffer[: self._left - 2]
                if not part:
                    break
                parts.append(part)
                self._buffer = self._buffer[len(part) :]
                self._left -= len(part)
            else:
                if len(self._buffer) < self._left:
                    break
                self._buffer, self._left = self._buffer[self._left :], 0
        return b"".join(parts)
