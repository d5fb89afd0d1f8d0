"""Lines of a file, a pipe or a growing file, in bounded memory."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from .exceptions import SSEPollingError

__all__ = ["Line", "LineError", "Lines", "follow", "read"]

BLOCK = 65_536
TICK = 0.05  # seconds between two looks at a silent pipe or an unchanged file


class LineError(SSEPollingError):
    """A line cannot be taken; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end. *number* counts from 1, *offset* is that of its first byte in the file."""

    text: str
    number: int
    offset: int


class Lines:
    """Cuts blocks of bytes into lines. Holds at most one unfinished line, and that within *max_bytes*.

    A line ends with LF or CRLF, and nothing else: all other bytes are its text, in UTF-8.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max = max_bytes
        self._rest = bytearray()
        self._number = 0
        self._offset = 0

    def __bool__(self) -> bool:
        """Tell whether there is a line that has begun and not ended."""
        return bool(self._rest)

    def cut(self, block: bytes) -> Iterator[Line]:
        """Yield the lines that *block* completes. Raises :exc:`LineError`."""
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            raw = bytes(self._rest) + block[start:end] if self._rest else block[start:end]
            self._rest.clear()
            yield self._line(raw[:-1] if raw.endswith(b"\r") else raw, len(raw) + 1)
            start = end + 1
        self._rest += block[start:]
        if len(self._rest) > self._max + 1:  # one more may be the CR of its end
            raise self._too_long()

    def end(self) -> Iterator[Line]:
        """Yield the last line, if the file ended without a line's end, and start anew."""
        if self._rest:
            yield self._line(bytes(self._rest), len(self._rest))
        self._rest.clear()
        self._number = self._offset = 0

    def _line(self, raw: bytes, size: int) -> Line:
        if len(raw) > self._max:
            raise self._too_long()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise LineError(
                f"Line {self._number + 1:,} is not UTF-8: {error.reason}, 0x{raw[error.start]:02x} at byte "
                f"{self._offset + error.start:,} of the input (byte {error.start:,} of the line)."
            ) from None
        line = Line(text, self._number + 1, self._offset)
        self._number += 1
        self._offset += size
        return line

    def _too_long(self) -> LineError:
        return LineError(
            f"Line {self._number + 1:,}, which begins at byte {self._offset:,} of the input, is longer than "
            f"{self._max:,} bytes (MAX_EVENT_BYTES)."
        )


# Both yield blocks of bytes, b"" for "nothing at the moment", and None for "this file is over".


def read(descriptor: int) -> Iterator[bytes | None]:
    """Yield what there is to read until the end; a pipe that is silent gives ``b""`` every 50 ms."""
    while True:
        if not select.select([descriptor], [], [], TICK)[0]:
            yield b""
            continue
        block = os.read(descriptor, BLOCK)
        if not block:
            yield None
            return
        yield block


def follow(path: Path, *, sleep: Callable[[float], None] = time.sleep) -> Generator[bytes | None, None, None]:
    """Yield what *path* has and what is appended to it, for ever, as ``tail -F`` does.

    From its first byte. A file that is truncated is read from its start again. One that is replaced
    (renamed and made anew) is read on until its successor has its first byte, since its writer may take
    a while to notice; then the successor from its start. While no file has that name, it is waited for.
    """
    file = path.open("rb", buffering=0)
    try:
        while True:
            yield from _rest(file)
            yield b""
            sleep(TICK)
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)
                yield None
            elif (successor := _successor(path, file)) is not None:
                try:
                    yield from _rest(file)
                    yield None
                finally:
                    file.close()
                    file = successor
    finally:
        file.close()


def _rest(file: FileIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _successor(path: Path, file: FileIO) -> FileIO | None:
    """Return another file of that name that is not empty, opened; None if there is none."""
    try:
        now = path.stat()
        if os.path.samestat(now, os.fstat(file.fileno())) or not now.st_size:
            return None
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None
