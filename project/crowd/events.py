"""Parse an event stream, as WHATWG's "Interpreting an event stream" says."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

__all__ = ["EventParser", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One event that a page would see."""

    event: str
    data: str


class EventParser:
    """Takes bytes as they come. `last_event_id` and `retry_ms` outlive a connection."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.begin()

    def begin(self) -> None:
        """Forget what a cut connection left unfinished."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._data: list[str] = []
        self._event = ""
        self._id = self.last_event_id

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes."""
        text = self._rest + self._decoder.decode(data)
        # A CR at the end may be half of a CRLF.
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix(held) if held else text
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop() + held
        return [message for line in lines if (message := self._line(line)) is not None]

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Message | None:
        self.last_event_id = self._id
        data, event = self._data, self._event
        self._data, self._event = [], ""
        return Message(event or "message", "\n".join(data)) if data else None
