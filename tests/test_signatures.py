"""Signed addresses: what one allows, for how long, and that nobody can make another of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core import signing
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client

from sse_polling import access, publish, signatures
from sse_polling.access import signed_url
from sse_polling.connections import registry
from sse_polling.exceptions import InvalidChannel
from sse_polling.hub import Hub
from sse_polling.lifecycle import Refusal, node
from sse_polling.signatures import MAX_CHARACTERS, Signature, read_signature
from tests.asgi import application, plain_application

SIGNED = "sse_polling.access.signed"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:=. "


def signature_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["signature"][0]


def sign(*names: str, max_age: float = 60, **options: Any) -> str:
    return signature_of(signed_url(*names, max_age=max_age, **options))


# The address


def test_an_address_is_that_of_its_channels() -> None:
    one = urlsplit(signed_url("a", max_age=1))
    assert (one.path, sorted(parse_qs(one.query))) == ("/events/a/", ["busy", "signature"])
    two = urlsplit(signed_url("a", "b", "a", max_age=1))
    assert (two.path, parse_qs(two.query)["channel"]) == ("/events/", ["a", "b"])
    poll = urlsplit(signed_url("a", max_age=1, poll=True, since="earliest"))
    assert (poll.path, sorted(parse_qs(poll.query))) == ("/events/a/poll/", ["last_event_id", "signature"])
    assert urlsplit(signed_url("a", "b", max_age=1, poll=True)).path == "/events/poll/"


@pytest.mark.parametrize(
    ("names", "options", "error", "words"),
    [
        (["a b"], {}, InvalidChannel, "Not a channel name"),
        (["sse_polling.live"], {}, ValueError, "the app's own"),
        (["a", "sse_polling.nodes"], {}, ValueError, "the app's own"),
        (["a"], {"max_age": "60"}, TypeError, "str"),
        ([f"c{number}" for number in range(11)], {}, ValueError, "1 to 10 channels; got 11"),
        (["a"], {"max_age": 0}, ValueError, "above 0"),
        (["a"], {"max_age": -1}, ValueError, "above 0"),
        (["a"], {"max_age": float("nan")}, ValueError, "above 0"),
        (["a"], {"max_age": float("inf")}, ValueError, "above 0"),
        (["a"], {"subject": ""}, ValueError, "1 to 200 characters"),
        (["a"], {"subject": "x" * 201}, ValueError, "1 to 200 characters"),
    ],
)
def test_what_cannot_be_signed_is_refused_in_words(
    names: list[str], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        signed_url(*names, **{"max_age": 60, **options})


def test_the_longest_address_can_be_read() -> None:
    names = [f"{number}".rjust(200, "x") for number in range(10)]
    text = sign(*names, subject="\U0001f600" * 200)
    assert len(text) <= MAX_CHARACTERS
    assert read_signature(text) == Signature(tuple(names), "\U0001f600" * 200)


# What it allows


def test_it_holds_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sign("a", "b", max_age=60, subject="ann", now=1000.0)
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    assert read_signature(text) == Signature(("a", "b"), "ann")
    now = 1059.999
    assert read_signature(text) == Signature(("a", "b"), "ann")
    for now in (1060.0, 1060.001, 9e9):  # noqa: B007 - the clock's
        assert read_signature(text) is None


def test_a_change_of_any_character_is_noticed() -> None:
    text = sign("a", max_age=60, subject="ann")
    for place in range(len(text)):
        for other in ALPHABET:
            if other != text[place]:
                changed = text[:place] + other + text[place + 1 :]
                assert read_signature(changed) is None, changed
        assert read_signature(text[:place] + text[place + 1 :]) is None
    for changed in (text + "A", text[:-1], " " + text, text + "\0", text * 2, text.swapcase()):
        assert read_signature(changed) is None


@pytest.mark.parametrize(
    "text", [None, "", ":", "::", "a:b:c", "\0", "\u00fc:1:2", "\ud800", "." * 5000, "." * 4096]
)
def test_what_is_no_signature_is_none(text: str | None) -> None:
    assert read_signature(text) is None


def test_another_salt_another_key_and_another_payload_are_none(settings: Any) -> None:
    text = sign("a")
    later = time.time() + 60
    assert read_signature(signing.dumps([["a"], later, None], salt="another")) is None
    assert read_signature(signing.dumps([["a"], later, None])) is None
    for payload in ([["a"], later], "text", None, 3, {"a": 1}, [["a"], "late", None], [3, later, None]):
        assert read_signature(signing.dumps(payload, salt=signatures.SALT)) is None, payload
    settings.SECRET_KEY = "another"
    assert read_signature(text) is None
    settings.SECRET_KEY_FALLBACKS = ["a key for tests only"]
    assert read_signature(text) == Signature(("a",), None)


# Through the doors


@pytest.fixture
async def hub(settings: Any) -> AsyncIterator[None]:
    settings.SSE_POLLING = {"AUTHORIZE": SIGNED, "PRESET": "reclaim"}
    access.cache.clear()
    yield
    assert len(registry) == 0
    Hub.current().stop()


async def send_to(
    application: Any, scope: dict[str, Any], *, until: Callable[[Any], bool] | None = None
) -> list[Any]:
    """Run one request to its end, or until it has sent what the condition tells; return what it sent."""
    sent: list[Any] = []
    first = "websocket.connect" if scope["type"] == "websocket" else "http.request"
    messages = [{"type": first, "body": b"", "more_body": False}]
    gone = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "websocket.disconnect" if first == "websocket.connect" else "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if until is not None and until(message):
            gone.set()

    async with asyncio.timeout(10):
        await application(scope, receive, send)
    return sent


def scope_of(url: str, *, kind: str = "http", cookie: str = "") -> dict[str, Any]:
    path, _, query = url.partition("?")
    return {
        "type": kind,
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver"), *([(b"cookie", cookie.encode())] if cookie else [])],
        "client": ["127.0.0.1", 1],
        "server": ["127.0.0.1", 2],
        "extensions": {"websocket.http.response": {}},
    }


async def status_of(url: str, *, app: Any = application, **options: Any) -> int:
    sent = await send_to(app, scope_of(url, **options))
    if sent[0]["type"] == "websocket.accept":
        return 200
    return int(sent[0]["status"])


pytest_database = pytest.mark.django_db(transaction=True)

DOORS = ["stream", "poll", "view", "websocket"]


def address(door: str, url: str) -> tuple[str, dict[str, Any]]:
    """Return *url*, a stream's, for the other way in, and how it is asked for."""
    path, _, query = url.partition("?")
    if door == "poll":
        return f"{path}poll/?{query}&wait=0", {}
    if door == "websocket":
        return f"/events/ws/{path.removeprefix('/events/')}?{query}", {"kind": "websocket"}
    return url, {"app": plain_application} if door == "view" else {}


@pytest_database
@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("door", DOORS)
async def test_it_reads_what_it_names_and_nothing_else(door: str) -> None:
    one, both = signed_url("a", max_age=60), signed_url("a", "b", max_age=60)
    for url, status in (
        (one, 200),
        (both, 200),
        (one.replace("/events/a/", "/events/b/"), 403),
        (one.replace("/events/a/?", "/events/?channel=a&"), 200),
        (one.replace("/events/a/?", "/events/?channel=a&channel=b&"), 403),
        (both.replace("channel=b", "channel=c"), 403),
        (both.replace("channel=a&channel=b&", "channel=b&"), 200),
        (both.replace("/events/?", "/events/b/?"), 200),
        (one.replace("signature=", "signature=x"), 403),
        (one.replace("signature=", "signed="), 403),
        (one + "&signature=x", 403),  # the last counts
        ("/events/a/?x", 403),
        (signed_url("a", max_age=60, now=time.time() - 61), 403),
        (one.replace("/events/a/", "/events/sse_polling.live/"), 403),
    ):
        url, options = address(door, url)  # noqa: PLW2901
        assert await status_of(url, **options) == status, url


@pytest_database
@pytest.mark.usefixtures("hub")
async def test_each_channel_has_the_rule_of_its_pattern(settings: Any) -> None:
    settings.SSE_POLLING = {
        "PRESET": "reclaim",
        "AUTHORIZE": "sse_polling.access.authenticated",
        "CHANNELS": [("open.*", {"AUTHORIZE": "sse_polling.access.public"}), ("s.*", {"AUTHORIZE": SIGNED})],
    }
    assert await status_of(signed_url("s.a", max_age=60)) == 200
    assert await status_of(signed_url("s.a", "open.b", max_age=60)) == 200
    assert await status_of(signed_url("s.a", "other", max_age=60)) == 403  # that one wants a login
    assert await status_of(signed_url("other", max_age=60)) == 403
    assert await status_of("/events/?channel=open.a&channel=s.a") == 403


@asynccontextmanager
async def counted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """Yield what is asked of the database, on whatever connection."""
    asked: list[str] = []
    original = BaseDatabaseWrapper._cursor

    def cursor(self: Any, *args: Any) -> Any:
        asked.append(self.alias)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "_cursor", cursor)
        yield asked


@pytest_database
@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("door", DOORS)
async def test_no_query_is_made_for_it(door: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "AUTH_CACHE_SECONDS": 0}
    stored = await sync_to_async(publish)("a", "one")
    await sync_to_async(publish)("a", "two")

    def session() -> str:
        client = Client()
        client.force_login(User.objects.create(username="somebody"))
        return client.cookies["sessionid"].value

    cookie = f"sessionid={await sync_to_async(session)()}"
    url, options = address(door, signed_url("a", max_age=60, subject="ann", since=stored.id))
    assert await status_of(url, **options) == 200  # warm from now on
    side_tasks = Hub.current()._tasks  # they look at the database in their own time
    for task in side_tasks:
        task.cancel()
    await asyncio.gather(*side_tasks, return_exceptions=True)
    await asyncio.sleep(0.05)  # what a thread was asked already
    async with counted(monkeypatch) as asked:
        for sent_cookie in ("", cookie, "sessionid=nonsense"):
            sent = await send_to(
                options.get("app", application),
                scope_of(url, kind=options.get("kind", "http"), cookie=sent_cookie),
            )
            text = "".join(
                part if isinstance(part, str) else part.decode()
                for message in sent
                for part in (message.get("body", b""), message.get("text", ""))
            )
            assert "two" in text
        assert await status_of(url.replace("signature=", "signature=x"), **options) == 403
        # What asks for a user, with the same cookie, is counted.
        assert asked == []
        settings.SSE_POLLING = {"PRESET": "reclaim", "AUTH_CACHE_SECONDS": 0}
        assert await status_of(url, cookie=cookie, **options) == 200
        assert asked != []


@pytest_database
@pytest.mark.usefixtures("hub")
async def test_a_subjects_streams_are_counted_together_whatever_their_addresses(settings: Any) -> None:
    settings.SSE_POLLING = {
        "AUTHORIZE": SIGNED,
        "BURST": {"hold_seconds": 60, "max_seconds": 60},
        "PER_CLIENT": {"max_sockets": 2},
    }
    leaves = asyncio.Event()

    async def hold(url: str) -> None:
        async def receive() -> Any:
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None: ...

        await application(scope_of(url), receive, send)

    mine = [signed_url(name, max_age=60 + number, subject="ann") for number, name in enumerate("abc")]
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for url in mine[:2]:
            group.create_task(hold(url))
        while len(registry) < 2:  # noqa: ASYNC110 - several things' own state
            await asyncio.sleep(0.005)
        assert registry.count(key="subject:ann") == 2
        before = node.counts.refused[Refusal.CLIENT]
        refused = await send_to(application, scope_of(mine[2]))
        assert refused[1]["body"].startswith(b"retry: ")
        assert b"data" not in refused[1]["body"]
        assert node.counts.refused[Refusal.CLIENT] == before + 1
        for other in (signed_url("a", max_age=60, subject="bob"), signed_url("a", max_age=60)):
            sent = await send_to(application, scope_of(other), until=lambda message: "body" in message)
            assert sent[0]["status"] == 200
        assert node.counts.refused[Refusal.CLIENT] == before + 1
        leaves.set()


@pytest_database
@pytest.mark.usefixtures("hub")
async def test_a_remembered_yes_outlasts_the_address_by_the_caches_seconds(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "AUTH_CACHE_SECONDS": 5}
    now = 1000.0
    monkeypatch.setattr(signatures, "time", Clock(lambda: now))
    monkeypatch.setattr(access, "time", Clock(lambda: now))
    url = signed_url("a", max_age=10)
    now = 1009.9
    assert await status_of(url) == 200
    now = 1014.8
    assert await status_of(url) == 200  # as of five seconds ago
    now = 1015.0
    assert await status_of(url) == 403
    settings.SSE_POLLING = {**settings.SSE_POLLING, "AUTH_CACHE_SECONDS": 0}
    url = signed_url("a", max_age=10, now=1000)
    now = 1009.9
    assert await status_of(url) == 200
    now = 1010.0
    assert await status_of(url) == 403


class Clock:
    """A module `time` whose clocks a test sets."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.time = self.monotonic = now


@pytest_database
@pytest.mark.usefixtures("hub")
async def test_a_polls_answer_and_a_frame_are_what_the_stream_says() -> None:
    stored = await sync_to_async(publish)("a", "one")
    url = signed_url("a", max_age=60, since="earliest")
    expected = {"channel": "a", "id": stored.id, "event": "message", "data": "one"}
    poll, _ = address("poll", url)
    sent = await send_to(application, scope_of(poll))
    assert json.loads(sent[1]["body"])["events"] == [expected]
    socket, _ = address("websocket", url)
    frames = [
        json.loads(each["text"])
        for each in await send_to(application, scope_of(socket, kind="websocket"))
        if "text" in each
    ]
    assert frames[1] == expected
