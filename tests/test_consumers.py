"""The WebSocket door at ASGI: what it gives back on every way out, whom it lets in, how it closes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from sse_polling import access, consumers, door, publish
from sse_polling.connections import Connection, registry
from sse_polling.consumers import consume
from sse_polling.hub import Hub
from sse_polling.lifecycle import Farewell, node
from sse_polling.protocol.burst import Cause
from sse_polling.transport import Socket, find_socket

pytestmark = pytest.mark.django_db(transaction=True)

HELD = {"hold_seconds": 60, "linger_seconds": 60, "max_seconds": 90}


@pytest.fixture(autouse=True)
async def _hub(settings: Any) -> AsyncIterator[None]:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "BURST": HELD}
    access.cache.clear()
    yield
    assert len(registry) == 0
    assert not any(live.waiters for live in Hub.current().tails)
    Hub.current().stop()


class Client:
    """The client's end of a WebSocket, and the server's between."""

    def __init__(
        self, *names: str, query: str = "", on_send: Callable[[Any], Any] | None = None, **headers: str
    ) -> None:
        self.sent: list[Any] = []
        self.changed = asyncio.Event()
        self._on_send = on_send
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.says({"type": "websocket.connect"})
        self.scope = {
            "type": "websocket",
            "path": "/",
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()
            ],
            "client": ["127.0.0.1", 1],
            "extensions": {"websocket.http.response": {}},
        }
        self.names = list(names)

    def says(self, message: Any) -> None:
        self._queue.put_nowait(message)

    def goes(self) -> None:
        self.says({"type": "websocket.disconnect", "code": 1005})

    async def send(self, message: Any) -> None:
        if self._on_send is not None:
            answer = self._on_send(message)
            if asyncio.iscoroutine(answer):
                await answer
        self.sent.append(message)
        self.changed.set()

    async def run(self) -> list[str]:
        """Be served to the end, and return the types of what was sent."""
        async with asyncio.timeout(10):
            await consume(self.names, self.scope, self._queue.get, self.send)
        return [each["type"].removeprefix("websocket.") for each in self.sent]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    @property
    def frames(self) -> list[Any]:
        return [json.loads(each["text"]) for each in self.sent if each["type"] == "websocket.send"]

    @property
    def code(self) -> Any:
        return self.sent[-1].get("code")


def the_connection() -> Connection:
    (connection,) = registry
    return connection


# Ways out


@pytest.mark.parametrize("fails_at", ["websocket.accept", "websocket.send", "websocket.close"])
async def test_a_client_that_is_gone_when_it_is_told_something_leaves_nothing(
    settings: Any, fails_at: str
) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim", "BURST": {}}

    def gone(message: Any) -> None:
        if message["type"] == fails_at:
            raise ConnectionError

    before = node.counts.ended[Cause.GONE]
    await Client("a", on_send=gone).run()
    assert len(registry) == 0
    assert node.counts.ended[Cause.GONE] == before + (fails_at != "websocket.close")


async def test_a_server_that_fails_in_the_accept_is_not_kept_from_saying_so() -> None:
    def broken(message: Any) -> None:
        raise RuntimeError("a server's own")

    with pytest.raises(RuntimeError, match="own"):
        await Client("a", on_send=broken).run()


@pytest.mark.parametrize("blocked", ["websocket.accept", "websocket.send"])
async def test_a_task_that_is_cancelled_gives_its_place_back(blocked: str) -> None:
    async def wait(message: Any) -> None:
        if message["type"] == blocked:
            reached.set()
            await asyncio.Event().wait()

    reached = asyncio.Event()
    task = asyncio.create_task(Client("a", on_send=wait).run())
    await reached.wait()
    assert len(registry) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(registry) == 0


async def test_who_leaves_while_it_is_asked_who_it_is_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("a")

    async def slow(*args: Any, **kwargs: Any) -> Any:
        client.goes()
        await asyncio.sleep(0)
        return await door.answer(*args, **kwargs)

    monkeypatch.setattr(consumers, "answer", slow)
    assert (await client.run())[0] == "accept"
    assert len(client.frames) <= 1


async def test_the_clients_close_ends_the_stream_without_another_word() -> None:
    client = Client("a")
    serving = asyncio.create_task(client.run())
    await client.until(lambda: bool(client.frames))
    client.goes()
    assert await serving == ["accept", "send"]
    assert len(registry) == 0


async def test_who_takes_nothing_is_left_and_its_place_is_given_back(settings: Any) -> None:
    """Here the socket is the server's, out of reach: its task is let go."""
    settings.SSE_POLLING = {**settings.SSE_POLLING, "SEND": {"stall_seconds": 1}}

    async def wait(message: Any) -> None:
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()

    before = node.counts.ended[Cause.STALLED]
    assert await Client("a", on_send=wait).run() == ["accept"]
    assert node.counts.ended[Cause.STALLED] == before + 1


async def test_what_a_client_says_that_nobody_can_read_is_passed_over() -> None:
    client = Client("a")
    serving = asyncio.create_task(client.run())
    await client.until(lambda: bool(client.frames))
    for said in ("[" * 1024, '{"ack":' * 140, "x" * 5000, '{"ack": true', "null", "3", '"ack"'):
        client.says({"type": "websocket.receive", "text": said})
    client.says({"type": "websocket.receive", "bytes": b"\x00"})
    client.says({"type": "websocket.receive", "text": None, "bytes": b"\x00"})
    await sync_to_async(publish)("a", "still here")
    await client.until(lambda: len(client.frames) == 2)
    assert client.frames[1]["data"] == "still here"
    client.goes()
    await serving


async def test_who_does_not_stop_talking_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "MOST_MESSAGES", 50)
    client, cut = Client("a"), []
    serving = asyncio.create_task(client.run())
    await client.until(lambda: bool(client.frames))
    the_connection().abort_transport = lambda: cut.append(1)
    for _ in range(50):
        assert not cut
        client.says({"type": "websocket.receive", "text": '{"ack": true}'})
    assert await serving == ["accept", "send"]
    assert cut == [1]


# Leaving


async def test_a_named_client_is_waited_for_until_it_acks() -> None:
    client = Client("a", query="client=the-client-of-a-test")
    serving = asyncio.create_task(client.run())
    await client.until(lambda: bool(client.frames))
    client.says({"type": "websocket.receive", "text": '{"ack": true}'})  # nobody has asked
    before = node.counts.farewells.copy()
    the_connection().leave("drain")
    await client.until(lambda: len(client.frames) == 3)
    assert client.frames[1] == {"event": "close", "data": "pool_draining"}
    assert (list(client.frames[2]), client.frames[2]["end"]) == (["retry", "last_event_id", "end"], False)
    assert (the_connection().asked, serving.done()) == (True, False)
    for said in ('{"ack": 1}', '{"ack": "true"}', "[true]"):
        client.says({"type": "websocket.receive", "text": said})
    await asyncio.sleep(0)
    assert not the_connection().acked
    client.says({"type": "websocket.receive", "text": '{"ack": true}'})
    assert (await serving)[-1] == "close"
    assert client.code == 1001
    assert node.counts.farewells - before == {Farewell.ACKED: 1}


async def test_a_named_client_that_closes_has_let_go() -> None:
    client = Client("a", query="client=the-client-of-a-test")
    serving = asyncio.create_task(client.run())
    await client.until(lambda: bool(client.frames))
    before = node.counts.farewells.copy()
    the_connection().leave("drain")
    await client.until(lambda: len(client.frames) == 3)
    client.goes()
    assert (await serving)[-1] == "send"
    assert node.counts.farewells - before == {Farewell.CLOSED: 1}


async def test_who_has_no_name_is_not_waited_for() -> None:
    client = Client("a")
    serving = asyncio.create_task(client.run())
    await client.until(lambda: bool(client.frames))
    before = node.counts.farewells.copy()
    the_connection().leave("drain")
    await serving
    assert ([each.get("data") for each in client.frames[1:]], client.code) == (["pool_draining", None], 1001)
    assert node.counts.farewells - before == {Farewell.NOT_ASKED: 1}


async def test_while_it_drains_a_newcomer_is_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "draining", True)
    client = Client("a", query="last_event_id=life.7.abcde")
    assert await client.run() == ["accept", "send", "close"]
    assert client.code == 1013
    (frame,) = client.frames
    assert frame["last_event_id"] == "life.7.abcde"
    assert 30_000 <= frame["retry"] <= 39_000


# Whom it lets in


@pytest.mark.parametrize(
    ("hosts", "origin", "good"),
    [
        ([], "http://evil.example", False),
        (["a.example"], "https://a.example", True),
        (["a.example"], "https://a.example:8000", True),
        (["a.example"], "https://A.EXAMPLE", True),
        (["a.example"], "https://a.example.", False),
        (["a.example"], "https://b.a.example", False),
        ([".a.example"], "https://b.a.example", True),
        (["*"], "https://any.example", False),
        (["*"], "null", False),
        (["*"], "", False),
        (["*", ".a.example"], "https://b.a.example", True),
        (["[::1]"], "http://[::1]:8000", True),
        (["a.example"], "http://a.example@evil.example", False),
        (["a.example"], "http://evil.example#a.example", False),
        (["a.example"], "http://evil.example,http://a.example", False),
        (["a.example"], "a.example", False),
        (["a.example"], "", False),
        (["a.example"], "null", False),
        (["a.example"], "http://a.example:port", True),
        (["a.example"], "http://[", False),
    ],
)
async def test_a_page_of_another_site_may_not_read(
    settings: Any, hosts: list[str], origin: str, good: bool
) -> None:
    """Browsers let every page open a WebSocket, with cookies."""
    settings.ALLOWED_HOSTS = hosts
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim", "BURST": {}}
    client = Client("a", origin=origin)
    await client.run()
    first = client.sent[0]
    if good:
        assert (first["type"], client.code) == ("websocket.accept", 1000)
    else:
        assert (first["type"], first["status"]) == ("websocket.http.response.start", 403)
        assert b"CSRF_TRUSTED_ORIGINS" in client.sent[1]["body"]


@pytest.mark.parametrize(
    ("host", "forwarded", "origin", "good"),
    [
        ("a.example", None, "https://a.example", True),
        ("A.example:8000", None, "https://a.example:8000", True),
        ("[::1]:8000", None, "http://[::1]:8000", True),
        ("a.example", None, "https://evil.example", False),
        ("a.example", None, "https://a.example.evil.example", False),
        ("a.example", None, "https://b.a.example", False),
        ("a b", None, "https://", False),
        ("", None, "null", False),
        ("evil.example", "a.example", "https://a.example", True),
        ("a.example", "b.example", "https://a.example", False),
    ],
)
async def test_where_every_host_is_allowed_a_page_must_be_of_the_host_that_it_asks(
    settings: Any, host: str, forwarded: str | None, origin: str, good: bool
) -> None:
    """Else every page of the web could read with the cookies of its visitor."""
    settings.ALLOWED_HOSTS, settings.USE_X_FORWARDED_HOST = ["*"], forwarded is not None
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim", "BURST": {}}
    client = Client("a", origin=origin, host=host, x_forwarded_host=forwarded or "evil.example")
    await client.run()
    assert (client.sent[0]["type"] == "websocket.accept") == good


@pytest.mark.parametrize(
    ("trusted", "origin", "good"),
    [
        ("https://one.example", "https://one.example", True),
        ("https://one.example", "http://one.example", False),
        ("https://one.example", "https://one.example:8443", False),
        ("https://one.example", "https://two.one.example", False),
        ("http://one.example:8000", "http://one.example:8000", True),
        ("https://*.one.example", "https://two.one.example", True),
        ("https://*.one.example", "http://two.one.example", False),
        ("https://*.one.example", "https://two.one.example:8443", False),
        ("https://*.one.example", "https://twoone.example", False),
        ("https://*.one.example:8443", "https://two.one.example:8443", True),
        ("https://*.one.example", "null", False),
    ],
)
async def test_a_page_of_a_trusted_origin_may_read(
    settings: Any, trusted: str, origin: str, good: bool
) -> None:
    settings.ALLOWED_HOSTS, settings.CSRF_TRUSTED_ORIGINS = ["testserver"], [trusted]
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim", "BURST": {}}
    client = Client("a", origin=origin)
    await client.run()
    assert (client.sent[0]["type"] == "websocket.accept") == good


async def test_a_close_that_the_server_does_not_take_is_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """autobahn's ``sendClose`` behind a wrapper of ``send``, which hides daphne's socket."""

    def picky(message: Any) -> None:
        if message.get("code", 1000) != 1000:
            raise Exception("invalid close code")

    monkeypatch.setattr(node, "draining", True)
    client = Client("a", on_send=picky)
    assert await client.run() == ["accept", "send", "close"]
    assert client.code == 1000


async def test_who_does_not_answer_our_close_has_a_place_while_the_server_waits(settings: Any) -> None:
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim", "BURST": {}}
    closing, closed = asyncio.Event(), asyncio.Event()

    async def wait(message: Any) -> None:
        if message["type"] == "websocket.close":
            closing.set()
            await closed.wait()

    serving = asyncio.create_task(Client("a", on_send=wait).run())
    await closing.wait()
    assert (len(registry), node.sockets) == (0, 1)
    closed.set()
    await serving
    assert node.sockets == 0


async def test_where_the_server_knows_no_words_a_refusal_is_a_close() -> None:
    client = Client("a b")
    client.scope["extensions"] = None
    assert await client.run() == ["close"]


async def test_a_query_that_django_cannot_read_is_refused(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    client = Client("a", query="x=1&y=2&z=3")
    await client.run()
    assert client.sent[0]["status"] == 400


async def test_a_yes_is_remembered_though_each_handshake_has_a_key_of_its_own(settings: Any) -> None:
    asked: list[str] = []

    async def rule(request: Any, channel: str) -> bool:
        asked.append(request.headers["Sec-WebSocket-Key"])
        return True

    settings.SSE_POLLING = {"AUTHORIZE": rule, "PRESET": "reclaim"}
    for key in ("one", "two", "three"):
        await Client("a", sec_websocket_key=key).run()
    assert asked == ["one"]


# The server's own


@pytest.mark.parametrize(("refused", "seconds", "kept"), [(False, 10, 1), (True, 1, 0)])
async def test_a_socket_that_daphne_closes_later_counts_unless_its_client_was_refused(
    settings: Any, monkeypatch: pytest.MonkeyPatch, refused: bool, seconds: float, kept: int
) -> None:
    closed: list[tuple[int, float]] = []

    class Closing(Socket):
        def close_websocket(self, code: int, seconds: float) -> bool:
            closed.append((code, seconds))
            return True

    socket = Closing()
    socket.owner, socket.is_open = socket, lambda _: True
    settings.SSE_POLLING = {**settings.SSE_POLLING, "PRESET": "reclaim", "BURST": {}}
    monkeypatch.setattr(node, "draining", refused)
    monkeypatch.setattr(consumers, "find_socket", lambda *_: socket)
    before = len(node.kept)
    await Client("a").run()
    assert closed == [(1013 if refused else 1000, seconds)]
    assert len(node.kept) == before + kept
    node.kept.discard(socket)


async def test_daphnes_close_takes_every_code() -> None:
    """autobahn's ``sendClose`` raises for 1001 and 1013, and the client would get 1011."""
    codes: list[int] = []
    transport = SimpleNamespace(abortConnection=None, connected=1, dataBuffer=b"", offset=0, _tempDataLen=0)

    def send_close_frame(code: int) -> None:
        codes.append(code)

    protocol = SimpleNamespace(transport=transport, sendCloseFrame=send_close_frame)

    async def reply(protocol: Any, message: Any) -> None: ...

    found = find_socket(partial(reply, protocol), {"type": "websocket"})
    assert found.reachable
    assert found.pending() == 0
    assert found.close_websocket(1013, 7)
    assert protocol.closeHandshakeTimeout == 7  # as long for what is before it
    found.close_when_done()
    assert codes == [1013]
    assert not find_socket(reply, {"type": "websocket"}).close_websocket(1013, 7)
