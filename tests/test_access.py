"""Who may read, and for how long an answer is remembered."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404, QueryDict

from sse_polling import access
from sse_polling.access import authorize
from sse_polling.conf import get_config

asked: list[str] = []


async def only_builds(request: Any, channel: str) -> bool:
    asked.append(channel)
    return channel.startswith("builds.")


def only_header(request: Any, channel: str) -> bool:
    asked.append(channel)
    return request.headers.get("X-Key") == "right"


class Caller:
    """A callable object whose call is a coroutine function."""

    async def __call__(self, request: Any, channel: str) -> bool:
        return channel == "yes"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    asked.clear()
    access.cache.clear()


def user(**flags: bool) -> Any:
    chosen = {"is_authenticated": False, "is_active": False, "is_staff": False, **flags}
    return SimpleNamespace(pk=7, **chosen)


async def ask(
    *channels: str,
    who: Any = None,
    headers: dict[str, str] | None = None,
    query: str = "",
    address: str = "127.0.0.1",
    loads: list[int] | None = None,
    scope: dict[str, Any] | None = None,
    door: str = "test",
    asking: Any = None,
) -> Any:
    request: Any = SimpleNamespace(user=None, GET=QueryDict(query), headers=headers or {}, scope=scope or {})

    async def load() -> Any:
        if loads is not None:
            loads.append(1)
        return who or user()

    config = get_config()
    return await authorize(
        request,
        channels,
        address=address,
        door=door,
        headers={name.lower(): value for name, value in request.headers.items()},
        effective=config.effective,
        config=config,
        load_user=load,
        asking=asking or nullcontext(),
    )


async def test_by_default_only_a_logged_in_user_may_read() -> None:
    assert await ask("a") is None
    assert (await ask("a", who=user(is_authenticated=True, is_active=True))).user == "7"
    assert await ask("a", who=user(is_authenticated=True), headers={"x": "1"}) is None


async def test_every_channel_of_the_stream_must_be_allowed(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "tests.test_access.only_builds"}
    assert await ask("builds.1", "builds.2") is not None
    assert await ask("builds.1", "secret") is None


async def test_the_apps_own_channels_are_for_staff_whatever_authorize_says(settings: Any) -> None:
    staff = user(is_authenticated=True, is_staff=True, is_active=True)
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public"}
    assert await ask("sse_polling.live", who=user(is_authenticated=True, is_active=True)) is None
    assert await ask("sse_polling.live", who=user(is_authenticated=True, is_staff=True)) is None
    assert await ask("sse_polling.live") is None
    assert await ask("sse_polling.live", who=staff)
    forbidding = {"AUTHORIZE": "tests.test_access.only_builds"}
    for rules in (forbidding, {"CHANNELS": [("sse_polling.*", forbidding)]}):
        settings.SSE_POLLING = rules
        access.cache.clear()
        assert await ask("sse_polling.live", who=staff, headers={"X-Who": "staff"})
    assert asked == []  # a rule that fails on a name it does not know closes no page of the admin
    settings.SSE_POLLING = forbidding
    assert await ask("sse_polling.live", "secret", who=staff) is None


@pytest.mark.django_db(transaction=True)  # the thread it runs in may have a connection already
async def test_a_sync_callable_sees_the_headers(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": only_header}
    assert await ask("a") is None
    assert await ask("a", headers={"X-Key": "right"}) is not None


async def test_an_object_with_an_async_call_is_awaited(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": Caller()}
    assert await ask("no") is None
    assert await ask("yes") is not None


async def test_a_yes_is_remembered_for_the_same_client_and_neither_user_nor_authorize_is_asked(
    settings: Any,
) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "tests.test_access.only_builds"}
    loads: list[int] = []
    for cursor in ("", "life.1.aaaaa", "life.2.bbbbb"):
        headers = {"Cookie": "sessionid=1", "Last-Event-ID": cursor}
        assert await ask("builds.1", headers=headers, query=f"last_event_id={cursor}", loads=loads)
    assert asked == ["builds.1"]
    assert loads == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {"Cookie": "sessionid=2"}},
        {"headers": {"Cookie": "sessionid=1", "Authorization": "x"}},
        {"query": "token=1"},
        {"query": "client=aaaaaaaaaaaaaaaaaaaa"},
        {"headers": {"Cookie": "sessionid=1'), ('x', '"}},
        {"headers": {"Cookie": "sessionid=1\udcff"}},
        {"scope": {"scheme": "https"}},
        {"door": "another"},
        {"address": "127.0.0.2"},
    ],
)
async def test_another_client_is_asked_about_again(settings: Any, change: dict[str, Any]) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "tests.test_access.only_builds"}
    await ask("builds.1", headers={"Cookie": "sessionid=1"})
    await ask("builds.1", **{"headers": {"Cookie": "sessionid=1"}, **change})
    assert asked == ["builds.1", "builds.1"]


async def test_a_no_is_not_remembered(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "tests.test_access.only_builds"}
    assert await ask("x") is None
    assert await ask("x") is None
    assert asked == ["x", "x"]


async def test_a_yes_ends_after_its_seconds(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "tests.test_access.only_builds", "AUTH_CACHE_SECONDS": 5}
    now = 1000.0
    monkeypatch.setattr(access.time, "monotonic", lambda: now)
    await ask("builds.1")
    now += 4.9
    await ask("builds.1")
    assert len(asked) == 1
    now += 0.2
    await ask("builds.1")
    assert len(asked) == 2


async def test_zero_seconds_ask_every_time(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "tests.test_access.only_builds", "AUTH_CACHE_SECONDS": 0}
    await ask("builds.1")
    await ask("builds.1")
    assert len(asked) == 2


async def test_the_memory_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "CACHE_SIZE", 3)
    cache = access._Cache()
    for number in range(10):
        cache.put(bytes([number]), 100.0, access.Visitor(None))
    assert len(cache._answers) == 3
    assert cache.get(bytes([9]), 0.0) is not None


@pytest.mark.parametrize("error", [PermissionDenied, Http404])
async def test_an_error_that_refuses_is_a_no(settings: Any, error: type[Exception]) -> None:
    async def refuse(request: Any, channel: str) -> bool:
        raise error

    settings.SSE_POLLING = {"AUTHORIZE": refuse}
    assert await ask("a") is None


async def test_a_changed_authorize_holds_for_channels_that_are_loaded(settings: Any) -> None:
    from sse_polling.conf import get_config
    from sse_polling.live import LiveChannel
    from sse_polling.turns import Turns

    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public"}
    live = LiveChannel("a", 0.0, Turns())
    assert live.effective(get_config()).authorize == "sse_polling.access.public"
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.staff"}
    assert live.effective(get_config()).authorize == "sse_polling.access.staff"


class _Full:
    """Somewhere that nobody can be asked."""

    def __enter__(self) -> None:
        raise RuntimeError("asked")

    def __exit__(self, *_: object) -> None:
        pass


async def test_a_remembered_yes_passes_where_nobody_can_be_asked(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public"}
    assert await ask("a") is not None
    assert await ask("a", asking=_Full()) is not None
    with pytest.raises(RuntimeError, match="asked"):
        await ask("b", asking=_Full())
