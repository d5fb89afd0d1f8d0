"""One entry of DATABASES for the tests, from an address: a SQLite file or PostgreSQL."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from project.database import database

__all__ = ["from_url", "sqlite"]


def sqlite(path: str) -> dict[str, Any]:
    """Return the settings of a SQLite *file*, as the README asks for them.

    A file and not memory: the package's own threads open connections of their own.
    """
    return from_url(f"sqlite:///{quote(path)}")


def from_url(url: str) -> dict[str, Any]:
    """Return the settings for `sqlite:////path/to/file` or `postgres://user@host:port/name`."""
    entry = database(url)
    if url.startswith("sqlite:"):
        entry["TEST"] = {"NAME": entry["NAME"]}
    return entry
