"""Bugs to plant: each is one or two edits of the package's own source, made while a test runs."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from sse_polling import comparing, hub, publishing, replay, stream
from sse_polling.history import appending, looking
from sse_polling.protocol import tail

__all__ = ["PLANTED", "Edit", "edited", "plant"]

# (owner, function, what it says, what it says instead)
Edit = tuple[Any, str, str, str]

PLANTED: dict[str, list[Edit]] = {
    "wakes as data: only the event that was told is added": [
        (
            looking,
            "look",
            "_follow(state, known, max_bytes=max_bytes)",
            "(_follow(state, known, max_bytes=max_bytes) or [])[-1:]",
        ),
        (tail.Tail, "append", "if event.sequence != self.head + 1:", "if False:"),
    ],
    "judge without reading the primary": [(replay, "next_batch", "await hub.judge(live)", "pass")],
    "a cursor beyond the head is up to date": [
        (replay, "_fits", "if position.sequence > live.tail.head:", "if False:")
    ],
    "a gap is swallowed": [
        (
            replay,
            "_placed",
            "batch.items.append(_trimmed(live, batch.after.sequence + 1, before))",
            "pass",
        )
    ],
    "a trimmed cursor is answered with a reset": [
        (replay, "_trimmed", "last=after.sequence, reason=TRIMMED", "last=None, reason=RESET")
    ],
    "a reset skips what is retained": [
        (replay, "next_batch", "await earliest(live))", "live.position)"),
    ],
    "the tag is not compared": [(replay, "same_tag", "return tag == other or", "return True or")],
    "the tag before the tail is not known": [
        (looking, "look", "max_events=max_events + 1", "max_events=max_events")
    ],
    "a tail follows another history": [
        (looking, "_follow", "not same_tag(at.tag, rows[0].tag)", "False"),
        (looking, "_follow", "same_tag(known.tag, state.head_tag)", "True"),
    ],
    "heads are compared by sequence alone": [
        (comparing.Comparison, "compare", "found != position", "found.sequence != position.sequence"),
    ],
    "heads are compared where a tail holds something": [
        (comparing.Comparison, "compare", "if live.tail is not None", "if live.tail"),
    ],
    "a stale tail is believed": [(replay, "_from_database", "if not known and not judged:", "if False:")],
    "the page is read again from the cursor itself": [
        (replay, "_from_database", "rows = rows[1:]", "rows = rows[0:]")
    ],
    "off by one in the tail": [
        (tail.Tail, "after", "self._start + sequence - self.base", "self._start + sequence - self.base + 1")
    ],
    "a reader behind the ring is served from it": [
        (tail.Tail, "covers", "self.base <= sequence", "0 <= sequence"),
    ],
    "a ring that was emptied forgets its head": [
        (tail.Tail, "clear", "self.base, self.base_tag = self.head, self.head_tag", "pass")
    ],
    "streams are not registered with the hub": [
        (hub.Hub, "open", "live.waiters.add(waiter)", "pass"),
    ],
    "woken before the commit": [
        (publishing, "store", "transaction.on_commit(partial(wake, grown), using=using)", "wake(grown)"),
    ],
    "nobody is woken": [
        (publishing, "store", "transaction.on_commit(partial(wake, grown), using=using)", "pass"),
    ],
    "a key is ignored": [
        (appending, "_place", "event.key is not None and event.key in known", "False"),
        (appending, "_place", "key=event.key,", "key=None,"),  # else the database itself refuses
    ],
    "a finished channel takes more": [
        (appending, "_place", "finished = channel.finished is not None", "finished = False")
    ],
    "the opening's id is the head": [
        (stream.Stream, "run", "identifier=self.cursor", "identifier=str(self._readers[0].live.position)"),
    ],
    "a stream opens without an id": [(stream.Stream, "run", "identifier=self.cursor", "identifier=None")],
    "a chunk is cut in a frame": [
        (
            stream.Stream,
            "_next_chunk",
            'return b"".join(parts), len(parts)',
            'return b"".join(parts)[:-1], len(parts)',
        )
    ],
    "what does not fit any more is skipped": [
        (stream.Stream, "_next_chunk", "self._overflow = True", "continue"),
    ],
    "an event is one more than its id in a stream of several": [
        (
            stream.Stream,
            "_block",
            "reader.position = item.after",
            "before = self.cursor\n    reader.position = item.after",
        ),
        (
            stream.Stream,
            "_block",
            'self._encoder.entry(item, self.cursor if self._several else "")',
            "self._encoder.entry(item, before)",
        ),
    ],
}


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Let the package have the bug *name*."""
    with edited(PLANTED[name]):
        yield


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[None]:
    """Let the package's source say something else."""
    with ExitStack() as stack:
        sources: dict[tuple[Any, str], str] = {}
        for owner, function, old, new in edits:
            key = (owner, function)
            source = sources.get(key) or textwrap.dedent(inspect.getsource(getattr(owner, function)))
            assert old in source, f"{function} no longer says {old!r}"
            sources[key] = source.replace(old, new)
        for (owner, function), source in sources.items():
            module = inspect.getmodule(owner)
            assert module is not None
            space = dict(vars(module))
            exec(f"from __future__ import annotations\n{source}", space)  # noqa: S102 - our own source
            # Its names are looked up where the original looks them up.
            made = _of(space[function], vars(module))
            original = getattr(owner, function)
            stack.enter_context(mock.patch.object(owner, function, made))
            for other in [each for name, each in sys.modules.items() if name.startswith("sse_polling")]:
                if other is not owner and vars(other).get(function) is original:
                    stack.enter_context(mock.patch.object(other, function, made))
        yield


def _of(function: Any, space: dict[str, Any]) -> Any:
    made = type(function)(
        function.__code__, space, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made
