"""One TCP connection of a client, in the test's full control."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit

from .http import Response, ResponseParser

__all__ = ["Address", "Connection", "request", "stalled"]


class Address:
    """The parts of an `http://` address that a request needs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"an address starts with http://host, not {url!r}")
        self.host = parts.hostname
        self.port = parts.port or 80
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def head(self, headers: Mapping[str, str], *, method: str = "GET", body: bytes = b"") -> bytes:
        """Return the bytes of a request."""
        lines = [f"{method} {self.target} HTTP/1.1"]
        sent = {"Host": f"{self.host}:{self.port}", **headers}
        if body or method == "POST":
            sent["Content-Length"] = str(len(body))
        lines += [f"{name}: {value}" for name, value in sent.items()]
        # UTF-8, as browsers send a cursor (WHATWG: the id, UTF-8 encoded).
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Connection:
    """A socket without buffering: bytes are read only when asked for."""

    def __init__(self, raw: socket.socket) -> None:
        self.socket = raw

    @classmethod
    async def open(cls, address: Address, *, receive_buffer: int | None = None) -> Self:
        """Connect; `receive_buffer` makes the kernel's buffer small, for clients that do not read."""
        raw = socket.socket()
        try:
            if receive_buffer is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, (address.host, address.port))
        except BaseException:
            raw.close()
            raise
        return cls(raw)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, limit: int = 65_536) -> bytes:
        """Return what is there, at most `limit` bytes; nothing at the server's end of the stream."""
        return await asyncio.get_running_loop().sock_recv(self.socket, limit)

    def half_close(self) -> None:
        """Say that nothing more will be sent (FIN), and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with an RST, as a machine that lost its network does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    @property
    def closed(self) -> bool:
        return self.socket.fileno() < 0


async def request(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    body: bytes = b"",
    raw: bytes | None = None,
    deadline: float = 15,
) -> Response:
    """Make one request over a connection of its own and read the whole response.

    `raw` replaces the request's bytes altogether. An early close leaves `complete` False.
    """
    address = Address(url)
    sent = {"Accept": "*/*", "Connection": "close", **(headers or {})}
    if cookies:
        sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    parser = ResponseParser(method=method)
    async with asyncio.timeout(deadline):
        connection = await Connection.open(address)
        try:
            await connection.send(raw if raw is not None else address.head(sent, method=method, body=body))
            while not parser.response.complete:
                try:
                    data = await connection.receive()
                except ConnectionError:
                    data = b""
                if not data:
                    parser.close()
                    break
                parser.feed(data)
        finally:
            connection.close()
    return parser.response


@asynccontextmanager
async def stalled(
    url: str, *, headers: Mapping[str, str] | None = None, receive_buffer: int = 4096
) -> AsyncIterator[Connection]:
    """Ask for a stream and never read it, until the block ends."""
    address = Address(url)
    connection = await Connection.open(address, receive_buffer=receive_buffer)
    try:
        await connection.send(address.head({"Accept": "text/event-stream", **(headers or {})}))
        yield connection
    finally:
        connection.close()
