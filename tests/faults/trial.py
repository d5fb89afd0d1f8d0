"""One trial: clients read, publishers publish, a fault strikes and heals, and what came is compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.harness.connection import request
from tests.harness.proxy import Proxy

from .fleet import Fleet
from .judgement import compare_publishers, compare_readers
from .publishers import Known
from .readers import Pace, Reader
from .streams import BULK, HELD
from .verdict import Verdict

__all__ = ["BULK_EVENTS", "READERS", "Trial", "run", "trial_on"]

T = TypeVar("T")
AnyReader = TypeVar("AnyReader", bound=Reader)

READERS = 50
CHANNELS = 4
TRANSACTIONS_PER_SECOND = 10.0
WARM_UP_SECONDS = 60.0
CATCH_UP_SECONDS = 60.0
END_SECONDS = 60.0
HEARING_SECONDS = 30.0
BULK_EVENTS = 160


@dataclass(slots=True)
class Trial:
    """What a fault may lay hands on while it strikes."""

    fleet: Fleet
    rng: Random
    channels: list[str]
    readers: list[Reader] = field(default_factory=list)
    #: Keep every line that a reader reads, to tell where it differs; else a digest of them.
    keep: bool = True
    #: Transactions a second of each of the four publishing threads.
    pace: float = TRANSACTIONS_PER_SECOND
    known: Known = field(default_factory=Known)
    #: When an event was published, and the seconds until a reader had it; of all the first readers.
    latencies: list[tuple[float, float]] = field(default_factory=list)
    #: Channels that nobody publishes to while the trial runs, with a large history.
    bulk: list[str] = field(default_factory=list)
    #: Transactions that are never to be seen, beside those that the publishers know of.
    unseen: set[tuple[str, str]] = field(default_factory=set)
    _tasks: dict[asyncio.Task[None], Reader] = field(default_factory=dict)
    publishing: bool = False

    # For faults

    async def pause(self, seconds: float) -> None:
        """Let time pass. Raises what a reader has failed with meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            await asyncio.sleep(min(left, 0.1))

    async def call(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call what blocks, in a thread, while the readers go on."""
        return await asyncio.to_thread(function, *args, **options)

    async def until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> float:
        """Wait until the condition holds and return how long that took."""
        began = time.monotonic()
        while not condition():
            self.check()
            if time.monotonic() - began > seconds:
                raise AssertionError(f"after {seconds} s: {what}\n{self.describe()}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def start_publishing(self) -> None:
        """Let each thread of the publishers publish to two channels, so that a locked one stops but two."""
        names = self.channels
        self.publishing = True
        await asyncio.gather(
            *(
                self.call(
                    publisher.ask,
                    "start",
                    name=f"p{index}.{secrets.token_hex(2)}",
                    channels=[
                        [
                            names[(2 * index + thread) % len(names)],
                            names[(2 * index + thread + 1) % len(names)],
                        ]
                        for thread in range(2)
                    ],
                    per_second=self.pace,
                    seed=self.rng.randrange(2**32),
                )
                for index, publisher in enumerate(self.fleet.publishers)
            )
        )

    async def stop_publishing(self) -> None:
        """Let every publisher end what it has begun, and read what they know."""
        if self.publishing:
            answers = await asyncio.gather(*(self.call(each.ask, "stop") for each in self.fleet.publishers))
            self.publishing = False
            assert all(answer["ended"] for answer in answers), "a publisher did not end its transaction"
        self.learn()

    def learn(self) -> None:
        """Read what the publishers have logged so far."""
        for publisher in self.fleet.publishers:
            for line in publisher.news():
                self.known.take(line)

    def add_reader(self, name: str, channels: Sequence[str], **options: Any) -> Reader:
        """Let one more client read, from the beginning."""
        servers = options.pop("servers", self.fleet.urls)
        rng = Random(self.rng.randrange(2**32))
        return self.add(Reader(name, servers, channels, rng=rng, keep=self.keep, **options))

    def add(self, reader: AnyReader) -> AnyReader:
        """Let this client read."""
        self.readers.append(reader)
        task = asyncio.create_task(reader.read(), name=reader.name)
        self._tasks[task] = reader
        return reader

    async def add_slow_readers(self, count: int, pace: Pace) -> list[Reader]:
        """Let clients read a large history of their own, and one live channel, as slowly as that."""
        bulk = f"{self.channels[0].rpartition('.')[0]}{BULK}"
        await self.call(self.fleet.publishers[1].ask, "fill", channel=bulk, count=BULK_EVENTS, size=16_000)
        self.bulk.append(bulk)
        return [
            self.add_reader(
                f"{pace}-{index}",
                [bulk] if index % 3 else [bulk, self.channels[index % CHANNELS]],
                pace=pace,
                abandons=index % 2 == 0,
            )
            for index in range(count)
        ]

    async def misbehave(self, proxy: Proxy, seconds: float, *, mean_bytes: float, delay: float) -> None:
        """Let a proxy delay and cut, then refuse, then swallow, and then behave again."""
        try:
            proxy.delay(0, delay)
            proxy.cut_at_random(mean_bytes)
            await self.pause(seconds * 0.6)
            await self.call(proxy.refuse)
            await self.call(proxy.cut)
            await self.pause(seconds * 0.2)
            await self.call(proxy.heal)
            proxy.mute()
            await self.pause(seconds * 0.2)
        finally:
            await self.call(proxy.heal)

    # The phases

    def start_readers(
        self,
        count: int,
        servers: Sequence[str],
        *,
        on_latency: Callable[[float, float], None] | None = None,
    ) -> None:
        """Start clients at different moments; every third reads several channels."""
        rng = self.rng
        for index in range(count):
            channels = (
                rng.sample(self.channels, rng.randint(2, CHANNELS))
                if index % 3 == 0
                else [self.channels[index % CHANNELS]]
            )
            self.add_reader(
                f"reader-{index}",
                channels,
                servers=servers,
                delay=rng.uniform(0, 1),
                on_latency=on_latency or (lambda at, late: self.latencies.append((at, late))),
            )

    async def warm_up(self) -> None:
        """Wait until every reader has read something and has come back for more."""
        await self.until(
            lambda: all(reader.events and reader.connections > 1 for reader in self.readers),
            seconds=WARM_UP_SECONDS,
            what="not every reader has read and come back",
        )

    async def heads(self) -> dict[str, int]:
        """Return what is committed now, as soon as the database tells."""
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while True:
                try:
                    return await self.call(self.fleet.store.heads, self.channels + self.bulk)
                except Exception:  # noqa: BLE001 - it is coming back; the time-out bounds it
                    await asyncio.sleep(0.1)

    async def caught_up(self) -> float:
        """Wait until every reader has all that is committed now, and return how long that took."""
        began = time.monotonic()
        heads = await self.heads()
        await self.until(
            lambda: all(reader.has_reached(heads) for reader in self.readers),
            seconds=CATCH_UP_SECONDS,
            what=f"not every reader has reached {heads}",
        )
        return time.monotonic() - began

    async def hearing(self) -> float:
        """Wait until every server says that the channel layer wakes it; return how long that took."""
        began = time.monotonic()
        while deaf := [name for name, state in (await self._layers()).items() if state not in {"live", None}]:
            self.check()
            if time.monotonic() - began > HEARING_SECONDS:
                raise AssertionError(
                    f"not every server hears of the layer again: {deaf}\n{self.fleet.logs()}"
                )
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def _layers(self) -> dict[str, str | None]:
        answers = [await request(f"{server.url}/events/ready/") for server in self.fleet.servers]
        names = [server.name for server in self.fleet.servers]
        return {name: json.loads(each.text)["layer"] for name, each in zip(names, answers, strict=True)}

    def check(self) -> None:
        """Raise what a reader's task has died of, or what a reader complains about."""
        for task, reader in self._tasks.items():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise AssertionError(f"a reader died: {error!r}: {reader.where()}") from error
            assert not reader.complaints, f"{reader.where()}\n{self.fleet.logs()}"

    async def finish(self) -> None:
        """End every channel and wait until every reader was told so."""
        await self.call(self.fleet.publishers[-1].ask, "finish", channels=self.channels + self.bulk)
        await self.until(
            lambda: all(task.done() for task in self._tasks),
            seconds=END_SECONDS,
            what="not every reader was sent the end",
        )
        self.check()

    def describe(self) -> str:
        """Say where each reader is that is not done, and what the processes printed last."""
        late = [reader.where() for task, reader in self._tasks.items() if not task.done()]
        return "\n".join([f"{len(late)} readers are not done:", *late[:8], self.fleet.logs()])

    async def close(self, *, failed: bool) -> None:
        """End the readers and leave the fleet whole."""
        for task, reader in self._tasks.items():
            reader.hurry()
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in self.readers:
            reader.close()
        await self.call(lambda: self.fleet.mend(anew=failed))

    def compare(self) -> None:
        """Assert that what came is what was committed, and what was committed is what should be."""
        channels = self.channels + self.bulk
        keys = compare_readers(self.readers, self.fleet.store, channels, keep=self.keep)
        compare_publishers(self.known, keys, unseen=self.unseen)


@contextlib.asynccontextmanager
async def trial_on(
    fleet: Fleet, *, seed: int, keep: bool = True, pace: float = TRANSACTIONS_PER_SECOND
) -> AsyncIterator[Trial]:
    """Give a trial on channels that nobody has used, and leave the fleet whole."""
    token = secrets.token_hex(4)
    channels = [f"{token}.{letter}" for letter in "abc"] + [f"{token}{HELD}"]
    trial = Trial(fleet, Random(seed), channels, keep=keep, pace=pace)
    trial.learn()
    trial.known = Known()
    failed = True
    try:
        yield trial
        failed = False
    finally:
        await trial.close(failed=failed)


async def run(
    fleet: Fleet,
    strike: Callable[[Trial, float], Any],
    seconds: float,
    *,
    seed: int = 0,
    readers: int = READERS,
    proxies: bool = False,
) -> Verdict:
    """Run one trial to its end and return its figures. Raises AssertionError with what is wrong.

    *proxies*: clients reach the servers through proxies.
    """
    verdict = Verdict()
    servers = [proxy.url for proxy in fleet.client_proxies] if proxies else fleet.urls
    async with trial_on(fleet, seed=seed) as trial:
        await trial.start_publishing()
        trial.start_readers(readers, servers)
        await trial.warm_up()
        verdict.began = time.time()
        await strike(trial, seconds)
        verdict.healed = time.time()
        if not trial.publishing:
            await trial.start_publishing()
        verdict.recovery = await trial.caught_up()
        await trial.hearing()
        verdict.hearing = time.time() - verdict.healed
        await trial.pause(0.5)
        await trial.stop_publishing()
        await trial.finish()
        await trial.call(trial.compare)
        _check_rotation(trial, servers)
        return verdict.fill(trial.latencies, trial.known, trial.readers)


def _check_rotation(trial: Trial, servers: Sequence[str]) -> None:
    """Assert that the reconnects led to every process."""
    for reader in trial.readers:
        assert len(reader.served) > 1 or reader.connections < 8, f"only one served {reader.where()}"
    assert len(set().union(*(reader.served for reader in trial.readers))) == len(servers)
