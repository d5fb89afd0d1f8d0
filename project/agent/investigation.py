"""Plan and carry out the search for an answer, one step at a time."""

from __future__ import annotations

import builtins
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from .library import Definition, Found, Hit, Library
from .passage import Passage, caller, read_passage
from .question import Question, read_question
from .ranking import Candidate, mentions, pattern, rank, rarity
from .steps import Step
from .wording import action, definition_of, describe, listed, no_answer, observed, reasoning, span

__all__ = ["investigate"]

_SHOWN = 8
_MANY_DEFINITIONS = 12
_BUILTINS = frozenset(dir(builtins)) | frozenset(dir(str)) | frozenset(dir(dict)) | {"append"}


def investigate(library: Library, question: str) -> Iterator[Step]:
    """Answer `question` from the library's source; the last step is the `final` one."""
    asked = read_question(question)
    yield reasoning(describe(asked), question=question.strip())
    if not asked.terms:
        yield no_answer(asked, "Every word of it is too common to search for.")
        return
    search = _Search(library, asked)
    yield from search.weigh_terms()
    if not any(search.files.values()):
        yield no_answer(asked, f"No file of the {len(library.texts)} mentions any of its words.")
        return
    best = yield from search.choose()
    if best is None:
        yield no_answer(asked, "Files mention its words, but no class or function is named so.")
        return
    yield from search.open(best.passage)
    further = yield from search.follow(best.passage)
    uses, callers = yield from search.look_for_uses(best.passage)
    yield search.answer(best.passage, further, uses, callers)


@dataclass
class _Search:
    """The state of one investigation: each method is a phase that yields its steps."""

    library: Library
    question: Question

    def __post_init__(self) -> None:
        self.files: dict[str, int] = {}

    def weigh_terms(self) -> Iterator[Step]:
        """Count each term over all files."""
        first: Found | None = None
        for term in self.question.terms:
            found = self.library.grep(pattern(term), ignore_case=not term.identifier, limit=_SHOWN)
            self.files[term.text] = found.files
            yield action("grep", pattern=pattern(term), files="django/**/*.py")
            yield observed(found)
            first = first or found
        order = sorted(self.files.items(), key=lambda pair: pair[1])
        counted = ", ".join(f"{text} ({count} files)" for text, count in order)
        yield reasoning(f"From rare to common: {counted}. The rarer a word, the more it weighs.").ending()

    def choose(self) -> Generator[Step, None, Candidate | None]:
        """Rank every class and function by its names, then by what it says."""
        weights = {
            text: 0.2 + rarity(self.library, files) if files else 0.1 for text, files in self.files.items()
        }
        yield action("definitions", words=[t.text for t in self.question.terms])
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
            return None
        yield reasoning(self._why(ranked)).ending()
        return ranked[0]

    def _why(self, ranked: Sequence[Candidate]) -> str:
        best = ranked[0]
        text = f"{best.definition.qualname} answers to {listed(best.matched) or 'none of the words'}"
        if len(ranked) > 1:
            lead = best.score / max(ranked[1].score, 0.01)
            text += (
                f", {lead:.1f} times the score of {ranked[1].definition.qualname}"
                if lead >= 1.05
                else f", hardly ahead of {ranked[1].definition.qualname}"
            )
        return f"{text}. I open {best.definition.path}."

    def open(self, passage: Passage) -> Iterator[Step]:
        """Show the definition that ranks first."""
        yield action("open", path=passage.definition.path, lines=span(passage))
        yield Step("observation", {"text": passage.signature, "excerpt": passage.excerpt()})
        said = f"“{passage.doc}”" if passage.doc else "It has no docstring."
        yield Step(
            "result",
            {"where": passage.definition.where, "text": f"{passage.definition.qualname}: {said}"},
        ).ending()

    def follow(self, passage: Passage) -> Generator[Step, None, Passage | None]:
        """Go one hop further: to a base class, or to the call that says most."""
        hop = self._hop(passage)
        if hop is None:
            yield reasoning(
                f"It calls nothing that leads further: {len(passage.calls)} calls, all of them "
                "built in or defined in too many places."
            ).ending()
            return None
        target, why = hop
        yield reasoning(why)
        yield action("grep", pattern=definition_of(target.name), files="django/**/*.py")
        found = observed(self.library.grep(definition_of(target.name), limit=_SHOWN))
        further = read_passage(self.library, target)
        yield found if further is not None else found.ending()
        if further is not None:
            yield action("open", path=target.path, lines=span(further))
            yield Step(
                "observation",
                {"text": further.signature, "excerpt": further.excerpt(limit=24)},
            ).ending()
        return further

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
                text += f", which says more about {listed(said)}." if said else "; I look there too."
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

    def look_for_uses(self, passage: Passage) -> Generator[Step, None, tuple[Found, list[str]]]:
        """Find where the definition is used, and name the functions that do."""
        me = passage.definition
        expression = rf"\b{re.escape(me.name)}\b"
        yield action("grep", pattern=expression, files="django/**/*.py")
        everything = self.library.grep(expression, limit=200)
        near = sorted(
            (hit for hit in everything.hits if not re.match(definition_of(me.name), hit.text)),
            key=lambda hit: (hit.path != me.path, "/contrib/" in hit.path),
        )
        calls: list[Hit] = []
        callers: list[str] = []
        for hit in [hit for hit in near if f"{me.name}(" in hit.text][: 2 * _SHOWN]:
            user = caller(self.library, hit.path, hit.line, me.name)
            if user is not None:
                calls.append(hit)
                if user.name != me.name:
                    callers.append(f"{user.qualname} ({hit.where})")
        others = [hit for hit in near if hit not in calls]
        uses = Found(tuple([*calls, *others][:_SHOWN]), everything.lines, everything.files)
        yield observed(uses) if callers else observed(uses).ending()
        if callers:
            yield Step("result", f"{me.qualname} is called in {listed(callers[:3])}.").ending()
        return uses, callers

    def answer(self, passage: Passage, further: Passage | None, uses: Found, callers: list[str]) -> Step:
        """Put together what was found."""
        me = passage.definition
        rest = [t for t in self.question.terms if t.name != me.name]
        read = [passage] if further is None else [passage, further]
        quoted = [
            {"where": f"{each.definition.path}:{line}", "text": text}
            for each in read
            for line, text in mentions(each, rest)
        ]
        sentence = f"{me.qualname} is defined in {me.where}."
        if passage.doc:
            sentence += f" {passage.doc}" if passage.doc.endswith((".", "!", "?")) else f" {passage.doc}."
        if further is not None:
            sentence += f" Read on in {further.definition.qualname}, {further.definition.where}."
        if callers:
            sentence += f" It is called in {listed(callers[:2])}."
        content: dict[str, object] = {
            "question": self.question.text,
            "answer": sentence,
            "where": me.where,
            "signature": passage.signature,
            "doc": passage.doc,
            "excerpt": passage.excerpt(limit=24),
            "mentions": quoted,
            "references": [{"where": hit.where, "text": hit.text} for hit in uses.hits],
        }
        if further is not None:
            content["leads_to"] = {
                "where": further.definition.where,
                "text": further.signature,
                "doc": further.doc,
            }
        return Step("final", content, ends_paragraph=True)
