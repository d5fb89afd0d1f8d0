"""The long-poll, through both doors at ASGI and under WSGI; real servers are in tests/servers."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin

import pytest
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.db import OperationalError
from django.test import Client, override_settings

from sse_polling import access, finish, hub, lifecycle, publish, threads
from sse_polling.conf import get_config
from sse_polling.connections import Connection, registry
from sse_polling.hub import Hub
from sse_polling.lifecycle import Refusal, node
from tests.asgi import application, plain_application

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS = ["events", "last_event_id", "retry", "end"]
HELD = {"hold_seconds": 60, "linger_seconds": 60, "max_seconds": 90}


@pytest.fixture(params=["mount", "view"])
def app(request: pytest.FixtureRequest) -> Any:
    return application if request.param == "mount" else plain_application


@pytest.fixture(autouse=True)
async def _hub(settings: Any) -> AsyncIterator[None]:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "BURST": HELD}
    access.cache.clear()
    yield
    assert len(registry) == 0
    assert len(node.flushing) == 0
    Hub.current().stop()


class Asked:
    """One request, and what was answered."""

    def __init__(self, app: Any, address: str, *, method: str = "GET", **headers: str) -> None:
        path, _, query = address.partition("?")
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"testserver")]
            + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "client": ["127.0.0.1", 1],
            "server": ["127.0.0.1", 2],
        }
        self.app = app
        self.sent: list[Any] = []
        self._gone = asyncio.Event()
        self._asked = False

    def goes(self) -> None:
        self._gone.set()

    async def _receive(self) -> Any:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def run(self) -> Asked:
        began = time.monotonic()
        async with asyncio.timeout(10):
            await self.app(self.scope, self._receive, self._send)
        self.seconds = time.monotonic() - began
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(each.get("body", b"") for each in self.sent[1:])

    @property
    def json(self) -> Any:
        assert self.status == 200, self.body
        answer = json.loads(self.body)
        assert list(answer) == FIELDS
        return answer

    @property
    def data(self) -> list[str]:
        return [each["data"] for each in self.json["events"]]


async def ask(app: Any, address: str, **headers: Any) -> Asked:
    return await Asked(app, address, **headers).run()


async def published(channel: str, *data: str) -> list[str]:
    return [(await sync_to_async(publish)(channel, each)).id for each in data]


async def held(address: str = "/events/other/poll/") -> tuple[Asked, asyncio.Task[Any]]:
    """Take a place."""
    asked = Asked(application, address)
    before = len(registry)
    task = asyncio.create_task(asked.run())
    await until(lambda: len(registry) > before)
    return asked, task


async def until(condition: Any, deadline: float = 5) -> None:
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 - several things' own state
            await asyncio.sleep(0.005)


# Answers


async def test_what_there_is_is_answered_at_once(app: Any) -> None:
    first, second, third = await published("a", "one", "two\n", "three\u2028")
    asked = await ask(app, f"/events/a/poll/?last_event_id={first}")
    assert asked.seconds < 2
    assert asked.json["events"] == [
        {"channel": "a", "id": second, "event": "message", "data": "two\n"},
        {"channel": "a", "id": third, "event": "message", "data": "three\u2028"},
    ]
    assert (asked.json["last_event_id"], asked.json["end"]) == (third, False)
    assert 700 <= asked.json["retry"] <= 1300
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["cache-control"] == "no-store"
    assert int(asked.headers["content-length"]) == len(asked.body)
    assert asked.headers["connection"] == "close"
    assert len(asked.headers["x-sse-stream"]) == 24


async def test_the_cursor_is_a_header_or_a_parameter(app: Any) -> None:
    first, second, _ = await published("a", "1", "2", "3")
    assert (await ask(app, "/events/a/poll/", last_event_id=first)).data == ["2", "3"]
    both = await ask(app, f"/events/a/poll/?last_event_id={first}", last_event_id=second)
    assert both.data == ["3"]
    assert (await ask(app, "/events/a/poll/?last_event_id=earliest")).data == ["1", "2", "3"]
    empty = (await ask(app, "/events/a/poll/?wait=0")).json
    assert (empty["events"], empty["last_event_id"].split(".")[1]) == ([], "3")


async def test_a_burst_is_an_answer_and_who_is_behind_comes_back_soon(app: Any, settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "BURST": {**HELD, "max_events": 2}}
    await published("a", "1", "2", "3")
    asked = await ask(app, "/events/a/poll/?last_event_id=earliest")
    assert (asked.data, asked.json["retry"] < 100) == (["1", "2"], True)
    assert (await ask(app, f"/events/a/poll/?last_event_id={asked.json['last_event_id']}")).data == ["3"]


async def test_several_channels_have_one_cursor(app: Any) -> None:
    await published("a", "1", "2")
    await published("b", "3")
    asked = await ask(app, "/events/poll/?channel=a&channel=b&last_event_id=earliest")
    assert sorted((each["channel"], each["data"]) for each in asked.json["events"]) == [
        ("a", "1"),
        ("a", "2"),
        ("b", "3"),
    ]
    cursor = asked.json["last_event_id"]
    (fourth,) = await published("b", "4")
    more = await ask(app, f"/events/poll/?channel=a&channel=b&last_event_id={cursor}")
    assert [(each["id"], each["data"]) for each in more.json["events"]] == [(fourth, "4")]


async def test_the_end_is_an_event_and_then_an_answer_without_any(app: Any) -> None:
    await published("a", "1")
    end = await sync_to_async(finish)("a", {"ok": True})
    asked = await ask(app, "/events/a/poll/?last_event_id=earliest")
    assert [each["event"] for each in asked.json["events"]] == ["message", "end"]
    assert asked.json["end"] is True
    again = await ask(app, f"/events/a/poll/?last_event_id={end.id}")
    assert again.json == {"events": [], "last_event_id": end.id, "retry": 0, "end": True}


# Waiting


async def test_without_an_event_it_is_held_as_long_as_a_stream(app: Any, settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "BURST": {**HELD, "hold_seconds": 0.3}}
    for query in ("", "?wait=30"):
        asked = await ask(app, f"/events/a/poll/{query}")
        assert asked.json["events"] == []
        assert 0.28 <= asked.seconds < 3


@pytest.mark.parametrize(("wait", "least"), [("0", 0), ("0.0", 0), ("0.2", 0.18), ("2e-1", 0.18)])
async def test_a_client_may_wait_for_less(app: Any, wait: str, least: float) -> None:
    asked = await ask(app, f"/events/a/poll/?wait={wait}")
    assert asked.json["events"] == []
    assert least <= asked.seconds < 3


@pytest.mark.parametrize(
    "wait",
    [
        "",
        "x",
        "-1",
        "-0.001",
        "nan",
        "inf",
        "-inf",
        "infinity",
        "1e999",
        "1,5",
        "5s",
        "%00",
        "0x10",
        "9" * 500,
    ],
)
async def test_a_wait_that_is_no_time_is_refused_in_words(app: Any, wait: str) -> None:
    asked = await ask(app, f"/events/a/poll/?wait={wait}")
    assert asked.status == 400
    assert asked.headers["content-type"] == "text/plain; charset=utf-8"
    assert b"wait is a number of seconds, 0 or more; got " in asked.body
    assert len(asked.body) < 100


async def test_who_waits_gets_the_first_event_and_does_not_linger(app: Any) -> None:
    (first,) = await published("a", "before")
    asked = Asked(app, f"/events/a/poll/?last_event_id={first}")
    task = asyncio.create_task(asked.run())
    await until(lambda: len(registry) == 1)
    await published("a", "now")
    await task
    assert (asked.data, asked.seconds < 5) == (["now"], True)


async def test_who_leaves_frees_its_place_at_once(app: Any) -> None:
    asked = Asked(app, "/events/a/poll/")
    task = asyncio.create_task(asked.run())
    await until(lambda: len(registry) == 1)
    asked.goes()
    await until(task.done, deadline=2)
    if app is not application:
        gc.collect()  # Django 6.1 drops a response that it has not begun to send, in a circle
    await until(lambda: len(registry) == 0, deadline=2)
    await task
    assert not any(live.waiters for live in Hub.current().tails)


async def test_a_task_that_is_cancelled_frees_its_place() -> None:
    """Through the view Django's handler leaves it running (5.2 and 6.1): it ends with its hold."""
    task = asyncio.create_task(Asked(application, "/events/a/poll/").run())
    await until(lambda: len(registry) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: len(registry) == 0, deadline=2)
    assert not any(live.waiters for live in Hub.current().tails)


def stamp(get_response: Any) -> Any:
    """Sync middleware: Django calls an async view below it in a thread, which waits for the view."""

    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["X-Stamp"] = "1"
        return response

    return middleware


async def test_behind_sync_middleware_who_waits_has_no_thread(settings: Any) -> None:
    (first,) = await published("a", "before")
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_poll.stamp"]
    app = get_asgi_application()
    address = f"/events/a/poll/?last_event_id={first}"
    await ask(app, address + "&wait=0")
    before = threading.active_count()
    polls = [Asked(app, address) for _ in range(12)]
    tasks = [asyncio.create_task(each.run()) for each in polls]
    await until(lambda: len(registry) == 12)
    await until(lambda: threading.active_count() < before + 6)  # Django's own last for a moment
    await published("a", "now")
    await asyncio.gather(*tasks)
    for each in polls:
        assert (each.data, each.headers["x-stamp"], each.headers["connection"]) == (["now"], "1", "close")


async def test_who_waits_pins_no_thread_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    original = threads.give_thread_back

    async def counted() -> None:
        given.append(1)
        await original()

    monkeypatch.setattr("sse_polling.views.give_thread_back", counted)
    await ask(plain_application, "/events/a/poll/?wait=0")
    assert given == [1]


# Where there is no place to wait


async def test_over_capacity_it_is_answered_at_once_with_what_there_is(app: Any, settings: Any) -> None:
    first, *_ = await published("a", "1", "2")
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1, "BREAKER": {"threshold": 1}}
    holding, task = await held()
    before = node.counts.refused[Refusal.CAPACITY]
    asked = await ask(app, f"/events/a/poll/?last_event_id={first}")
    assert asked.data == ["2"]
    empty = await ask(app, "/events/a/poll/?wait=60")
    assert (empty.json["events"], empty.seconds < 5, empty.json["retry"] >= 700) == ([], True, True)
    assert node.counts.refused[Refusal.CAPACITY] == before + 2
    assert len(registry) == 1
    holding.goes()
    await task


async def test_over_a_budget_it_is_answered_at_once(app: Any, settings: Any) -> None:
    await published("a", "1")
    settings.SSE_POLLING = {**settings.SSE_POLLING, "BUDGET": 1}
    others = [Connection(channels=("other",), door="test") for _ in range(3)]
    for each in others:
        registry.take(each)
    before = node.counts.refused[Refusal.BUDGET]
    assert (await ask(app, "/events/a/poll/?last_event_id=earliest")).data == ["1"]
    empty = await ask(app, "/events/a/poll/?wait=60")
    assert (empty.json["events"], empty.seconds < 5) == ([], True)
    assert node.counts.refused[Refusal.BUDGET] == before + 2
    assert not any(each.leaving for each in others)  # it makes nobody go
    for each in others:
        registry.release(each)


async def test_at_once_there_is_a_piece_of_a_burst_and_the_rest_soon(app: Any, settings: Any) -> None:
    """It has a socket until its client has read it, where there is none to spare."""
    await published("a", *("x" * 10_000 for _ in range(30)))
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1, "BREAKER": {"threshold": 1}}
    holding, task = await held()
    asked = await ask(app, "/events/a/poll/?last_event_id=earliest")
    assert 2 < len(asked.data) < 10
    assert asked.json["retry"] < 100
    holding.goes()
    await task


async def test_an_answer_at_once_is_not_for_any_number(app: Any, settings: Any) -> None:
    await published("a", "1")
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1, "BREAKER": {"threshold": 1}}
    others = [Connection(channels=("other",), door="test") for _ in range(1 + lifecycle.SPARE)]
    for each in others:
        registry.take(each)
    before = node.counts.refused[Refusal.CAPACITY]
    asked = await ask(app, "/events/a/poll/?last_event_id=earliest")
    assert (asked.json["events"], asked.json["retry"] >= 30_000) == ([], True)
    assert node.counts.refused[Refusal.CAPACITY] == before + 2
    for each in others:
        registry.release(each)


def nobodys_key(request: Any) -> str:
    return "one"


async def test_over_a_clients_own_limit_it_is_answered_at_once(app: Any, settings: Any) -> None:
    await published("a", "1")
    settings.SSE_POLLING = {
        **settings.SSE_POLLING,
        "PER_CLIENT": {"max_sockets": 1, "key": "tests.test_poll.nobodys_key"},
    }
    holding, task = await held()
    before = node.counts.refused[Refusal.CLIENT]
    assert (await ask(app, "/events/a/poll/?last_event_id=earliest")).data == ["1"]
    assert (await ask(app, "/events/a/poll/?wait=60")).seconds < 5
    assert node.counts.refused[Refusal.CLIENT] == before + 2
    assert registry.count(key="one") == 1
    holding.goes()
    await task


async def test_the_link_of_a_streams_503_leads_to_the_same_events(app: Any, settings: Any) -> None:
    (first, _), _ = await published("a", "1", "2"), await published("b", "3", "4")
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1, "BREAKER": {"threshold": 1}}
    holding, task = await held()
    for address, data in (
        (f"/events/a/?last_event_id={first}", ["2"]),
        ("/events/?channel=a&channel=b&last_event_id=earliest", ["1", "2", "3", "4"]),
        ("/events/a/?x=%22%3E%3Cb%3E%0D%0A&last_event_id=earliest", ["1", "2"]),
    ):
        refused = await ask(app, address)
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        link = refused.headers["link"]
        assert link.startswith("<poll/")
        assert link.endswith('>; rel="alternate"')
        target = link[1:].partition(">")[0]
        poll = await ask(
            app, urljoin(f"http://testserver{address}", target).removeprefix("http://testserver")
        )
        assert sorted(poll.data) == data
    holding.goes()
    await task


async def test_while_it_drains_it_says_when_to_come_back(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "draining", True)
    asked = await ask(app, "/events/a/poll/", last_event_id="life.7.abcde")
    assert asked.json["events"] == []
    assert (asked.json["last_event_id"], asked.json["end"]) == ("life.7.abcde", False)
    assert 30_000 <= asked.json["retry"] <= 39_000


async def test_who_waits_when_a_drain_begins_is_answered(app: Any) -> None:
    (first,) = await published("a", "1")
    asked = Asked(app, f"/events/a/poll/?client=a-client-of-a-test&last_event_id={first}")
    task = asyncio.create_task(asked.run())
    await until(lambda: len(registry) == 1)
    for connection in registry:
        connection.leave("drain")
    await task  # and waits for no ack
    assert asked.seconds < get_config().drain.ack_seconds
    assert (asked.json["events"], asked.json["last_event_id"]) == ([], first)


async def test_without_a_database_it_says_when_to_come_back(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(hub, "run", down)
    asked = await ask(app, "/events/cold/poll/", last_event_id="life.7.abcde")
    assert (asked.json["events"], asked.json["last_event_id"]) == ([], "life.7.abcde")
    assert asked.json["retry"] >= 5000


# Who may not


async def test_the_same_people_may_read(app: Any, settings: Any) -> None:
    settings.SSE_POLLING = {}
    asked = await ask(app, "/events/a/poll/")
    assert (asked.status, asked.body) == (403, b"You may not read channel a.")
    asked = await ask(app, "/events/poll/?channel=a&channel=b")
    assert (asked.status, asked.body) == (403, b"You may not read these channels.")
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public"}
    assert (await ask(app, "/events/sse_polling.live/poll/")).status == 403


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_refused_in_words(app: Any, method: str) -> None:
    for address in ("/events/a/poll/", "/events/poll/?channel=a"):
        asked = await ask(app, address, method=method)
        assert (asked.status, asked.headers["allow"]) == (405, "GET")
        if app is application or method != "HEAD":
            assert asked.body == f"{method} is not offered here; use GET.".encode()


@pytest.mark.parametrize(
    "address",
    ["/events/a%20b/poll/", "/events/poll/", "/events/a/poll/?last_event_id=x", "/events/a/poll/?client=x"],
)
async def test_a_bad_request_is_refused_in_words(app: Any, address: str) -> None:
    address = address.replace("%20", " ")
    assert (await ask(app, address)).status == 400


# The socket


async def test_the_socket_of_an_answer_may_be_kept(app: Any, settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "CLOSE_SOCKET": False}
    await published("a", "1")
    before = node.kept.guessed
    asked = await ask(app, "/events/a/poll/?last_event_id=earliest")
    assert (asked.data, "connection" in asked.headers) == (["1"], False)
    assert node.kept.guessed == before + 1
    assert (await ask(app, "/events/a/poll/?wait=x")).headers["connection"] == "close"
    for little in (
        {"MAX_SOCKETS": 1},  # three quarters of it are none
        {"PER_CLIENT": {"max_sockets": 1, "key": "tests.test_poll.nobodys_key"}},
    ):
        registry.take(other := Connection(channels=("other",), door="test", key="one"))
        with override_settings(SSE_POLLING={**settings.SSE_POLLING, **little}):
            hurried = await ask(app, "/events/a/poll/?last_event_id=earliest")
        registry.release(other)
        assert (hurried.data, hurried.headers["connection"]) == (["1"], "close")


async def test_an_answer_waits_no_longer_than_its_socket_is_kept(app: Any, settings: Any) -> None:
    settings.SSE_POLLING = {
        **settings.SSE_POLLING,
        "CLOSE_SOCKET": False,
        "RETRY": {"base_ms": 60_000},
        "BURST": {**HELD, "hold_seconds": 0.1},
    }
    for address in ("/events/a/poll/?wait=0", "/events/a/poll/"):
        assert (await ask(app, address)).json["retry"] <= 4000


async def test_a_drain_closes_the_socket_of_an_answer_that_was_to_be_kept(settings: Any) -> None:
    """Through the view the headers are gone by then."""
    settings.SSE_POLLING = {**settings.SSE_POLLING, "CLOSE_SOCKET": False}
    asked, task = await held()
    before = node.kept.guessed
    for connection in registry:
        connection.leave("drain")
    await task
    assert (asked.json["events"], asked.headers["connection"]) == ([], "close")
    assert node.kept.guessed == before


async def test_a_long_answer_is_sent_as_it_is_read(settings: Any) -> None:
    """And not held in memory: many may come back at once, each with a whole burst to read."""
    ids = await published("a", *("x" * 10_000 for _ in range(30)))
    asked = await ask(application, "/events/a/poll/?last_event_id=earliest")
    assert ([each["id"] for each in asked.json["events"]], asked.json["last_event_id"]) == (ids, ids[-1])
    assert "content-length" not in asked.headers
    assert 4 <= len(asked.sent) <= 10
    assert all(len(each.get("body", b"")) < 80_000 for each in asked.sent)


@pytest.mark.parametrize("many", [1, 30])
async def test_who_is_being_sent_an_answer_has_a_place(many: int) -> None:
    await published("a", *("x" * 10_000 for _ in range(many)))
    asked = Asked(application, "/events/a/poll/?last_event_id=earliest")
    reading = asyncio.Event()
    send, waiting = asked._send, asyncio.Event()

    async def slowly(message: Any) -> None:
        if message["type"] == "http.response.body":
            waiting.set()
            await reading.wait()
        await send(message)

    asked._send = slowly  # type: ignore[method-assign]
    task = asyncio.create_task(asked.run())
    await waiting.wait()
    assert node.sockets == 1
    reading.set()
    await task
    assert len(asked.data) == many


# Under WSGI


def test_under_wsgi_a_poll_is_what_there_is(client: Client) -> None:
    stored = publish("a", "one")
    response = client.get("/events/a/poll/?last_event_id=earliest")
    assert response["Content-Type"] == "application/json"
    assert "Connection" not in response
    assert response.json()["events"] == [{"channel": "a", "id": stored.id, "event": "message", "data": "one"}]
    began = time.monotonic()
    assert client.get("/events/a/poll/").json()["events"] == []
    assert time.monotonic() - began < 5
    assert client.get("/events/a/poll/?wait=0").status_code == 200
    for wait in ("5", "x", "nan", "inf"):
        refused = client.get(f"/events/a/poll/?wait={wait}")
        assert (refused.status_code, b"WSGI" in refused.content) == (400, True)
    assert client.get("/events/a/poll/?wait=-1").status_code == 400
    assert client.head("/events/a/poll/").status_code == 405


def test_under_wsgi_a_poll_waits_for_no_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(hub, "run", down)
    answer = client.get("/events/a/poll/?last_event_id=life.7.abcde").json()
    assert (answer["events"], answer["last_event_id"], answer["retry"] >= 5000) == ([], "life.7.abcde", True)
