"""What a publisher's process is told to do: transactions that stay open between two orders of a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from sse_polling import Draft, publish, publish_many, stream_writer, wake
from sse_polling.writer import StreamWriter

__all__ = [
    "Draft",
    "attempt",
    "begin",
    "commit",
    "execute",
    "options",
    "publish",
    "publish_many",
    "rollback",
    "spread",
    "together",
    "woken",
    "writer",
]

_open: list[Any] = []
_woken: list[str] = []
_writers: dict[str, StreamWriter] = {}


def begin() -> None:
    """Begin a transaction, or a savepoint in one."""
    atomic = transaction.atomic()
    atomic.__enter__()
    _open.append(atomic)


def commit() -> None:
    _open.pop().__exit__(None, None, None)


def rollback() -> None:
    _leave(RuntimeError("the caller's own"), blocks=1)


def attempt(function: Callable[[], Any], *, blocks: int = 9) -> Any:
    """Call *function*; return None, or the names of its exception and of that one's cause.

    The exception leaves that many of the open blocks, as an exception of a caller's would.
    """
    try:
        function()
    except Exception as error:  # noqa: BLE001 - reported
        _leave(error, blocks)
        return [_name(error), _name(error.__cause__)]
    return None


def _leave(error: Exception, blocks: int) -> None:
    while _open and blocks:
        blocks -= 1
        _open.pop().__exit__(type(error), error, error.__traceback__)


def _name(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__module__}.{type(error).__qualname__}"


def spread(*names: str, data: str = "x") -> list[int]:
    """Publish to several channels in one call, in the order given; return the sequences."""
    return [event.sequence for event in publish_many(names[0], [Draft(data, channel=name) for name in names])]


def together(moment: float) -> None:
    """Wait for a moment of the machine's clock, so that two processes meet at it if they can."""
    time.sleep(max(0, moment - time.monotonic()))


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def options(**values: Any) -> None:
    """Connect anew, with other options; None takes one away."""
    connection.close()
    connection.settings_dict["OPTIONS"].update(values)
    for key in [key for key, value in values.items() if value is None]:
        del connection.settings_dict["OPTIONS"][key]


def woken() -> list[str]:
    """Return the channels that were woken since the last time."""
    if wake.send is not _keep:
        wake.send = _keep
    taken = list(_woken)
    _woken.clear()
    return taken


def _keep(wakes: Any) -> None:
    _woken.extend(each[0] for each in wakes)


def writer(name: str, **options: Any) -> StreamWriter:
    """Return the open writer *name*, begun with *options* if there is none."""
    if name not in _writers:
        _writers[name] = stream_writer(name, **options).__enter__()
    return _writers[name]
