"""Read one definition closely, with `ast`."""

from __future__ import annotations

import ast
import threading
from dataclasses import dataclass

from .library import Definition, Library

__all__ = ["Passage", "caller", "read_passage"]

_Node = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Before Python 3.12 all threads share the parser's depth counter, and two at once may get a SystemError
# ("AST constructor recursion depth mismatch"; see CPython's gh-106905).
_parsing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Passage:
    """What one definition says of itself."""

    definition: Definition
    signature: str
    doc: str
    bases: tuple[str, ...]
    calls: tuple[str, ...]
    last: int
    body: str

    @property
    def trivial(self) -> bool:
        """Tell whether the body only passes, raises NotImplementedError, or is empty."""
        code = [line.strip() for line in self.body.splitlines()[1:] if line.strip()]
        return len(code) <= 1 or any("NotImplementedError" in line for line in code[-3:])

    def excerpt(self, limit: int = 36) -> dict[str, object]:
        """Return the first lines of the source, with the number of the first."""
        lines = self.body.splitlines()
        return {
            "path": self.definition.path,
            "first": self.definition.line,
            "lines": [line[:160] for line in lines[:limit]],
            "more": max(0, len(lines) - limit),
        }


def read_passage(library: Library, definition: Definition) -> Passage | None:
    """Parse the definition's file and describe the definition; None if it does not parse."""
    text = library.texts[definition.path]
    try:
        tree = _parse(text)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, _Node) and node.lineno == definition.line:
            last = node.end_lineno or node.lineno
            return Passage(
                definition=definition,
                signature=_signature(node),
                doc=_first_paragraph(ast.get_docstring(node) or ""),
                bases=_bases(node),
                calls=_calls(node),
                last=last,
                body="\n".join(library.lines(definition.path, node.lineno, last)),
            )
    return None


def caller(library: Library, path: str, line: int, name: str) -> Definition | None:
    """Return what calls `name` on line `line` of `path`; None if that line holds no such call."""
    try:
        tree = _parse(library.texts[path])
    except (SyntaxError, ValueError):
        return None
    around = 0
    called = False
    for node in ast.walk(tree):
        if isinstance(node, _Node) and node.lineno < line <= (node.end_lineno or node.lineno):
            around = max(around, node.lineno)
        elif isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or line):
            called = called or _called(node) == name
    if not (called and around):
        return None
    same = (each for each in library.definitions() if each.path == path)
    return next((each for each in same if each.line == around), None)


def _parse(text: str) -> ast.Module:
    with _parsing:
        return ast.parse(text)


def _signature(node: _Node) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{word} {node.name}({ast.unparse(node.args)}){returns}"


def _first_paragraph(doc: str) -> str:
    return " ".join(doc.strip().split("\n\n")[0].split())


def _bases(node: _Node) -> tuple[str, ...]:
    if not isinstance(node, ast.ClassDef):
        return ()
    return tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)


def _calls(node: _Node) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and (name := _called(inner)):
            names.setdefault(name)
    return tuple(names)


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""
