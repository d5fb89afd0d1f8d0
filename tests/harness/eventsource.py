"""The event stream format as a browser reads it, written from the standard alone.

WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream". Shares no
code with the package, so that both cannot be wrong in the same way.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

__all__ = ["Message", "Parser", "parse"]

_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Message:
    """One dispatched event."""

    type: str
    data: str
    last_event_id: str


class Parser:
    """Turn bytes, split anywhere, into messages.

    `last_event_id` is what the event source remembers from before. The standard starts each
    stream with an empty *buffer*, so that a blank line before the first `id:` forgets the
    cursor; Chromium, Firefox and WebKit start from the remembered id. `strict=True` is the standard.
    """

    def __init__(self, *, last_event_id: str = "", strict: bool = False) -> None:
        self.last_event_id = last_event_id
        #: What the server last said in `retry:`, in milliseconds.
        self.retry_ms: int | None = None
        #: The comments, in order, without their colon.
        self.comments: list[str] = []
        self._id_buffer = "" if strict else last_event_id
        self._type = ""
        self._data: list[str] = []
        self._pieces: list[str] = []
        self._after_cr = False
        self._at_start = True
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, chunk: bytes) -> list[Message]:
        """Take more of the stream and return the events it dispatches."""
        text = self._decoder.decode(chunk)
        if self._at_start and text:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            text = text.removeprefix("\n")  # the second half of a CRLF
            self._after_cr = False
        *ended, rest = _LINE_END.split(text)
        self._after_cr |= text.endswith("\r")
        messages = []
        for line in ended:
            self._pieces.append(line)
            whole, self._pieces = "".join(self._pieces), []
            if (message := self._read(whole)) is not None:
                messages.append(message)
        if rest:
            self._pieces.append(rest)
        return messages

    @property
    def is_clean(self) -> bool:
        """Tell whether the stream stands between two blocks: nothing would be lost if it ended here."""
        return not (self._pieces or self._data or self._type) and self._id_buffer == self.last_event_id

    def _read(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:])
            return None
        field, colon, value = line.partition(":")
        if colon and value.startswith(" "):
            value = value[1:]
        self._take(field, value)
        return None

    def _take(self, field: str, value: str) -> None:
        if field == "event":
            self._type = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            if "\0" not in value:
                self._id_buffer = value
        elif field == "retry" and value and all("0" <= digit <= "9" for digit in value):
            self.retry_ms = int(value)

    def _dispatch(self) -> Message | None:
        self.last_event_id = self._id_buffer
        kind, self._type = self._type, ""
        lines, self._data = self._data, []
        data = "".join(line + "\n" for line in lines)
        # "If the data buffer is an empty string": one empty `data:` line leaves "\n" there, which counts.
        if not data:
            return None
        return Message(kind or "message", data[:-1], self.last_event_id)


def parse(stream: bytes, *, last_event_id: str = "") -> list[Message]:
    """Return the events of a whole stream; an unfinished block at its end is discarded."""
    return Parser(last_event_id=last_event_id).feed(stream)
