"""The database that `DATABASE_URL` names, as an entry of DATABASES."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from .address import without_password

__all__ = ["POSTGRESQL", "SQLITE", "database"]

SQLITE: dict[str, Any] = {
    # Publishers and readers at once: readers do not wait in WAL, and a writer
    # that begins as one waits its turn instead of failing half way.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}

# A host that is gone says nothing. Without these a query on a connection to it waits for a quarter of
# an hour; with them the kernel gives up after about ten seconds, whether it was waiting for an answer
# or had something to send. A server that is there and slow is left alone.
POSTGRESQL: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

_EXPECTED = (
    "Expected postgres://user:password@host:5432/name, with a quoted (%XX) user and password, "
    "or sqlite:////an/absolute/file."
)


def database(url: str) -> dict[str, Any]:
    """Return the settings for *url*; its query's options win over the ones from here.

    Raises ``ImproperlyConfigured``, with what came but for the password, and what was expected.
    """
    try:
        scheme = urlsplit(url).scheme
        entry: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError:  # of which dj_database_url's own errors are
        raise _improper(url, "cannot be read") from None
    if scheme == "sqlite":
        return _sqlite(url, entry)
    if scheme in {"postgres", "postgresql"}:
        return _postgresql(url, entry)
    raise _improper(url, "names a database that this is not tested with")


def _sqlite(url: str, entry: dict[str, Any]) -> dict[str, Any]:
    if entry["NAME"] == ":memory:":
        # Each thread of the app's own pools would have an empty database of its own.
        raise _improper(url, "names no file")
    return {**entry, "OPTIONS": {**SQLITE, **entry.get("OPTIONS", {})}}


def _postgresql(url: str, entry: dict[str, Any]) -> dict[str, Any]:
    if not entry["NAME"]:
        raise _improper(url, "names no database")
    # CONN_MAX_AGE stays at the 0 that dj_database_url sets: under ASGI requests run in threads that come
    # and go, and each would leave its connection open. Where connecting is what costs, add
    # `?pool=true` (Django's own pool, which needs psycopg[pool]) or put PgBouncer in between; one that pools
    # transactions also needs DISABLE_SERVER_SIDE_CURSORS.
    return {**entry, "OPTIONS": {**POSTGRESQL, **entry.get("OPTIONS", {})}}


def _improper(url: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"DATABASE_URL {why}: {without_password(url)}. {_EXPECTED}")
