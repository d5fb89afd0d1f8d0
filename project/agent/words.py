"""Take names apart into words, and compare words loosely."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["alike", "split", "stem"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ENDINGS = ("ations", "ation", "ions", "ings", "ies", "ion", "ing", "ed", "es", "s", "e")
_SHORTEST = 4
_DOUBLED = {"bb", "dd", "gg", "mm", "nn", "pp", "rr", "tt"}


@lru_cache(maxsize=65_536)
def split(name: str) -> tuple[str, ...]:
    """Split a snake or camel case name: `CsrfViewMiddleware` is csrf, view, middleware."""
    return tuple(word.lower() for word in _WORD.findall(name))


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Cut a common English ending off, if at least four letters are left."""
    word = word.lower()
    for ending in _ENDINGS:
        if word.endswith(ending) and not word.endswith("ss"):
            left = word[: -len(ending)]
            if ending in {"ing", "ed"} and left[-2:] in _DOUBLED:
                return left[:-1]
            if len(left) >= _SHORTEST or (ending == "s" and len(left) == _SHORTEST - 1):
                return left
    return word


def alike(stemmed: str, word: str) -> float:
    """Return how well `word` matches a stem: 1 the same, 0.6 it begins so, 0 not at all."""
    if word == stemmed or stem(word) == stemmed:
        return 1.0
    if len(stemmed) >= _SHORTEST and word.startswith(stemmed) and len(word) <= len(stemmed) + 5:
        return 0.6
    return 0.0
