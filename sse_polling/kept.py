"""Idle sockets that servers keep open for their clients' next polls: descriptors that no stream holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Kept"]

TIDY_SECONDS = 0.1
FEW = 64  # are looked at each time: closed ones would refuse somebody where there are few places


class Kept:
    """The sockets kept. ``len`` counts those that can be seen, :attr:`guessed` the others.

    A server's object for a connection is the same for each request on it, and tells when it is closed.
    Where there is none, a socket counts for as long as the server may keep it, whether it does or not.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: WeakKeyDictionary[Any, Callable[[Any], bool]] = WeakKeyDictionary()
        self._until: dict[Hashable, float] = {}
        self._tidied = clock()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        self._tidy()
        return len(self._seen)

    @property
    def guessed(self) -> int:
        """How many there may be at most of those that cannot be seen."""
        self._tidy()
        return len(self._until)

    def add(self, owner: Any, is_open: Callable[[Any], bool]) -> None:
        """Count the connection of *owner*, which is not kept alive, while *is_open* says so of it."""
        with self._lock:
            self._seen[owner] = is_open

    def guess(self, seconds: float, *, owner: Hashable = None) -> None:
        """Count a socket for so long. *owner*: what tells it from others, if anything does."""
        with self._lock:
            self._until[object() if owner is None else owner] = self._clock() + seconds

    def discard(self, owner: Any) -> None:
        """Forget the connection of *owner*: its next request is there, or it is closed."""
        with self._lock:
            self._until.pop(owner, None)
            if not isinstance(owner, tuple):
                self._seen.pop(owner, None)

    def _tidy(self) -> None:
        if not self._seen and not self._until:
            return
        now = self._clock()
        if len(self._seen) + len(self._until) > FEW and now - self._tidied < TIDY_SECONDS:
            return
        with self._lock:
            self._tidied = now
            for owner in [each for each, is_open in self._seen.items() if not is_open(each)]:
                del self._seen[owner]
            self._until = {owner: until for owner, until in self._until.items() if until > now}
