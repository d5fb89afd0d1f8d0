"""Numbers out of rows: what another version may have written and cannot be read is None, not an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .reading import NodeView

__all__ = ["histogram", "number", "numbers"]

MOST = 2**63
MOST_KEYS = 50  # there are about a dozen of each


def number(node: NodeView, *path: str | int) -> int | float | None:
    """Return one of ``node.figures``, by the keys and indexes that lead there; none is below 0."""
    told = _follow(node, path)
    return told if _is_number(told) else None


def numbers(node: NodeView, *path: str | int) -> dict[str, int | float]:
    """Return the numbers of a mapping among ``node.figures``, by their keys."""
    told = _follow(node, path)
    if not isinstance(told, Mapping):
        return {}
    return {str(key): value for key, value in list(told.items())[:MOST_KEYS] if _is_number(value)}


def histogram(node: NodeView, name: str, bounds: Sequence[float]) -> tuple[list[int], float] | None:
    """Return the counts, one for each of *bounds* and one for all above, and their sum."""
    counts, total = _follow(node, (name, "counts")), number(node, name, "total")
    if total is None or not isinstance(counts, list) or len(counts) != len(bounds) + 1:
        return None
    return (counts, total) if all(isinstance(each, int) and _is_number(each) for each in counts) else None


def _follow(node: NodeView, path: Sequence[str | int]) -> Any:
    told: Any = node.figures
    for key in path:
        if isinstance(told, Mapping):
            told = told.get(key)
        elif isinstance(told, list) and isinstance(key, int) and key < len(told):
            told = told[key]
        else:
            return None
    return told


def _is_number(told: Any) -> bool:
    return isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < MOST
