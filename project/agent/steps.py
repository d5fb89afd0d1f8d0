"""What the agent says while it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Content", "Step", "StepType"]

StepType = Literal["reasoning", "action", "observation", "result", "final"]
Content = str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the agent thought, did, saw, concluded, or answered."""

    type: StepType
    content: Content
    ends_paragraph: bool = False

    def data(self, number: int) -> dict[str, object]:
        """Return the event's data; `number` is the producer's own count, from 1."""
        data: dict[str, object] = {"v": 1, "n": number, "type": self.type, "content": self.content}
        return {**data, "ends": True} if self.ends_paragraph else data

    def ending(self) -> Step:
        """Return this step as the last of its paragraph, where readers may be let go."""
        return replace(self, ends_paragraph=True)
