"""Undo a ``Content-Encoding``, a bounded piece at a time: a bomb never lies in memory as a whole."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from .exceptions import NotAStream

__all__ = ["PIECE_BYTES", "Damaged", "Inflater"]

PIECE_BYTES = 65_536
_ANY_HEADER = zlib.MAX_WBITS | 32  # gzip or zlib


class Damaged(Exception):
    """The compressed bytes are none, as after a fault on the way."""


class Inflater:
    """*coding* is the header's text. None is asked for, but a proxy may not care.

    httpx would inflate whatever came, a thousandfold for each coding, in one piece. Raises
    :exc:`NotAStream` for what is neither ``gzip`` nor ``deflate``.
    """

    def __init__(self, coding: str) -> None:
        self._plain = coding.strip().lower() in ("", "identity")
        if not self._plain and coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
            raise NotAStream(f"The stream is encoded as {coding[:60]!r}; only gzip and deflate can be read.")
        self._inflate = zlib.decompressobj(_ANY_HEADER)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes that *data* brings, at most 64 KiB at a time. Raises :exc:`Damaged`."""
        if self._plain:
            yield data
            return
        more = bool(data)
        while more:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise Damaged(f"The stream is not what its Content-Encoding says: {error}.") from None
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail
            more = bool(data) or len(piece) == PIECE_BYTES  # zlib may keep a little
            if self._inflate.eof:
                # Another member: Django's GZip middleware makes one of each chunk.
                data = self._inflate.unused_data
                more = bool(data)
                self._inflate = zlib.decompressobj(_ANY_HEADER)
