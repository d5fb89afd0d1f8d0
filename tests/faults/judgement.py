"""The judgement: what came, against what was committed, against what publishers were told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from .publishers import Known
from .readers import Heard, Line, Reader
from .store import Store

__all__ = ["compare_publishers", "compare_readers"]

#: What the app may do within a publisher's on_commit, on a machine that is busy.
LONGEST_WAKING_SECONDS = 2.0
#: Fewer acknowledged events than this are no trial.
FEWEST_EVENTS = 20


def compare_readers(
    readers: Sequence[Reader], store: Store, channels: Sequence[str], *, keep: bool
) -> dict[tuple[str, str], str]:
    """Assert that each reader has the whole history; return the id of each (channel, key) in it.

    *keep*: the readers have kept every line, which tells where one differs.
    """
    committed: dict[str, Heard] = {}
    keys: dict[tuple[str, str], str] = {}
    for channel in channels:
        rows = store.rows(channel)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1)), f"{channel} is not dense"
        assert rows[-1].event == "end", f"{channel} is not finished"
        committed[channel] = history = Heard()
        for row in rows:
            history.take((row.id, row.event, row.data), keep=keep)
        keys |= {(channel, row.key): row.id for row in rows if row.key is not None}
    for reader in readers:
        for channel, heard in reader.heard.items():
            history = committed[channel]
            assert heard.lines == history.lines, _difference(reader, heard.lines, history.lines)
            assert heard.digest.digest() == history.digest.digest(), f"{channel} of {reader.where()}"
        assert (reader.lost, reader.repeated, reader.gaps, reader.complaints) == (0, 0, 0, [])
        assert reader.statuses[-1] == 204
    return keys


def compare_publishers(
    known: Known, keys: Mapping[tuple[str, str], str], *, unseen: Set[tuple[str, str]]
) -> None:
    """Assert that what publishers know of their events is so. *unseen*: more that must not be stored."""
    assert not known.died, f"a publisher died: {known.died}"
    assert not known.unknown, f"given up: {sorted(known.unknown)[:5]}"
    wrong = {
        place: (identifier, keys.get(place))
        for place, identifier in known.acknowledged.items()
        if keys.get(place) != identifier
    }
    assert not wrong, f"acknowledged with another id than is stored: {list(wrong.items())[:5]}"
    seen = keys.keys() & (known.rolled_back | unseen)
    assert not seen, f"rolled back and yet stored: {sorted(seen)[:5]}"
    assert len(known.acknowledged) > FEWEST_EVENTS
    assert known.longest_waking < LONGEST_WAKING_SECONDS, "on_commit kept a publisher waiting"


def _difference(reader: Reader, found: list[Line], committed: list[Line]) -> str:
    first = next(
        (index for index, (one, other) in enumerate(zip(found, committed, strict=False)) if one != other),
        min(len(found), len(committed)),
    )
    return (
        f"{reader.where()}: {len(found)} events and not {len(committed)}; the first that differs is"
        f" {found[first : first + 1]} and not {committed[first : first + 1]}"
    )
