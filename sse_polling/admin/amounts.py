"""Amounts in words: what pages show of numbers, also of those that another version's row may tell."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.translation import gettext

__all__ = ["NONE", "counts", "delay", "grouped", "number", "of", "rate", "share", "shortened", "size"]

NONE = "–"  # noqa: RUF001 - where nothing is known
MOST = 10**15  # counts that a row may tell; beyond it, it is nonsense


def number(value: Any) -> float | None:
    """Return *value* if it is a number that can be shown, None if not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < MOST and isfinite(value) else None


def counts(told: Any) -> dict[str, int]:
    """Return what a row tells as counts by name, without what is none."""
    if not isinstance(told, Mapping):
        return {}
    return {str(name): int(count) for name, value in told.items() if (count := number(value)) is not None}


def grouped(value: Any) -> str:
    """Return a whole number with its thousands apart."""
    count = number(value)
    return NONE if count is None else number_format(round(count), use_l10n=True, force_grouping=True)


def of(value: Any, most: Any) -> str:
    """Return "412 of 872", or the first alone without a limit."""
    if number(most) is None:
        return grouped(value)
    return gettext("%(count)s of %(most)s") % {"count": grouped(value), "most": grouped(most)}


def share(value: Any, most: Any) -> float:
    """Return how much of *most* is *value*, in percent of 0 to 100."""
    part, whole = number(value), number(most)
    if part is None or whole is None or whole <= 0:
        return 0.0
    return round(min(100.0, max(0.0, 100 * part / whole)), 1)


def rate(value: float) -> str:
    """Return how many a second, with one digit after the point below ten."""
    if number(value) is None:
        return NONE
    return number_format(
        value, 0 if value >= 9.95 or not round(value, 1) else 1, use_l10n=True, force_grouping=True
    )


def delay(seconds: float | None) -> str:
    """Return a latency."""
    if seconds is None:
        return NONE
    if seconds < 0.9995:
        return gettext("%(number)s ms") % {"number": number_format(1000 * seconds, 0, use_l10n=True)}
    return gettext("%(number)s s") % {"number": number_format(seconds, 1, use_l10n=True)}


def size(value: Any) -> str:
    """Return a size in bytes."""
    count = number(value)
    return NONE if count is None else filesizeformat(round(count))


def shortened(text: str, most: int = 40) -> str:
    """Return *text* without its middle, if it is long: names differ at their ends."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[-half:]}"
