"""How long to wait before the next request. Pure: clocks and randomness are the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

__all__ = ["backoff", "retry_after"]

SPREAD = 0.1  # of a Retry-After on top of it, since all who were refused were told the same
MOST_DIGITS = 10


def backoff(errors: int, rng: Random, *, base_seconds: float, max_seconds: float) -> float:
    """Return the wait after so many errors in a row: any time up to a limit that doubles (full jitter)."""
    return rng.random() * min(max_seconds, base_seconds * 2.0 ** min(errors - 1, 60))


def retry_after(headers: Mapping[str, str], rng: Random) -> float | None:
    """Return how long a refusal says to wait, and up to a tenth more; None if it does not say.

    Source: RFC 9110, 10.2.3. A date counts from the answer's own ``Date``, so that a wrong clock on
    either side is harmless.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:MOST_DIGITS])
    else:
        until = _date(text)
        if until is None:
            return None
        now = _date(headers.get("date", "")) or datetime.now(UTC)
        seconds = max(0.0, (until - now).total_seconds())
    return seconds * (1 + SPREAD * rng.random())


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the year 10**11
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
