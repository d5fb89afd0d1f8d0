"""What a soak has counted: second by second, fault by fault, and how much memory each server takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.harness.server import AsgiServer

from .readers import Reader

__all__ = ["FaultFigures", "Memory", "Tally", "slope"]

#: How many seconds the percentile looks back.
WINDOW = 5


@dataclass(slots=True)
class FaultFigures:
    """One kind of fault over the whole soak."""

    count: int = 0
    worst_latency: float = 0.0
    longest_recovery: float = 0.0


@dataclass(slots=True)
class _Window:
    """When a fault had an effect, in seconds of the wall clock, as publishers say them."""

    fault: str
    began: float
    until: float = float("inf")


@dataclass(slots=True)
class Memory:
    """The resident memory of one process as long as it has lived: (second of the soak, bytes)."""

    pid: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)

    def take(self, server: AsgiServer, at: float) -> None:
        """Look at the process, from the beginning when it is another than before."""
        if not server.running:
            return
        if server.pid != self.pid:
            self.pid, self.samples = server.pid, []
        self.samples.append((at, server.memory()))


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return how much grows in a second, by least squares; 0 with fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


class Tally:
    """Figures of readers that come and go; of each reader only what it counts itself."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.readers: list[Reader] = []
        self.fault = ""
        self.faults: dict[str, FaultFigures] = {}
        self._windows: deque[_Window] = deque(maxlen=3)
        self._gone = dict.fromkeys(_COUNTED, 0)
        self._seconds: deque[list[float]] = deque([[]], maxlen=WINDOW)
        self._before = dict.fromkeys(_COUNTED, 0)

    def retire(self) -> None:
        """Let go of the present readers and keep what they have counted."""
        self._gone = self.totals()
        self.readers = []

    def totals(self) -> dict[str, int]:
        """Return all that was counted so far."""
        return {
            name: gone + sum(getattr(reader, name) for reader in self.readers)
            for name, gone in self._gone.items()
        }

    def begin_fault(self, name: str) -> None:
        """Count what is published from now on to this fault, until all have caught up."""
        self.fault = name
        self._windows.append(_Window(name, time.time()))
        self.faults.setdefault(name, FaultFigures()).count += 1

    def end_fault(self, recovery: float) -> None:
        """Say how long it took after healing until all had caught up."""
        figures = self.faults[self.fault]
        figures.longest_recovery = max(figures.longest_recovery, recovery)
        self._windows[-1].until = time.time()
        self.fault = ""

    def on_latency(self, at: float, seconds: float) -> None:
        """Take one arrival of an event that was published *at*."""
        self._seconds[-1].append(seconds)
        for window in self._windows:
            if window.began <= at < window.until:
                figures = self.faults[window.fault]
                figures.worst_latency = max(figures.worst_latency, seconds)

    def line(self, sockets: int) -> str:
        """Return this second's line and begin the next."""
        now = self.totals()
        news = {name: now[name] - self._before[name] for name in now}
        self._before = now
        late = sorted(each for second in self._seconds for each in second)
        p99 = late[len(late) * 99 // 100] if late else 0.0
        self._seconds.append([])
        second = int(time.monotonic() - self.began)
        return (
            f"{second // 60:3}:{second % 60:02}  sockets {sockets:4}  events/s {news['events']:6}"
            f"  reconnects/s {news['connections']:5}  lost {now['lost']}  repeated {now['repeated']}"
            f"  gaps {now['gaps']}  p99 {p99:6.3f} s  {self.fault}"
        )


_COUNTED = ("events", "connections", "lost", "repeated", "gaps")
