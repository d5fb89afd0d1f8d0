"""Judge which definition a question is about."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .library import Definition, Library
from .passage import Passage, read_passage
from .question import Question, Term
from .words import alike, split, stem

__all__ = ["Candidate", "mentions", "rank", "rarity"]

_NAME, _PARENT, _PATH, _DOC, _BODY = 3.0, 2.0, 1.2, 1.0, 0.8
_EXACT_NAME, _EXACT_OWNER = 6.0, 4.0
_USED = 0.5
_READ_CLOSELY = 24
# Places that repeat what the core does for one database or for tests.
_SIDE = ("django/contrib/gis/", "django/test/")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A definition with its score, and the terms that its names answer to."""

    passage: Passage
    score: float
    matched: tuple[str, ...]

    @property
    def definition(self) -> Definition:
        return self.passage.definition


def rarity(library: Library, files: int) -> float:
    """Weigh a term by the number of files that contain it: the rarer, the heavier."""
    return math.log((1 + len(library.texts)) / (1 + files))


def rank(library: Library, question: Question, weights: Mapping[str, float]) -> list[Candidate]:
    """Return the definitions that answer best, best first, read closely.

    Names, enclosing classes and paths are judged for every definition; the two
    dozen best are then read, and judged by use, docstring and body as well.
    """
    roughly = []
    for definition in library.definitions():
        library.check()
        if (score := _by_names(definition, question, weights)) > 0:
            roughly.append((score, definition))
    roughly.sort(key=lambda pair: (-pair[0], pair[1].path, pair[1].line))
    candidates = [
        _closely(passage, score + _central(library, definition), question, weights)
        for score, definition in roughly[:_READ_CLOSELY]
        if (passage := read_passage(library, definition)) is not None
    ]
    return sorted(candidates, key=lambda each: -each.score)


def mentions(passage: Passage, terms: Iterable[Term], limit: int = 4) -> list[tuple[int, str]]:
    """Return the lines of a body that mention one of the terms, with their numbers."""
    expressions = [re.compile(pattern(term), re.IGNORECASE) for term in terms]
    found: list[tuple[int, str]] = []
    for offset, line in enumerate(passage.body.splitlines()):
        if offset and any(expression.search(line) for expression in expressions):
            found.append((passage.definition.line + offset, line.strip()[:160]))
    return found[:limit]


def pattern(term: Term) -> str:
    """Return the expression that finds a term in source text."""
    if term.identifier:
        return rf"\b{re.escape(term.name)}\b"
    return "_?".join(re.escape(each) for each in term.stems)


def _by_names(definition: Definition, question: Question, weights: Mapping[str, float]) -> float:
    name, parent = split(definition.name), split(definition.parent)
    path = split(definition.path.removeprefix("django/").removesuffix(".py"))
    total, hit = 0.0, 0
    for term in question.terms:
        value = _EXACT_NAME * _spelled(term, definition)
        if not value:
            value = max(
                _NAME * _match(term, name),
                _PARENT * _match(term, parent),
                _PATH * _match(term, path),
            )
            # A dotted name that is not this one says little about its neighbours.
            value *= 0.5 if term.identifier else 1.0
        if term.owner and _owned(term.owner, definition):
            value += _EXACT_OWNER * (1.0 if value else 0.2)
        total += value * weights[term.text]
        hit += value > 0
    extra = sum(not any(alike(s, word) for t in question.terms for s in t.stems) for word in name)
    total *= (hit / len(question.terms)) / (1 + 0.15 * extra)
    return total * (0.6 if definition.path.startswith(_SIDE) else 1.0)


def _spelled(term: Term, definition: Definition) -> bool:
    """Tell whether the term is this very name: `Model` is, `model` in a sentence is not."""
    if not term.identifier:
        return False
    return definition.name == term.name or definition.qualname.endswith(f".{term.text}")


def _match(term: Term, words: tuple[str, ...]) -> float:
    if not words:
        return 0.0
    best = [max(alike(each, word) for word in words) for each in term.stems]
    return min(best)


def _owned(owner: str, definition: Definition) -> bool:
    parent = definition.parent.rpartition(".")[2]
    module = definition.path.removesuffix(".py").rpartition("/")[2]
    return owner in {parent, module}


def _central(library: Library, definition: Definition) -> float:
    """Weigh how many files use the name, shared among those that bear it."""
    library.check()
    files = sum(definition.name in text for text in library.texts.values())
    return _USED * math.log(1 + files / max(1, len(library.defined(definition.name))))


def _closely(passage: Passage, score: float, question: Question, weights: Mapping[str, float]) -> Candidate:
    definition = passage.definition
    names = split(definition.qualname)
    doc = {stem(word) for word in re.findall(r"[a-z]+", passage.doc.lower())}
    matched: list[str] = []
    for term in question.terms:
        weight = weights[term.text]
        if _match(term, names) or _spelled(term, definition):
            matched.append(term.text)
            if all(each in doc for each in term.stems):
                score += 0.25 * _DOC * weight
        elif all(each in doc for each in term.stems):
            matched.append(term.text)
            score += _DOC * weight
        elif mentions(passage, [term], 1):
            matched.append(term.text)
            score += _BODY * weight
    if passage.trivial:
        score *= 0.75
    return Candidate(passage, score, tuple(matched))
