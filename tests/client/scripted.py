"""A server that answers each connection with the bytes a test wrote down, and tells what it was asked."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["GONE", "Request", "Say", "Scripted", "answer", "chunked", "stream"]

HOST = "127.0.0.1"
GONE = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def cursor(self) -> str:
        return self.headers.get("last-event-id", "")


@dataclass(frozen=True)
class Say:
    """Bytes, and how the connection then ends. `hold`: the client has to end it."""

    data: bytes
    end: Literal["fin", "rst", "hold"] = "fin"
    step: int = 1 << 20  # so many bytes in one write
    endless: bytes = b""  # again and again, until the client has had enough


Script = Say | Callable[[Request], Say]


@dataclass
class Scripted:
    """Serve a script, one entry for each GET, and 204 afterwards. A POST is an ack and gets 204.

    In threads, so that clients of both kinds can be tested; use as a context manager.
    """

    script: Iterable[Script]
    requests: list[Request] = field(default_factory=list)
    acks: list[Request] = field(default_factory=list)
    #: One entry for each GET, as it comes and once its connection is over.
    asked: queue.Queue[Request] = field(default_factory=queue.Queue)
    left: queue.Queue[Request] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.script = iter(self.script)
        self._listener = socket.create_server((HOST, 0))
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"http://{HOST}:{self.port}"
        self._thread = threading.Thread(target=self._accept, name="scripted", daemon=True)

    @property
    def url(self) -> str:
        return f"{self.origin}/events/a/"

    @property
    def cursors(self) -> list[str]:
        return [each.cursor for each in self.requests]

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._open.add(peer)
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer:
            request = self._read(peer)
            if request is None:
                return
            if request.method == "POST":
                self.acks.append(request)
                peer.sendall(GONE)
                return
            self.requests.append(request)
            self.asked.put(request)
            entry = next(self.script, Say(GONE))  # type: ignore[call-overload]
            said = entry(request) if callable(entry) else entry
            try:
                self._say(peer, said)
                if said.end == "hold":
                    while peer.recv(4096):
                        pass
            except ConnectionError:
                pass
            finally:
                self.left.put(request)
            if said.end == "rst":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._open.discard(peer)

    def _say(self, peer: socket.socket, said: Say) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(said.data), said.step):
            peer.sendall(said.data[at : at + said.step])
        while said.endless:
            peer.sendall(said.endless)

    def _read(self, peer: socket.socket) -> Request | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = peer.recv(65_536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("utf-8").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body += peer.recv(65_536)
        return Request(method, target, headers, body)


def answer(status: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    """Return a response whose body ends with the connection."""
    lines = [f"HTTP/{version} {status}", *headers, "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def stream(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    """Return an event stream that ends with the connection."""
    return answer("200 OK", body, "Content-Type: text/event-stream", *headers, version=version)


def chunked(*chunks: bytes, extension: str = "", last: bytes = b"0\r\n\r\n") -> bytes:
    """Return an event stream in HTTP chunks."""
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension.encode(), each) for each in chunks)
    return stream(body + last, "Transfer-Encoding: chunked")
