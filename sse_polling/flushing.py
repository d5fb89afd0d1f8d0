"""Sockets whose burst is over and whose last bytes wait for the client: they cost what open streams do."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from .connections import Connection

__all__ = ["Flushing"]


class Flushing:
    """The connections that flush. Adding and discarding are idempotent and thread-safe."""

    def __init__(self) -> None:
        self._held: set[Connection] = set()
        self._by_key: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, connection: object) -> bool:
        return connection in self._held

    def __iter__(self) -> Iterator[Connection]:
        with self._lock:
            return iter(list(self._held))

    def count(self, *, key: str) -> int:
        """Return how many the client of that name has."""
        return self._by_key.get(key, 0)

    def add(self, connection: Connection) -> None:
        with self._lock:
            if connection not in self._held:
                self._held.add(connection)
                if connection.key is not None:
                    self._by_key[connection.key] += 1

    def discard(self, connection: Connection) -> None:
        with self._lock:
            if connection in self._held:
                self._held.discard(connection)
                if connection.key is not None:
                    self._by_key[connection.key] -= 1
                    if not self._by_key[connection.key]:
                        del self._by_key[connection.key]
