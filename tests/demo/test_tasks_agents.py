"""What a step must be before it is stored; and the agent that indexes what another one says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import django
import pytest

from project.agent.index import Index
from project.agent.investigation import investigate
from project.agent.library import Library
from project.agent.schema import TYPES, BadStep, check_step
from project.agent.steps import Step

QUESTION = "What does transaction.on_commit do with robust?"


@pytest.fixture(scope="module")
def wire() -> list[dict[str, Any]]:
    """The steps of a real answer, as they are published."""
    library = Library.read(Path(django.__file__).parent)
    return [step.data(number) for number, step in enumerate(investigate(library, QUESTION), 1)]


@pytest.mark.parametrize("kind", TYPES)
def test_a_step_of_each_type_is_one(kind: str) -> None:
    check_step({"v": 1, "type": kind, "content": "so"})
    check_step({"v": 1, "n": 7, "type": kind, "content": {"text": "so"}, "ends": True})


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"v": 2}, "v is 1; got 2"),
        ({"v": "1"}, "v is 1; got '1'"),
        ({"v": True}, "v is 1; got True"),
        ({"v": None}, "v is 1; got None"),
        ({"type": "musing"}, "type is one of reasoning, action, observation, result, final; got 'musing'"),
        ({"type": None}, "type is one of"),
        ({"content": ""}, "not empty"),
        ({"content": {}}, "not empty"),
        ({"content": ["a"]}, "a text or a mapping"),
        ({"n": 0}, "a number from 1"),
        ({"n": "1"}, "a number from 1"),
        ({"ends": "yes"}, "true or false"),
        ({"token": "x"}, "knows no token"),
    ],
)
def test_what_is_no_step_is_refused_in_words(bad: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadStep, match=complaint):
        check_step({"v": 1, "type": "result", "content": "so", **bad})


@pytest.mark.parametrize("other", [None, "a text", ["v", 1]])
def test_what_is_no_mapping_is_no_step(other: object) -> None:
    with pytest.raises(BadStep, match="A step is a mapping"):
        check_step(other)


def test_a_real_answer_is_steps_in_paragraphs_and_ends_with_one(wire: list[dict[str, Any]]) -> None:
    for data in wire:
        check_step(data)
    assert sum(data.get("ends", False) for data in wire) >= 5
    assert wire[-1]["ends"] is True


def test_an_answer_found_again_is_the_same_so_that_a_task_can_be_resumed(wire: list[dict[str, Any]]) -> None:
    library = Library.read(Path(django.__file__).parent)
    assert [step.data(n) for n, step in enumerate(investigate(library, QUESTION), 1)] == wire


def test_the_index_says_something_at_each_paragraph_and_counts_what_is_there(
    wire: list[dict[str, Any]],
) -> None:
    index = Index()
    said: list[Step] = []
    for number, data in enumerate(wire, 1):
        before = len(said)
        said += index.take(data)
        assert len(said) - before == data.get("ends", False), number
    read = [_content(step)["read"] for step in said]
    # Each step was read in exactly one paragraph.
    assert [n for each in read for n in range(each["first"], each["last"] + 1)] == [d["n"] for d in wire]
    (final,) = index.close("done")
    content = _content(final)
    assert "django/db/transaction.py" in [each["where"] for each in content["places"]]
    assert str(wire[-1]["content"]["answer"]) in content["answer"]
    assert content["failed"] is False


def test_an_answer_that_was_cut_short_is_indexed_as_far_as_it_came(wire: list[dict[str, Any]]) -> None:
    index = Index()
    for data in wire[:3]:
        assert not list(index.take(data))
    paragraph, final = index.close("cancelled")
    assert _content(paragraph)["read"] == {"first": 1, "last": 3}
    assert "ended as cancelled" in _content(final)["answer"]
    assert _content(final)["failed"] is True


class _Enough(Exception):
    pass


@pytest.mark.parametrize("looks", [1, 100, 1_000, 5_000])
def test_a_search_is_left_from_inside_its_loops(looks: int) -> None:
    library = Library.read(Path(django.__file__).parent)
    with pytest.raises(_Enough):
        list(investigate(replace(library, check=_after(looks)), QUESTION))


def _after(looks: int) -> Callable[[], None]:
    left = looks

    def check() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Enough

    return check


def _content(step: Step) -> dict[str, Any]:
    assert not isinstance(step.content, str)
    return dict(step.content)
