"""Check in your own tests that readers of your channels get every event once, in order, however they are cut.

A :class:`Transcript` is a client: it reads a channel burst by burst through the app's own engine, in the
test's process and on the test's own database connection, so it sees what the test has published, committed or
not. With pytest, the fixture ``transcript`` makes one and checks it at the test's end::

    @pytest.mark.django_db
    def test_a_build_tells_every_step(transcript):
        reader = transcript("builds.42")
        run_build(42)
        reader.read(cut=100)  # the connection is lost after 100 bytes
        assert reader.data == ["started"]
        reader.read_all()
        assert reader.names[-1] == "end"

In an async test, make it with a cursor and await the twins of its methods whose names begin with ``a``. There
pytest-django has only ``transaction=True``; Django's own ``TestCase`` may be async as it is::

    @pytest.mark.django_db(transaction=True)
    async def test_a_build_tells_every_step(transcript):
        reader = transcript("builds.42", since=await acursor("builds.42"))
        await arun_build(42)
        await reader.aread_all()
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from .conf import get_config
from .connections import Connection, Registry
from .database import alias, callers_connection
from .hub import Hub
from .lifecycle import Node
from .models import Channel, Event
from .protocol.cursor import NOWHERE, Position, parse_cursor
from .protocol.names import check_channel
from .publishing import cursor as cursor_of_now
from .stream import open_stream

__all__ = ["Received", "Transcript"]

MOST_BURSTS = 10_000
_COMMENT = re.compile(rb"^:.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An event as the client got it. *id* is the cursor after it, *own_id* the event's own."""

    channel: str
    own_id: str
    id: str
    event: str
    data: str

    def json(self) -> Any:
        """Return the data, decoded. Raises ``ValueError``."""
        return json.loads(self.data)

    @property
    def position(self) -> Position:
        """Where it stands in its channel."""
        life, sequence, tag = self.own_id.split(".")
        return Position(life, int(sequence), tag)


class Transcript:
    """One client of *channels*, and all that it has received.

    *since*: where it begins, a cursor or ``earliest``; where the channels stand now if None. *gaps*: the test
    has retention remove what this client has not read yet, so that a ``gap`` is no failure. Access and
    limits on sockets are not asked.
    """

    def __init__(self, *channels: str, since: str | None = None, gaps: bool = False) -> None:
        if not channels:
            raise ValueError("Name at least one channel.")
        self.channels = tuple(dict.fromkeys(check_channel(name) for name in channels))
        self.received: list[Received] = []
        self.gaps: list[dict[str, Any]] = []
        self.bursts = 0
        self.cursor = cursor_of_now(*self.channels) if since is None else since
        self._gaps_expected = gaps
        self._several = len(self.channels) > 1
        self._begin = self._positions(self.cursor)

    @property
    def data(self) -> list[str]:
        """The data of all that was received."""
        return [each.data for each in self.received]

    @property
    def names(self) -> list[str]:
        """The event names of all that was received."""
        return [each.event for each in self.received]

    @property
    def at_end(self) -> bool:
        """True once there is nothing for this client any more: every channel is finished (HTTP's 204)."""
        return async_to_sync(self._burst)(self.cursor) is None

    async def aread(self, *, cut: int | None = None) -> list[Received]:
        """Read one burst and return what it brought. *cut*: the connection is lost after so many bytes.

        What a cut leaves unfinished has not arrived, as in a browser.
        """
        said = await self._burst(self.cursor)
        if said is None:
            return []
        self.bursts += 1
        blocks = list(_blocks(said if cut is None else said[:cut], strict=cut is None))
        return self._take(blocks)

    async def aread_all(self) -> list[Received]:
        """Read on until a burst brings nothing."""
        found: list[Received] = []
        for _ in range(MOST_BURSTS):
            more = await self.aread()
            if not more:
                return found
            found += more
        raise AssertionError(f"{MOST_BURSTS} bursts did not bring this client to the end of {self.channels}.")

    async def acut_everywhere(self) -> None:
        """Cut the next burst at each of its bytes, read on from there to the end each time, and check it.

        The client itself has then read to the end.
        """
        said = await self._burst(self.cursor) or b""
        begin, received, gaps = self.cursor, list(self.received), list(self.gaps)
        left: tuple[str, int, int] | None = None
        for at in range(len(said) + 1):
            self.cursor, self.received, self.gaps = begin, list(received), list(gaps)
            self._take(list(_blocks(said[:at], strict=False)))
            before, left = left, (self.cursor, len(self.received), len(self.gaps))
            if left == before and at < len(said):
                continue  # so it would go on as from the byte before
            await self.aread_all()
            try:
                await self.acheck()
            except AssertionError as error:
                raise AssertionError(f"Cut after {at} bytes: {error}") from None

    async def acheck(self) -> None:
        """Await what :meth:`check` does."""
        await sync_to_async(self.check)()

    def read(self, *, cut: int | None = None) -> list[Received]:
        """Do what :meth:`aread` does, in sync code."""
        return async_to_sync(self.aread)(cut=cut)

    def read_all(self) -> list[Received]:
        """Do what :meth:`aread_all` does, in sync code."""
        return async_to_sync(self.aread_all)()

    def cut_everywhere(self) -> None:
        """Do what :meth:`acut_everywhere` does, in sync code."""
        async_to_sync(self.acut_everywhere)()

    def check(self) -> None:
        """Raise ``AssertionError`` unless this client has had all up to its cursor, once, in order.

        What retention has removed since it was received is not missed, nor what a ``gap`` has told of, if
        the test expects gaps.
        """
        if self.gaps and not self._gaps_expected:
            raise AssertionError(
                f"Lost: {self.gaps}. If that is what the test is about, expect it: gaps=True."
            )
        reached = self._positions(self.cursor)
        for name in self.channels:
            got = [each.position for each in self.received if each.channel == name]
            channel = Channel.objects.using(alias()).filter(name=name).first()
            complaint = _complaint(got, self._due(channel, self._begin[name], reached[name]), channel)
            if complaint:
                raise AssertionError(f"Channel {name}: {complaint}.")

    def _take(self, blocks: list[dict[str, str]]) -> list[Received]:
        found = []
        for block in blocks:
            self.cursor = block.get("id", self.cursor)
            name, text = block.get("event", "message"), block.get("data")
            if text is None:
                continue
            if name == "gap":
                self.gaps.append(json.loads(text))
                continue
            told = json.loads(text) if self._several else {}
            found.append(
                Received(
                    channel=told.get("channel", self.channels[0]),
                    own_id=told.get("id", block["id"]),
                    id=block["id"],
                    event=name,
                    data=told.get("data", text),
                )
            )
        self.received += found
        return found

    async def _burst(self, cursor: str) -> bytes | None:
        """Return what the server would send for *cursor* now, None for a 204."""
        with callers_connection():
            stream = await open_stream(
                Hub(asyncio.get_running_loop()),
                Connection(channels=self.channels, door="test"),
                parse_cursor(cursor, several=self._several),
                several=self._several,
                finite=True,
                config=get_config(),
                node=Node(Registry()),
                rng=random.Random(0),  # noqa: S311 - a test's
                clock=time.monotonic,
            )
            return None if stream is None else b"".join([chunk async for chunk in stream.run()])

    def _positions(self, cursor: str) -> dict[str, Position]:
        """Return where *cursor* stands on each channel."""
        parsed = parse_cursor(cursor, several=self._several)
        return {name: parsed.position(name) or NOWHERE for name in self.channels}

    def _due(self, channel: Channel | None, begin: Position, reached: Position) -> list[Position]:
        """Return what is stored between two positions: in the channel's present life alone."""
        if channel is None or reached.life != channel.life:
            return []
        first = begin.sequence if begin.life == channel.life else 0
        rows = Event.objects.using(alias()).filter(channel=channel)
        rows = rows.filter(sequence__gt=first, sequence__lte=reached.sequence).order_by("sequence")
        return [Position(channel.life, *each) for each in rows.values_list("sequence", "tag")]


def _blocks(said: bytes, *, strict: bool) -> Iterator[dict[str, str]]:
    """Yield the whole blocks of an event stream as this app writes it: line ends are LF alone."""
    *blocks, rest = _COMMENT.sub(b"", said).split(b"\n\n")
    if strict and rest:
        raise AssertionError(f"A burst ends in mid-block: {rest[-80:]!r}")
    for block in blocks:
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields and name == "data" else value
        yield fields


def _complaint(got: Sequence[Position], due: Sequence[Position], channel: Channel | None) -> str:
    """Return what is wrong with what a client got of a channel; empty if nothing is."""
    had, stored = set(got), set(due)
    lost = [each for each in due if each not in had]
    repeated = [each for each, times in Counter(got).items() if times > 1]
    # What is older than all that is stored was removed since; so was another life, with its channel.
    kept = [each for each in got if channel is not None and each.life == channel.life]
    if channel is not None:
        first = Event.objects.using(alias()).filter(channel=channel).order_by("sequence").first()
        oldest = first.sequence if first is not None else channel.head + 1
        kept = [each for each in kept if each.sequence >= oldest]
    foreign = [each for each in kept if each not in stored]
    found = {"lost": lost, "repeated": repeated, "not stored": foreign}
    parts = [f"{len(each)} {what} ({', '.join(map(str, each[:3]))})" for what, each in found.items() if each]
    if not parts and any(a.life == b.life and a.sequence > b.sequence for a, b in pairwise(got)):
        parts = ["another order"]
    return f"{', '.join(parts)}; {len(got)} received, {len(due)} due" if parts else ""
