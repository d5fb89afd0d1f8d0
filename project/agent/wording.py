"""Say what was found, as steps: every sentence is made of the findings themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .library import Found
from .passage import Passage
from .question import Question, Term
from .steps import Content, Step

__all__ = ["action", "definition_of", "describe", "listed", "no_answer", "observed", "reasoning", "span"]


def describe(question: Question) -> str:
    if not question.terms:
        return "I find nothing in it that could be searched for."
    parts = [_term(term) for term in question.terms]
    text = f"I search for {listed(parts)}."
    return f"{text} I leave aside: {', '.join(question.aside)}." if question.aside else text


def _term(term: Term) -> str:
    if term.owner:
        return f"the name {term.name}, as {term.owner} has it"
    if term.identifier:
        return f"the name {term.name}"
    return f"“{term.text}”" + (f" (as “{term.stems[0]}…”)" if term.stems[0] != term.name.lower() else "")


def definition_of(name: str) -> str:
    return rf"^[ \t]*(?:async def|def|class)\s+{re.escape(name)}\b"


def span(passage: Passage) -> list[int]:
    return [passage.definition.line, passage.last]


def reasoning(text: str, **more: str) -> Step:
    content: Content = {"text": text, **more} if more else text
    return Step("reasoning", content)


def action(tool: str, **arguments: object) -> Step:
    return Step("action", {"tool": tool, **arguments})


def observed(found: Found) -> Step:
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


def no_answer(question: Question, why: str) -> Step:
    content = {"question": question.text, "answer": f"I have no answer. {why}"}
    return Step("final", content, ends_paragraph=True)


def listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
