"""The view inside a site that has every middleware, and ATOMIC_REQUESTS on every database."""

from __future__ import annotations

import pytest

from tests.harness.connection import request
from tests.harness.eventsource import parse

from .middleware import POLICY
from .served import Served, fresh

EARLIEST = {"last_event_id": "earliest"}


@pytest.fixture
def view(served: Served) -> Served:
    if served.door != "view":
        pytest.skip("the mount passes by the site's middleware, as its docstring says")
    return served


async def test_the_sites_middleware_runs(view: Served) -> None:
    response = await view.get(fresh())
    assert response.header("content-security-policy") == POLICY
    assert response.header("x-content-type-options") == "nosniff"
    assert response.header("x-frame-options") == "DENY"
    assert response.header("content-language") == "en"
    page = await request(f"{view.server.url}/admin/", headers={"Accept-Encoding": "gzip"})
    assert page.status == 302  # LoginRequiredMiddleware and the admin redirect; a stream does not


async def test_gzip_leaves_a_stream_alone(view: Served) -> None:
    channel = fresh()
    view.shell.publish(channel, *["compressible " * 200] * 3)
    response = await view.get(channel, query=EARLIEST, headers={"Accept-Encoding": "gzip"})
    assert response.header("content-encoding") == "identity"
    assert [message.data for message in parse(response.body)] == ["compressible " * 200] * 3
    page = await request(f"{view.server.url}/admin/login/", headers={"Accept-Encoding": "gzip"})
    assert page.header("content-encoding") == "gzip"  # so the middleware is there


async def test_a_page_without_login_is_refused_and_a_stream_is_not_redirected(view: Served) -> None:
    response = await request(view.url(fresh("users")))
    assert response.status == 403
    assert not response.header("location")


async def test_a_conditional_request_gets_the_stream_all_the_same(view: Served) -> None:
    response = await view.get(fresh(), headers={"If-None-Match": "*", "Accept-Language": "de"})
    assert response.status == 200
    assert not response.header("etag")
