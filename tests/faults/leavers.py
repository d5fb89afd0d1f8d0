"""Clients that servers ask to leave: how each stream of theirs ends, and how they answer."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, Self
from urllib.parse import urlencode

from tests.harness.client import assert_clean_chunks
from tests.harness.connection import Connection, request
from tests.harness.eventsource import Message, Parser
from tests.harness.http import Response
from tests.harness.reading import FAREWELL

from .readers import Reader

__all__ = ["MANNERS", "Leaver", "Manner"]

#: Plain: as an EventSource, which cannot answer. The others name themselves: they ack, they close, or
#: they do neither.
Manner = Literal["plain", "acks", "closes", "stays"]
MANNERS: tuple[Manner, ...] = ("plain", "acks", "closes", "stays")

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Leaver(Reader):
    """A reader that judges how every response ends: whole, between two blocks, with its last chunk.

    *front* is where it acks. *direct*: its servers are the processes themselves and no proxy's addresses.
    """

    def __init__(
        self,
        name: str,
        servers: Sequence[str],
        channels: Sequence[str],
        *,
        rng: Random,
        manner: Manner,
        front: str,
        direct: bool,
        delay: float = 0.0,
        on_latency: Callable[[float, float], None] | None = None,
    ) -> None:
        super().__init__(name, servers, channels, rng=rng, delay=delay, keep=False, on_latency=on_latency)
        self.manner = manner
        self.direct = direct
        #: The port of the process that sends a stream now.
        self.upstream: int | None = None
        #: Requests to close, by the port of the process that made them.
        self.asked: Counter[int] = Counter()
        #: The answers to its acks, by status; 0: none came.
        self.acked: Counter[int] = Counter()
        #: What each refusal asked it to wait.
        self.refused_ms: list[int] = []
        #: Connections that were refused, or closed before the first byte of an answer.
        self.unanswered = 0
        #: Times that nginx had nobody to ask.
        self.nobody = 0
        self._front = front
        self._token = f"{manner}-{secrets.token_hex(10)}"
        self._told = self._went = False
        self._acks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._acks:
            task.cancel()
        super().close()

    # What EventSourceClient and Reader let a subclass decide

    def _path(self) -> str:
        path = super()._path()
        return path if self.manner == "plain" else f"{path}&client={self._token}"

    async def _connect(self) -> tuple[Connection, bool]:
        self._told = self._went = False
        try:
            return await super()._connect()
        except ConnectionError:
            self.unanswered += 1
            raise

    def _admits(self, response: Response) -> bool:
        admitted = super()._admits(response)
        if admitted and response.header("x-sse-stream"):
            self.upstream = self._server_of(response)
        return admitted

    def _keep(self, message: Message) -> None:
        if message.type != "close":
            super()._keep(message)
            return
        self._told = True
        self.asked[self._server_of(self.responses[-1]) or 0] += 1
        if self.manner == "acks":
            task = asyncio.create_task(self._ack(self.responses[-1].header("x-sse-stream")))
            self._acks.add(task)
            task.add_done_callback(self._acks.discard)

    def _take(self, events: Parser, body: bytes, until: Callable[[Self], bool] | None) -> bool:
        taken = super()._take(events, body, until)
        if self._told and self.manner == "closes":
            self._went = True
            raise ConnectionAbortedError("the client closes")
        return taken

    def _settle(self, connection: Connection, response: Response) -> None:
        self.upstream = None
        if not self._went:
            self._judge_end(response)
        super()._settle(connection, response)

    def _server_of(self, response: Response) -> int | None:
        """Return the port of the process that answered: nginx names all that it asked, the last one did."""
        if self.direct:
            return self.address.port
        named = response.header("x-upstream").rpartition(":")[2]
        return int(named) if named.isdecimal() else None

    def _judge_end(self, response: Response) -> None:
        if not response.status:
            self.unanswered += not self.received
            if self.received:
                self.complaints.append("cut off in the response's head")
            return
        if response.status != 200:
            return
        body = response.body
        if not response.complete:
            self.complaints.append(
                f"cut off after {body[-60:]!r} and {response.partial[-60:]!r} of {response.headers}"
            )
        elif not body.endswith((b"\n\n", b":\n")):
            self.complaints.append(f"ended in mid-frame: {body[-100:]!r}")
        elif self._told and not FAREWELL.search(body):
            self.complaints.append(f"not the last words of a drain: {body[-100:]!r}")
        elif not response.header("x-sse-stream"):
            self.refused_ms.append(self.retry_ms)
            self.nobody += self._server_of(response) is None
        elif self.direct:
            try:
                assert_clean_chunks(response)
            except AssertionError as error:
                self.complaints.append(str(error))

    async def _ack(self, stream: str) -> None:
        """Say good-bye, by the stream's id or by the client's name; nginx asks any process."""
        named = {"stream": stream} if self._rng.random() < 0.5 else {"client": self._token}
        status = 0
        try:
            answer = await request(
                f"{self._front}/events/ack/", method="POST", headers=_FORM, body=urlencode(named).encode()
            )
            status = answer.status
        except (ConnectionError, TimeoutError):
            pass
        self.acked[status] += 1
