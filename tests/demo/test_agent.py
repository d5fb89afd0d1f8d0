"""The agent finds what is there, says where, and makes nothing up."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import django
import pytest

from project.agent.investigation import investigate
from project.agent.library import Library
from project.agent.passage import caller, read_passage
from project.agent.question import read_question
from project.agent.steps import Step
from project.agent.words import alike, split, stem


@pytest.fixture(scope="module")
def django_source() -> Library:
    return Library.read(Path(django.__file__).parent)


@pytest.fixture
def shelf() -> Library:
    return Library(
        {
            "shop/base.py": "class Till:\n    def open(self):\n        return 1\n",
            "shop/carts.py": (
                "from .base import Till\n\n\n"
                "class CartTill(Till):\n"
                '    """Takes the money for a cart."""\n\n'
                "    def pay_cart(self, cart, *, tip=0):\n"
                '        """Pay for a cart.\n\n        With a tip.\n        """\n'
                "        return add_up(cart) + tip\n\n\n"
                "def add_up(cart):\n"
                "    # the tip is not in it\n"
                "    total = sum(cart)\n"
                "    return total\n"
            ),
            "shop/desk.py": (
                "from .carts import CartTill\n\n\ndef checkout(cart):\n    return CartTill().pay_cart(cart)\n"
            ),
        }
    )


def final(library: Library, question: str) -> dict[str, Any]:
    steps = list(investigate(library, question))
    assert [step.type for step in steps].index("final") == len(steps) - 1
    content = steps[-1].content
    assert not isinstance(content, str)
    return dict(content)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CsrfViewMiddleware", ("csrf", "view", "middleware")),
        ("run_and_clear_commit_hooks", ("run", "and", "clear", "commit", "hooks")),
        ("URLResolver", ("url", "resolver")),
        ("__init__", ("init",)),
    ],
)
def test_names_are_split_in_either_case(name: str, words: tuple[str, ...]) -> None:
    assert split(name) == words


def test_words_are_compared_by_their_stems() -> None:
    assert stem("checked") == stem("checks") == stem("checking") == "check"
    assert stem("running") == "run"
    assert alike(stem("resolved"), "resolver") == 0.6
    assert alike(stem("token"), "to") == 0


def test_a_question_is_taken_apart_into_names_and_words() -> None:
    question = read_question("What does transaction.on_commit do with robust?")
    assert [(term.owner, term.name, term.identifier) for term in question.terms] == [
        ("transaction", "on_commit", True),
        ("", "robust", False),
    ]
    assert question.aside == ("what", "does", "do", "with")


def test_a_very_long_question_has_a_bounded_number_of_terms() -> None:
    assert len(read_question(" ".join(f"word{n}x" for n in range(1000))).terms) == 6


def test_the_search_counts_lines_and_files_and_shows_the_first(shelf: Library) -> None:
    found = shelf.grep(r"\bcart\b", limit=2)
    assert (found.lines, found.files, len(found.hits)) == (8, 2, 2)
    assert (found.hits[0].where, found.hits[0].text) == (
        "shop/carts.py:5",
        '"""Takes the money for a cart."""',
    )


def test_a_definition_is_read_with_its_signature_docstring_and_calls(shelf: Library) -> None:
    (definition,) = shelf.defined("pay_cart")
    assert definition.qualname == "CartTill.pay_cart"
    passage = read_passage(shelf, definition)
    assert passage is not None
    assert passage.signature == "def pay_cart(self, cart, *, tip=0)"
    assert passage.doc == "Pay for a cart."
    assert passage.calls == ("add_up",)


def test_a_call_is_told_from_the_name_in_a_string(shelf: Library) -> None:
    library = Library(
        {**shelf.texts, "shop/words.py": 'def speak():\n    print("pay_cart() it")\n    pay_cart(1)\n'}
    )
    assert caller(library, "shop/words.py", 2, "pay_cart") is None
    user = caller(library, "shop/words.py", 3, "pay_cart")
    assert user is not None
    assert user.name == "speak"


def test_an_answer_quotes_only_lines_that_are_there(shelf: Library) -> None:
    answer = final(shelf, "How does CartTill.pay_cart handle a tip?")
    assert answer["where"] == "shop/carts.py:7"
    assert answer["leads_to"]["where"] == "shop/carts.py:15"
    for each in [*answer["mentions"], *answer["references"]]:
        path, _, line = each["where"].rpartition(":")
        assert shelf.texts[path].splitlines()[int(line) - 1].strip() == each["text"]
    assert "checkout (shop/desk.py:5)" in answer["answer"]


@pytest.mark.parametrize("question", ["", "how does it work?", "?!", "\x00\r\n", "zxqwv blorple"])
def test_a_question_without_an_answer_is_told_so(shelf: Library, question: str) -> None:
    assert str(final(shelf, question)["answer"]).startswith("I have no answer.")


def test_words_that_no_definition_bears_are_told_so(shelf: Library) -> None:
    library = Library({"shop/notes.py": "# blorple\nx = 1\n"})
    assert "no class or function is named so" in str(final(library, "blorple")["answer"])


def test_a_file_that_does_not_parse_is_passed_over() -> None:
    library = Library({"shop/old.py": "def pay_cart(:\n", "shop/new.py": "def pay_cart():\n    return 1\n"})
    assert final(library, "pay_cart")["where"] == "shop/new.py:1"


@pytest.mark.parametrize(
    ("question", "path", "qualname"),
    [
        ("How does QuerySet.select_related work?", "django/db/models/query.py", "QuerySet.select_related"),
        ("Where is the CSRF token checked?", "django/middleware/csrf.py", "CsrfViewMiddleware._check_token"),
        ("What does transaction.on_commit do with robust?", "django/db/transaction.py", "on_commit"),
        ("Who closes old database connections?", "django/db/__init__.py", "close_old_connections"),
        ("What does SimpleLazyObject do?", "django/utils/functional.py", "SimpleLazyObject"),
    ],
)
def test_the_examples_on_the_page_are_answered(
    django_source: Library, question: str, path: str, qualname: str
) -> None:
    answer = final(django_source, question)
    assert answer["where"].startswith(f"{path}:")
    assert answer["answer"].startswith(f"{qualname} is defined in {path}:")


def test_robust_is_found_one_hop_further(django_source: Library) -> None:
    answer = final(django_source, "What does transaction.on_commit do with robust?")
    assert answer["leads_to"]["where"].startswith("django/db/backends/base/base.py:")
    assert "if robust:" in [each["text"] for each in answer["mentions"]]


def test_each_search_is_followed_by_what_it_saw_and_all_are_small(django_source: Library) -> None:
    steps = list(investigate(django_source, "How does Model.save decide between INSERT and UPDATE?"))
    assert steps[0].type == "reasoning"
    assert dict(steps[0].content)["question"] == "How does Model.save decide between INSERT and UPDATE?"  # type: ignore[arg-type]
    for step, following in itertools.pairwise(steps):
        if step.type == "action":
            assert following.type == "observation"
    for number, step in enumerate(steps, 1):
        assert len(json.dumps(step.data(number))) < 16_384


def test_a_step_carries_the_version_and_the_producers_number() -> None:
    assert Step("reasoning", "so").data(3) == {"v": 1, "n": 3, "type": "reasoning", "content": "so"}
