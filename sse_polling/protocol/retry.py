"""When a client should come back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

__all__ = ["RetryLimits", "next_retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """Milliseconds, but for *jitter*: a share of the wait, 0 to 1, added or taken."""

    base_ms: int = 1000
    behind_ms: int = 50
    jitter: float = 0.3
    max_ms: int = 60_000

    @classmethod
    def strictest(cls, limits: Iterable[RetryLimits]) -> RetryLimits:
        """Return the longest waits: what a stream of several channels keeps to."""
        several = list(limits)
        if len(several) == 1:
            return several[0]
        return cls(
            base_ms=max(each.base_ms for each in several),
            behind_ms=max(each.behind_ms for each in several),
            jitter=max(each.jitter for each in several),
            max_ms=max(each.max_ms for each in several),
        )


def next_retry(
    limits: RetryLimits, rng: Random, *, behind: bool = False, steered_ms: int = 0, at_least_ms: int = 0
) -> int:
    """Return the ``retry:`` to send, in milliseconds, at most ``max_ms``.

    *behind*: events are left over, so the client should come back at once. *steered_ms*: the socket
    budget's wish, which lengthens ``base_ms``.
    *at_least_ms*: a polite refusal's wait; jitter only adds to it.
    """
    if at_least_ms:
        return round(at_least_ms * (1 + limits.jitter * rng.random()))
    wait = limits.behind_ms if behind else max(limits.base_ms, steered_ms)
    return min(round(wait * (1 + limits.jitter * (2 * rng.random() - 1))), limits.max_ms)
