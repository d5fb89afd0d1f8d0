"""Encoders: the same burst as an event stream, as JSON lines, and as one JSON answer.

A stream knows what to say and when; an encoder knows how. *identifier* is always the client's cursor after
what is said.
"""

from __future__ import annotations

import json
from typing import Protocol

from . import wire
from .event import Gap
from .tail import Entry

__all__ = ["POOL_DRAINING", "Encoder", "JsonAnswer", "JsonLines", "ServerSentEvents"]

POOL_DRAINING = "pool_draining"


class Encoder(Protocol):
    """How a door says what a stream has to say; every method returns whole blocks of its format."""

    @property
    def heartbeat(self) -> bytes:
        """What keeps a quiet connection alive; empty where nothing does."""

    def opening(self, *, retry_ms: int, identifier: str | None) -> bytes:
        """Return what stands first: when to come back after a cut, and with which cursor."""

    def entry(self, entry: Entry, identifier: str) -> bytes:
        """Return an event."""

    def gap(self, lost: Gap, identifier: str) -> bytes:
        """Return what is missing."""

    def closing(self, *, retry_ms: int, identifier: str | None, ended: bool, drains: bool) -> bytes:
        """Return what stands last. *ended*: every channel is finished; *drains*: the server asks to leave."""


class ServerSentEvents:
    """``text/event-stream``. *several*: channels; *priming*: the opening has an empty data line."""

    heartbeat = wire.HEARTBEAT

    def __init__(self, *, several: bool, priming: bool = False) -> None:
        self._several = several
        self._priming = priming

    def opening(self, *, retry_ms: int, identifier: str | None) -> bytes:
        return wire.opening(retry_ms=retry_ms, identifier=identifier, data=self._priming)

    def entry(self, entry: Entry, identifier: str) -> bytes:
        return wire.with_id(identifier, entry.envelope) if self._several else entry.frame

    def gap(self, lost: Gap, identifier: str) -> bytes:
        return wire.gap(lost, identifier)

    def closing(self, *, retry_ms: int, identifier: str | None, ended: bool, drains: bool) -> bytes:
        last = wire.closing(retry_ms=retry_ms)
        return wire.close(POOL_DRAINING) + last if drains else last


class JsonLines:
    """One JSON object a line, none with a line end inside: the frames of a WebSocket.

    An event is ``{"channel", "id", "event", "data"}``, on a stream of *several* channels with
    ``"last_event_id"``: its cursor, which for one channel is the id. The opening is ``{"retry",
    "last_event_id"}``, the closing the same and ``"end"``.
    """

    heartbeat = b'{"heartbeat":true}\n'

    def __init__(self, *, several: bool) -> None:
        self._several = several

    def opening(self, *, retry_ms: int, identifier: str | None) -> bytes:
        return _line({"retry": retry_ms, "last_event_id": identifier})

    def entry(self, entry: Entry, identifier: str) -> bytes:
        if self._several:
            return b'%b,"last_event_id":"%b"}\n' % (entry.json[:-1], identifier.encode("ascii"))
        return entry.json + b"\n"

    def gap(self, lost: Gap, identifier: str) -> bytes:
        return _line(_gap(lost, identifier, several=self._several))

    def closing(self, *, retry_ms: int, identifier: str | None, ended: bool, drains: bool) -> bytes:
        last = _line({"retry": retry_ms, "last_event_id": identifier, "end": ended})
        return _line({"event": "close", "data": POOL_DRAINING}) + last if drains else last


class JsonAnswer:
    """A long-poll's answer: ``{"events": […], "last_event_id", "retry", "end"}``.

    All that is said, in order, is one body, and an encoder is good for one: it begins with the first item,
    so that nothing is said while there is none.
    """

    heartbeat = b""

    def __init__(self) -> None:
        self._before = b'{"events":['

    def opening(self, *, retry_ms: int, identifier: str | None) -> bytes:
        return b""

    def entry(self, entry: Entry, identifier: str) -> bytes:
        return self._begun() + entry.json

    def gap(self, lost: Gap, identifier: str) -> bytes:
        return self._begun() + _line(_gap(lost, identifier, several=False))[:-1]

    def closing(self, *, retry_ms: int, identifier: str | None, ended: bool, drains: bool) -> bytes:
        last = {"last_event_id": identifier, "retry": retry_ms, "end": ended}
        return self._begun().removesuffix(b",") + b"]," + _line(last)[1:]

    def _begun(self) -> bytes:
        before, self._before = self._before, b","
        return before


def _gap(lost: Gap, identifier: str, *, several: bool) -> dict[str, object]:
    told: dict[str, object] = {
        "channel": lost.channel,
        "id": str(lost.after),
        "event": "gap",
        "data": wire.gap_data(lost),
    }
    return {**told, "last_event_id": identifier} if several else told


def _line(value: object) -> bytes:
    # Line ends within text are escaped in JSON; U+2028 is none for us.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
