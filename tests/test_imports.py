"""Imports in the package point down, as in docs/architecture.md: no module knows one above its own line."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sse_polling"

#: From the bottom to the top; a name stands for itself and everything inside it. Modules of one
#: line may know each other, without a circle.
LINES: list[tuple[str, ...]] = [
    ("exceptions",),
    ("protocol",),
    ("following",),
    ("client",),
    ("identity",),
    ("presets",),
    ("rules",),
    ("conf",),
    ("models", "migrations"),
    ("driver", "gate"),
    ("pools",),
    ("database",),
    ("history",),
    ("places",),
    ("connections",),
    ("measures",),
    ("flushing", "kept"),
    ("pauses",),
    ("lifecycle",),
    ("draining",),
    ("shutdown",),
    ("supervisor",),
    ("pages",),
    ("turns",),
    ("live",),
    ("layer",),
    ("subscription",),
    ("tails",),
    ("comparing",),
    ("trimmer",),
    ("hub",),
    ("replay",),
    ("wake",),
    ("acks",),
    ("publishing",),
    ("writer",),
    ("nodes",),
    ("users", "signatures"),
    ("access",),
    ("stream",),
    ("threads",),
    ("descriptors",),
    ("transport",),
    ("sending",),
    ("ways",),
    ("door",),
    ("views",),
    ("metrics",),
    ("urls",),
    ("scopes",),
    ("serving",),
    ("consumers",),
    ("mount",),
    ("asgi",),
    ("checks",),
    ("admin",),
    ("apps",),
    ("templatetags", "management"),
    ("testing",),
    ("pytest_plugin",),
    # The face: what `import sse_polling` offers. Nothing inside the package may use it.
    ("",),
]

#: The part that is tested without Django, sockets or clocks.
PURE = ("exceptions", "protocol")


def modules(package: Path) -> dict[str, Path]:
    """Return the package's modules by their name inside it: `protocol.wire`, and "" for the package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def line_of(module: str) -> int | None:
    """Return the number of the line a module stands on."""
    first = module.partition(".")[0]
    return next((number for number, names in enumerate(LINES) if first in names), None)


def imported(module: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield (source line, full dotted name) for each import, deferred and typing-only ones included."""
    package = ["sse_polling", *module.split(".")] if module else ["sse_polling"]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*anchor, *([node.module] if node.module else [])])
            for name in node.names:
                inner = f"{base}.{name.name}".removeprefix("sse_polling.")
                # `from . import history` names a module; `from .hub import Hub` a thing in one.
                yield node.lineno, f"{base}.{name.name}" if inner in known else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            value = node.args[0].value
            if function in {"import_module", "__import__"} and isinstance(value, str):
                dots = len(value) - len(value.lstrip("."))
                anchor = package[: len(package) - dots + 1] if dots else []
                yield node.lineno, ".".join([*anchor, value.lstrip(".")])


def faults(package: Path) -> list[str]:
    """Return everything that is wrong with a package's imports, one sentence each."""
    known = modules(package)
    edges: dict[str, set[str]] = {module: set() for module in known}
    found = []
    for module, path in known.items():
        own = line_of(module)
        if own is None:
            found.append(f"{module} has no line: add it to LINES, where it belongs")
            continue
        for number, target in imported(module, path, known):
            place = f"{path.relative_to(package)}:{number}"
            if target.split(".")[0] != "sse_polling":
                if module.split(".")[0] in PURE and target.split(".")[0] not in sys.stdlib_module_names:
                    found.append(f"{place} imports {target}, but {module} takes the standard library only")
                continue
            inner = target.removeprefix("sse_polling").removeprefix(".")
            other = line_of(inner)
            if other is not None and other > own:
                found.append(f"{place} imports {target or 'the face'}, which stands above {module}")
            if inner != module and inner in known:
                edges[module].add(inner)
    return found + [f"a circle: {' -> '.join(circle)}" for circle in circles(edges)]


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the circles that a walk along the imports meets."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(edges.get(module, ())):
                walk(target, [*path, module])
            done.add(module)

    for module in sorted(edges):
        walk(module, [])
    return found


def test_no_import_points_up() -> None:
    assert faults(PACKAGE) == []


def test_every_name_on_a_line_stands_once() -> None:
    names = [name for line in LINES for name in line]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("where", "code", "complaint"),
    [
        ("history.py", "from .hub import Hub", "imports sse_polling.hub, which stands above history"),
        ("history.py", "from . import hub", "imports sse_polling.hub, which stands above history"),
        ("history.py", "from sse_polling import stream", "imports sse_polling.stream, which stands above"),
        ("history.py", "import sse_polling.stream", "imports sse_polling.stream, which stands above"),
        (
            "history.py",
            "def late():\n    from .stream import x",
            "imports sse_polling.stream, which stands above",
        ),
        (
            "history.py",
            "if TYPE_CHECKING:\n    from .hub import Hub",
            "imports sse_polling.hub, which stands above",
        ),
        ("history.py", "import_module('sse_polling.hub')", "imports sse_polling.hub, which stands above"),
        ("history.py", "import_module('.hub', __package__)", "imports sse_polling.hub, which stands above"),
        ("history.py", "from sse_polling import publish_many", "imports sse_polling, which stands above"),
        ("protocol/wire.py", "from ..conf import Config", "imports sse_polling.conf, which stands above"),
        ("protocol/wire.py", "import django.conf", "the standard library only"),
        ("protocol/wire.py", "from . import __all__\nfrom .tail import Tail", None),
        ("helpers.py", "", "helpers has no line"),
        ("management/commands/sse_x.py", "from ...publishing import publish", None),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, where: str, code: str, complaint: str | None) -> None:
    copy = tmp_path / "sse_polling"
    for name in (
        *("__init__", "history", "hub", "stream", "conf", "publishing"),
        *(
            "protocol/__init__",
            "protocol/wire",
            "protocol/tail",
            "management/__init__",
            "management/commands/__init__",
        ),
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / f"{name}.py").touch()
    assert faults(copy) == []
    (copy / where).write_text(code)
    found = faults(copy)
    assert (complaint is None and not found) or (
        complaint is not None and len(found) == 1 and complaint in found[0]
    )


def test_a_circle_on_one_line_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "sse_polling"
    (copy / "protocol").mkdir(parents=True)
    (copy / "protocol" / "__init__.py").touch()
    (copy / "protocol" / "wire.py").write_text("from . import tail")
    (copy / "protocol" / "tail.py").write_text("from .wire import encode")
    assert faults(copy) == ["a circle: protocol.tail -> protocol.wire -> protocol.tail"]


def test_a_bad_import_in_the_real_package_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "sse_polling"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "exceptions.py").open("a") as file:
        file.write("\nfrom .models import Channel\n")
    assert any(
        fault.endswith("imports sse_polling.models, which stands above exceptions") for fault in faults(copy)
    )
