"""The database: do connections go back, is a lost host noticed, does SQLite let readers and writers in?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connections

from ..database import alias

__all__ = ["check_connection_age", "check_postgresql_limits", "check_sqlite_transactions", "check_sqlite_wal"]

_WAL = 2  # https://www.sqlite.org/fileformat.html, section 1.3: bytes 18 and 19 of the file


@checks.register
def check_connection_age(**options: Any) -> list[checks.CheckMessage]:
    under_asgi = getattr(settings, "ASGI_APPLICATION", None) or "daphne" in settings.INSTALLED_APPS
    if not under_asgi:
        return []
    return [
        checks.Warning(
            f"DATABASES[{name!r}] has CONN_MAX_AGE {age!r} in a project that is served through ASGI.",
            hint="Requests run in threads that come and go there, each with a connection that then stays "
            "open. Set CONN_MAX_AGE to 0; for fewer connects use a pool (OPTIONS['pool'] of PostgreSQL, or "
            "PgBouncer).",
            id="sse_polling.W003",
        )
        for name, entry in connections.settings.items()
        if (age := entry["CONN_MAX_AGE"]) is None or age > 0
    ]


@checks.register
def check_sqlite_wal(**options: Any) -> list[checks.CheckMessage]:
    name = _sqlite_name()
    if name is None or _has_wal(name):
        return []
    return [
        checks.Warning(
            f"The events are in SQLite ({name}) without write-ahead logging: publishers wait for readers, "
            "and readers for publishers.",
            hint=f"Set DATABASES[{alias()!r}]['OPTIONS']['init_command'] to 'PRAGMA journal_mode=WAL; "
            "PRAGMA synchronous=NORMAL;'.",
            id="sse_polling.W004",
        )
    ]


@checks.register
def check_sqlite_transactions(**options: Any) -> list[checks.CheckMessage]:
    name = _sqlite_name()
    mode = str(_options().get("transaction_mode") or "DEFERRED").upper()
    if name is None or mode in {"IMMEDIATE", "EXCLUSIVE"}:
        return []
    return [
        checks.Warning(
            f"The events are in SQLite ({name}) with transaction_mode {mode}: a transaction that reads and "
            "then writes fails with 'database is locked' when another has written in between.",
            hint=f"In DATABASES[{alias()!r}]['OPTIONS'], set 'transaction_mode': 'IMMEDIATE', 'timeout': 20.",
            id="sse_polling.W005",
        )
    ]


@checks.register
def check_postgresql_limits(**options: Any) -> list[checks.CheckMessage]:
    """The app's own connections have limits of their own; sessions and publishers use the project's."""
    connection = connections[alias()]
    host = str(connection.settings_dict["HOST"] or "")
    given = _options()
    if settings.DEBUG or connection.vendor != "postgresql" or not host or host.startswith("/"):
        return []
    missing = [name for name in ("connect_timeout", "tcp_user_timeout") if not given.get(name)]
    if not missing or "service" in given:
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias()!r}] has no {' and no '.join(missing)}: a request to a database host that is "
            "gone waits for minutes, and under ASGI the requests behind it do, too.",
            hint=f"In DATABASES[{alias()!r}]['OPTIONS'], set 'connect_timeout': 5 (seconds) and "
            "'tcp_user_timeout': 10000 (milliseconds).",
            id="sse_polling.W008",
        )
    ]


def _options() -> dict[str, Any]:
    options: dict[str, Any] = connections[alias()].settings_dict["OPTIONS"]
    return options


def _sqlite_name() -> str | None:
    """Return the SQLite file that has the events; None for other databases and for one in memory."""
    connection = connections[alias()]
    if connection.vendor != "sqlite":
        return None
    name = str(connection.settings_dict["NAME"])
    return None if ":memory:" in name or "mode=memory" in name else name


def _has_wal(name: str) -> bool:
    """Tell whether the file is in WAL mode or will be; a URI that is not asked counts as yes."""
    command = str(_options().get("init_command") or "").lower().replace(" ", "")
    if "journal_mode=wal" in command or "journal_mode(wal)" in command or name.startswith("file:"):
        return True
    try:
        with Path(name).open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    return len(header) == 20 and header[18] == _WAL
