"""The promise, kept to clients that choose another way in at every connection, cut off wherever they are.

The world and its rules are those of ``machine.py``; a client reads each burst as an event stream, as the
frames of a WebSocket or as the one answer of a long-poll. What is read moves the same ledger
(``committed.py``) by the same cursor: nothing is lost, repeated or reordered between two ways.

An event stream is cut at any byte, a WebSocket after any frame, and an answer that is cut anywhere has not
arrived. These bugs were planted, and this is what was reported:

- an answer's last cursor is the one that the client came with: "… for a client at a:4"
- a closing frame's is that of the opening: the same
- a gap's id is one event further: "after a reset the client stands at 1, behind what was retained: [0]"
- an answer of more than two events is sent without them: "… for a client at a:4"
- a frame of several channels says one of them: KeyError
- `end` is always said: "told that all is over, at …"
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from django.http import QueryDict
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from sse_polling import hub, stream
from sse_polling.conf import get_config
from sse_polling.connections import Connection
from sse_polling.door import gather
from sse_polling.protocol.cursor import parse_cursor
from sse_polling.protocol.names import channel_hash
from sse_polling.publishing import Draft
from sse_polling.ways import Answer, Poll, Socket, Streaming, Way
from tests.property.committed import Place
from tests.property.machine import MOST_CLIENTS, Promise, drafts, few, heard, hubs, modes, readers
from tests.property.world import SETTINGS, Client, World

EXAMPLES = int(os.environ.get("SSE_POLLING_EXAMPLES", "30"))

pytestmark = [pytest.mark.django_db(transaction=True)]

ways = st.sampled_from([Streaming, Poll, Socket])


class Wanderer(Client):
    """A client that comes by another way each time. Without a cursor it does not begin with a long-poll."""

    def __init__(self, world: World, channels: tuple[str, ...], *, several: bool, mode: str) -> None:
        super().__init__(world, channels, several=several, mode=mode)
        self.next_way: type[Way] = Streaming
        self.way: type[Way] = Streaming

    def connect(self, to: hub.Hub, *, finite: bool) -> None:
        if not self.connected:
            self.way = self.next_way if self.cursor or self.next_way is not Poll else Socket
        super().connect(to, finite=finite)

    async def _open(self, to: hub.Hub, *, finite: bool) -> AsyncGenerator[bytes, None]:
        query = QueryDict("wait=0" if finite else "")
        way = self.way(query, several=self.several, config=get_config())
        self.connection = Connection(channels=self.channels, door="test", opened=self.world.time.time())
        text = self.cursor or ("earliest" if self.mode == "earliest" else "")
        opened = await stream.open_stream(
            to,
            self.connection,
            parse_cursor(text, several=self.several),
            several=self.several,
            finite=finite and self.way is not Poll,
            encoder=way.encoder,
            longest_wait=way.longest_wait,
            config=get_config(),
            node=self.world.node,
            rng=self.world.rng,
            clock=self.world.time.time,
        )
        if opened is None:
            yield way.ended(text).body
            return
        if self.way is Poll:
            try:
                yield (await gather(Answer(200, stream=opened))).body
            finally:
                opened.close()
            return
        chunks, edge = opened.run(), b"\n\n" if self.way is Streaming else b"\n"
        try:
            opening, end, rest = (await anext(chunks)).partition(edge)
            yield opening + end
            if rest:
                yield rest
            async for chunk in chunks:
                yield chunk
        finally:
            opened.close()
            await chunks.aclose()

    def _take(self, chunk: bytes, *, whole: bool) -> None:
        if self.way is Streaming:
            super()._take(chunk, whole=whole)
        elif self.way is Socket:
            *lines, rest = chunk.split(b"\n")
            assert not rest or not whole, f"a chunk ends within a frame: {rest!r}"
            for line in lines:
                self._frame(json.loads(line))
        elif whole:
            self._answer(json.loads(chunk))

    def _frame(self, frame: dict[str, Any]) -> None:
        if "heartbeat" in frame:
            return
        if "data" not in frame:
            self._position(frame)
            return
        if frame["event"] == "close":
            self.ledger.message("close", frame["data"], self.cursor)
            return
        assert list(frame)[:4] == ["channel", "id", "event", "data"]
        cursor = frame["last_event_id"] if self.several else frame["id"]
        self._event(frame, cursor)

    def _position(self, frame: dict[str, Any]) -> None:
        """Take an opening or a closing frame, or what stands for a 204."""
        if not self.opened and "end" not in frame:
            self.opened = True
            self.cursor = frame["last_event_id"]
            self.ledger.opening(self.cursor, self.mode)
            return
        assert frame["last_event_id"] == self.cursor, f"{frame} at {self.cursor}"
        self._over(frame["end"], nothing=not self.opened)

    def _answer(self, answer: dict[str, Any]) -> None:
        self.ledger.opening(self.cursor, self.mode)
        for event in answer["events"]:
            self._event(event, self._cursor_after(event))
        assert answer["last_event_id"] == self.cursor, f"{answer} for a client at {self.cursor}"
        self._over(answer["end"], nothing=not answer["events"])

    def _over(self, ended: bool, *, nothing: bool) -> None:
        if ended:
            assert self.ledger.may_stop(), f"told that all is over, at {self.ledger.places}"
            self.stopped = nothing

    def _cursor_after(self, event: dict[str, Any]) -> str:
        """Return the cursor of all channels after *event*, of which an answer says the own id alone."""
        if not self.several:
            return str(event["id"])
        life, sequence, tag = event["id"].split(".")
        places = {**self.ledger.places, event["channel"]: Place(life, int(sequence), tag)}
        return "_".join(f"{channel_hash(name)}.{'.'.join(map(str, place))}" for name, place in places.items())

    def _event(self, event: dict[str, Any], cursor: str) -> None:
        data = event["data"]
        if event["event"] != "gap":
            # The ledger knows what an event stream has: an envelope for several channels, else LF alone.
            told = {name: event[name] for name in ("channel", "id", "event", "data")}
            data = json.dumps(told) if self.several else data.replace("\r\n", "\n").replace("\r", "\n")
        self.ledger.message(event["event"], data, cursor)
        self.items += 1
        most = SETTINGS["BURST"]["max_events"]
        assert self.items <= most, f"{self.items} events in a burst of at most {most}"
        self.cursor = cursor


class Wandering(Promise):
    """The same promise, whatever way a client comes in by."""

    @initialize(who=readers, mode=modes, before=st.lists(drafts, max_size=6))
    def begin(self, who: Any, mode: str, before: list[Draft]) -> None:
        super().begin(who, mode, before)

    @precondition(lambda self: len(self.clients) < MOST_CLIENTS)
    @rule(who=readers, mode=modes)
    def newcomer(self, who: Any, mode: str) -> None:
        channels, several = who
        self.clients.append(Wanderer(self.world, channels, several=several, mode=mode))

    def _by(self, who: int, way: type[Way]) -> None:
        client = self.clients[who % len(self.clients)]
        assert isinstance(client, Wanderer)
        client.next_way = way

    @rule(events=st.lists(drafts, min_size=1, max_size=3), heard=heard, who=few, way=ways)
    def publish_to_who_waits(
        self, events: list[Draft], heard: tuple[int, ...], who: int, way: type[Way]
    ) -> None:
        self._by(who, way)
        client = self.clients[who % len(self.clients)]
        client.connect(self.world.hubs[who % 2], finite=False)
        client.read(most=2)
        self.world.publish(events, heard=heard)
        client.read(most=2)

    @rule(who=few, where=hubs, finite=st.booleans(), most=st.integers(1, 6), way=ways)
    def read(self, who: int, where: int, finite: bool, most: int, way: type[Way] = Streaming) -> None:
        self._by(who, way)
        super().read(who, where, finite, most)

    @rule(who=few, where=hubs, most=st.integers(1, 3), at=st.integers(0, 400), way=ways)
    def read_and_be_cut_off(
        self, who: int, where: int, most: int, at: int, way: type[Way] = Streaming
    ) -> None:
        self._by(who, way)
        super().read_and_be_cut_off(who, where, most, at)


def test_the_promise_holds_whatever_way_a_client_comes_by_each_time() -> None:
    run_state_machine_as_test(
        Wandering,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            derandomize="SSE_POLLING_RANDOM" not in os.environ,
            database=None,
            phases=[Phase.generate] if "NOSHRINK" in os.environ else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
