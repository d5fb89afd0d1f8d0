"""Which addresses the mount answers, and which it leaves to the application it wraps."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from sse_polling.asgi import SSEPolling
from sse_polling.hub import Hub

pytestmark = pytest.mark.django_db(transaction=True)


def special(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Site:
    """URLconfs for ``ROOT_URLCONF``: anything with ``urlpatterns``."""

    at_root = type(
        "Conf", (), {"urlpatterns": [path("admin/", special), path("", include("sse_polling.urls"))]}
    )
    before = type(
        "Conf",
        (),
        {"urlpatterns": [path("events/special/", special), path("events/", include("sse_polling.urls"))]},
    )
    without = type("Conf", (), {"urlpatterns": [path("x/", special)]})


async def ask(application: Any, address: str, *, kind: str = "http", root_path: str = "") -> Any:
    """Return the status of the answer, None if the wrapped application was called, for *address*."""
    scope = {
        "type": kind,
        "method": "GET",
        "path": address,
        "root_path": root_path,
        "headers": [],
        "query_string": b"",
        "extensions": {"websocket.http.response": {}},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect" if kind == "websocket" else "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return sent[0].get("status", sent[0]["type"]) if sent else None


@pytest.fixture
async def mounted(settings: Any) -> Any:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "PRESET": "reclaim"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    yield lambda **options: SSEPolling(app, **options)
    Hub.current().stop()


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/events/a/", 200),
        ("/events/", 400),  # several channels, and none named
        ("/events/a%20b/", 400),
        ("/events/ready/", None),
        ("/events/poll/", 400),
        ("/events/a/poll/", 200),
        ("/events/poll/poll/", None),
        ("/events/a/poll/poll/", None),
        ("/events/a", None),
        ("/events/a/b/", None),
        ("/other/", None),
    ],
)
async def test_streams_are_answered_and_the_rest_is_the_applications(
    mounted: Any, address: str, status: int | None
) -> None:
    assert await ask(mounted(), address) == status


async def test_lifespan_is_the_applications(mounted: Any) -> None:
    assert await ask(mounted(), "", kind="lifespan") is None


async def test_a_websocket_at_a_streams_address_is_refused_without_a_traceback(mounted: Any) -> None:
    assert await ask(mounted(), "/events/a/", kind="websocket") == "websocket.close"
    assert await ask(mounted(), "/chat/", kind="websocket") is None


@pytest.mark.parametrize(
    ("address", "first"),
    [
        ("/events/ws/a/", "websocket.accept"),
        ("/app/events/ws/a/", "websocket.accept"),
        ("/events/ws/", "websocket.http.response.start"),  # of no channel
        ("/events/ws/a", None),
        ("/events/ws/a/b/", None),
        ("/events/ws/a/poll/", None),
    ],
)
async def test_which_addresses_are_websockets(mounted: Any, address: str, first: str | None) -> None:
    root_path = "/app" if address.startswith("/app") else ""
    found = await ask(mounted(), address, kind="websocket", root_path=root_path)
    assert found == (400 if first == "websocket.http.response.start" else first)


async def test_without_a_door_for_them_websockets_are_the_applications(mounted: Any) -> None:
    assert await ask(mounted(websocket=False), "/events/ws/a/", kind="websocket") is None
    assert await ask(mounted(websocket=False), "/events/ws/", kind="websocket") is None
    assert await ask(mounted(websocket=False), "/events/a/", kind="websocket") == "websocket.close"
    assert await ask(mounted(websocket=False), "/events/a/poll/") == 200


async def test_an_address_of_the_site_before_the_include_stays_the_sites(mounted: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = Site.before
    assert await ask(mounted(), "/events/special/") is None
    assert await ask(mounted(), "/events/a/") == 200


async def test_another_urlconf_takes_effect_at_once(mounted: Any, settings: Any) -> None:
    application = mounted()
    assert await ask(application, "/events/special/") == 200
    settings.ROOT_URLCONF = Site.before
    assert await ask(application, "/events/special/") is None
    settings.ROOT_URLCONF = "tests.urls"
    assert await ask(application, "/events/special/") == 200


async def test_what_is_remembered_of_addresses_is_bounded(mounted: Any) -> None:
    from sse_polling.mount import REMEMBERED, _leads_to

    application = mounted()
    _leads_to.cache_clear()
    assert await ask(application, f"/events/{'a' * 1000}/") == 400
    assert _leads_to.cache_info().currsize == 0
    assert await ask(application, "/events/a/") == await ask(application, "/events/a/") == 200
    assert _leads_to.cache_info()[:4] == (1, 1, REMEMBERED, 1)


async def test_an_include_at_the_root_takes_only_what_is_left(mounted: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = Site.at_root
    assert await ask(mounted(), "/admin/") is None
    assert await ask(mounted(), "/a/") == 200


async def test_a_root_path_of_the_server_is_left_out(mounted: Any) -> None:
    assert await ask(mounted(), "/app/events/a/", root_path="/app") == 200


async def test_a_path_of_its_own_needs_no_include(mounted: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = Site.without
    assert await ask(mounted(path="streams"), "/streams/a/") == 200
    with pytest.raises(ImproperlyConfigured, match="include"):
        await ask(mounted(), "/a/")


async def test_a_header_with_an_underscore_cannot_pass_for_another(mounted: Any, settings: Any) -> None:
    """Django drops such names: a proxy that strips ``X-Forwarded-User`` leaves ``X_Forwarded_User``."""
    scope = {"headers": [(b"x_forwarded_user", b"root"), (b"x-real", b"1")]}
    assert dict(_request(scope).headers) == {"X-Real": "1"}


async def test_headers_are_as_django_has_them() -> None:
    request = _request(
        {"headers": [(b"X-Real", b"1"), (b"content-type", b"a"), (b"x-real", b"\xe9"), (b"cookie", b"a=1")]}
    )
    assert dict(request.headers) == {"X-Real": "1,\xe9", "Content-Type": "a", "Cookie": "a=1"}
    assert request.headers["x-rEaL"] == request.plain_headers["x-real"] == "1,\xe9"


def _request(scope: Any) -> Any:
    from sse_polling.scopes import ScopeRequest

    async def nothing(*args: Any) -> Any:
        raise AssertionError

    return ScopeRequest(scope, nothing, nothing, door="mount")


def test_a_poll_during_a_keys_rotation_logs_nobody_out(client: Any, settings: Any) -> None:
    from django.contrib.auth.models import User

    from sse_polling.users import session_user

    user = User.objects.create_user("reader")
    client.force_login(user)
    session = client.session
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [old]
    assert session_user(session) == user
    settings.SECRET_KEY_FALLBACKS = []
    assert session_user(session).is_anonymous
    assert session.exists(session.session_key)
    assert not session.modified


@pytest.mark.parametrize(
    ("address", "closes"),
    [("/events/a/", False), ("/events/", True), ("/events/a%20b/", True)],
)
async def test_only_a_bursts_socket_is_kept(mounted: Any, settings: Any, address: str, closes: bool) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "CLOSE_SOCKET": False}
    assert (await _closes(mounted(), address)) == closes
    settings.SSE_POLLING = {**settings.SSE_POLLING, "MAX_SOCKETS": 1}  # three quarters of it are none
    assert await _closes(mounted(), address)


async def _closes(application: Any, address: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": address, "headers": [], "query_string": b""}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return (b"connection", b"close") in sent[0]["headers"]
