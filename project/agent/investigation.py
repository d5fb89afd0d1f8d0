"""Plan and carry out the search for an answer, one step at a time."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .library import Definition, Found, Library
from .passage import Passage, caller, read_passage
from .question import Question, Term, read_question
from .ranking import Candidate, mentions, pattern, rank, rarity
from .steps import Content, Step

__all__ = ["investigate", "opening"]

_SHOWN = 8
_MANY_DEFINITIONS = 12
_BUILTINS = frozenset(dir(builtins)) | frozenset(dir(str)) | frozenset(dir(dict)) | {"append"}


def opening(question: str) -> Step:
    """Return the first step: what the question is made of."""
    return _reasoning(_describe(read_question(question)), question=question.strip())


def investigate(library: Library, question: str) -> Iterator[Step]:
    """Answer `question` from the library's source; the last step is the `final` one."""
    asked = read_question(question)
    yield opening(question)
    if not asked.terms:
        yield _no_answer(asked, "Every word of it is too common to search for.")
        return
    search = _Search(library, asked)
    yield from search.weigh_terms()
    if not any(search.files.values()):
        yield _no_answer(asked, f"No file of the {len(library.texts)} mentions any of its words.")
        return
    yield from search.choose()
    if search.best is None:
        yield _no_answer(asked, "Files mention its words, but no class or function is named so.")
        return
    yield from search.open_best()
    yield from search.follow()
    yield from search.look_for_uses()
    yield search.answer()


@dataclass
class _Search:
    """The state of one investigation: each method is a phase that yields its steps."""

    library: Library
    question: Question

    def __post_init__(self) -> None:
        self.files: dict[str, int] = {}
        self.best: Candidate | None = None
        self.next: Passage | None = None
        self.uses: Found = Found((), 0, 0)
        self.callers: list[str] = []

    def weigh_terms(self) -> Iterator[Step]:
        """Count each term over all files."""
        first: Found | None = None
        for term in self.question.terms:
            found = self.library.grep(pattern(term), ignore_case=not term.identifier, limit=_SHOWN)
            self.files[term.text] = found.files
            yield _action("grep", pattern=pattern(term), files="django/**/*.py")
            yield _observed(found)
            first = first or found
        order = sorted(self.files.items(), key=lambda pair: pair[1])
        counted = ", ".join(f"{text} ({count} files)" for text, count in order)
        yield _reasoning(f"From rare to common: {counted}. The rarer a word, the more it weighs.")

    def choose(self) -> Iterator[Step]:
        """Rank every class and function by its names, then by what it says."""
        weights = {
            text: 0.2 + rarity(self.library, files) if files else 0.1 for text, files in self.files.items()
        }
        yield _action("definitions", words=[t.text for t in self.question.terms])
        ranked = rank(self.library, self.question, weights)
        total = len(self.library.definitions())
        yield Step(
            "observation",
            {
                "text": f"{total} classes and functions looked at; the best {min(6, len(ranked))}:",
                "items": [
                    {
                        "where": each.definition.where,
                        "text": f"{each.definition.qualname} (score {each.score:.1f})",
                    }
                    for each in ranked[:6]
                ],
            },
        )
        if not ranked:
            return
        self.best = ranked[0]
        yield _reasoning(self._why(ranked))

    def _why(self, ranked: Sequence[Candidate]) -> str:
        best = ranked[0]
        text = f"{best.definition.qualname} answers to {_and(best.matched) or 'none of the words'}"
        if len(ranked) > 1:
            lead = best.score / max(ranked[1].score, 0.01)
            text += (
                f", {lead:.1f} times the score of {ranked[1].definition.qualname}"
                if lead >= 1.05
                else f", hardly ahead of {ranked[1].definition.qualname}"
            )
        return f"{text}. I open {best.definition.path}."

    def open_best(self) -> Iterator[Step]:
        """Read the definition that ranks first."""
        passage = self._chosen()
        yield _action("open", path=passage.definition.path, lines=_span(passage))
        yield Step("observation", {"text": passage.signature, "excerpt": passage.excerpt()})
        said = f"“{passage.doc}”" if passage.doc else "It has no docstring."
        yield Step(
            "result",
            {"where": passage.definition.where, "text": f"{passage.definition.qualname}: {said}"},
        )

    def follow(self) -> Iterator[Step]:
        """Go one hop further: to a base class, or to the call that says most."""
        passage = self._chosen()
        hop = self._hop(passage)
        if hop is None:
            yield _reasoning(
                f"It calls nothing that leads further: {len(passage.calls)} calls, all of them "
                "built in or defined in too many places."
            )
            return
        target, why = hop
        yield _reasoning(why)
        yield _action("grep", pattern=_definition_of(target.name), files="django/**/*.py")
        yield _observed(self.library.grep(_definition_of(target.name), limit=_SHOWN))
        self.next = read_passage(self.library, target)
        if self.next is not None:
            yield _action("open", path=target.path, lines=_span(self.next))
            yield Step(
                "observation",
                {"text": self.next.signature, "excerpt": self.next.excerpt(limit=24)},
            )

    def _hop(self, passage: Passage) -> tuple[Definition, str] | None:
        """Choose among the bases and calls: what mentions the question, then what is rare."""
        options: list[tuple[float, Definition, str]] = []
        me = passage.definition
        for name in (*passage.bases, *passage.calls):
            if name in _BUILTINS:
                continue
            found = [each for each in self.library.defined(name) if each.where != me.where]
            if not 0 < len(found) <= _MANY_DEFINITIONS:
                continue
            how = "inherits from" if name in passage.bases else "calls"
            for each in found:
                score, said = self._promise(each, passage)
                score += 1 / len(found)
                text = f"{me.qualname} {how} {each.qualname}"
                text += f", which says more about {_and(said)}." if said else "; I look there too."
                options.append((score, each, text))
        if not options:
            return None
        _, target, why = max(options, key=lambda option: option[0])
        return target, why

    def _promise(self, target: Definition, origin: Passage) -> tuple[float, list[str]]:
        passage = read_passage(self.library, target)
        if passage is None or passage.trivial:
            return 0.0, []
        said = [t.text for t in self.question.terms if mentions(passage, [t], 1)]
        near = 0.5 if target.path == origin.definition.path else 0.0
        near += 0.5 if target.parent and target.parent == origin.definition.parent else 0.0
        lines = sum(len(mentions(passage, [t])) for t in self.question.terms)
        named = sum(all(word in target.name.lower() for word in t.stems) for t in self.question.terms)
        return len(said) + near + 0.1 * lines + 1.5 * named, said

    def look_for_uses(self) -> Iterator[Step]:
        """Find where the definition is used, and name the functions that do."""
        me = self._chosen().definition
        expression = rf"\b{re.escape(me.name)}\b"
        yield _action("grep", pattern=expression, files="django/**/*.py")
        everything = self.library.grep(expression, limit=200)
        near = sorted(
            (hit for hit in everything.hits if not re.match(_definition_of(me.name), hit.text)),
            key=lambda hit: (hit.path != me.path, "/contrib/" in hit.path),
        )
        calls = []
        for hit in [hit for hit in near if f"{me.name}(" in hit.text][: 2 * _SHOWN]:
            user = caller(self.library, hit.path, hit.line, me.name)
            if user is not None:
                calls.append(hit)
                if user.name != me.name:
                    self.callers.append(f"{user.qualname} ({hit.where})")
        others = [hit for hit in near if hit not in calls]
        self.uses = Found(tuple([*calls, *others][:_SHOWN]), everything.lines, everything.files)
        yield _observed(self.uses)
        if self.callers:
            yield Step("result", f"{me.qualname} is called in {_and(self.callers[:3])}.")

    def answer(self) -> Step:
        """Put together what was found."""
        passage = self._chosen()
        me = passage.definition
        rest = [t for t in self.question.terms if t.name != me.name]
        read = [passage] if self.next is None else [passage, self.next]
        quoted = [
            {"where": f"{each.definition.path}:{line}", "text": text}
            for each in read
            for line, text in mentions(each, rest)
        ]
        sentence = f"{me.qualname} is defined in {me.where}."
        if passage.doc:
            sentence += f" {passage.doc}"
        if self.next is not None:
            sentence += f" Read on in {self.next.definition.qualname}, {self.next.definition.where}."
        if self.callers:
            sentence += f" It is called in {_and(self.callers[:2])}."
        content: dict[str, object] = {
            "question": self.question.text,
            "answer": sentence,
            "where": me.where,
            "signature": passage.signature,
            "doc": passage.doc,
            "excerpt": passage.excerpt(limit=24),
            "mentions": quoted,
            "references": [{"where": hit.where, "text": hit.text} for hit in self.uses.hits],
        }
        if self.next is not None:
            content["leads_to"] = {
                "where": self.next.definition.where,
                "text": self.next.signature,
                "doc": self.next.doc,
            }
        return Step("final", content)

    def _chosen(self) -> Passage:
        assert self.best is not None
        return self.best.passage


def _describe(question: Question) -> str:
    if not question.terms:
        return "I find nothing in it that could be searched for."
    parts = [_describe_term(term) for term in question.terms]
    text = f"I search for {_and(parts)}."
    return f"{text} I leave aside: {', '.join(question.aside)}." if question.aside else text


def _describe_term(term: Term) -> str:
    if term.owner:
        return f"the name {term.name}, as {term.owner} has it"
    if term.identifier:
        return f"the name {term.name}"
    return f"“{term.text}”" + (f" (as “{term.stems[0]}…”)" if term.stems[0] != term.name.lower() else "")


def _definition_of(name: str) -> str:
    return rf"^[ \t]*(?:async def|def|class)\s+{re.escape(name)}\b"


def _span(passage: Passage) -> list[int]:
    return [passage.definition.line, passage.last]


def _reasoning(text: str, **more: str) -> Step:
    content: Content = {"text": text, **more} if more else text
    return Step("reasoning", content)


def _action(tool: str, **arguments: object) -> Step:
    return Step("action", {"tool": tool, **arguments})


def _observed(found: Found) -> Step:
    lines = "1 line" if found.lines == 1 else f"{found.lines} lines"
    files = "1 file" if found.files == 1 else f"{found.files} files"
    return Step(
        "observation",
        {
            "text": f"{lines} in {files}" if found.lines else "nothing",
            "items": [{"where": hit.where, "text": hit.text} for hit in found.hits],
            "more": max(0, found.lines - len(found.hits)),
        },
    )


def _no_answer(question: Question, why: str) -> Step:
    return Step("final", {"question": question.text, "answer": f"I have no answer. {why}"})


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
