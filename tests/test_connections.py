"""Bookkeeping of open streams."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from sse_polling.connections import Connection, Registry


def connection(**options: Any) -> Connection:
    return Connection(channels=("a",), door="view", **options)


def test_releasing_twice_is_releasing_once() -> None:
    registry, one, other = Registry(), connection(), connection()
    registry.take(one)
    registry.take(other)
    registry.release(one)
    registry.release(one)
    assert list(registry) == [other]


def test_a_client_is_found_by_the_name_it_gave_itself() -> None:
    registry, one = Registry(), connection(client="c" * 16)
    registry.take(one)
    registry.take(connection())
    assert registry.find(client="c" * 16) == [one]


def test_the_streams_of_a_client_are_counted_by_its_key() -> None:
    registry = Registry()
    held = [connection(key=key) for key in ("user:1", "user:1", "user:2", None)]
    for each in [*held, *held]:  # a stream is taken again when it begins to run
        registry.take(each)
    assert [registry.count(key=f"user:{pk}") for pk in (1, 2, 3)] == [2, 1, 0]
    for each in [held[0], held[0]]:
        registry.release(each)
    assert registry.count(key="user:1") == 1
    registry.take(held[0])
    assert registry.count(key="user:1") == 2
    for each in held:
        registry.release(each)
    assert (len(registry), registry._by_key) == (0, {})  # no key stays


def test_releasing_what_was_never_taken_counts_nothing() -> None:
    registry, one = Registry(), connection(key="user:1")
    registry.take(one)
    registry.release(connection(key="user:1"))
    assert registry.count(key="user:1") == 1


def test_a_stream_that_is_released_in_the_midst_of_another_release_is_counted_well() -> None:
    """A collection may run anywhere, and its finalizers on the thread that was releasing."""

    class Collecting(dict[str, int]):
        def get(self, key: str, default: Any = None) -> Any:
            if lost:
                registry.release(lost.pop())
            return super().get(key, default)

    registry = Registry()
    registry._by_key = Collecting()
    lost = []
    first, second, third = (connection(key="user:1") for _ in range(3))
    registry.take(first)
    registry.take(second)
    lost.append(first)
    registry.take(third)
    assert (len(registry), registry.count(key="user:1")) == (2, 2)
    for each in (second, third):
        registry.release(each)
    assert registry._by_key == {}


def test_a_release_that_finds_the_lock_taken_is_made_good_by_who_has_it() -> None:
    class Busy:
        """A lock that another thread's release meets just before it is given back."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def acquire(self, *, blocking: bool) -> bool:
            return self.lock.acquire(blocking=blocking)

        def release(self) -> None:
            if late:
                registry.release(late.pop())
            self.lock.release()

    registry, first, second = Registry(), connection(key="user:1"), connection(key="user:1")
    registry.take(first)
    registry.take(second)
    late = [first]
    registry._lock = Busy()  # type: ignore[assignment]
    registry.release(second)
    assert (len(registry), registry._by_key) == (0, {})


def test_threads_that_take_and_release_at_once_leave_nothing() -> None:
    registry = Registry()

    def work(number: int) -> None:
        for _ in range(300):
            each = connection(key=f"user:{number % 2}")
            registry.take(each)
            registry.take(each)
            registry.release(each)
            registry.release(each)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert (len(registry), registry._by_key) == (0, {})


async def test_the_reaper_releases_what_no_task_serves_any_more() -> None:
    async def serve() -> None:
        await asyncio.Event().wait()

    registry = Registry()
    ended, living = asyncio.ensure_future(serve()), asyncio.ensure_future(serve())
    await asyncio.sleep(0)
    lost, held = connection(task=weakref.ref(ended)), connection(task=weakref.ref(living))
    for each in (lost, held, connection()):
        registry.take(each)
    assert registry.reap() == 0
    ended.cancel()
    await asyncio.gather(ended, return_exceptions=True)
    assert registry.reap() == 1
    assert held in list(registry)
    living.cancel()


def test_a_connection_without_a_transport_says_that_it_cannot_be_cut() -> None:
    cut: list[int] = []
    assert not connection().abort()
    assert connection(abort_transport=lambda: cut.append(1)).abort()
    assert cut == [1]


@pytest.mark.parametrize(("reached", "cut"), [(True, True), (None, True), (False, False)])
def test_a_cut_is_what_its_transport_says_of_it(reached: bool | None, cut: bool) -> None:
    one = connection(abort_transport=lambda: reached)
    assert (one.abort(), one.cut) == (cut, cut)
    one.cut = True  # by somebody else, before
    assert (one.abort(), one.cut) == (cut, True)


def test_whoever_is_woken_by_a_cut_knows_that_it_was_one() -> None:
    one = connection()
    seen: list[bool] = []
    one.abort_transport = lambda: seen.append(one.cut)
    one.abort()
    assert seen == [True]


def test_those_taken_first_are_picked_first_and_each_once() -> None:
    registry, held = Registry(), [connection() for _ in range(4)]
    for each in held:
        registry.take(each)
    registry.release(held[1])
    later = time.monotonic() + 1
    picked = [registry.pick(held[3], many=1, before=later) for _ in range(2)]
    assert picked == [held[0], held[2]]
    assert registry.places == 1
    registry.take(held[0])  # as a stream does that begins to run
    assert [registry.pick(held[3], many=1, before=later) for _ in range(2)] == [held[3], None]
    assert len(registry) == 3


def test_who_only_passes_takes_no_place_that_another_would_have_to_make() -> None:
    registry = Registry()
    registry.take(connection(passing=True))
    assert (len(registry), registry.places) == (1, 0)


def test_asking_a_stream_to_leave_whose_loop_is_closed_harms_nobody() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    one = connection(on_leave=partial(loop.call_soon_threadsafe, print))
    one.leave("drain")
    assert one.leaving == "drain"


def test_unguessable_ids_differ() -> None:
    assert len({connection().id for _ in range(50)}) == 50


# Acks


def test_only_streams_that_were_asked_hear_an_ack() -> None:
    registry, asked, other = Registry(), connection(client="c" * 16), connection(client="c" * 16)
    for each in (asked, other):
        registry.take(each)
    registry.ask(asked)
    assert registry.ack(client="c" * 16) == 1
    assert (asked.acked, other.acked) == (True, False)
    assert registry.ack(stream=other.id) == 0
    assert registry.ack(stream="unknown") == registry.ack(client="unknown") == registry.ack() == 0


def test_an_ack_by_the_stream_is_for_that_one_alone() -> None:
    registry, held = Registry(), [connection(client="c" * 16) for _ in range(2)]
    woken: list[int] = []
    for number, each in enumerate(held):
        each.on_leave = partial(woken.append, number)
        registry.take(each)
        registry.ask(each)
    assert registry.ack(stream=held[1].id) == 1
    assert woken == [1]
    assert registry.ack(client="c" * 16) == 2


def test_nothing_stays_of_a_stream_that_was_asked() -> None:
    registry = Registry()
    held = [connection(client=client) for client in ("c" * 16, "c" * 16, "d" * 16, None)]
    for each in held:
        registry.take(each)
        registry.ask(each)
    for each in held:
        registry.release(each)
        assert registry.ack(stream=each.id) == 0
    assert registry._asked == {}
    registry.ask(held[0])  # over before it could be asked
    assert registry._asked == {}


def test_an_ack_asks_no_stream_but_those_of_its_client() -> None:
    """It comes from anybody, as often as they like: what it costs must not grow with the process."""

    class Unwalked(dict[str, Connection]):
        def values(self) -> Any:
            raise AssertionError("an ack walks over all streams")

    registry, asked = Registry(), connection(client="c" * 16)
    registry._live = Unwalked()
    for each in (asked, *(connection(client=f"{number:016}") for number in range(200))):
        registry.take(each)
        registry.ask(each)
    assert registry.ack(client="c" * 16) == registry.ack(stream=asked.id) == 1
    assert registry.ack(client="e" * 16) == registry.ack(stream="unknown") == 0


def test_a_connection_is_found_by_its_number_while_it_is_open() -> None:
    registry, held = Registry(), [connection() for _ in range(3)]
    for each in held:
        registry.take(each)
    assert registry.numbered(held[1].number) is held[1]
    registry.release(held[1])
    assert registry.numbered(held[1].number) is None
    assert not registry.has(held[1])
    assert registry.has(held[2])
