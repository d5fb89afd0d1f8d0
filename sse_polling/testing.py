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
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync

from .conf import get_config
from .connections import Connection, Registry
from .database import alias, callers_connection
from .hub import Hub
from .lifecycle import Node
from .models import Event
from .protocol.cursor import parse_cursor
from .protocol.names import check_channel
from .publishing import cursor as cursor_of_now
from .stream import open_stream

__all__ = ["Received", "Transcript"]

MOST_BURSTS = 10_000


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


class Transcript:
    """One client of *channels*, and all that it has received.

    *since*: where it begins, a cursor or ``earliest``; where the channels stand now if None. Access and
    limits on sockets are not asked.
    """

    def __init__(self, *channels: str, since: str | None = None) -> None:
        if not channels:
            raise ValueError("Name at least one channel.")
        self.channels = tuple(dict.fromkeys(check_channel(name) for name in channels))
        self.received: list[Received] = []
        self.gaps: list[dict[str, Any]] = []
        self.bursts = 0
        self.cursor = cursor_of_now(*self.channels) if since is None else since
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
        return self._burst(self.cursor) is None

    def read(self, *, cut: int | None = None) -> list[Received]:
        """Read one burst and return what it brought. *cut*: the connection is lost after so many bytes.

        What a cut leaves unfinished has not arrived, as in a browser.
        """
        said = self._burst(self.cursor)
        if said is None:
            return []
        self.bursts += 1
        blocks = list(_blocks(said if cut is None else said[:cut], strict=cut is None))
        return self._take(blocks)

    def read_all(self) -> list[Received]:
        """Read on until a burst brings nothing."""
        found: list[Received] = []
        for _ in range(MOST_BURSTS):
            more = self.read()
            if not more:
                return found
            found += more
        raise AssertionError(f"{MOST_BURSTS} bursts did not bring this client to the end of {self.channels}.")

    def cut_everywhere(self) -> None:
        """Read the next burst once for each byte at which it can be cut, each time to the end, and check it.

        The client itself has then read to the end.
        """
        begin, received, gaps = self.cursor, list(self.received), list(self.gaps)
        for at in range(len(self._burst(begin) or b"") + 1):
            self.cursor, self.received, self.gaps = begin, list(received), list(gaps)
            self.read(cut=at)
            self.read_all()
            try:
                self.check()
            except AssertionError as error:
                raise AssertionError(f"Cut after {at} bytes: {error}") from None

    def check(self, *, gaps: bool = False) -> None:
        """Raise ``AssertionError`` unless this client has had all up to its cursor, once, in order.

        *gaps*: events may be missing that retention has removed, as ``gap`` has told.
        """
        if self.gaps and not gaps:
            raise AssertionError(f"Lost: {self.gaps}")
        reached = self._positions(self.cursor)
        for name in self.channels:
            got = [each.own_id for each in self.received if each.channel == name]
            due = self._stored(name, until=reached[name])
            if gaps:  # what retention has removed since was received, or not: the rest is judged
                due = [each for each in due if each in set(got)]
                got = [each for each in got if each in set(due)]
            if got != due:
                raise AssertionError(_difference(name, got, due))

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

    def _burst(self, cursor: str) -> bytes | None:
        """Return what the server would send for *cursor* now, None for a 204."""
        with callers_connection():
            return async_to_sync(self._stream)(cursor)

    async def _stream(self, cursor: str) -> bytes | None:
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

    def _positions(self, cursor: str) -> dict[str, int]:
        """Return where *cursor* stands on each channel, by sequence."""
        parsed = parse_cursor(cursor, several=self._several)
        found = {}
        for name in self.channels:
            position = parsed.position(name)
            found[name] = 0 if position is None or parsed.earliest else position.sequence
        return found

    def _stored(self, name: str, *, until: int) -> list[str]:
        """Return the ids of what is stored from this client's begin to the sequence *until*."""
        rows = Event.objects.using(alias()).filter(channel__name=name)
        rows = rows.filter(sequence__gt=self._begin[name], sequence__lte=until).order_by("sequence")
        return [".".join(map(str, each)) for each in rows.values_list("channel__life", "sequence", "tag")]


def _blocks(said: bytes, *, strict: bool) -> Iterator[dict[str, str]]:
    """Yield the whole blocks of an event stream as this app writes it: line ends are LF alone."""
    *blocks, rest = said.replace(b":\n", b"").split(b"\n\n")
    if strict and rest:
        raise AssertionError(f"A burst ends in mid-block: {rest[-80:]!r}")
    for block in blocks:
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields and name == "data" else value
        yield fields


def _difference(channel: str, got: list[str], stored: list[str]) -> str:
    lost = [each for each in stored if each not in set(got)]
    repeated = sorted({each for each in got if got.count(each) > 1})
    foreign = [each for each in got if each not in set(stored)]
    parts = [f"{len(lost)} lost ({lost[:3]}…)"] if lost else []
    parts += [f"{len(repeated)} repeated ({repeated[:3]}…)"] if repeated else []
    parts += [f"{len(foreign)} not stored ({foreign[:3]}…)"] if foreign else []
    return (
        f"Channel {channel}: {', '.join(parts) or 'another order'}; {len(got)} received, {len(stored)} due."
    )
