"""Who makes room when the places of the socket budget are taken."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

__all__ = ["Places"]


class Holder(Protocol):
    """A stream. *key*: its client, if it is known. *opened*: a monotonic clock's seconds."""

    @property
    def id(self) -> Hashable: ...
    @property
    def key(self) -> str | None: ...
    @property
    def opened(self) -> float: ...
    @property
    def priority(self) -> int: ...


T = TypeVar("T", bound=Holder)


class Places(Generic[T]):
    """The streams that have a place, each until it was picked, the first to come first."""

    def __init__(self) -> None:
        self._by_priority: dict[int, dict[Hashable, T]] = {}
        self._by_key: dict[str, dict[Hashable, T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, holder: T) -> None:
        row = self._by_priority.setdefault(holder.priority, {})
        if holder.id in row:
            return
        row[holder.id] = holder
        self._count += 1
        if holder.key is not None:
            self._by_key.setdefault(holder.key, {})[holder.id] = holder

    def discard(self, holder: T) -> None:
        """Give the place back; without one, nothing happens."""
        row = self._by_priority.get(holder.priority)
        if row is None or row.pop(holder.id, None) is None:
            return
        self._count -= 1
        if not row:
            del self._by_priority[holder.priority]
        if holder.key is not None:
            own = self._by_key[holder.key]
            del own[holder.id]
            if not own:
                del self._by_key[holder.key]

    def pick(self, newcomer: T, *, many: int, before: float) -> T | None:
        """Take a place away for the sake of *newcomer*, which has one, and return the stream that had it.

        It is the oldest of the least important streams, if it was opened *before* then or matters less than
        the newcomer; else the newcomer gets no place. A client that holds *many* takes one of its own.
        """
        own = self._by_key.get(newcomer.key, {}) if newcomer.key is not None else {}
        if len(own) < many:
            own = self._by_priority[min(self._by_priority)] if self._by_priority else {}
        picked = next(iter(own.values()), None)
        if picked is not None and picked.opened > before and picked.priority >= newcomer.priority:
            picked = newcomer
        if picked is not None:
            self.discard(picked)
        return picked
