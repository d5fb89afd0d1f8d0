"""Reaching the socket below a `send`: of the servers' own objects, of fakes in their shape, and of others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from sse_polling import descriptors
from sse_polling.transport import Socket, find_socket, longest_retry_ms

HTTP = {"type": "http", "http_version": "1.1", "client": ["127.0.0.1", 1], "server": ["127.0.0.1", 2]}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield server, client


def option(raw: Any, name: str) -> int:
    level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
    return int(raw.getsockopt(level, getattr(socket, name)))


def is_reset(client: socket.socket) -> bool:
    client.settimeout(5)
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    return False


# In the shape of each server


class TwistedTransport:
    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.connected = 1
        self.dataBuffer, self.offset = b"abcdef", 2
        self._tempDataBuffer, self._tempDataLen = [b"gh"], 2
        self.aborted = False

    def getHandle(self) -> socket.socket:  # noqa: N802 - Twisted's
        return self.raw

    def abortConnection(self) -> None:  # noqa: N802
        self.aborted = True


class AsyncioTransport:
    def __init__(self, raw: Any, waiting: int = 0) -> None:
        self.raw = raw
        self.waiting = waiting
        self.aborted = False
        self.limits: dict[str, int] = {}

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.aborted

    def set_write_buffer_limits(self, **limits: int) -> None:
        if self.aborted:
            raise RuntimeError("as uvloop's")
        self.limits = limits

    def get_extra_info(self, name: str) -> Any:
        return self.raw if name == "socket" else None

    def abort(self) -> None:
        self.aborted = True


def daphne(tcp: Any) -> Any:
    channel = SimpleNamespace(persistent=1, transport=tcp, timeOut=None, _savedTimeOut=60)

    async def reply(request: Any, message: Any) -> None: ...

    return partial(reply, SimpleNamespace(channel=channel))


class Cycle:
    """As uvicorn's `RequestResponseCycle`."""

    def __init__(self, tcp: Any, protocol: Any) -> None:
        self.transport = tcp
        if protocol is not None:
            self.on_response = protocol.on_response_complete

    async def send(self, message: Any) -> None: ...


class Protocol:
    timeout_keep_alive: float = 5

    def on_response_complete(self) -> None: ...


class HypercornServer:
    def __init__(self, tcp: Any) -> None:
        self.writer = SimpleNamespace(transport=tcp)
        self.config = SimpleNamespace(keep_alive_timeout=7)

    async def protocol_send(self, event: Any) -> None: ...


class HypercornH11:
    def __init__(self, tcp: Any) -> None:
        self.send = HypercornServer(tcp).protocol_send

    async def stream_send(self, event: Any) -> None: ...


class HypercornStream:
    def __init__(self, tcp: Any) -> None:
        self.send = HypercornH11(tcp).stream_send

    async def app_send(self, message: Any) -> None: ...


class Rust:
    """As granian's protocol: nothing to see."""

    async def send(self, message: Any) -> None: ...


Rust.__module__ = "granian._granian"


def test_daphnes_socket_is_found_through_the_request(pair: tuple[socket.socket, socket.socket]) -> None:
    tcp = TwistedTransport(pair[0])
    send = daphne(tcp)
    found = find_socket(send, HTTP)
    assert found.reachable
    assert found.pending() == 6
    assert found.keep_open(33) == 33
    channel = send.args[0].channel
    assert channel._savedTimeOut == 33
    found.close_when_done()
    assert channel.persistent is False
    send.args[0].channel = None  # as Twisted does when the response is done
    assert found.abort()
    assert tcp.aborted
    assert (tcp.dataBuffer, tcp._tempDataBuffer, found.pending()) == (b"", [], 0)
    tcp.connected = 0
    assert found.pending() == 0
    found.probe(20)


def test_below_daphnes_tls_both_layers_are_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    tcp = TwistedTransport(pair[0])
    tls = SimpleNamespace(
        transport=tcp,
        abortConnection=tcp.abortConnection,
        _appSendBuffer=[b"ij"],
        _aggregator=SimpleNamespace(_buffer=[b"klm"]),
    )
    found = find_socket(daphne(tls), HTTP)
    assert found.pending() == 6 + 2 + 3
    found.probe(20)
    assert option(pair[0], "TCP_KEEPIDLE") == 20


def test_uvicorns_socket_has_a_window_of_its_own() -> None:
    tcp, protocol = AsyncioTransport(None, 77), Protocol()
    found = find_socket(Cycle(tcp, protocol).send, HTTP)
    assert found.pending() == 77
    assert found.window == 5
    assert found.keep_open(33) == 33
    assert protocol.timeout_keep_alive == 33
    found.bound(1000)
    assert tcp.limits == {"high": 1000, "low": 500}
    assert found.abort()
    assert tcp.aborted
    found.bound(1000)  # the client may have gone before its stream begins


def test_without_its_protocol_uvicorns_window_is_its_own() -> None:
    found = find_socket(Cycle(AsyncioTransport(None), None).send, HTTP)
    assert found.keep_open(33) == 5


def test_hypercorns_socket_is_found_and_its_window_read() -> None:
    tcp = AsyncioTransport(None, 9)
    found = find_socket(HypercornStream(tcp).app_send, HTTP)
    assert found.pending() == 9
    assert found.keep_open(33) == 7
    assert found.abort()
    assert tcp.aborted


def test_below_asyncios_tls_both_layers_are_counted() -> None:
    tls = AsyncioTransport(None, 5)
    tls._ssl_protocol = SimpleNamespace(_transport=AsyncioTransport(None, 6))  # type: ignore[attr-defined]
    assert find_socket(Cycle(tls, Protocol()).send, HTTP).pending() == 11


async def _plain(message: Any) -> None: ...


@pytest.mark.parametrize(
    ("send", "scope"),
    [
        (_plain, HTTP),
        (partial(_plain), HTTP),
        (partial(_plain, None), HTTP),
        (partial(_plain, SimpleNamespace(channel=None)), HTTP),
        (daphne(object()), HTTP),
        (daphne(SimpleNamespace(abortConnection=None)), HTTP),
        (Rust().send, None),
        (Rust().send, {**HTTP, "client": None}),
        (Rust().send, {**HTTP, "server": ("/run/app.sock", None)}),
        (HypercornStream(object()).app_send, HTTP),
        (HypercornStream(AsyncioTransport(None)).app_send, {**HTTP, "http_version": "2"}),
    ],
)
def test_a_socket_that_cannot_be_reached_is_no_error(send: Any, scope: Any) -> None:
    found = find_socket(send, scope)
    assert type(found) is Socket
    assert not found.reachable
    assert found.pending() is None
    assert found.acked() is None
    assert not found.abort()
    assert found.keep_open(50) == 5
    found.close_when_done()
    found.probe(20)
    found.bound(1000)


# The kernel's part


def test_probes_find_a_dead_peer_within_two_of_their_seconds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, _ = pair
    find_socket(Cycle(AsyncioTransport(server), Protocol()).send, HTTP).probe(20)
    assert option(server, "SO_KEEPALIVE") == 1
    assert option(server, "TCP_KEEPIDLE") == 20
    assert option(server, "TCP_KEEPINTVL") * option(server, "TCP_KEEPCNT") <= 20
    assert option(server, "TCP_USER_TIMEOUT") == 20_000


def test_probes_are_at_least_a_second_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    find_socket(Cycle(AsyncioTransport(server), Protocol()).send, HTTP).probe(0.1)
    assert option(server, "TCP_KEEPIDLE") == 1
    assert option(server, "TCP_USER_TIMEOUT") == 1000


def test_options_that_do_not_exist_there_are_no_error() -> None:
    one, other = socket.socketpair()  # not TCP
    with one, other:
        found = find_socket(Cycle(AsyncioTransport(one), Protocol()).send, HTTP)
        found.probe(20)
        found.bound(1000)
        assert found.acked() is None
    found.probe(20)  # closed


def test_what_the_peer_had_is_seen_while_something_waits_for_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    found = find_socket(Cycle(AsyncioTransport(server), Protocol()).send, HTTP)
    assert found.acked() is None
    server.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            server.send(b"x" * 65_536)
    before = found.acked()
    assert before is not None
    client.setblocking(True)
    received = 0
    while received < 500_000:
        received += len(client.recv(65_536))
    after = found.acked()
    assert after is None or after > before


def test_granians_socket_is_found_by_its_two_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    address, port = client.getsockname()
    scope = {**HTTP, "client": [address, str(port)], "server": server.getsockname()}  # granian's port is text
    descriptors.descriptors._due = 0
    found = find_socket(Rust().send, scope)
    assert found.costly
    assert found.pending() is None
    assert found.keep_open(50) == 30
    found.probe(20)
    assert option(server, "TCP_KEEPIDLE") == 20
    assert found.abort()
    assert server.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        server.sendall(b"x")
    assert option(server, "SO_LINGER") == 1


def test_a_descriptor_that_is_anothers_by_now_is_left_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    scope = {**HTTP, "client": client.getsockname(), "server": server.getsockname()}
    descriptors.descriptors._due = 0
    found = find_socket(Rust().send, scope)
    found.probe(20)
    number = server.fileno()
    server.close()
    one, other = socket.socketpair()
    with one, other:
        assert number in (one.fileno(), other.fileno())
        assert not found.abort()
        assert found.acked() is None
        one.sendall(b"well")
        assert other.recv(4) == b"well"


def test_descriptors_are_looked_through_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    listdir = descriptors.os.listdir
    monkeypatch.setattr(descriptors.os, "listdir", lambda path: looked.append(path) or listdir(path))
    descriptors.descriptors._due = 0
    for port in range(20):
        assert find_socket(Rust().send, {**HTTP, "client": ["127.0.0.1", port]}).acked() is None
    assert len(looked) == 1


async def test_an_abort_resets_and_leaves_the_kernel_nothing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    server.setblocking(False)
    loop = asyncio.get_running_loop()
    tcp, _ = await loop.connect_accepted_socket(asyncio.Protocol, server)
    tcp.write(b"x" * 10_000_000)
    found = find_socket(Cycle(tcp, Protocol()).send, HTTP)
    waiting = found.pending()
    assert waiting is not None
    assert waiting > 0
    tcp.close()  # waits for what cannot be sent
    assert found.abort()
    await asyncio.sleep(0.05)
    assert found.pending() == 0
    found.probe(20)
    assert is_reset(client)


@pytest.mark.parametrize("window", [1, 5, 30, 50])
def test_a_client_is_back_before_the_window_is_over(window: float) -> None:
    assert longest_retry_ms(window) <= window * 1000 - min(200, 200 * window)


def test_a_connection_is_the_same_for_each_of_its_requests_and_tells_when_it_closes(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    twisted, uvicorn_tcp, hypercorn_tcp = (
        TwistedTransport(pair[0]),
        AsyncioTransport(None),
        AsyncioTransport(None),
    )
    protocol, hypercorn = Protocol(), HypercornStream(hypercorn_tcp)
    protocol.transport = uvicorn_tcp  # type: ignore[attr-defined]
    sends = [daphne(twisted), Cycle(uvicorn_tcp, protocol).send, hypercorn.app_send]
    again = [partial(sends[0].func, *sends[0].args), Cycle(uvicorn_tcp, protocol).send, hypercorn.app_send]
    for send, other in zip(sends, again, strict=True):
        found = find_socket(send, HTTP)
        assert found.owner is find_socket(other, HTTP).owner
        assert found.is_open is not None
        assert found.is_open(found.owner)
        twisted.connected = 0
        uvicorn_tcp.aborted = hypercorn_tcp.aborted = True
        assert not found.is_open(found.owner)
        twisted.connected = 1
        uvicorn_tcp.aborted = hypercorn_tcp.aborted = False
    assert find_socket(Rust().send, HTTP).owner == find_socket(Rust().send, HTTP).owner
