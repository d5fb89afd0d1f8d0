"""Turn a question in English into things to search for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .words import split, stem

__all__ = ["Question", "Term", "read_question"]

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_INNER_CAPITAL = re.compile(r"[a-z][A-Z]|[A-Z]{2,}[a-z]")
MAX_TERMS = 6

_COMMON = """
a about after all also an and any are as at be been before being but by can class could did
django do does done during each every exactly explain find for from function gets give had
happen happened happening happens has have here how i if implement implementation implemented
in inside into is it its kind let like made make makes me mean means method my of on one or
our place please really shall should show so some source tell than that the their them then
there these they thing this those through to under up us use used uses using was way we were
what when where which while who why will with within without work working works would you
your code defined define live lives look much many it's doesn't don't exist exists one
called call calls really internally
"""
STOP_WORDS = frozenset(_COMMON.split())


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to search for; `owner` is what stood before the last dot."""

    text: str
    name: str
    owner: str
    stems: tuple[str, ...]
    identifier: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the terms in it, and the words that were left aside."""

    text: str
    terms: tuple[Term, ...]
    aside: tuple[str, ...]


def read_question(text: str) -> Question:
    """Find up to six terms in `text`, in its order; identifiers keep their dots."""
    terms: list[Term] = []
    aside: list[str] = []
    seen: set[str] = set()
    for token in _TOKEN.findall(text.strip()):
        if token.lower() in seen:
            continue
        seen.add(token.lower())
        if (token.lower() in STOP_WORDS and not _is_identifier(token)) or len(token) < 2:
            aside.append(token.lower())
            continue
        if len(terms) < MAX_TERMS:
            terms.append(_term(token))
    return Question(text=text.strip(), terms=tuple(terms), aside=tuple(aside))


def _is_identifier(token: str) -> bool:
    return "." in token or "_" in token.strip("_") or bool(_INNER_CAPITAL.search(token))


def _term(token: str) -> Term:
    owner, _, name = token.rpartition(".")
    owner = owner.rpartition(".")[2]
    stems = tuple(dict.fromkeys(stem(word) for word in split(name)))
    return Term(
        text=token,
        name=name,
        owner="" if owner == "django" else owner,
        stems=stems or (name.lower(),),
        identifier=_is_identifier(token),
    )
