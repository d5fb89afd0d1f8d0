"""The source files that the agent may read, and the searches over them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Definition", "Found", "Hit", "Library"]

MAX_FILES = 4_000
MAX_FILE_BYTES = 1_000_000
_SKIPPED = ("/locale/", "/migrations/", "/__pycache__/", "/tests/")
_DEFINITION = re.compile(r"^([ \t]*)(async[ \t]+def|def|class)[ \t]+([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that matched."""

    path: str
    line: int
    text: str

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Found:
    """A search's hits: the first few, and how many there are in all."""

    hits: tuple[Hit, ...]
    lines: int
    files: int


@dataclass(frozen=True, slots=True)
class Definition:
    """A class or function, found by its `def` or `class` line; `parent` is what it is in."""

    path: str
    line: int
    kind: str
    name: str
    parent: str

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def qualname(self) -> str:
        return f"{self.parent}.{self.name}" if self.parent else self.name


@dataclass(frozen=True)
class Library:
    """Python files held in memory, by their path from the package's parent.

    *check* is called between two files or definitions of every search; what it raises ends the search.
    """

    texts: Mapping[str, str]
    check: Callable[[], None] = field(default=lambda: None, repr=False)
    _definitions: list[Definition] = field(default_factory=list, repr=False)

    @classmethod
    def read(cls, package: Path) -> Library:
        """Read every Python file of the installed `package`, in a bounded number."""
        texts: dict[str, str] = {}
        for path in sorted(package.rglob("*.py"))[:MAX_FILES]:
            name = path.relative_to(package.parent).as_posix()
            if any(part in f"/{name}" for part in _SKIPPED):
                continue
            if path.stat().st_size <= MAX_FILE_BYTES:
                texts[name] = path.read_text(encoding="utf-8", errors="replace")
        return cls(texts)

    def grep(self, pattern: str, *, ignore_case: bool = False, only: str = "", limit: int = 12) -> Found:
        """Search every file (or those whose path begins with `only`) for a pattern."""
        expression = re.compile(pattern, re.MULTILINE | (re.IGNORECASE if ignore_case else 0))
        hits: list[Hit] = []
        lines = files = 0
        for path, text in self.texts.items():
            self.check()
            if not path.startswith(only):
                continue
            last = 0
            for number, line in _matching_lines(expression, text):
                lines += 1
                last = number
                if len(hits) < limit:
                    hits.append(Hit(path, number, line))
            files += last > 0
        return Found(tuple(hits), lines, files)

    def definitions(self) -> list[Definition]:
        """Return every class and function of every file, outlined once."""
        if not self._definitions:
            for path, text in self.texts.items():
                self._definitions.extend(_outline(path, text))
        return self._definitions

    def defined(self, name: str) -> list[Definition]:
        """Return the classes and functions of exactly this name."""
        return [each for each in self.definitions() if each.name == name]

    def lines(self, path: str, first: int, last: int) -> list[str]:
        """Return lines `first` to `last`, both counted from 1 and included."""
        return self.texts[path].splitlines()[first - 1 : last]


def _matching_lines(expression: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    number, position = 1, 0
    end = -1
    for match in expression.finditer(text):
        if match.start() <= end:
            continue
        number += text.count("\n", position, match.start())
        position = match.start()
        begin = text.rfind("\n", 0, position) + 1
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        yield number, text[begin:end].strip()[:200]


def _outline(path: str, text: str) -> Iterable[Definition]:
    stack: list[tuple[int, str]] = []
    number, position = 1, 0
    for match in _DEFINITION.finditer(text):
        number += text.count("\n", position, match.start())
        position = match.start()
        indent = len(match[1].expandtabs())
        while stack and stack[-1][0] >= indent:
            stack.pop()
        parent = ".".join(name for _, name in stack)
        stack.append((indent, match[3]))
        yield Definition(path, number, "class" if match[2] == "class" else "def", match[3], parent)
