"""``sse_polling.client``, the face: what it offers, where it runs, and that its twins are twins."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from sse_polling import client
from sse_polling.client import course
from sse_polling.exceptions import SSEPollingError

ROOT = Path(__file__).resolve().parents[1]


def test_it_runs_without_django(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['django'] = None; sys.modules['channels'] = None\n"
        "import sse_polling.client\n"
        "ours = [each for each in sys.modules if each.startswith('sse_polling.')]\n"
        "print(sorted(each for each in ours if each.count('.') == 1))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "['sse_polling.client', 'sse_polling.exceptions']", done.stderr


def test_the_face_is_what_it_says() -> None:
    assert set(client.__all__) <= set(vars(client))
    errors = [each for each in vars(client).values() if inspect.isclass(each) and issubclass(each, Exception)]
    assert len(errors) == 6
    assert all(issubclass(each, SSEPollingError) for each in errors)


def test_the_documented_defaults_are_those_of_the_code() -> None:
    given = inspect.signature(course.Course).parameters
    knobs = {name: each.default for name, each in given.items() if each.kind is each.KEYWORD_ONLY}
    assert set(knobs) == set(get_type_hints(course.Knobs))
    text = client.__doc__ or ""
    for name, default in knobs.items():
        if name in ("rng", "clock"):
            assert f"``{name}``" in text
        else:
            shown = (
                f"{default:_}"
                if type(default) is int
                else f"{default:g}"
                if type(default) is float
                else default
            )
            if name == "raise_on_gap":
                assert "*raise_on_gap*" in text
            else:
                assert f"``{name}={shown}``" in text


def test_the_twins_take_the_same() -> None:
    twins = [inspect.signature(each).parameters for each in (client.stream_events, client.iter_events)]
    assert list(twins[0]) == list(twins[1])


@pytest.mark.parametrize("call", [client.stream_events, client.iter_events])
def test_a_knob_that_does_not_exist_is_refused_before_the_first_event(call: object) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        call("http://127.0.0.1/", nonsense=1)  # type: ignore[operator]


class Blocking(ast.NodeTransformer):
    """Takes the waiting out of asynchronous code."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        kind = type(node).__name__
        if kind.startswith("Async"):
            node.__class__ = getattr(ast, kind.removeprefix("Async"))
        return node


NAMES = {
    "AsyncClient": "Client",
    "AsyncExitStack": "ExitStack",
    "AsyncGenerator[bytes, None]": "Generator[bytes, None, None]",
    "AsyncIterator": "Iterator",
    "AsyncRoom": "Room",
    "aclosing": "closing",
    "aconnect_sse": "connect_sse",
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
    "response.aclose": "response.close",
}


@pytest.mark.parametrize("name", ["_run", "_opened", "_beginning"])
def test_the_twins_differ_in_nothing_but_waiting(name: str) -> None:
    """Neither is made from the other: this compares them."""
    folder = Path(client.__file__).parent
    found = []
    for module in ("asynchronous", "synchronous"):
        tree = Blocking().visit(ast.parse((folder / f"{module}.py").read_text()))
        (function,) = [each for each in tree.body if getattr(each, "name", "") == name]
        found.append(ast.unparse(function.body[-1]))
    for old, new in NAMES.items():
        found[0] = found[0].replace(old, new)
    assert found[0] == found[1]
