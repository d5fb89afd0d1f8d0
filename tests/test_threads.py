"""A held stream gives its request's thread and connections back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connection, connections

from sse_polling import database, pools, threads
from sse_polling.threads import give_thread_back


def _query() -> threading.Thread:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return threading.current_thread()


def _is_connected() -> bool:
    return connection.connection is not None


@pytest.mark.django_db(transaction=True)
async def test_the_requests_thread_ends_with_its_connection_closed() -> None:
    async with ThreadSensitiveContext():
        own = await sync_to_async(_query)()
        assert await sync_to_async(_is_connected)()
        assert await give_thread_back()
        await sync_to_async(own.join, thread_sensitive=False)(5)
        assert not own.is_alive()
        later = await sync_to_async(threading.current_thread)()
        assert later.name.startswith("sse_polling-request")
        assert not await sync_to_async(_is_connected)()


async def test_the_shared_threads_outlive_the_requests_that_used_them() -> None:
    for _ in range(3):
        async with ThreadSensitiveContext():
            assert await give_thread_back()
            assert await give_thread_back()
            assert (await sync_to_async(threading.current_thread)()).is_alive()
    assert len(threads._shared._threads) <= threads.THREADS


async def test_without_a_request_of_its_own_nothing_is_touched() -> None:
    assert not await give_thread_back()


async def test_another_asgiref_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(SyncToAsync, "context_to_thread_executor")
    stayed: Any = await give_thread_back()
    assert stayed is False


@pytest.mark.django_db(transaction=True)
async def test_at_their_end_the_connection_of_a_thread_that_is_still_busy_is_closed_too() -> None:
    """The pool starts another thread for a call that would close it, which has nothing to close."""
    free = threading.Event()
    wrappers: list[Any] = []
    busy = asyncio.ensure_future(database.run(_keep_a_connection, wrappers, free))
    async with asyncio.timeout(10):
        while not wrappers:  # noqa: ASYNC110 - a thread tells
            await asyncio.sleep(0)
        pool = pools._pools["reading"]
        ending = asyncio.ensure_future(asyncio.to_thread(pools.shutdown))
        while len(pool._threads) == 1:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        free.set()
        await asyncio.gather(busy, ending)
    assert wrappers[0].connection is None


def _keep_a_connection(wrappers: list[Any], until: threading.Event) -> None:
    wrappers.append(connections["default"])
    until.wait(10)
