"""The event stream format, written. Source: WHATWG HTML, 9.2.5 and 9.2.6 (server-sent events).

Every function returns whole blocks: bytes that end on a blank line, or one comment line.
"""

from __future__ import annotations

import json
import re

from .event import Gap, StoredEvent

__all__ = ["HEARTBEAT", "close", "closing", "envelope", "frame", "gap", "gap_data", "opening", "with_id"]

HEARTBEAT = b":\n"
_LINE_END = re.compile(r"\r\n|\r|\n")


def frame(event: StoredEvent) -> bytes:
    """Return *event* as a block, with the id of a stream of its channel alone."""
    return with_id(event.id, body(event.event, event.data))


def envelope(event: StoredEvent) -> bytes:
    """Return *event* for a stream of several channels, without its id line.

    The data is ``{"channel", "id", "event", "data"}``: an EventSource cannot see a channel otherwise.
    """
    wrapped = {"channel": event.channel, "id": event.id, "event": event.event, "data": event.data}
    return body(event.event, _json(wrapped))


def body(event: str, data: str) -> bytes:
    """Return a block's ``event:`` and ``data:`` lines and its blank line."""
    lines = [] if event == "message" else [f"event: {event}"]
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()


def with_id(identifier: str, block: bytes) -> bytes:
    return b"id: %b\n%b" % (identifier.encode("ascii"), block)


def opening(*, retry_ms: int, identifier: str | None, data: bool = False) -> bytes:
    """Return the first block of a stream: ``retry:`` and ``id:``.

    Without a data line it moves a browser's cursor in silence; with *data* browsers fire an
    empty message, which MCP clients of the 2025-11-25 revision expect.
    """
    lines = [f"retry: {retry_ms}"]
    if identifier is not None:
        lines.append(f"id: {identifier}")
    if data:
        lines.append("data:")
    return ("\n".join(lines) + "\n\n").encode("ascii")


def closing(*, retry_ms: int) -> bytes:
    """Return the last block of a burst: when to come back, in milliseconds."""
    return b"retry: %d\n\n" % retry_ms


def gap(lost: Gap, identifier: str) -> bytes:
    """Return the control event that names what is missing."""
    return with_id(identifier, body("gap", gap_data(lost)))


def gap_data(lost: Gap) -> str:
    """Return a gap's data: ``{"channel", "from", "to", "reason"}``."""
    return _json({"channel": lost.channel, "from": lost.first, "to": lost.last, "reason": lost.reason})


def close(reason: str) -> bytes:
    """Return the control event that asks a client to leave: ``event: close``."""
    return body("close", reason)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
