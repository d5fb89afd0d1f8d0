"""From a request to an answer: what both doors share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError
from django.http import QueryDict

from sse_polling import access, finish, hub, pages, publish
from sse_polling.connections import registry
from sse_polling.door import answer
from sse_polling.hub import Hub
from sse_polling.lifecycle import Refusal, node
from sse_polling.nodes.beat import LIVE_CHANNEL, beat
from sse_polling.ways import Answer
from tests.harness.eventsource import Message, Parser

pytestmark = pytest.mark.django_db(transaction=True)


class Request:
    door = "test"
    address = "127.0.0.1"
    scope: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def __init__(self, query: str = "", **headers: str) -> None:
        self.GET = QueryDict(query)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.plain_headers = {name.lower(): value for name, value in self.headers.items()}
        self.user: Any = None

    async def load_user(self) -> Any:
        return AnonymousUser()


@pytest.fixture(autouse=True)
async def _hub(settings: Any) -> AsyncIterator[None]:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "PRESET": "reclaim"}
    access.cache.clear()
    yield
    Hub.current().stop()
    assert len(registry) == 0


async def read(given: Answer) -> list[Message]:
    assert given.stream is not None
    parser = Parser()
    return [message async for chunk in given.stream.run() for message in parser.feed(chunk)]


async def test_a_reconnect_to_a_warm_channel_asks_the_database_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = await sync_to_async(publish)("a", "one")
    await sync_to_async(publish)("a", "two")
    assert [
        each.data for each in await read(await answer(Request(Last_Event_ID=stored.id), ["a"], several=False))
    ]

    async def no_database(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(hub, "run", no_database)
    monkeypatch.setattr(pages, "run", no_database)
    monkeypatch.setattr(access, "database_sync_to_async", no_database)
    given = await answer(Request(Last_Event_ID=stored.id), ["a"], several=False)
    assert [each.data for each in await read(given)] == ["two"]


async def test_a_full_process_answers_503_in_words(settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1}
    held = await answer(Request(), ["a"], several=False)
    given = await answer(Request(), ["a"], several=False)
    assert (given.status, given.body) == (503, b"Connection pool exhausted. Retry in 30s.")
    assert dict(given.headers)["Retry-After"] == "30"
    assert held.stream is not None
    held.stream.close()


async def test_a_client_that_asks_for_politeness_gets_a_stream_with_its_own_cursor(settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1}
    held = await answer(Request(), ["a"], several=False)
    given = await answer(Request("busy=stream", Last_Event_ID="life.7.abcde"), ["a"], several=False)
    parser = Parser(strict=True)
    assert parser.feed(given.body) == []
    assert (given.status, parser.last_event_id) == (200, "life.7.abcde")
    assert parser.retry_ms is not None
    assert 30_000 <= parser.retry_ms <= 39_000
    assert held.stream is not None
    held.stream.close()


async def test_a_database_that_does_not_answer_is_a_polite_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(hub, "run", down)
    given = await answer(Request(Last_Event_ID="life.7.abcde"), ["cold"], several=False)
    assert given.status == 200
    assert b"id: life.7.abcde\n" in given.body
    assert given.stream is None


async def test_a_login_that_the_database_never_answers_is_a_polite_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Waiting(Request):
        async def load_user(self) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(access, "ANSWER_SECONDS", 0.05)
    given = await answer(Waiting(Last_Event_ID="life.7.abcde"), ["a"], several=False)
    assert (given.status, given.stream) == (200, None)
    assert b"id: life.7.abcde\n" in given.body
    assert len(registry) == 0


async def test_a_database_that_goes_in_mid_stream_ends_the_burst_with_a_longer_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(3):
        await sync_to_async(publish)("a", str(number))
    given = await answer(Request("last_event_id=earliest"), ["a"], several=False)
    live = Hub.current().known("a")
    assert live is not None
    assert live.tail is not None
    live.tail.clear()  # what follows must come from the database

    async def down(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(pages, "run", down)
    assert given.stream is not None
    chunks = [chunk async for chunk in given.stream.run()]
    assert given.stream.cause == "database"
    assert int(chunks[-1].split()[1]) >= 5000


async def test_a_cursor_at_the_end_of_every_channel_gets_204() -> None:
    stored = await sync_to_async(finish)("a", {"status": "passed"})
    first = await read(await answer(Request(), ["a"], several=False))
    assert [(each.type, each.data, each.last_event_id) for each in first] == [
        ("end", '{"status":"passed"}', stored.id)
    ]
    assert (await answer(Request(Last_Event_ID=stored.id), ["a"], several=False)).status == 204


@pytest.mark.parametrize(
    ("names", "query", "several", "sentence"),
    [
        (["a/b"], "", False, "Not a channel name"),
        (["poll"], "", False, "taken by an address"),
        ([], "", True, "Name 1 to 10 channels"),
        ([f"c{n}" for n in range(11)], "", True, "got 11"),
        (["a"], "last_event_id=nonsense", False, "Not a cursor"),
        (["a"], f"last_event_id=life.{2**63}.x", False, "is over"),
        (["a"], "last_event_id=" + "x" * 5000, False, "5000 characters"),
        (["a", "b"], "last_event_id=life.1.abcde", True, "the cursor of a stream of one channel"),
        (["a"], "client=short", False, "16 to 64"),
    ],
)
async def test_bad_input_is_refused_with_a_sentence(
    names: list[str], query: str, several: bool, sentence: str
) -> None:
    given = await answer(Request(query), names, several=several)
    assert given.status == 400
    assert sentence in given.body.decode()


async def test_without_a_right_the_answer_is_403(settings: Any) -> None:
    settings.SSE_POLLING = {}
    given = await answer(Request(), ["a"], several=False)
    assert (given.status, given.body) == (403, b"You may not read channel a.")


async def test_a_stream_that_is_never_iterated_is_given_back_by_closing_it() -> None:
    given = await answer(Request(), ["a"], several=False)
    assert given.stream is not None
    assert len(registry) == 1
    given.stream.close()
    given.stream.close()
    assert len(registry) == 0
    assert not any(live.waiters for live in Hub.current().tails)


async def test_a_busy_channel_does_not_starve_another_on_the_same_stream(settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "BURST": {"max_bytes": 200_000, "max_events": 100_000}}
    for _ in range(6):
        await sync_to_async(publish)("busy", "x" * 60_000)
    await sync_to_async(publish)("quiet", "here")
    request = Request("last_event_id=earliest")
    messages = await read(await answer(request, ["busy", "quiet"], several=True))
    assert any('"channel":"quiet"' in each.data for each in messages)


async def test_a_polite_refusal_says_where_a_warm_channel_stands_to_who_has_no_cursor(settings: Any) -> None:
    stored = await sync_to_async(publish)("a", "one")
    await read(await answer(Request(), ["a"], several=False))
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1}
    held = await answer(Request(), ["other"], several=False)
    assert f"id: {stored.id}\n".encode() in (await answer(Request("busy=stream"), ["a"], several=False)).body
    assert b"id:" not in (await answer(Request("busy=stream"), ["cold"], several=False)).body
    assert (
        b"id:" not in (await answer(Request("busy=stream&last_event_id=earliest"), ["a"], several=False)).body
    )
    assert held.stream is not None
    held.stream.close()


# While the process drains


@pytest.fixture
def drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "draining", True)


@pytest.mark.usefixtures("drains")
async def test_while_it_drains_a_stream_is_refused_politely_without_being_asked_to() -> None:
    """A browser never returns from a 503, and the process that takes its place may be seconds away."""
    parser = Parser(strict=True)
    before = node.counts.refused[Refusal.DRAINING]
    given = await answer(Request(Last_Event_ID="life.7.abcde"), ["a"], several=False)
    assert parser.feed(given.body) == []
    assert (given.status, given.stream, parser.last_event_id) == (200, None, "life.7.abcde")
    assert dict(given.headers)["Content-Type"] == "text/event-stream"
    assert parser.retry_ms is not None
    assert 30_000 <= parser.retry_ms <= 39_000
    assert node.counts.refused[Refusal.DRAINING] == before + 1
    assert len(registry) == 0


@pytest.mark.usefixtures("drains")
async def test_those_who_are_refused_come_back_at_different_times() -> None:
    bodies = {(await answer(Request(), ["a"], several=False)).body for _ in range(10)}
    assert len(bodies) > 5


async def test_who_has_no_cursor_is_told_the_head_so_that_nothing_of_its_wait_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = await sync_to_async(publish)("a", "one")
    await read(await answer(Request(), ["a"], several=False))  # now this process knows the channel
    monkeypatch.setattr(node, "draining", True)
    given = await answer(Request(), ["a"], several=False)
    assert f"\nid: {stored.id}\n\n".encode() in given.body
    assert b"id:" not in (await answer(Request(), ["cold"], several=False)).body


@pytest.mark.usefixtures("drains")
@pytest.mark.parametrize("why", ["elsewhere", "ends"])
async def test_with_others_that_serve_or_will_a_client_is_sent_there_soon(
    monkeypatch: pytest.MonkeyPatch, settings: Any, why: str
) -> None:
    monkeypatch.setattr(node, why, True)
    settings.SSE_POLLING = {**settings.SSE_POLLING, "RETRY": {"base_ms": 700, "jitter": 0}}
    away = node.readers
    assert (await answer(Request(), ["a"], several=False)).body == b"retry: 700\n\n"
    assert node.readers <= away  # none more: it is another process's reader from now on


@pytest.mark.usefixtures("drains")
async def test_nobody_is_asked_who_they_are_by_a_process_that_drains() -> None:
    class Unasked(Request):
        async def load_user(self) -> Any:
            raise AssertionError("the user was loaded")

    assert (await answer(Unasked(), ["a"], several=False)).status == 200


@pytest.mark.usefixtures("drains")
async def test_a_bad_request_stays_one_while_it_drains() -> None:
    assert (await answer(Request("client=short"), ["a"], several=False)).status == 400


async def test_a_stream_whose_login_ends_after_the_drains_begin_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late(Request):
        async def load_user(self) -> Any:
            monkeypatch.setattr(node, "draining", True)
            return AnonymousUser()

    given = await answer(Late(Last_Event_ID="life.7.abcde"), ["a"], several=False)
    assert (given.status, given.stream, len(registry)) == (200, None, 0)
    assert b"id: life.7.abcde\n" in given.body


@pytest.mark.usefixtures("drains")
async def test_a_finite_poll_is_refused_politely_too() -> None:
    given = await answer(Request(Last_Event_ID="life.7.abcde"), ["a"], several=False, finite=True)
    assert (given.status, given.stream) == (200, None)
    assert b"id: life.7.abcde\n" in given.body


async def test_who_may_not_look_at_the_fleet_costs_it_no_beat(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused stream of the live channel is cheap; one that is open has all processes beat at once."""
    shown: list[int] = []
    monkeypatch.setattr(beat, "show", lambda: shown.append(len(registry)))
    assert (await answer(Request(), [LIVE_CHANNEL], several=False)).status == 403
    assert shown == []

    class Staff(Request):
        async def load_user(self) -> Any:
            return SimpleNamespace(pk=1, is_authenticated=True, is_active=True, is_staff=True)

    given = await answer(Staff(X_Who="staff"), [LIVE_CHANNEL], several=False)
    assert shown == [1]
    assert given.stream is not None
    given.stream.close()
