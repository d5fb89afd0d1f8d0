"""The view through Django's own test clients; real servers are in tests/servers."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import OperationalError
from django.test import AsyncClient, Client
from django.urls import reverse

from sse_polling import database, gate, publish
from sse_polling.connections import Connection, registry
from sse_polling.database import Away
from sse_polling.gate import Gate
from sse_polling.hub import Hub, hubs
from sse_polling.lifecycle import node
from sse_polling.views import CUT_BYTES, Whole

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _public(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public"}


def test_under_wsgi_a_poll_sends_what_there_is_and_ends(client: Client) -> None:
    publish("a", "one")
    response = client.get("/events/a/?last_event_id=earliest")
    assert response["Content-Type"] == "text/event-stream"
    assert "Connection" not in response
    assert b"data: one\n\n" in response.content
    assert len(registry) == 0


def test_polls_under_wsgi_leave_no_threads_and_no_hubs_behind(client: Client) -> None:
    before = set(threading.enumerate())
    for _ in range(8):
        client.get("/events/a/")
    new = [each.name for each in set(threading.enumerate()) - before if each.name.startswith("sse_polling")]
    assert len(new) <= 2 + 1  # DATABASE_THREADS, and the threads of requests that were given back
    assert len([loop for loop in hubs if not loop.is_closed()]) <= 1


def test_polls_under_wsgi_share_an_outage_and_wait_for_no_end_of_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = publish("a", "one")
    tries: list[Any] = []

    async def away(*args: Any, **kwargs: Any) -> Any:
        tries.append(args)
        raise Away(OperationalError("gone"))

    monkeypatch.setattr(gate, "FIRST_PAUSE", 60)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 60)
    monkeypatch.setattr(database, "_passing", Gate(patience=0))
    with monkeypatch.context() as outage:
        outage.setattr(database, "_answer", away)
        began = time.monotonic()
        for _ in range(4):
            response = client.get(f"/events/a/?last_event_id={stored.id}")
            assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
            retry, identifier = response.content.decode().split("\n")[:2]
            assert int(retry.removeprefix("retry: ")) >= 5000
            assert identifier == f"id: {stored.id}"
        assert time.monotonic() - began < 2  # patience elsewhere: 5 s
    assert len(tries) == 1
    monkeypatch.setattr(database._passing, "_next_try", 0.0)
    for _ in range(2):
        response = client.get("/events/a/?last_event_id=earliest")
        assert b"data: one\n\n" in response.content


@pytest.mark.parametrize("wait", ["5", "nan", "x", "1" * 500])
def test_under_wsgi_a_longer_wait_is_refused_in_words(client: Client, wait: str) -> None:
    response = client.get(f"/events/a/?wait={wait}")
    assert response.status_code == 400
    assert f"wait is '{wait[:20]}', and this server runs under WSGI" in response.content.decode()
    assert client.get("/events/a/?wait=0").status_code == 200


async def test_the_async_client_reads_a_burst(async_client: AsyncClient, settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim"}
    response = await async_client.get("/events/a/")
    body = b"".join([chunk async for chunk in response.streaming_content])
    assert body.startswith(b"retry: ")
    assert response["Connection"] == "close"
    Hub.current().stop()


def test_another_method_is_refused_in_words(client: Client) -> None:
    response = client.post("/events/a/")
    assert (response.status_code, response["Allow"]) == (405, "GET")
    assert b"POST is not offered" in response.content


def test_ready_tells_the_state_and_the_capacity(client: Client, settings: Any) -> None:
    settings.SSE_POLLING = {"MAX_SOCKETS": 7}
    assert client.get(reverse("sse_polling:ready")).json() == {
        "state": "serving",
        "sockets": 0,
        "capacity": 7,
        "layer": None,
    }


def test_ready_fails_while_the_process_drains_and_only_then(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full process that failed it would take the next one down with it."""
    address = reverse("sse_polling:ready")
    settings.SSE_POLLING = {"MAX_SOCKETS": 1, "BREAKER": {"threshold": 1}}
    one = Connection(channels=("a",), door="test")
    registry.take(one)
    try:
        assert (client.get(address).status_code, client.get(address).json()["state"]) == (200, "full")
        monkeypatch.setattr(node, "draining", True)
        response = client.get(address)
        assert (response.status_code, response.json()["state"]) == (503, "draining")
        assert response["Cache-Control"] == "no-store"
    finally:
        registry.release(one)
    response = client.get(address)
    assert (response.status_code, response.json()["state"]) == (503, "drained")
    assert client.head(address).status_code == 503
    monkeypatch.setattr(node, "draining", False)
    assert client.get(address).json()["state"] == "serving"


def test_under_wsgi_a_poll_is_refused_politely_while_the_process_drains(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "draining", True)
    response = client.get("/events/a/", headers={"Last-Event-ID": "life.7.abcde"})
    assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
    assert response.content.endswith(b"\nid: life.7.abcde\n\n")


def test_the_views_are_exempt_from_atomic_requests_on_every_database(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    assert client.get("/events/a/").status_code == 200


def test_the_views_are_exempt_from_the_login_required_middleware(client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert client.get("/events/a/").status_code == 200


def test_a_frame_longer_than_the_handlers_slices_stays_whole() -> None:
    from django.core.handlers.asgi import ASGIHandler

    frame = b"data: " + b"x" * (3 * CUT_BYTES) + b"\n\n"
    assert ASGIHandler.chunk_size == CUT_BYTES
    parts = [part for part, _ in ASGIHandler.chunk_bytes(Whole(frame))]
    assert parts == [frame]
