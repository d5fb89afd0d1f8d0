"""An event as it arrived."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Event", "Gap", "read"]

_ENVELOPE = {"channel", "id", "event", "data"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. The names are those of ``httpx_sse.ServerSentEvent``, but for ``retry_ms``.

    *id* is the cursor after it: where a reader goes on that has processed it. *channel* and *own_id*, the
    event's id on a stream of its channel alone, are known on a stream of several channels, whose *data* is
    already out of its envelope.
    """

    id: str
    event: str = "message"
    data: str = ""
    channel: str | None = None
    own_id: str | None = None
    retry_ms: int | None = None

    def json(self) -> Any:
        """Return the data, decoded. Raises ``ValueError``."""
        return json.loads(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Event):
    """Events that are gone: the sequences *first* to *last*, or all from *first* on if *last* is None.

    *reason* is ``trimmed``, or ``reset`` when the channel was made anew. What is retained follows.
    """

    first: int
    last: int | None
    reason: str


def read(*, identifier: str, event: str, data: str, retry_ms: int | None, several: bool) -> Event:
    """Return what a block says. What is no gap or envelope of sse_polling's stays the event it is."""
    if event == "gap" and (told := _object(data)) is not None and _is_gap(told):
        return Gap(
            id=identifier,
            event=event,
            data=data,
            channel=told["channel"],
            retry_ms=retry_ms,
            first=told["from"],
            last=told["to"],
            reason=told["reason"],
        )
    if several and (told := _object(data)) is not None and told.keys() == _ENVELOPE:
        channel, own_id, inner = told["channel"], told["id"], told["data"]
        if isinstance(channel, str) and isinstance(own_id, str) and isinstance(inner, str):
            return Event(
                id=identifier, event=event, data=inner, channel=channel, own_id=own_id, retry_ms=retry_ms
            )
    return Event(id=identifier, event=event, data=data, retry_ms=retry_ms)


def _object(data: str) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _is_gap(told: dict[str, Any]) -> bool:
    return (
        isinstance(told.get("channel"), str)
        and isinstance(told.get("reason"), str)
        and isinstance(told.get("from"), int)
        and isinstance(told.get("to", ""), int | None)
    )
