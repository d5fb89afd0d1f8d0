"""The three presets: where a channel's burst and retry start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .protocol.burst import BurstLimits
from .protocol.retry import RetryLimits

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Where a channel's burst and retry start."""

    burst: BurstLimits
    retry: RetryLimits


PRESETS: Mapping[str, Preset] = {
    "reclaim": Preset(burst=BurstLimits(hold_seconds=0, linger_seconds=0), retry=RetryLimits(base_ms=2000)),
    "balanced": Preset(burst=BurstLimits(), retry=RetryLimits()),
    "live": Preset(burst=BurstLimits(hold_seconds=25, linger_seconds=25), retry=RetryLimits(base_ms=250)),
}
