"""A log that another process writes, line by line as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["GrowingLog"]

MAX_BYTES = 65_536
MAX_CHARACTERS = 400


class GrowingLog:
    """Yield what was added to a file since the last look, in whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[str]:
        """Yield the new lines, cut to what a terminal can take; of a flood, the end."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size - self._offset > MAX_BYTES:
                    self._offset = size - MAX_BYTES
                file.seek(self._offset)
                block = file.read(MAX_BYTES)
        except FileNotFoundError:
            return
        whole = block.rfind(b"\n") + 1
        self._offset += whole
        for line in block[:whole].decode(errors="replace").splitlines():
            yield line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]}…"
