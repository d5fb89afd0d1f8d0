"""Bookkeeping of open streams."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.lifecycle import capacity, has_room, state


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


def test_new_streams_are_refused_below_the_capacity(settings: Any) -> None:
    settings.SSE_POLLING = {"MAX_SOCKETS": 10, "BREAKER": {"threshold": 0.5}}
    registry = Registry()
    for _ in range(4):
        registry.take(connection())
    assert state(registry, get_config()) == "serving"
    registry.take(connection())
    assert not has_room(registry, get_config())
    assert state(registry, get_config()) == "full"


def test_without_a_setting_the_capacity_follows_the_descriptor_limit(settings: Any) -> None:
    settings.SSE_POLLING = {}
    assert 1 <= capacity(get_config()) <= 10_000


def test_unguessable_ids_differ() -> None:
    assert len({connection().id for _ in range(50)}) == 50
