"""The proxy that misbehaves: each way, and that it is well again afterwards."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from project.programs.ports import HOST
from tests.harness.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(65_536):
                        connection.sendall(data)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    proxy = Proxy(echo, seed=1).start()
    yield proxy
    proxy.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=5)


def asks(connection: socket.socket, data: bytes = b"hello") -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := connection.recv(65_536)):
        got += piece
    return got


def test_a_healthy_one_passes_everything(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert asks(connection) == b"hello"
        big = bytes(range(256)) * 4000
        sender = threading.Thread(target=connection.sendall, args=(big,))
        sender.start()
        got = b""
        while len(got) < len(big):
            got += connection.recv(65_536)
        sender.join(5)
        assert got == big
    assert proxy.accepted == 1


def test_it_holds_back(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.delay(0.2, 0.3)
        began = time.monotonic()
        assert asks(connection) == b"hello"
        assert time.monotonic() - began >= 0.4  # there and back
        proxy.heal()
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert asks(connection) == b"hello"
            took.append(time.monotonic() - began)
        assert min(took) < 0.4


def test_it_cuts_by_fin_and_by_rst(proxy: Proxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        asks(first), asks(second)
        proxy.cut("fin")
        assert first.recv(1) == b""
    with connect(proxy) as third:
        asks(third)
        proxy.cut("rst")
        with pytest.raises(ConnectionResetError):
            third.recv(1)


def test_it_cuts_in_mid_message(proxy: Proxy) -> None:
    proxy.cut_at_random(4000)
    got = []
    for _ in range(20):
        with suppress(ConnectionError), connect(proxy) as connection:
            got.append(len(asks(connection, b"x" * 5000)))
    assert any(0 < size < 5000 for size in got), got


def test_it_refuses_new_ones_and_keeps_the_old(proxy: Proxy) -> None:
    with connect(proxy) as old:
        asks(old)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert asks(old) == b"hello"
        proxy.heal()
        with connect(proxy) as new:
            assert asks(new) == b"hello"


def test_it_swallows_and_then_cuts(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        asks(connection)
        proxy.mute()
        connection.sendall(b"lost")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        proxy.heal()
        connection.settimeout(5)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_nobody_behind_it_is_a_cut() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    proxy = Proxy(port).start()
    try:
        with pytest.raises(ConnectionResetError), connect(proxy) as connection:
            connection.recv(1)
    finally:
        proxy.close()
