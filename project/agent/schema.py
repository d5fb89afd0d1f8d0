"""What a step on the wire looks like, version 1: `{"v": 1, "type": …, "content": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from .steps import StepType

__all__ = ["TYPES", "VERSION", "BadStep", "check_step"]

VERSION = 1
TYPES: tuple[str, ...] = get_args(StepType)
_KEYS = {"v", "n", "type", "content", "ends"}


class BadStep(ValueError):
    """A step that readers could not read; nothing of it was stored."""


def check_step(data: object) -> None:
    """Raise :exc:`BadStep` unless *data* is a step.

    Beside `v`, `type` and `content`, a text or a mapping, there may be `n`, the producer's own number from 1,
    and `ends`: true at the end of a paragraph. Other keys are for another version.
    """
    if not isinstance(data, Mapping):
        raise BadStep(f"A step is a mapping; got {type(data).__name__}.")
    if unknown := sorted(map(str, data.keys() - _KEYS)):
        raise BadStep(f"Version {VERSION} of a step knows no {', '.join(unknown)}.")
    if type(data.get("v")) is not int or data["v"] != VERSION:
        raise BadStep(f"A step's v is {VERSION}; got {data.get('v')!r}.")
    if data.get("type") not in TYPES:
        raise BadStep(f"A step's type is one of {', '.join(TYPES)}; got {data.get('type')!r}.")
    if not isinstance(data.get("content"), str | Mapping) or not data["content"]:
        raise BadStep(f"A step's content is a text or a mapping, not empty; got {data.get('content')!r}.")
    if "n" in data and (type(data["n"]) is not int or data["n"] < 1):
        raise BadStep(f"A step's n is a number from 1; got {data['n']!r}.")
    if "ends" in data and type(data["ends"]) is not bool:
        raise BadStep(f"A step's ends is true or false; got {data['ends']!r}.")
