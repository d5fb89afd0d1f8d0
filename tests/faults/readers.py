"""Clients that read over reconnects, each from all of a site's processes in turn, and judge what comes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal
from urllib.parse import urlencode

from tests.harness.client import Cut, EventSourceClient
from tests.harness.connection import Address, Connection
from tests.harness.eventsource import Message
from tests.harness.http import Response
from tests.harness.proxy import How

__all__ = ["Heard", "Line", "Pace", "Reader"]

Pace = Literal["full", "trickle", "still"]
#: A polite refusal may ask for more; a test does not wait so long, and notes what was asked.
LONGEST_WAIT_SECONDS = 1.0
TRICKLE_SECONDS = 1.0

#: What a transcript says of one event: its id on a stream of its channel alone, its name, its data.
Line = tuple[str, str, str]


@dataclass(slots=True)
class Heard:
    """What one reader has of one channel: a position, a digest of all of it, and (if kept) the lines."""

    sequence: int = 0
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    lines: list[Line] = field(default_factory=list)

    def take(self, line: Line, *, keep: bool) -> None:
        self.digest.update("\n".join(line).encode() + b"\0")
        if keep:
            self.lines.append(line)


class _Connection(Connection):
    """A connection that is read as its reader wishes at the moment."""

    reader: Reader

    async def receive(self, limit: int = 65_536) -> bytes:
        reader = self.reader
        if reader.pace == "still":
            await reader.hurried.wait()
            if reader.abandons:
                raise ConnectionAbortedError("the client gave up this connection")
        elif reader.pace == "trickle":
            limit = 1
        try:
            async with asyncio.timeout(reader.silence_seconds):
                data = await super().receive(limit)
        except TimeoutError:
            raise ConnectionAbortedError("nothing came for too long") from None
        reader.received += len(data)
        if reader.pace == "trickle":
            await _wait(reader.hurried, TRICKLE_SECONDS)
        return data


class Reader(EventSourceClient):
    """Read some channels from the beginning, over the given servers in turn, until 204.

    Each event is judged as it comes: `lost`, `repeated` and `gaps` count what must not be. `silence_seconds`
    ends a connection on which nothing comes, as no browser does; None: never.
    """

    def __init__(
        self,
        name: str,
        servers: Sequence[str],
        channels: Sequence[str],
        *,
        rng: Random,
        delay: float = 0.0,
        keep: bool = True,
        pace: Pace = "full",
        abandons: bool = False,
        on_latency: Callable[[float, float], None] | None = None,
    ) -> None:
        super().__init__(servers[0], reuse=False, cuts=self._cuts_now())
        self.name = name
        self.channels = list(channels)
        self.servers = list(servers)
        self.heard = {channel: Heard() for channel in channels}
        self.events = 0
        self.lost = 0
        self.repeated = 0
        self.gaps = 0
        self.complaints: list[str] = []
        #: Ports of the servers that answered with a stream.
        self.served: set[int] = set()
        self.refusals = 0
        self.longest_retry_ms = 0
        self.received = 0
        self.pace: Pace = pace
        self.abandons = abandons
        self.hurried = asyncio.Event()
        self.silence_seconds: float | None = None
        #: The mean of the bytes after which each connection is cut; None: not at all.
        self.cut_bytes: int | None = None
        self.connection: _Connection | None = None
        self._rng = rng
        self._delay = delay
        self._keep_lines = keep
        self._on_latency = on_latency
        self._turn = rng.randrange(len(servers))
        self._began = float("inf")
        self._ids: dict[str, str] = {}

    async def read(self) -> None:
        """Read to the end of every channel."""
        await asyncio.sleep(self._delay)
        self._began = time.time()
        await self.run(deadline=100_000)

    def slow_down(self, pace: Pace) -> None:
        """Read so slowly from now on."""
        self.pace = pace
        self.hurried.clear()

    def hurry(self) -> None:
        """Read at full speed from now on."""
        self.pace = "full"
        self.hurried.set()

    def has_reached(self, heads: dict[str, int]) -> bool:
        """Tell whether all that was committed at that time has come."""
        return all(heard.sequence >= heads.get(channel, 0) for channel, heard in self.heard.items())

    @property
    def port(self) -> int | None:
        """The port of the server that is sending a stream now, its first bytes received."""
        connection = self.connection
        if connection is None or connection.closed or not self.responses:
            return None
        return self.address.port if self.received else None

    def where(self) -> str:
        """Describe where the reader stands, for a message."""
        places = ", ".join(f"{channel}:{heard.sequence}" for channel, heard in self.heard.items())
        return (
            f"{self.name} at {places} after {self.connections} connections, the last to port"
            f" {self.address.port}, statuses {self.statuses[-3:]}, cursor {self.last_event_id!r},"
            f" complaints {self.complaints[:3]}"
        )

    # What EventSourceClient lets a subclass decide

    async def _connect(self) -> tuple[Connection, bool]:
        self._turn = (self._turn + 1) % len(self.servers)
        self.address = Address(self.servers[self._turn] + self._path())
        self.received = 0
        small = None if self.pace == "full" else 4096
        connection = await _Connection.open(self.address, receive_buffer=small)
        connection.reader = self
        self.connection = connection
        self.connections += 1
        return connection, False

    def _path(self) -> str:
        if len(self.channels) == 1:
            return f"/events/{self.channels[0]}/?last_event_id=earliest"
        named = [("channel", channel) for channel in self.channels]
        return "/events/?" + urlencode([*named, ("last_event_id", "earliest")])

    async def _wait(self) -> None:
        self.longest_retry_ms = max(self.longest_retry_ms, self.retry_ms)
        # Bounded memory, however long it reads: only the last response is looked at.
        del self.responses[:-1], self.cursors_sent[:-1], self.comments[:]
        await asyncio.sleep(min(self.retry_ms / 1000, LONGEST_WAIT_SECONDS))

    def _admits(self, response: Response) -> bool:
        admitted = super()._admits(response)
        if admitted:
            self.served.add(self.address.port)
        elif response.status != 204:
            self.complaints.append(f"a status that ends an EventSource: {response.status}")
        return admitted

    def _cuts_now(self) -> Iterator[Cut | None]:
        while True:
            mean = self.cut_bytes
            how: How = self._rng.choice(("fin", "rst"))
            yield None if mean is None else Cut(1 + int(self._rng.expovariate(1 / mean)), how)

    def _keep(self, message: Message) -> None:
        if message.type == "close":
            return
        if message.type == "gap":
            self.gaps += 1
            self.complaints.append(f"a gap: {message.data} at {self.last_event_id!r}")
            return
        if message.type not in {"message", "log", "end"}:
            self.complaints.append(f"an event that nobody published: {message}")
            return
        channel, identifier, data = self._unwrap(message)
        self._judge(channel, identifier, message.last_event_id)
        self.heard[channel].take((identifier, message.type, data), keep=self._keep_lines)
        self.events += 1
        if self._on_latency is not None:
            at = json.loads(data)["at"]
            if at > self._began:
                self._on_latency(at, time.time() - at)

    def _unwrap(self, message: Message) -> tuple[str, str, str]:
        if len(self.channels) == 1:
            return self.channels[0], message.last_event_id, message.data
        wrapped = json.loads(message.data)
        if wrapped["event"] != message.type:
            self.complaints.append(f"the envelope names another event: {message}")
        return wrapped["channel"], wrapped["id"], wrapped["data"]

    def _judge(self, channel: str, identifier: str, cursor: str) -> None:
        heard = self.heard[channel]
        sequence = int(identifier.split(".")[1])
        if sequence <= heard.sequence:
            self.repeated += 1
            self.complaints.append(f"{channel}:{sequence} after {heard.sequence}")
        elif sequence > heard.sequence + 1:
            self.lost += sequence - heard.sequence - 1
            self.complaints.append(f"{channel}:{sequence} after {heard.sequence}")
        heard.sequence = max(heard.sequence, sequence)
        self._ids[channel] = identifier
        if len(self.channels) > 1:
            # Without the channels' hashes: whatever was read of each must be in the cursor.
            parts = {part.partition(".")[2] for part in cursor.split("_")}
            if len(parts) < len(self._ids) or not parts.issuperset(self._ids.values()):
                self.complaints.append(f"the cursor {cursor} after {self._ids}")


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
