"""A client's answer to ``close``, through both doors, and on to other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import AsyncRequestFactory, Client
from django.urls import reverse

from sse_polling import acks, serving, views, wake
from sse_polling.acks import InvalidAck, ack
from sse_polling.asgi import SSEPolling
from sse_polling.connections import Connection, registry
from sse_polling.door import ACK_BYTES
from sse_polling.hub import on_fleet

Answer = tuple[int, str, dict[str, str]]
Ask = Callable[..., Awaitable[Answer]]
CLIENT = "a-client_that-names-itself"


@pytest.fixture
def asked() -> Iterator[Connection]:
    """A stream whose client was told to close."""
    connection = Connection(channels=("a",), door="test", client=CLIENT)
    registry.take(connection)
    registry.ask(connection)
    yield connection
    registry.release(connection)


@pytest.fixture(autouse=True)
def posts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What all processes were told."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(wake.sender, "post", told.append)
    return told


async def through_the_mount(body: Any, *, method: str = "POST") -> Answer:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was asked")

    parts = iter([body] if isinstance(body, bytes) else body)
    coming = next(parts)
    sent: list[Any] = []

    async def receive() -> Any:
        nonlocal coming
        part, coming = coming, next(parts, None)
        return {"type": "http.request", "body": part, "more_body": coming is not None}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/events/ack/", "headers": [], "query_string": b""}
    await SSEPolling(app)(scope, receive, send)
    headers = {name.decode().title(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], sent[1]["body"].decode(), headers


async def through_the_view(body: Any, *, method: str = "POST") -> Answer:
    request = AsyncRequestFactory().generic(
        method, "/events/ack/", b"".join([body] if isinstance(body, bytes) else body)
    )
    response = await views.ack(request)
    return response.status_code, response.content.decode(), dict(response.headers)


@pytest.fixture(params=[through_the_mount, through_the_view], ids=["mount", "view"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


async def test_an_ack_by_the_client_is_heard(ask: Ask, asked: Connection) -> None:
    status, body, headers = await ask(form(client=CLIENT))
    assert (status, body, headers["Cache-Control"], asked.acked) == (204, "", "no-store", True)


async def test_an_ack_by_the_stream_is_heard(
    ask: Ask, asked: Connection, posts: list[dict[str, Any]]
) -> None:
    assert (await ask(form(stream=asked.id)))[0] == 204
    assert asked.acked
    assert posts == []


async def test_what_no_stream_here_hears_is_passed_on(
    ask: Ask, asked: Connection, posts: list[dict[str, Any]]
) -> None:
    assert (await ask(form(client="b" * 16)))[0] == 202
    assert (await ask(form(stream="s" * 24)))[0] == 202
    assert posts == [{"ack": {"client": "b" * 16}}, {"ack": {"stream": "s" * 24}}]
    assert not asked.acked


async def test_a_stream_that_was_not_told_to_close_hears_none(ask: Ask) -> None:
    open_ = Connection(channels=("a",), door="test", client=CLIENT)
    registry.take(open_)
    try:
        for fields in ({"client": CLIENT}, {"stream": open_.id}):
            assert (await ask(form(**fields)))[0] == 202
        assert (open_.acked, open_.leaving) == (False, None)
    finally:
        registry.release(open_)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "Expected stream="),
        (b"stream=&client=", "Expected stream="),
        (b"other=1", "Expected stream="),
        (form(stream="s" * 24, client="c" * 16), "Expected stream="),
        (form(stream="s" * 23), "24 characters"),
        (form(stream="s" * 23 + "\n"), "24 characters"),
        (form(stream="é" * 24), "24 characters"),
        (form(client="short"), "got 5 characters"),
        (form(client="c" * 65), "got 65 characters"),
        (form(client="c c" * 8), "16 to 64"),
        (b"client=" + "ä".encode() * 16, "ascii"),
        (b"a=1&b=2&c=3&d=4&e=5", "fields"),
        (form(client="c" * ACK_BYTES), "at most 512 bytes"),
        (b"\0" * 100, "Expected stream="),
    ],
)
async def test_anything_else_is_refused_in_words(
    ask: Ask, posts: list[dict[str, Any]], body: bytes, sentence: str
) -> None:
    status, text, headers = await ask(body)
    assert status == 400
    assert sentence in text
    assert headers["Content-Type"].startswith("text/plain")
    assert posts == []


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
async def test_another_method_is_not_offered(ask: Ask, asked: Connection, method: str) -> None:
    status, text, headers = await ask(form(client=CLIENT), method=method)
    assert (status, headers["Allow"]) == (405, "POST")
    assert f"{method} is not offered here" in text
    assert not asked.acked


async def test_a_body_in_pieces_is_one_body(asked: Connection) -> None:
    body = form(client=CLIENT)
    status, _, _ = await through_the_mount([body[:3], b"", body[3:]])
    assert (status, asked.acked) == (204, True)


async def test_an_endless_body_is_read_no_further_than_an_ack_can_be() -> None:
    taken: list[bytes] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(b"x" * 100)
            yield taken[-1]

    status, text, _ = await through_the_mount(endless())
    assert status == 400
    assert "at most 512 bytes" in text
    assert len(taken) <= ACK_BYTES // 100 + 2


async def test_a_body_that_does_not_come_is_waited_for_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving.ACK_SECONDS <= 10
    monkeypatch.setattr(serving, "ACK_SECONDS", 0.05)

    async def never() -> Any:
        await asyncio.Event().wait()

    answered = await serving.take_ack({"method": "POST"}, never, never)
    assert answered.status == 400
    assert b"within 0.05 s" in answered.body


async def test_a_client_that_goes_in_mid_body_is_no_error() -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    assert (await serving.take_ack({"method": "POST"}, gone, gone)).status == 400


# Through Django


@pytest.mark.django_db
def test_it_needs_no_login_and_no_token_of_a_form(asked: Connection, settings: Any) -> None:
    """The client's name, which only it and the server know, is what vouches for it."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    client = Client(enforce_csrf_checks=True)
    address = reverse("sse_polling:ack")
    response = client.post(address, form(client=CLIENT), content_type="application/x-www-form-urlencoded")
    assert (response.status_code, response.content, asked.acked) == (204, b"", True)
    # As navigator.sendBeacon sends a text.
    assert client.post(address, form(client=CLIENT), content_type="text/plain").status_code == 204


@pytest.mark.django_db
def test_middleware_that_has_read_the_form_takes_no_ack_away(asked: Connection, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_acks.reads_the_form"]
    response = Client().post(
        "/events/ack/", form(client=CLIENT), content_type="application/x-www-form-urlencoded"
    )
    assert (response.status_code, asked.acked) == (204, True)


def reads_the_form(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        assert request.POST
        return get_response(request)

    return middleware


# From another process


def test_an_ack_told_by_another_process_is_heard(asked: Connection, posts: list[dict[str, Any]]) -> None:
    assert acks._heard in on_fleet
    acks._heard({"type": "sse_polling.fleet", "ack": {"client": "b" * 16}})
    assert not asked.acked
    acks._heard({"type": "sse_polling.fleet", "ack": {"client": CLIENT}})
    assert asked.acked
    assert posts == []  # else it would go round and round


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"look": True},
        {"ack": None},
        {"ack": CLIENT},
        {"ack": [CLIENT]},
        {"ack": {}},
        {"ack": {"client": 7}},
        {"ack": {"client": [CLIENT]}},
        {"ack": {"stream": ["x"], "client": "nobody"}},
        {"ack": {"stream": None, "client": None}},
    ],
)
def test_what_another_version_tells_harms_no_subscription(asked: Connection, message: dict[str, Any]) -> None:
    acks._heard(message)
    assert not asked.acked


def test_what_is_no_ack_says_so() -> None:
    with pytest.raises(InvalidAck, match="X-SSE-Stream"):
        ack({})
