"""The WebSocket door on daphne and uvicorn, and that hypercorn and granian have it too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidHandshake

from tests.harness.connection import Address, Connection
from tests.harness.connection import request as http_request
from tests.harness.server import AsgiServer, Kind
from tests.harness.shell import Shell
from tests.harness.site import Site

from .conftest import FEW_SOCKETS
from .served import MOST_SOCKETS, Served, eventually, fresh
from .sockets import Burst, handshake, open_socket, read_burst, ws_url


@pytest.fixture(autouse=True)
async def _all_is_given_back(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    if "sockets" in request.fixturenames:
        served = request.getfixturevalue("sockets")
        await eventually(lambda: is_idle(served), deadline=5, what="sockets were not given back")


async def is_idle(served: Served) -> bool:
    return await served.sockets() == 0


async def burst(
    served: Served, channel: Any, *, headers: Mapping[str, str] | None = None, **query: str
) -> Burst:
    url = ws_url(served.server.url, channel, **query)
    async with open_socket(url, additional_headers=dict(headers or {})) as socket:
        return await read_burst(socket)


def opened(got: Burst) -> bool:
    return bool(got.frames)


# Frames


async def test_a_burst_is_an_opening_events_and_a_closing_frame(sockets: Served) -> None:
    channel = fresh()
    first, second, third = sockets.shell.publish(channel, "a", "b\n\u2028", {"c": 1})
    got = await burst(sockets, channel, last_event_id=first)
    opening, *events, closing = got.frames
    assert list(opening) == ["retry", "last_event_id"]
    assert opening["last_event_id"] == first
    assert events == [
        {"channel": channel, "id": second, "event": "message", "data": "b\n\u2028"},
        {"channel": channel, "id": third, "event": "message", "data": '{"c":1}'},
    ]
    assert list(closing) == ["retry", "last_event_id", "end"]
    assert (closing["last_event_id"], closing["end"], got.code) == (third, False, 1000)


async def test_without_a_cursor_it_begins_now_and_says_where_that_is(sockets: Served) -> None:
    channel = fresh()
    *_, last = sockets.shell.publish(channel, "a", "b")
    got = await burst(sockets, channel)
    assert (got.events, got.cursor) == ([], last)
    assert (await burst(sockets, channel, last_event_id="earliest")).data == ["a", "b"]


async def test_a_cursor_in_the_header_counts_as_well(sockets: Served) -> None:
    channel = fresh()
    first, _ = sockets.shell.publish(channel, "a", "b")
    assert (await burst(sockets, channel, headers={"Last-Event-ID": first})).data == ["b"]


async def test_several_channels_have_one_cursor_in_each_frame(sockets: Served) -> None:
    channels = [fresh(), fresh()]
    for each in channels:
        sockets.shell.publish(each, "1", "2")
    got = await burst(sockets, channels, last_event_id="earliest")
    assert sorted((each["channel"], each["data"]) for each in got.events) == sorted(
        (channel, data) for channel in channels for data in "12"
    )
    for frame in got.events:
        assert frame["id"] in frame["last_event_id"]
    seen = [each["data"] for each in got.events[:1]]
    rest = await burst(sockets, channels, last_event_id=got.events[0]["last_event_id"])
    assert len(seen + rest.data) == 4


async def test_an_end_is_an_event_then_a_frame_and_then_nothing(sockets: Served) -> None:
    channel = fresh()
    sockets.shell.publish(channel, "a")
    sockets.shell.run("sse_polling.finish(channel, {'ok': 1})", channel=channel)
    got = await burst(sockets, channel, last_event_id="earliest")
    assert [(each["event"], each["data"]) for each in got.events] == [("message", "a"), ("end", '{"ok":1}')]
    assert (got.frames[-1]["end"], got.code) == (True, 1000)
    again = await burst(sockets, channel, last_event_id=got.cursor or "")
    assert again.frames == [{"retry": 0, "last_event_id": got.cursor, "end": True}]
    assert again.code == 1000


async def test_a_gap_is_a_frame_with_the_data_of_an_event_streams(sockets: Served) -> None:
    channel = fresh()
    first, *_ = sockets.shell.publish(channel, *range(5))
    sockets.shell.run(
        "from sse_polling.models import Event\n"
        "Event.objects.filter(channel__name=channel, sequence__lte=3).delete()",
        channel=channel,
    )
    got = await burst(sockets, channel, last_event_id=first)
    gap = got.events[0]
    assert (gap["event"], json.loads(gap["data"])) == (
        "gap",
        {"channel": channel, "from": 2, "to": 3, "reason": "trimmed"},
    )
    assert got.data[1:] == ["3", "4"]
    assert (await burst(sockets, channel, last_event_id=gap["id"])).data == ["3", "4"]


async def test_a_held_socket_has_heartbeats_and_gets_events_as_they_come(sockets: Served) -> None:
    channel = fresh("held")
    async with open_socket(ws_url(sockets.server.url, channel)) as socket:
        got = await read_burst(socket, until=lambda got: {"heartbeat": True} in got.frames)
        assert got.frames[0]["last_event_id"]
        await asyncio.to_thread(sockets.shell.publish, channel, "late")
        assert (await read_burst(socket, until=lambda got: bool(got.events))).data == ["late"]


# Leaving


async def test_the_clients_close_frees_the_place(sockets: Served) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MOST_SOCKETS):
            socket = await stack.enter_async_context(open_socket(ws_url(sockets.server.url, fresh("held"))))
            await read_burst(socket, until=opened)
        assert await sockets.sockets() == MOST_SOCKETS
    await eventually(lambda: is_idle(sockets), deadline=2)


async def test_a_connection_that_is_lost_frees_the_place(sockets: Served) -> None:
    socket = await open_socket(ws_url(sockets.server.url, fresh("held")))
    await read_burst(socket, until=opened)
    assert await sockets.sockets() == 1
    socket.transport.abort()
    await eventually(lambda: is_idle(sockets), deadline=2)


async def raw_handshake(server: AsgiServer, channel: str, *, receive_buffer: int | None = None) -> Connection:
    address = Address(server.url + f"/events/ws/{channel}/?last_event_id=earliest")
    connection = await Connection.open(address, receive_buffer=receive_buffer)
    await connection.send(
        address.head(
            {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
            }
        )
    )
    return connection


async def test_who_leaves_before_being_accepted_leaves_nothing(sockets: Served) -> None:
    for _ in range(20):
        connection = await raw_handshake(sockets.server, fresh("held"))
        connection.reset()
    await eventually(lambda: is_idle(sockets), deadline=3)


async def test_who_reads_nothing_is_cut(sockets: Served) -> None:
    await assert_that_it_cuts(sockets)


async def assert_that_it_cuts(sockets: Served) -> None:
    """Assert that a client that takes nothing is cut, and its place and its socket are free."""
    channel = fresh("huge")
    sockets.shell.publish(channel, *["x" * 250_000] * 28)
    connection = await raw_handshake(sockets.server, channel, receive_buffer=4096)
    try:
        await eventually(lambda: has(sockets, 1), deadline=5)
        await eventually(lambda: is_idle(sockets), deadline=6)
        assert "cuts a socket that takes too little" in sockets.server.log()
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                while await connection.receive():
                    pass  # what the kernel had
    finally:
        connection.close()


@pytest.mark.faults
async def test_who_reads_slowly_has_what_comes_before_the_close(
    tmp_path: Path, serve: Callable[..., AsgiServer]
) -> None:
    """daphne gives a client 1 s for its close, and drops what it has not had until then."""
    site = Site(tmp_path, sse_polling={"BURST": {"hold_seconds": 0, "linger_seconds": 0}})
    server, channel = serve(site, kind="daphne"), fresh()
    await asyncio.to_thread(server.publish, channel, "x" * 200_000)
    connection = await raw_handshake(server, channel, receive_buffer=4096)
    got = b""
    try:
        async with asyncio.timeout(20):
            while b'"end":false}' not in got:
                received = await connection.receive(8000)
                assert received, f"closed after {len(got)} bytes"
                got += received
                await asyncio.sleep(0.1)
    finally:
        connection.close()
    assert got.count(b"x") >= 200_000


async def has(served: Served, count: int) -> bool:
    return await served.sockets() == count


@pytest.mark.parametrize("said", ["x" * 100_000, b"\x00" * 100_000, "[" * 1_024, '{"ack": true}', ""])
async def test_what_a_client_says_unasked_changes_nothing(sockets: Served, said: str | bytes) -> None:
    channel = fresh("held")
    async with open_socket(ws_url(sockets.server.url, channel)) as socket:
        await read_burst(socket, until=opened)
        await socket.send(said)
        await asyncio.to_thread(sockets.shell.publish, channel, "after")
        assert (await read_burst(socket, until=lambda got: bool(got.events))).data == ["after"]


# Refusals


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("ws/no%20spaces/", 400, "Not a channel name"),
        ("ws/a/?last_event_id=nonsense", 400, "Not a cursor"),
        ("ws/", 400, "Name 1 to 10 channels"),
        ("ws/a/?client=short", 400, "client has 16 to 64"),
        ("ws/users.1/", 403, "You may not read channel users.1."),
        ("a/", 403, ""),
    ],
)
async def test_a_refusal_has_words_where_the_server_can(
    sockets: Served, path: str, status: int, words: str
) -> None:
    response = await handshake(f"{sockets.server.url}/events/{path}")
    if sockets.server.kind == "daphne":
        assert response.status == 403  # it knows no other
    else:
        assert (response.status, words in response.text) == (status, True)
        if words:
            assert response.header("content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        (None, True),
        ("https://a.allowed.example", True),
        ("https://a.trusted.example:8443", True),
        ("https://a.trusted.example", False),  # another port
        ("https://evil.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
async def test_a_foreign_pages_socket_is_refused(sockets: Served, origin: str | None, good: bool) -> None:
    url = ws_url(sockets.server.url, fresh())
    if good:
        got = await burst(sockets, fresh(), headers={"Origin": origin} if origin else None)
        assert got.code == 1000
    else:
        response = await handshake(url, headers={"Origin": origin or ""})
        if sockets.server.kind == "daphne":
            assert response.status == (403 if origin != "http://[" else 400)
        else:
            assert (response.status, "CSRF_TRUSTED_ORIGINS" in response.text) == (403, True)


async def test_a_session_opens_what_needs_a_user(sockets: Served) -> None:
    channel = fresh("users")
    sockets.shell.publish(channel, "secret")
    key = sockets.shell.run(
        "from django.test import Client\n"
        "from django.contrib.auth.models import User\n"
        "client = Client()\n"
        "client.force_login(User.objects.get_or_create(username='reader')[0])\n"
        "result = client.cookies['sessionid'].value"
    )
    headers = {"Cookie": f"sessionid={key}"}
    assert (await burst(sockets, channel, headers=headers, last_event_id="earliest")).data == ["secret"]


async def test_over_capacity_it_says_when_to_come_back_and_closes(sockets: Served) -> None:
    channel = fresh()
    cursor = sockets.shell.publish(channel, "a", "b")[0]
    async with AsyncExitStack() as stack:
        for _ in range(MOST_SOCKETS):
            socket = await stack.enter_async_context(open_socket(ws_url(sockets.server.url, fresh("held"))))
            await read_burst(socket, until=opened)
        got = await burst(sockets, channel, last_event_id=cursor)
        assert got.code == 1013
        (frame,) = got.frames
        assert list(frame) == ["retry", "last_event_id"]
        assert frame["last_event_id"] == cursor
        assert 7000 <= frame["retry"] <= 9100
        assert await sockets.sockets() == MOST_SOCKETS
    await eventually(lambda: is_idle(sockets))
    assert (await burst(sockets, channel, last_event_id=cursor)).data == ["b"]


async def test_over_a_clients_own_limit_the_next_is_sent_away(sockets: Served) -> None:
    """A signed address' subject is a client, whatever channels its addresses are for."""
    channels = [f"signed.{fresh('held')}" for _ in range(3)]
    urls = sockets.shell.run(
        "from sse_polling.access import signed_url\n"
        "result = [signed_url(each, max_age=60, subject='one of a test') for each in channels]",
        channels=channels,
    )
    addresses = [
        ws_url(sockets.server.url, each) + "?" + url.partition("?")[2]
        for each, url in zip(channels, urls, strict=True)
    ]
    async with AsyncExitStack() as stack:
        for address in addresses[:2]:
            socket = await stack.enter_async_context(open_socket(address))
            await read_burst(socket, until=opened)
        async with open_socket(addresses[2]) as socket:
            refused = await read_burst(socket)
        assert (refused.code, list(refused.frames[0])) == (1013, ["retry", "last_event_id"])
    await eventually(lambda: is_idle(sockets))
    stolen = ws_url(sockets.server.url, channels[0]) + "?" + urls[1].partition("?")[2]
    assert (await handshake(stolen)).status == 403


# Draining


async def test_a_drain_under_load_loses_nothing(sockets: Served) -> None:
    """Who is asked to leave goes on at the process that comes after."""
    channel, count = fresh("load"), 0
    codes: list[int] = []
    enough = asyncio.Event()

    async def publish() -> None:
        nonlocal count
        while not enough.is_set():
            await asyncio.to_thread(sockets.shell.publish, channel, *range(count, count + 5))
            count += 5

    async def read() -> list[str]:
        cursor, got = "-.0.-", []
        while not got or got[-1] != "last":
            try:
                async with open_socket(ws_url(sockets.server.url, channel, last_event_id=cursor)) as socket:
                    burst = await read_burst(socket)
            except (OSError, InvalidHandshake):
                continue
            codes.append(burst.code)
            got += [each["data"] for each in burst.events if each["event"] == "message"]
            cursor = burst.cursor or cursor
        return got

    publishing = asyncio.create_task(publish())
    reading = [asyncio.create_task(read()) for _ in range(MOST_SOCKETS - 1)]
    await eventually(lambda: len(codes) >= len(reading))
    async with open_socket(ws_url(sockets.server.url, fresh("held"))) as held:
        await read_burst(held, until=opened)
        stopping = asyncio.create_task(asyncio.to_thread(sockets.server.stop))
        left = await read_burst(held)
        await stopping
    assert (left.data, left.code) == (["pool_draining"], 1001)
    assert 1012 not in codes
    await asyncio.to_thread(sockets.server.start)
    before = len(codes)
    await eventually(lambda: len(codes) >= before + len(reading))
    enough.set()
    await publishing
    stored = await asyncio.to_thread(
        sockets.shell.run,
        "sse_polling.publish(channel, 'last')\n"
        "from sse_polling.models import Event\n"
        "rows = Event.objects.filter(channel__name=channel).order_by('sequence')\n"
        "result = list(rows.values_list('data', flat=True))",
        channel=channel,
    )
    assert len(stored) == len(set(stored)) > 20
    for got in await asyncio.gather(*reading):
        assert got == stored


# The other servers


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn", "granian"])
async def test_an_order_and_a_signal_let_each_close_in_its_time(
    tmp_path: Path, socket_shell: Shell, serve: Callable[..., AsgiServer], kind: Kind
) -> None:
    """But granian's signal, which cuts them: there the order comes first."""
    site = Site(tmp_path, sse_polling=FEW_SOCKETS)  # whose nodes are this one
    arguments = ["--graceful-timeout", "20"] if kind == "hypercorn" else []
    served = Served("mount", serve(site, kind=kind, arguments=arguments), socket_shell)
    channel = fresh("held")
    url, named = (ws_url(served.server.url, channel, **query) for query in ({}, {"client": "c" * 16}))
    polls = f"{served.server.url}/events/{channel}/poll/?wait=50"
    async with open_socket(url) as one, open_socket(named) as other:
        for socket in (one, other):
            await read_burst(socket, until=opened)
        poll = asyncio.create_task(http_request(polls))
        await eventually(lambda: has(served, 3))
        if kind == "granian":
            leaving = asyncio.to_thread(site.manage, "sse_drain", "--all", "--wait", "20")
        else:
            leaving = asyncio.to_thread(served.server.stop)
        stopping = asyncio.create_task(leaving)
        left = await read_burst(one)
        asked = await read_burst(other, until=lambda got: "end" in got.frames[-1])
        assert (left.data, left.code, asked.data) == (["pool_draining"], 1001, ["pool_draining"])
        assert not stopping.done()  # the other has not let go
        await other.send('{"ack": true}')
        assert (await read_burst(other)).code == 1001
        answered = await poll
        await stopping
    assert (json.loads(answered.body)["events"], answered.header("connection").lower()) == ([], "close")
    log = served.server.log()
    if kind != "hypercorn":  # which has nothing to wait for any more
        assert "2 not_asked, 1 acked" in log or "1 acked, 2 not_asked" in log, log[-2000:]


@pytest.mark.parametrize("kind", ["hypercorn", "granian"])
async def test_another_server_has_it_too(
    socket_site: Site, socket_shell: Shell, serve: Callable[..., AsgiServer], kind: Kind
) -> None:
    served = Served("mount", serve(socket_site, kind=kind), socket_shell)
    channel, held = fresh(), fresh("held")
    first, *_ = served.shell.publish(channel, "a", "b")
    got = await burst(served, channel, last_event_id=first)
    assert (got.data, got.code) == (["b"], 1000)
    refused = await handshake(ws_url(served.server.url, "users.1"))
    assert refused.status == 403
    async with open_socket(ws_url(served.server.url, held)) as socket:
        await read_burst(socket, until=opened)
        assert await served.sockets() == 1
        await asyncio.to_thread(served.shell.publish, held, "late")
        assert (await read_burst(socket, until=lambda got: bool(got.events))).data == ["late"]
    await eventually(lambda: is_idle(served), deadline=5)
    socket = await open_socket(ws_url(served.server.url, held))
    await read_burst(socket, until=opened)
    socket.transport.abort()
    await eventually(lambda: is_idle(served), deadline=5)
    await assert_that_it_cuts(served)
    assert "Traceback" not in served.server.log(), served.server.log()[-3000:]
