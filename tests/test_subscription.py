"""The subscription: it asks the layer end to end whether it hears, and every failure ends in a new start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from channels.layers import InMemoryChannelLayer

from sse_polling import subscription, supervisor
from sse_polling.layer import PROBE, Wake, configured, group_name, own
from sse_polling.subscription import Subscription
from sse_polling.supervisor import supervise
from tests.timeless import Timeless, timeless


class Layer(InMemoryChannelLayer):
    """A layer that goes wrong as told: ``mute``, ``broken``, ``deaf`` (takes everything, brings nothing)."""

    def __init__(self) -> None:
        super().__init__()
        self.how = "well"
        self.adds = 0
        self.addresses: list[str] = []

    async def _obey(self) -> None:
        if self.how == "mute":
            await asyncio.Event().wait()
        if self.how == "broken":
            raise ConnectionError("no Redis")

    async def new_channel(self, prefix: str = "specific") -> str:
        await self._obey()
        address = await super().new_channel(prefix)
        self.addresses.append(address)
        return address

    async def group_add(self, group: str, channel: str) -> None:
        await self._obey()
        self.adds += 1
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._obey()
        await super().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._obey()
        if self.how != "deaf":
            await super().group_send(group, message)


class Ear:
    """A subscription under a supervisor, and what it heard."""

    def __init__(self, time: Timeless, layer: Layer, names: list[str]) -> None:
        self.time, self.layer, self.names = time, layer, names
        self.heard: list[Wake] = []
        self.lives = 0
        self.subscription = Subscription(
            names=lambda: self.names, on_wake=self.heard.append, on_live=self._on_live
        )

        async def start() -> asyncio.Task[None]:
            return supervise("layer", self.subscription.listen, longest=5)

        self.task = time.run(start())
        time.settle()

    def _on_live(self) -> None:
        self.lives += 1

    def told(self, name: str = "a") -> bool:
        """Send a wake of *name* through the layer and tell whether it is heard."""
        before = len(self.heard)
        self.time.run(
            InMemoryChannelLayer.group_send(self.layer, group_name(name), Wake(name, "l", 1).message())
        )
        self.time.settle()
        return len(self.heard) > before


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    made = Layer()
    monkeypatch.setattr(subscription, "own", lambda: made)
    monkeypatch.setattr(supervisor.random, "uniform", lambda low, high: high)
    return made


@pytest.fixture
def ear(time: Timeless, layer: Layer) -> Iterator[Ear]:
    made = Ear(time, layer, ["a", "b"])
    assert made.subscription.hears
    yield made
    layer.how = "well"
    made.task.cancel()
    time.settle()


def test_it_hears_once_a_probe_has_come_back(time: Timeless, layer: Layer) -> None:
    layer.how = "deaf"
    ear = Ear(time, layer, ["a"])
    assert not ear.subscription.hears
    time.advance(4)
    assert not ear.subscription.hears
    layer.how = "well"
    time.advance(5)
    assert ear.subscription.hears
    assert ear.told()
    ear.task.cancel()
    time.settle()


def test_what_came_before_it_hears_is_asked_for(ear: Ear) -> None:
    assert ear.lives == 1
    assert ear.told()


@pytest.mark.parametrize("how", ["mute", "broken", "deaf"])
def test_it_notices_says_so_once_and_comes_back_by_itself(
    time: Timeless, layer: Layer, ear: Ear, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    layer.how = how
    time.advance(8)
    assert not ear.subscription.hears
    time.advance(120)
    assert caplog.text.count("does not hear from the channel layer") == 1
    layer.how = "well"
    time.advance(11)
    assert ear.subscription.hears
    assert ear.lives == 2
    assert ear.told("a")
    assert ear.told("b")
    assert caplog.text.count("hears from the channel layer again") == 1
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_pauses_between_new_starts_are_five_seconds_at_most(time: Timeless, layer: Layer, ear: Ear) -> None:
    layer.how = "broken"
    time.advance(600)
    starts: list[float] = []

    async def fails(prefix: str = "") -> str:
        starts.append(time.time())
        raise ConnectionError("no Redis")

    layer.new_channel = fails  # type: ignore[method-assign]
    time.advance(60)
    assert 10 <= len(starts) <= 14
    del layer.new_channel  # type: ignore[method-assign]


def test_groups_that_the_layer_forgot_are_joined_again_within_seconds(
    time: Timeless, layer: Layer, ear: Ear
) -> None:
    """As FLUSHALL does to the core layer: everything answers, nobody is told."""
    layer.groups.clear()
    assert not ear.told()
    time.advance(5)
    assert ear.told()
    assert ear.lives == 2
    assert len(layer.addresses) == 1  # without a new start


def test_a_single_forgotten_group_is_joined_again_within_half_a_minute(
    time: Timeless, layer: Layer, ear: Ear
) -> None:
    del layer.groups[group_name("b")]
    assert not ear.told("b")
    time.advance(33)
    assert ear.told("b")


@pytest.mark.parametrize("error", [RuntimeError("died"), asyncio.CancelledError(), TimeoutError("at once")])
def test_a_receive_that_dies_inside_the_library_is_noticed(
    time: Timeless, layer: Layer, ear: Ear, error: BaseException
) -> None:
    receive = layer.receive

    async def dies(channel: str) -> Any:
        raise error

    layer.receive = dies  # type: ignore[method-assign]
    ear.told()
    assert not ear.subscription.hears
    layer.receive = receive  # type: ignore[method-assign]
    time.advance(4)
    assert ear.subscription.hears
    assert ear.told()


def test_a_listening_task_that_dies_in_silence_below_the_layer_is_noticed(
    time: Timeless, layer: Layer, ear: Ear
) -> None:
    """channels_redis' pubsub task can end for good while receive() waits on its queue for ever."""

    async def for_ever(channel: str) -> Any:
        await asyncio.Event().wait()

    receive = layer.receive
    layer.receive = for_ever  # type: ignore[method-assign]
    ear.told()
    assert ear.subscription.hears  # nobody could know yet
    time.advance(5)
    assert not ear.subscription.hears
    layer.receive = receive  # type: ignore[method-assign]
    time.advance(10)
    assert ear.subscription.hears
    assert ear.told()
    assert len(layer.addresses) == 2


def test_joining_a_mute_layer_holds_a_reader_up_for_a_second(time: Timeless, layer: Layer, ear: Ear) -> None:
    layer.how = "mute"
    began = time.time()
    assert not time.run(ear.subscription.join("c"))
    assert time.time() - began <= 1
    time.advance(8)
    assert not ear.subscription.hears  # by now the hub does not ask it to join any more


def test_joins_that_are_slow_in_a_storm_are_waited_for_and_not_taken_for_an_outage(
    time: Timeless, layer: Layer, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    lock, add = asyncio.Lock(), layer.group_add

    async def slow(group: str, channel: str) -> None:
        async with lock:  # as the pubsub layer's
            await asyncio.sleep(0.02)
        await add(group, channel)

    layer.group_add = slow  # type: ignore[method-assign]
    ear.names = [f"c{number}" for number in range(200)]
    joins = [time.start(ear.subscription.join(name)) for name in ear.names]
    time.advance(1)
    assert all(task.done() for task in joins)
    assert 30 <= [task.result() for task in joins].count(True) <= 60
    time.advance(6)
    assert ear.subscription.joined >= set(ear.names)
    assert ear.subscription.hears
    assert "does not hear" not in caplog.text
    assert ear.told("c199")


def test_a_channel_that_is_let_go_is_left_and_one_that_comes_back_meanwhile_is_kept(
    time: Timeless, layer: Layer, ear: Ear
) -> None:
    ear.names = ["b"]
    ear.subscription.part("a")
    time.advance(3)
    assert group_name("a") not in layer.groups or not layer.groups[group_name("a")]
    ear.subscription.part("b")
    time.run(ear.subscription.join("b"))
    time.advance(3)
    assert ear.told("b")


def test_a_channel_that_is_let_go_while_it_is_joined_is_left_again(
    time: Timeless, layer: Layer, ear: Ear
) -> None:
    add = layer.group_add

    async def slow(group: str, channel: str) -> None:
        await asyncio.sleep(0.5)
        await add(group, channel)

    layer.group_add = slow  # type: ignore[method-assign]
    for number in range(100):
        ear.names.append(f"idle.{number}")
        time.start(ear.subscription.join(f"idle.{number}"))
    del ear.names[2:]
    for number in range(100):
        ear.subscription.part(f"idle.{number}")
    time.advance(4)
    assert ear.subscription.joined == {"a", "b"}
    assert len([members for members in layer.groups.values() if members]) == 4  # and the probes', the fleet's


def test_of_several_servers_none_fails_unnoticed(
    time: Timeless, layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "hosts", lambda: 2)
    ear = Ear(time, layer, ["a"])
    assert ear.subscription.hears
    assert len(ear.subscription._probes) == 16
    send, broken = layer.group_send, ear.subscription._probes[5]

    async def one_is_deaf(group: str, message: dict[str, Any]) -> None:
        if group != broken:
            await send(group, message)

    layer.group_send = one_is_deaf  # type: ignore[method-assign]
    time.advance(5)
    assert not ear.subscription.hears
    layer.group_send = send  # type: ignore[method-assign]
    time.advance(10)
    assert ear.subscription.hears
    ear.task.cancel()
    time.settle()


def test_outages_leave_no_address_behind_in_a_layer_that_is_shared(
    time: Timeless, layer: Layer, ear: Ear
) -> None:
    for _ in range(5):
        receive = layer.receive

        async def dies(channel: str) -> Any:
            raise RuntimeError("died")

        layer.receive = dies  # type: ignore[method-assign]
        ear.told()
        time.advance(0.1)
        layer.receive = receive  # type: ignore[method-assign]
        time.advance(6)
        assert ear.subscription.hears
    assert {len(members) for members in layer.groups.values() if members} == {1}


def test_one_subscription_follows_another_on_the_same_layer(time: Timeless, layer: Layer, ear: Ear) -> None:
    """A hub that ended for want of readers resets its layer; the next hub must not lose its groups by it."""
    resetting = asyncio.Event()

    async def reset(*args: Any) -> None:
        await resetting.wait()
        layer.channels.clear()
        layer.groups.clear()

    with mock.patch.object(subscription, "reset", reset):
        ear.task.cancel()
        time.settle()
        other = Ear(time, layer, ["a"])
        assert not other.subscription.hears
        resetting.set()
        time.settle()
    assert other.subscription.hears
    assert other.told()
    other.task.cancel()
    time.settle()


def test_a_loop_has_one_layer_of_its_own_however_many_hubs_it_sees(settings: Any) -> None:
    """channels_redis wraps the loop's close for each, and keeps them all."""
    redis = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": {**redis, "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]}}}

    async def layers() -> set[int]:
        return {id(own()) for _ in range(100)}

    assert len(asyncio.run(layers())) == 1

    async def differs() -> bool:
        return own() is not configured()

    assert asyncio.run(differs())
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert not asyncio.run(differs())  # it works by being shared


def test_many_groups_are_joined_some_at_a_time(time: Timeless, layer: Layer) -> None:
    at_once, most = 0, 0
    add = layer.group_add

    async def slow(group: str, channel: str) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        await add(group, channel)

    layer.group_add = slow  # type: ignore[method-assign]
    ear = Ear(time, layer, [f"c{number}" for number in range(1000)])
    time.advance(1)
    assert ear.subscription.hears
    assert len(ear.subscription.joined) == 1000
    assert most == subscription.JOINS
    ear.task.cancel()
    time.settle()


def test_it_ends_when_it_is_told_to_however_mute_the_layer(time: Timeless, layer: Layer, ear: Ear) -> None:
    layer.how = "mute"
    time.advance(20)
    ear.task.cancel()
    time.advance(11)
    assert ear.task.cancelled()


def test_a_probe_is_no_wake_and_nonsense_is_logged(
    time: Timeless, layer: Layer, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    time.run(layer.group_send(group_name("a"), {"type": PROBE}))
    for nonsense in ({}, {"channel": "a"}, {"channel": ["a"], "life": "x", "sequence": 1}):
        time.run(layer.group_send(group_name("a"), {"type": "strange", **nonsense}))
    time.settle()
    assert ear.heard == []
    assert caplog.text.count("is no wake") == 3
    assert ear.subscription.hears


def test_a_wake_of_an_older_version_has_no_tag() -> None:
    message = Wake("a", "life", 3, "tag", ends_burst=True).message()
    assert Wake.of(message) == Wake("a", "life", 3, "tag", ends_burst=True)
    del message["tag"], message["ends_burst"]
    assert Wake.of(message) == Wake("a", "life", 3, "-")
