"""What this process measures of its streams since it began; pages and metrics read it.

The numbers only grow. They are written by the event loops' threads without a lock: one that is lost to
another thread's write costs a figure, and no event.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .protocol.histogram import AGES, DELAYS, Histogram

__all__ = ["Measures", "measures"]


@dataclass(slots=True)
class Measures:
    """Counts and histograms, times in seconds.

    *published*: events that this process has stored. *delivered* and *bytes*: what was handed to sockets, in
    events. *reconnects*: streams that were opened with a cursor. *gaps* by reason. *replays*: of the streams
    that had events to catch up on, how many took them from ``tail`` and how many from ``database``.
    *age*: of a stream at its end. *first*: from a stream's opening to its first events, if it had some to
    catch up on. *latency*: from an event's ``created``, by the publisher's clock, to its socket, of
    the newest event of each chunk that is not older than a client may be away.
    """

    published: int = 0
    delivered: int = 0
    bytes: int = 0
    reconnects: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    replays: Counter[str] = field(default_factory=Counter)
    age: Histogram = field(default_factory=lambda: Histogram(AGES))
    first: Histogram = field(default_factory=lambda: Histogram(DELAYS))
    latency: Histogram = field(default_factory=lambda: Histogram(DELAYS))


measures = Measures()
