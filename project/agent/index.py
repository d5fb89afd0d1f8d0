"""A second agent: it reads another's steps, a paragraph at a time, and keeps an index of what they name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .steps import Step

__all__ = ["Index"]

_SHOWN = 6
_PLACE = re.compile(r"\b([\w./-]+\.py):(\d+)\b")


class Index:
    """Takes steps as they come off the wire; gives steps of its own.

    What it gives depends on what it took alone, so it can begin anew at any time and arrive at the same.
    """

    def __init__(self) -> None:
        self.paragraphs = 0
        self._places: dict[str, set[int]] = {}
        self._open: list[Mapping[str, Any]] = []
        self._answer: Mapping[str, Any] | None = None
        self._read = 0

    def take(self, step: Mapping[str, Any]) -> Iterator[Step]:
        """Take one step, and yield what there is to say once it ends a paragraph."""
        self._open.append(step)
        self._read += 1
        if step["type"] == "final":
            self._answer = step["content"]
        if step.get("ends"):
            yield self._paragraph()

    def close(self, status: str) -> Iterator[Step]:
        """Yield the last paragraph's step if it was cut short, and the `final` one. *status* is its end."""
        if self._open:
            yield self._paragraph()
        answer = str((self._answer or {}).get("answer", ""))
        told = f"It answered: {answer}" if answer else f"It gave no answer; its task ended as {status}."
        yield Step(
            "final",
            {
                "answer": f"I read {self._read} steps in {self.paragraphs} paragraphs as they were written, "
                f"and indexed {self._total()} lines in {len(self._places)} files. {told}",
                "places": [
                    {"where": path, "text": _lines(lines)} for path, lines in self._ranked()[: 2 * _SHOWN]
                ],
                "failed": status != "done",
            },
            ends_paragraph=True,
        )

    def _paragraph(self) -> Step:
        read, self._open = self._open, []
        self.paragraphs += 1
        before = self._total()
        words = 0
        for step in read:
            for text in _texts(step["content"]):
                words += len(text.split())
                for path, line in _PLACE.findall(text):
                    self._places.setdefault(path, set()).add(int(line))
        fresh = self._total() - before
        first, last = read[0].get("n"), read[-1].get("n")
        ranked = self._ranked()
        text = f"Paragraph {self.paragraphs}, steps {first} to {last}: {words} words"
        text += f", {fresh} lines that I had not heard of." if fresh else ", no line that I had not heard of."
        text += f" So far {self._total()} lines in {len(ranked)} files." if ranked else ""
        return Step(
            "result",
            {
                "text": text,
                "items": [{"where": path, "text": _lines(lines)} for path, lines in ranked[:_SHOWN]],
                "more": max(0, len(ranked) - _SHOWN),
                "read": {"first": first, "last": last},
            },
            ends_paragraph=True,
        )

    def _total(self) -> int:
        return sum(len(lines) for lines in self._places.values())

    def _ranked(self) -> list[tuple[str, set[int]]]:
        return sorted(self._places.items(), key=lambda pair: (-len(pair[1]), pair[0]))


def _lines(lines: set[int]) -> str:
    shown = ", ".join(map(str, sorted(lines)[:5]))
    return f"line {shown}" if len(lines) == 1 else f"lines {shown}" + (" …" if len(lines) > 5 else "")


def _texts(content: Any) -> Iterator[str]:
    """Yield every text in a step's content."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for each in content.values():
            yield from _texts(each)
    elif isinstance(content, list):
        for each in content:
            yield from _texts(each)
