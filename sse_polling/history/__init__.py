"""The stored history: the only code that touches event rows, but for the admin's lists."""

from __future__ import annotations

from .appending import NewEvent, append, mark_burst_end
from .looking import Reading, look
from .reading import ChannelState, first_sequence, head, newest, replay, states
from .retention import Trimmed, erase, lease, trim
from .settling import settle

__all__ = [
    "ChannelState",
    "NewEvent",
    "Reading",
    "Trimmed",
    "append",
    "erase",
    "first_sequence",
    "head",
    "lease",
    "look",
    "mark_burst_end",
    "newest",
    "replay",
    "settle",
    "states",
    "trim",
]
