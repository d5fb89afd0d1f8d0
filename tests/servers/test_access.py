"""Who may read, at both doors and on both servers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.harness.connection import request
from tests.harness.eventsource import parse
from tests.harness.site import Site

from .served import Served, fresh

EARLIEST = {"last_event_id": "earliest"}


@pytest.fixture(scope="session")
def user(strict_site: Site) -> Mapping[str, str]:
    return strict_site.session("user")


@pytest.fixture(scope="session")
def staff(strict_site: Site) -> Mapping[str, str]:
    return strict_site.session("staff", staff=True)


async def status(served: Served, channel: str, cookies: Mapping[str, str] | None = None) -> int:
    response = await request(served.url(channel, **EARLIEST), cookies=cookies)
    if response.status == 403:
        assert response.header("content-type") == "text/plain; charset=utf-8"
        assert response.text == f"You may not read channel {channel}."
    else:
        assert response.header("content-type") == "text/event-stream"
    return response.status


async def test_by_default_only_a_logged_in_user_reads(served: Served, user: Mapping[str, str]) -> None:
    channel = fresh("users")
    served.shell.publish(channel, "a")
    assert await status(served, channel) == 403
    assert await status(served, channel, {"sessionid": "x" * 32}) == 403
    response = await request(served.url(channel, **EARLIEST), cookies=user)
    assert response.status == 200
    assert [message.data for message in parse(response.body)] == ["a"]


async def test_a_user_who_logs_out_is_refused_at_the_next_reconnect(
    served: Served, strict_site: Site
) -> None:
    channel = fresh("users")
    cookies = strict_site.session(fresh("user").replace(".", "-"))
    client = served.client(channel, cookies=cookies)
    await client.one_response(deadline=20)
    served.shell.run(
        "from django.contrib.sessions.models import Session\nSession.objects.filter(pk=key).delete()",
        key=cookies["sessionid"],
    )
    await client.one_response(deadline=20)
    assert client.statuses == [200, 403]


async def test_an_inactive_user_is_refused(served: Served, strict_site: Site) -> None:
    channel, name = fresh("users"), fresh("user").replace(".", "-")
    cookies = strict_site.session(name)
    served.shell.run(
        "from django.contrib.auth.models import User\n"
        "User.objects.filter(username=name).update(is_active=False)",
        name=name,
    )
    assert await status(served, channel, cookies) == 403


async def test_a_sync_rule_may_ask_the_database(
    served: Served, user: Mapping[str, str], staff: Mapping[str, str]
) -> None:
    channel = fresh("group")
    served.shell.run(
        "from django.contrib.auth.models import Group, User\n"
        "User.objects.get(username='user').groups.add(Group.objects.create(name=channel))",
        channel=channel,
    )
    assert await status(served, channel, user) == 200
    assert await status(served, channel, staff) == 403
    assert await status(served, channel) == 403
    assert await status(served, fresh("group"), user) == 403


async def test_a_rule_sees_the_query_and_the_headers_at_every_door(served: Served) -> None:
    channel = fresh("word")
    assert (await request(served.url(channel))).status == 403
    assert (await request(served.url(channel, word="please"))).status == 200
    assert (await request(served.url(channel), headers={"X-Word": "please"})).status == 200
    assert (await request(served.url(channel, word="now"), headers={"X-Word": "please"})).status == 403


async def test_the_apps_own_channels_are_for_staff_whatever_the_rule_says(
    served: Served, user: Mapping[str, str], staff: Mapping[str, str]
) -> None:
    channel = "sse_polling.nodes"
    assert await status(served, channel) == 403
    assert await status(served, channel, user) == 403
    assert await status(served, channel, staff) == 200


async def test_every_channel_of_a_stream_must_be_allowed(served: Served, user: Mapping[str, str]) -> None:
    channels = [fresh("users"), fresh(), "sse_polling.nodes"]
    response = await request(served.url(channels), cookies=user)
    assert (response.status, response.text) == (403, "You may not read these channels.")
    assert (await request(served.url(channels[:2]), cookies=user)).status == 200
    assert (await request(served.url(channels[:2]))).status == 403


async def test_a_stream_sets_no_cookie(served: Served, user: Mapping[str, str]) -> None:
    response = await request(served.url(fresh("users")), cookies=user)
    assert response.status == 200
    assert not response.header("set-cookie")
