"""The channels that one hub holds: how many, and how many bytes of events, with their bounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

from .conf import TailLimits
from .history import Reading
from .live import LiveChannel
from .protocol.tail import Tail
from .turns import Turns

__all__ = ["Tails"]


class Tails:
    """Channels by name, the least recently used first. *on_forget* is told each that is let go.

    Invariants: ``bytes`` is the sum over all tails; a channel that is waited on or read stays.
    """

    def __init__(self, *, on_forget: Callable[[str], None]) -> None:
        self.bytes = 0
        self._on_forget = on_forget
        self._turns = Turns()
        self._channels: OrderedDict[str, LiveChannel] = OrderedDict()
        self._unknown: OrderedDict[str, LiveChannel] = OrderedDict()  # those nobody published to
        self._empty_since: float | None = None

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[LiveChannel]:
        return iter(self._channels.values())

    @property
    def names(self) -> Collection[str]:
        return self._channels.keys()

    def get(self, name: str) -> LiveChannel | None:
        """Return the channel if it is held, loaded or not."""
        return self._channels.get(name)

    def use(self, name: str, *, now: float, limits: TailLimits) -> LiveChannel:
        """Return the channel, held from now on if it was not."""
        live = self._channels.get(name)
        if live is None:
            live = self._channels[name] = LiveChannel(name, now, self._turns)
            self._bound_unknown(limits.max_unknown_channels)
        self._channels.move_to_end(name)
        live.used = now
        return live

    def apply(self, live: LiveChannel, reading: Reading, limits: TailLimits) -> None:
        """Let the channel be as it was read, tell who waits on it, and keep all tails within *limits*."""
        before = live.position
        tail = live.tail
        self.bytes -= tail.bytes if tail is not None else 0
        state = reading.state
        if state is None:
            tail = Tail(max_events=limits.max_events, max_bytes=limits.max_bytes)
        elif tail is None or reading.fresh:
            base = state.head - len(reading.events)
            tail = Tail(
                max_events=limits.max_events,
                max_bytes=limits.max_bytes,
                base=base,
                base_tag=state.head_tag if base == state.head else "-",
            )
        for event in reading.events:
            tail.append(event)
        if state is None:
            self._unknown[live.name] = live
        else:
            self._unknown.pop(live.name, None)
        live.state, live.tail = state, tail
        self.bytes += tail.bytes
        self._shrink(limits.total_bytes, keep=live)
        if live.position != before or reading.fresh:
            live.notify()

    def tidy(self, *, now: float, limits: TailLimits) -> None:
        """Let go of channels that nobody has read for a while."""
        for live in list(self):
            if now - live.used > limits.idle_seconds:
                self._forget(live)
        if self._channels:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now

    def empty_for(self, now: float) -> float:
        """Return for how many seconds :meth:`tidy` has found no channel."""
        return now - self._empty_since if self._empty_since is not None else 0

    def _shrink(self, total: int, *, keep: LiveChannel) -> None:
        """Empty the least recently used tails until all together fit; their readers use the database."""
        for live in self:
            if self.bytes <= total:
                return
            if live is not keep:
                self._empty(live)
        if self.bytes > total:
            self._empty(keep)

    def _empty(self, live: LiveChannel) -> None:
        if live.tail is not None:
            self.bytes -= live.tail.bytes
            live.tail.clear()

    def _bound_unknown(self, most: int) -> None:
        for live in list(self._unknown.values())[: max(0, len(self._unknown) - most)]:
            self._forget(live)

    def _forget(self, live: LiveChannel) -> None:
        if live.waiters or live.is_read or self._channels.get(live.name) is not live:
            return
        del self._channels[live.name]
        self._unknown.pop(live.name, None)
        if live.tail is not None:
            self.bytes -= live.tail.bytes
        self._on_forget(live.name)
