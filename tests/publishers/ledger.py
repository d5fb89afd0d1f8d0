"""What committed, compared with what publishers were told and with what a reader saw on the way."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg

__all__ = ["Reader", "faults", "query"]

Query = Callable[[str], list[tuple[Any, ...]]]


def query(address: str) -> tuple[Query, Callable[[], None]]:
    """Return a function that runs one statement on the database at *address*, and one that closes it."""
    parts = urlsplit(address)
    if parts.scheme == "sqlite":
        lite = sqlite3.connect(parts.path, check_same_thread=False, timeout=20, isolation_level=None)
        return (lambda sql: lite.execute(sql).fetchall()), lite.close
    server = psycopg.connect(address, autocommit=True)
    return (lambda sql: server.execute(sql.encode()).fetchall()), server.close


class Reader(threading.Thread):
    """Look at what is committed, again and again: no sequence may appear below one that was there before."""

    def __init__(self, address: str) -> None:
        super().__init__(name="reader")
        self.looks = 0
        self.faults: list[str] = []
        self._address = address
        self._over = threading.Event()

    def run(self) -> None:
        ask, close = query(self._address)
        seen: dict[int, set[int]] = {}
        while not self._over.is_set():
            found: dict[int, set[int]] = {}
            for channel, sequence in ask("SELECT channel_id, sequence FROM sse_polling_event"):
                found.setdefault(channel, set()).add(sequence)
            for channel, sequences in found.items():
                before = seen.get(channel, {0})
                late = [sequence for sequence in sequences - before if sequence < max(before)]
                if late:
                    self.faults.append(f"{sorted(late)} appeared after {max(before)} was seen")
            seen = found
            self.looks += 1
            self._over.wait(0.002)
        close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(10)


def faults(ask: Query, reports: Sequence[dict[str, Any]], names: Container[str]) -> Iterable[str]:
    """Yield what is wrong with channels of these *names* after publishers have reported their commits."""
    channels = {
        pk: (name, life, head, head_tag, finished)
        for pk, name, life, head, head_tag, finished in ask(
            "SELECT id, name, life, head, head_tag, finished IS NOT NULL FROM sse_polling_channel"
        )
        if name in names
    }
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name, *_ in channels.values()}
    stored: dict[tuple[Any, ...], int] = {}
    for pk, sequence, tag, event, data, key in ask(
        "SELECT channel_id, sequence, tag, event, data, key FROM sse_polling_event"
        " ORDER BY channel_id, sequence"
    ):
        if pk not in channels:
            continue
        name, life, *_ = channels[pk]
        rows[name].append((sequence, tag, event, data, key))
        stored[name, life, sequence, tag, data, key] = 0
    for name, _life, head, head_tag, finished in channels.values():
        yield from _channel_faults(name, head, head_tag, bool(finished), rows[name])
    for report in reports:
        last: dict[str, int] = {}
        mine: set[str] = set()
        for events in report["committed"]:
            yield from _commit_faults(report["name"], events, stored, last, mine)
        gone = set(report["undone"]) & {data for _, _, _, _, data, _ in stored}
        if gone:
            yield f"{report['name']} rolled back {sorted(gone)}, which are there"
    unknown = [place for place, told in stored.items() if not told]
    if unknown:
        yield f"nobody was told of {unknown}"


def _channel_faults(
    name: str, head: int, head_tag: str, finished: bool, rows: Sequence[tuple[Any, ...]]
) -> Iterable[str]:
    sequences = [row[0] for row in rows]
    if sequences != list(range(1, len(rows) + 1)):
        yield f"{name} is not dense: {sequences}"
    if rows and (head, head_tag) != rows[-1][:2]:
        yield f"{name} has the head {head}.{head_tag}, its last event is {rows[-1][:2]}"
    ends = [sequence for sequence, _, event, *_ in rows if event == "end"]
    if ends != ([head] if finished else []):
        yield f"{name} has ends at {ends}, is finished: {finished}, and goes to {head}"
    keys = [row[4] for row in rows if row[4] is not None]
    if len(keys) != len(set(keys)):
        yield f"{name} has a key twice: {sorted(keys)}"


def _commit_faults(
    who: str,
    events: Sequence[list[Any]],
    stored: dict[tuple[Any, ...], int],
    last: dict[str, int],
    mine: set[str],
) -> Iterable[str]:
    """Yield what is wrong with one commit.

    *last* is the sequence that *who* got last on each channel, *mine* the events it was told of.
    """
    for channel, life, sequence, tag, data, key in events:
        place = (channel, life, sequence, tag, data, key)
        if place not in stored:
            yield f"{who} was told of {place}, which is not there"
            continue
        stored[place] += 1
        if data in mine or not data.startswith(f"{who}."):
            continue  # an event of before, returned for its key, or an `end`
        mine.add(data)
        if sequence <= last.get(channel, 0):
            yield f"{who} got {sequence} on {channel} after {last[channel]}"
        last[channel] = max(sequence, last.get(channel, 0))
