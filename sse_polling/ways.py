"""Ways in: what distinguishes a stream, a long-poll and a WebSocket, which share everything else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .conf import Config
from .protocol import wire
from .protocol.encoding import Encoder, JsonAnswer, JsonLines, ServerSentEvents
from .stream import Stream

__all__ = ["Answer", "Poll", "Socket", "Streaming", "Way", "words"]

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Answer:
    """What to send: a body, or a stream whose ``run`` yields it.

    *keeps*: its socket may stay for the client's next request.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    stream: Stream | None = None
    keeps: bool = True


class Way:
    """One way in. *query* is the request's ``QueryDict``. Raises ``ValueError`` for what it cannot read."""

    headers: ClassVar[Headers] = ()
    is_answer: ClassVar[bool] = False  # one answer, given at once where nothing may wait
    longest_wait: float | None = None

    encoder: Encoder
    is_polite: bool = True  # a refusal says when to come back, and is no error

    def __init__(self, query: Any, *, several: bool, config: Config) -> None:
        raise NotImplementedError

    def ended(self, identifier: str) -> Answer:
        """Return the answer to a cursor at the end of every channel."""
        raise NotImplementedError

    def refused(self, *, retry_ms: int, identifier: str | None) -> Answer:
        """Return the answer that only says when to come back, and where the client then goes on."""
        raise NotImplementedError


class Streaming(Way):
    """``text/event-stream``. A browser never comes back from an error, so it may ask for no such."""

    headers = (
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache, no-transform"),
        ("Content-Encoding", "identity"),
        ("X-Accel-Buffering", "no"),
    )

    def __init__(self, query: Any, *, several: bool, config: Config) -> None:
        self.encoder = ServerSentEvents(several=several, priming=config.priming == "data")
        self.is_polite = query.get("busy") == "stream"

    def ended(self, identifier: str) -> Answer:
        return Answer(204, [("Cache-Control", "no-cache")])  # it stops an EventSource

    def refused(self, *, retry_ms: int, identifier: str | None) -> Answer:
        # Without the empty line of data that primes: nothing begins here.
        return Answer(200, list(self.headers), wire.opening(retry_ms=retry_ms, identifier=identifier))


class Poll(Way):
    """One JSON answer. ``?wait=``: how many seconds to wait for the first event, up to ``hold``."""

    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    is_answer = True

    encoder: JsonAnswer

    def __init__(self, query: Any, *, several: bool, config: Config) -> None:
        self.encoder = JsonAnswer()
        wait = query.get("wait")
        try:
            self.longest_wait = math.inf if wait is None else float(wait)
            is_good = self.longest_wait >= 0 and (wait is None or math.isfinite(self.longest_wait))
        except ValueError:
            is_good = False
        if not is_good:
            raise ValueError(f"wait is a number of seconds, 0 or more; got {wait[:20]!r}.")

    def ended(self, identifier: str) -> Answer:
        return self._said(retry_ms=0, identifier=identifier, ended=True)

    def refused(self, *, retry_ms: int, identifier: str | None) -> Answer:
        return self._said(retry_ms=retry_ms, identifier=identifier, ended=False)

    def _said(self, *, retry_ms: int, identifier: str | None, ended: bool) -> Answer:
        said = self.encoder.closing(retry_ms=retry_ms, identifier=identifier, ended=ended, drains=False)
        return Answer(200, list(self.headers), said)


class Socket(Way):
    """A WebSocket's frames. Its answers are for the consumer, which knows no headers."""

    def __init__(self, query: Any, *, several: bool, config: Config) -> None:
        self.encoder = JsonLines(several=several)

    def ended(self, identifier: str) -> Answer:
        return Answer(
            204, body=self.encoder.closing(retry_ms=0, identifier=identifier, ended=True, drains=False)
        )

    def refused(self, *, retry_ms: int, identifier: str | None) -> Answer:
        return Answer(200, body=self.encoder.opening(retry_ms=retry_ms, identifier=identifier))


def words(status: int, sentence: str) -> Answer:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    return Answer(status, headers, sentence.encode(errors="replace"))
