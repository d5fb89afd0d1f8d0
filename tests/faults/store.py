"""The committed history, read behind the app's back with plain SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

__all__ = ["Row", "Store"]


@dataclass(frozen=True, slots=True)
class Row:
    """One committed event."""

    sequence: int
    id: str
    event: str
    data: str
    key: str | None


class Store:
    """One site's database. Every call has a connection of its own, so that no fault takes it away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.on_sqlite = url.startswith("sqlite:")

    def rows(self, channel: str) -> list[Row]:
        """Return all that is stored of a channel, oldest first."""
        found = self._query(
            "SELECT e.sequence, c.life, e.tag, e.event, e.data, e.key"
            " FROM sse_polling_event e JOIN sse_polling_channel c ON c.id = e.channel_id"
            " WHERE c.name = %s ORDER BY e.sequence",
            [channel],
        )
        return [
            Row(seq, f"{life}.{seq}.{tag}", event, data, key) for seq, life, tag, event, data, key in found
        ]

    def heads(self, channels: Sequence[str]) -> dict[str, int]:
        """Return each channel's newest sequence, 0 for one that has no row."""
        marks = ", ".join(["%s"] * len(channels))
        found = self._query(f"SELECT name, head FROM sse_polling_channel WHERE name IN ({marks})", channels)
        return dict.fromkeys(channels, 0) | dict(found)

    def node(self, pid: int) -> tuple[str, str, bool, int, dict[str, Any]]:
        """Return the name, state, whether it has said good-bye, sockets and figures of a server's row."""
        [(name, state, stopped, sockets, figures)] = self._query(
            "SELECT name, state, stopped, sockets, figures FROM sse_polling_node WHERE pid = %s", [pid]
        )
        if isinstance(figures, str):  # SQLite
            figures = json.loads(figures)
        return name, state, stopped is not None, sockets, figures

    @contextmanager
    def locked(self, channel: str) -> Iterator[None]:
        """Hold the channel's row from outside: on SQLite that is the whole database's write lock."""
        with closing(self._connect()) as connection:
            if self.on_sqlite:
                connection.execute("BEGIN IMMEDIATE")
            else:
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM sse_polling_channel WHERE name = %s FOR UPDATE", [channel])
            yield
            connection.execute("ROLLBACK")

    def _connect(self) -> Any:
        if self.on_sqlite:
            return sqlite3.connect(
                unquote(urlsplit(self.url).path), timeout=20, isolation_level=None, check_same_thread=False
            )
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5, application_name="harness")

    def _query(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with closing(self._connect()) as connection:
            cursor = connection.execute(sql.replace("%s", "?") if self.on_sqlite else sql, values)
            return list(cursor.fetchall())
