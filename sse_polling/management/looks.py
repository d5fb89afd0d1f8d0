"""Looks at the database that a command takes again and again, also while it is away."""

from __future__ import annotations

from django.db import connections, reset_queries

from ..database import alias

__all__ = ["away", "let_go"]


def away(error: Exception) -> str:
    """Return the sentence that says that the rows cannot be read."""
    text = (str(error).strip() or type(error).__name__).rstrip(".")
    return f"The processes' rows cannot be read from the database: {text}."


def let_go() -> None:
    """Keep no connection that an error has left unusable or that is too old, and no queries (DEBUG)."""
    connection = connections[alias()]
    reset_queries()
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
