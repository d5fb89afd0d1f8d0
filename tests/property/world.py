"""A small world: a database, a few processes' hubs, and clients that are cut off in mid-frame.

What is real: the database, `publish` and `finish`, trimming, the hub, the judge, the stream loop and
every byte it yields. What is not: time, the channel layer (wakes are kept and handed over when,
where and as often as the test wants) and the processes, which are hubs without their side tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from unittest import mock

from django.db import OperationalError, transaction
from django.test import override_settings
from django.utils import timezone

from sse_polling import database, gate, history, hub, publishing, stream, wake
from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.exceptions import ChannelFinished
from sse_polling.history import reading, retention
from sse_polling.lifecycle import Node
from sse_polling.models import Channel, Event
from sse_polling.protocol.cursor import parse_cursor
from sse_polling.publishing import Draft
from tests.harness.eventsource import Parser
from tests.property.committed import ChannelModel, Ledger, Place, Version
from tests.timeless import Timeless, timeless

__all__ = ["CHANNELS", "Client", "World"]

CHANNELS = ("a", "b")
SETTINGS: dict[str, Any] = {
    "BURST": {
        "max_events": 3,
        "max_bytes": 1024,
        "max_seconds": 30,
        "linger_seconds": 0.5,
        "hold_seconds": 2,
    },
    "TAIL": {"max_events": 3, "max_bytes": 2048, "total_bytes": 4096, "idle_seconds": 100},
    "RETENTION": {"max_events": 5, "max_age_seconds": 1000},
    "HEARTBEAT_SECONDS": 0.7,
}
TEXTS = {
    "short": "",
    "a line": "\n",
    "lines": "\r\nx\r",
    "wide": "é" * 90,
    "long": "x" * 350,
    "too long for a burst": "x" * 1100,
    "blank lines": " \n\n",
    "mark": "\ufeff",
}
MOST_STEPS = 400


class RolledBackError(Exception):
    """Ends a transaction without its commit."""


class Client:
    """A reader that keeps its cursor as a browser does, over any number of streams."""

    def __init__(self, world: World, channels: tuple[str, ...], *, several: bool, mode: str) -> None:
        self.world = world
        self.channels = channels
        self.several = several
        self.mode = mode
        self.ledger = Ledger(world.models, channels, several=several)
        self.cursor = ""
        self.stopped = False  # by 204
        self.hub: hub.Hub | None = None
        self.connection: Connection | None = None
        self.parser = Parser()
        self.opened = False
        self.items = 0  # events and gaps of this stream
        self._session: AsyncGenerator[bytes, None] | None = None
        self._task: asyncio.Task[bytes] | None = None
        if mode == "cursor":
            self.cursor = publishing.cursor(*channels) if several else publishing.cursor(channels[0])
            if several and len(channels) == 1:
                self.cursor = publishing.format_cursor([(channels[0], history.head(channels[0]).from_now)])
            self.ledger.opening(self.cursor, mode)

    @property
    def connected(self) -> bool:
        return self._session is not None

    @property
    def waits(self) -> bool:
        """True while its stream has nothing to send."""
        return self._task is not None and not self._task.done()

    def connect(self, to: hub.Hub, *, finite: bool) -> None:
        if self.connected or self.stopped:
            return
        self.hub, self.opened, self.items = to, False, 0
        self.parser = Parser(last_event_id=self.cursor)
        self.ledger.connects()
        self._session = self._open(to, finite=finite)

    async def _open(self, to: hub.Hub, *, finite: bool) -> AsyncGenerator[bytes, None]:
        self.connection = Connection(channels=self.channels, door="test", opened=self.world.time.time())
        text = self.cursor or ("earliest" if self.mode == "earliest" else "")
        opened = await stream.open_stream(
            to,
            self.connection,
            parse_cursor(text, several=self.several),
            several=self.several,
            finite=finite,
            config=get_config(),
            node=self.world.node,
            rng=self.world.rng,
            clock=self.world.time.time,
        )
        if opened is None:
            yield b""  # 204
            return
        chunks = opened.run()
        try:
            # What is at hand comes with the opening, which is looked at by itself.
            opening, end, rest = (await anext(chunks)).partition(b"\n\n")
            yield opening + end
            if rest:
                yield rest
            async for chunk in chunks:
                yield chunk
        finally:
            opened.close()
            await chunks.aclose()

    def read(self, *, most: int = 1, cut_at: int | None = None) -> bool:
        """Take up to *most* chunks that come without time passing; tell whether any came.

        *cut_at*: the last of them arrives only up to that byte, and then the client is gone.
        """
        came = False
        for number in range(most):
            chunk = self._next()
            if chunk is None:
                break
            came = True
            cut = cut_at if number == most - 1 else None
            try:
                self._take(chunk[:cut] if cut is not None else chunk, whole=cut is None or cut >= len(chunk))
            except AssertionError:
                self.world.broken = True
                raise
        if cut_at is not None and self.connected:
            self.cut()
        return came

    def _next(self) -> bytes | None:
        if self._session is None:
            return None
        if self._task is None:
            self._task = self.world.time.start(anext(self._session))
        else:
            self.world.time.settle()
        if not self._task.done():
            return None
        task, self._task = self._task, None
        if task.cancelled():  # its hub was stopped
            self.cut()
            return None
        error = task.exception()
        if isinstance(error, StopAsyncIteration | OperationalError):
            self._session = None
            return None
        if error is not None:
            raise error
        return task.result()

    def _take(self, chunk: bytes, *, whole: bool) -> None:
        if not chunk and whole:
            assert self.ledger.may_stop(), f"204 for a client at {self.ledger.places}"
            self.stopped = True
            return
        messages = self.parser.feed(chunk)
        if whole:
            assert self.parser.is_clean or chunk == b":\n", f"a chunk ends within a frame: {chunk[-80:]!r}"
        if not self.opened and (whole or self.parser.last_event_id != self.cursor):
            self.opened = True
            self.ledger.opening(self.parser.last_event_id, self.mode)
        for message in messages:
            self.ledger.message(message.type, message.data, message.last_event_id)
        self.items += sum(message.type != "close" for message in messages)
        most = SETTINGS["BURST"]["max_events"]
        assert self.items <= most, f"{self.items} events in a burst of at most {most}"
        self.cursor = self.parser.last_event_id

    def cut(self) -> None:
        """Disconnect: the server's task is cancelled, wherever it is."""
        session, task, self._session, self._task = self._session, self._task, None, None
        if task is not None and not task.done():
            task.cancel()
            self.world.time.settle()
        if session is not None:
            slow, self.world.time.slow = self.world.time.slow, False
            self.world.time.run(session.aclose())
            self.world.time.slow = slow

    def drain(self) -> None:
        if self.connection is not None and self.connected:
            self.connection.leave("drain")


class World:
    """Everything that one run of the state machine touches."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.time: Timeless = self._stack.enter_context(timeless())
        self._stack.enter_context(override_settings(SSE_POLLING=SETTINGS))
        for module, name, value in (
            (reading, "PAGE", 2),
            (retention, "_BATCH", 2),
            (hub, "JUDGE_SECONDS", 0.0),
            (wake, "send", self._send),
            (stream, "CHUNK_BYTES", 400),
            # A call fails at once while the database is away: waiting at the gate is test_gate.py's.
            (database, "PATIENCE_SECONDS", 0.0),
            (gate, "PATIENCE_SECONDS", 0.0),
            (gate, "FIRST_PAUSE", 0.0),
        ):
            self._stack.enter_context(mock.patch.object(module, name, value))
        logging.getLogger("sse_polling").setLevel(logging.CRITICAL)
        self._stack.callback(logging.getLogger("sse_polling").setLevel, logging.NOTSET)
        Event.objects.all().delete()
        Channel.objects.all().delete()
        self.models = {name: ChannelModel(name) for name in CHANNELS}
        self.rng = Random(1)
        self.registry = Registry()
        self.node = Node(self.registry)
        self.hubs = [hub.Hub(self.time.loop), hub.Hub(self.time.loop)]
        self.clients: list[Client] = []
        self.wakes: list[wake.Wake] = []
        self.backups: list[tuple[str, dict[str, Any], list[Event], Version]] = []
        self.keys: dict[str, dict[str, Place]] = {name: {} for name in CHANNELS}
        self.broken = False  # what was wrong has been said
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self.time.slow = False
        for client in self.clients:
            client.cut()
        for each in self.hubs:
            each.stop()
        self._stack.close()

    # Publishing

    def _send(self, wakes: Any) -> None:
        self.wakes += wakes

    def hear(self, waking: wake.Wake, where: int) -> None:
        self.hubs[where].wake(waking)

    def publish(
        self,
        drafts: list[Draft],
        *,
        finish: str | None = None,
        outcome: str = "commit",
        heard: tuple[int, ...] = (),
        meanwhile: Client | None = None,
    ) -> None:
        """Publish in one transaction; *meanwhile* a client reads before it ends."""
        drafts = [replace(draft, data=f"{next(self._numbers)}{TEXTS[draft.data]}") for draft in drafts]
        before = len(self.wakes)
        placed: list[Any] = []
        finished = {name for name, model in self.models.items() if _is_end(model.now.head)}
        try:
            with transaction.atomic():
                try:
                    if drafts:
                        placed += publishing.publish_many(CHANNELS[0], drafts)
                        keys = [each.key for each in drafts]
                        assert [each.key for each in placed] == keys, f"published with keys {keys}: {placed}"
                except ChannelFinished:
                    allowed = [draft for draft in drafts if draft.key in self.keys[draft.channel or ""]]
                    assert any(draft.channel in finished and draft not in allowed for draft in drafts)
                if finish is not None:
                    placed.append(publishing.finish(finish))
                if outcome == "savepoint":
                    with transaction.atomic():
                        for name in set(CHANNELS) - finished - {finish}:
                            publishing.publish(name, "of a savepoint that is rolled back")
                        transaction.set_rollback(True)
                assert self.wakes[before:] == [], "woken before the commit"
                if meanwhile is not None:
                    meanwhile.read(most=4)
                if outcome == "rollback":
                    raise RolledBackError
        except RolledBackError:
            assert self.wakes[before:] == [], "woken although it was rolled back"
            return
        self._committed(placed)
        sent = self.wakes[before:]
        grown = {event.channel for event in placed if event.position == self._head(event.channel)}
        told = {(name, life, sequence) for name, life, sequence, *_ in sent}
        for name in grown - finished:
            head = self._head(name)
            assert head is None or (name, head[0], head[1]) in told or self._nothing_new(placed, name), (
                f"nobody was woken for {name} at {head}: {told}"
            )
        for where in heard:
            for waking in sent:
                self.hear(waking, where)
        self._held_are_told({name for name, _, _ in told}, [self.hubs[where] for where in heard])

    def _held_are_told(self, grown: set[str], heard: list[hub.Hub]) -> None:
        """A held stream on a hub that heard the wake has something to send, without any time passing."""
        waiting = [client for client in self.clients if client.waits and client.hub in heard]
        self.time.settle()
        if not self.time.slow and not self.time.jobs and self.time.fail is None:
            for client in waiting:
                # After a restored backup a wake may name a sequence the hub has had; comparing heads tells.
                told = any(name in grown and not self.models[name].forked for name in client.channels)
                assert not told or not client.waits, (
                    f"a held stream of {client.channels} slept through a wake"
                )

    def _committed(self, placed: list[Any]) -> None:
        for event in sorted(placed, key=lambda each: each.sequence):
            model, place = self.models[event.channel], Place(*event.position)
            if event.key is not None and event.key in self.keys[event.channel]:
                known = self.keys[event.channel][event.key]
                assert place == known, f"the key {event.key!r} of {known} was published again as {place}"
                continue
            if place in model.nodes and (event.event == "end" or event.key is not None):
                assert model.nodes[place].data == event.data
                continue
            model.commit(place, event.event, event.data)
            if event.key is not None:
                self.keys[event.channel][event.key] = place

    def _nothing_new(self, placed: list[Any], name: str) -> bool:
        return all(event.key is not None or event.event == "end" for event in placed if event.channel == name)

    def _head(self, name: str) -> Place | None:
        row = Channel.objects.filter(name=name).first()
        return Place(row.life, row.head, row.head_tag) if row else None

    # Trimming, erasing, backups: done to the rows, then told to the model

    def trim(self, *, later: float, steps: int) -> None:
        now = timezone.now() + timedelta(seconds=later)
        for number, _ in enumerate(history.trim(get_config(), now=now), 1):
            self._look_at_rows()
            if number == steps:
                return

    def erase(self, name: str, *, steps: int) -> None:
        for number, _ in enumerate(history.erase(name), 1):
            self._look_at_rows()
            if number == steps:
                return

    def _look_at_rows(self) -> None:
        for name, model in self.models.items():
            row = Channel.objects.filter(name=name).first()
            if row is None:
                model.erased()
                self.keys[name].clear()
                continue
            head = model.now.head
            assert head is not None
            assert head.place == Place(row.life, row.head, row.head_tag)
            kept = list(row.events.order_by("sequence").values_list("sequence", flat=True))
            assert kept == list(range(row.head - len(kept) + 1, row.head + 1)), f"{name} has holes: {kept}"
            first = kept[0] if kept else None
            if first != model.now.first:
                model.lost(first)
                self.keys[name] = {
                    key: place for key, place in self.keys[name].items() if place.sequence in kept
                }

    def back_up(self, name: str) -> bool:
        row = Channel.objects.filter(name=name).values().first()
        if row is not None:
            self.backups.append(
                (name, row, list(Event.objects.filter(channel_id=row["id"])), self.models[name].now)
            )
        return row is not None

    def restore(self, number: int) -> None:
        if not self.backups:
            return
        name, row, events, version = self.backups[number % len(self.backups)]
        with transaction.atomic():
            Event.objects.filter(channel__name=name).delete()
            Channel.objects.filter(name=name).delete()
            Channel.objects.create(**row)
            Event.objects.bulk_create(events)
        self.models[name].restored(version)
        self.keys[name] = {
            each.key: Place(row["life"], each.sequence, each.tag) for each in events if each.key
        }

    # Processes

    def compare(self, where: int) -> None:
        task = self.time.start(self.hubs[where].comparison.compare())
        if task.done() and not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), OperationalError)

    def restart(self, where: int) -> None:
        """As ``kill -9``: its clients are cut, all it knew is gone."""
        for client in self.clients:
            if client.hub is self.hubs[where]:
                client.cut()
        self.hubs[where].stop()
        self.time.settle()
        self.hubs[where] = hub.Hub(self.time.loop)

    def end(self) -> None:
        """Let everything be well again, and see that every client gets everything."""
        self.time.slow, self.time.fail = False, None
        self.time.settle()
        for name, model in self.models.items():
            if not _is_end(model.now.head):
                self.publish([Draft("short", channel=name)])  # and every wake of it is lost
        for where in range(len(self.hubs)):
            self.time.run(self.hubs[where].comparison.compare())
        for number, client in enumerate(self.clients):
            client.cut()
            quiet = 0
            for _ in range(MOST_STEPS):
                if client.stopped or quiet == 2:
                    break
                client.connect(self.hubs[number % len(self.hubs)], finite=True)
                while client.read():
                    pass
                quiet = 0 if client.items else quiet + 1
                client.cut()
            assert client.stopped or quiet == 2, f"never done: {client.ledger.got[-10:]}"
            assert client.stopped or not client.ledger.caught_up(), (
                f"{client.ledger.caught_up()} after {client.ledger.got[-10:]}"
            )
        assert len(self.registry) == 0
        for each in self.hubs:
            assert not any(live.waiters for live in each.tails), "a stream left its waiter behind"


def _is_end(node: Any) -> bool:
    return node is not None and node.event == "end"
