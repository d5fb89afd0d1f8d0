"""The view inside a site that has every middleware, and ATOMIC_REQUESTS on every database."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.connection import request
from tests.harness.eventsource import parse

from .conftest import COMBINATIONS
from .middleware import POLICY
from .served import Served, eventually, fresh

EARLIEST = {"last_event_id": "earliest"}


# The mount passes by the site's middleware, as its docstring says.
VIEWS = [each for each in COMBINATIONS if each[0] == "view"]
strict_view = pytest.mark.parametrize("served", VIEWS, indirect=True, ids="-".join)
small_view = pytest.mark.parametrize("small", VIEWS, indirect=True, ids="-".join)


@strict_view
async def test_the_sites_middleware_runs(served: Served) -> None:
    response = await served.get(fresh())
    assert response.header("content-security-policy") == POLICY
    assert response.header("x-content-type-options") == "nosniff"
    assert response.header("x-frame-options") == "DENY"
    assert response.header("content-language") == "en"
    page = await request(f"{served.server.url}/admin/", headers={"Accept-Encoding": "gzip"})
    assert page.status == 302  # LoginRequiredMiddleware and the admin redirect; a stream does not


@strict_view
async def test_gzip_leaves_a_stream_alone(served: Served) -> None:
    channel = fresh()
    served.shell.publish(channel, *["compressible " * 200] * 3)
    response = await served.get(channel, query=EARLIEST, headers={"Accept-Encoding": "gzip"})
    assert response.header("content-encoding") == "identity"
    assert [message.data for message in parse(response.body)] == ["compressible " * 200] * 3
    page = await request(f"{served.server.url}/admin/login/", headers={"Accept-Encoding": "gzip"})
    assert page.header("content-encoding") == "gzip"  # so the middleware is there


@strict_view
async def test_a_page_without_login_is_refused_and_a_stream_is_not_redirected(served: Served) -> None:
    response = await request(served.url(fresh("users")))
    assert response.status == 403
    assert not response.header("location")


@strict_view
async def test_a_conditional_request_gets_the_stream_all_the_same(served: Served) -> None:
    response = await served.get(fresh(), headers={"If-None-Match": "*", "Accept-Language": "de"})
    assert response.status == 200
    assert not response.header("etag")


@small_view
async def test_sync_middleware_does_not_hold_a_stream_up(small: Served) -> None:
    channel = fresh("held")
    client = small.client(channel)
    reading = asyncio.create_task(client.run(deadline=30))
    await eventually(lambda: client.last_event_id)
    small.server.publish(channel, "a")
    await eventually(lambda: "a" in client.data)
    await asyncio.sleep(1.2)  # two rounds of the reaper: the view's own task is over, the stream is not
    assert await small.sockets() == 1
    small.server.publish(channel, finish=None)
    await reading
    assert [response.header("x-stamp") for response in client.responses] == ["sync", "sync"]
    assert client.statuses == [200, 204]
