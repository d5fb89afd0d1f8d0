"""The server's socket below an ASGI ``send``: the one place that reaches into servers.

Each server keeps it elsewhere and none promises to; so everything here looks before it leaps, and a
server where something cannot be reached is no error. What a caller may count on is in ``docs/sockets.md``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from .descriptors import RESET, acked, descriptors, probe, set_option

__all__ = ["SHORTEST_WINDOW", "Socket", "find_socket", "longest_retry_ms"]

SHORTEST_WINDOW = 5.0  # seconds: uvicorn's and hypercorn's
WINDOW_SHARE = 0.8  # of the window a client may wait: the rest is for its way here


class Socket:
    """A socket that cannot be reached, and what holds for every other one.

    *window* is how long the server keeps an idle socket open, in seconds: the shortest of the known
    servers' where that cannot be seen.
    """

    window: float = SHORTEST_WINDOW
    owner: Any = None  # what stands for the connection, equal for each request on it; None: nothing does
    is_open: Callable[[Any], bool] | None = None  # asked with `owner`; None: nobody can tell
    reachable = False  # True: `abort` works
    costly = False  # True: a look at it costs a look at every descriptor of the process

    def pending(self) -> int | None:
        """Return how many bytes the server has and the kernel has not taken; None: it does not show."""
        return None

    def acked(self) -> int | None:
        """Return how many bytes the peer has had, None if none wait for it (or nobody can tell).

        The kernel takes the next bytes only once a large part of what it has is gone: a slow peer shows
        here before it shows in `pending`.
        """
        return None

    def abort(self) -> bool:
        """Cut the socket at once, and drop what it still had to send; False where that is impossible."""
        return False

    def close_when_done(self) -> bool:
        """Have the socket closed after this response, whose headers may be sent already; False: it stays.

        Where nothing else does it a ``Connection: close`` among the headers must.
        """
        return False

    def keep_open(self, _seconds: float) -> float:
        """Have the idle socket kept so long after this response; return the seconds that really hold."""
        return self.window

    def close_websocket(self, _code: int, _seconds: float) -> bool:
        """Send a WebSocket's close frame where its ``send`` is not fit for that; False where it is.

        The client has so many seconds for what comes before it, and for its own.
        """
        return False

    def probe(self, seconds: float) -> None:
        """Have the kernel find out within two times *seconds* that the peer has gone without a word."""

    def bound(self, size: int) -> None:
        """Let the server and the kernel each keep about *size* bytes that were not sent."""


class _Kernel(Socket):
    """A socket whose options can be set; a subclass says where it is."""

    reachable = True

    def _raw(self) -> Any:
        """Return what has ``setsockopt``, None if it is closed."""
        raise NotImplementedError

    def probe(self, seconds: float) -> None:
        raw = self._raw()
        if raw is not None:
            probe(raw, seconds)

    def acked(self) -> int | None:
        raw = self._raw()
        return None if raw is None else acked(raw)

    def bound(self, size: int) -> None:
        raw = self._raw()
        if raw is not None:
            # Else the kernel takes megabytes for a peer that reads nothing, and that looks like progress.
            set_option(raw, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", size)


class _Twisted(_Kernel):
    """daphne's: its ``send`` has the Twisted request, which knows its channel until it is done."""

    window = 60

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._layers = [channel.transport]  # TLS, if there is any, and below it TCP
        while (below := getattr(self._layers[-1], "transport", None)) is not None and len(self._layers) < 4:
            self._layers.append(below)
        self._tcp = self._layers[-1]
        self.owner = channel
        self.is_open = _twisted_is_open

    def pending(self) -> int | None:
        tcp = self._tcp
        if not tcp.connected:
            return 0
        size: int = len(tcp.dataBuffer) - tcp.offset + tcp._tempDataLen
        for tls in self._layers[:-1]:
            size += sum(map(len, getattr(tls, "_appSendBuffer", ())))
            size += sum(map(len, getattr(getattr(tls, "_aggregator", None), "_buffer", ())))
        return size

    def abort(self) -> bool:
        self._layers[0].abortConnection()
        # A dead connection is in circles, and would have its bytes until a collection.
        self._tcp._tempDataBuffer, self._tcp._tempDataLen = [], 0
        self._tcp.dataBuffer, self._tcp.offset = b"", 0
        return True

    def close_when_done(self) -> bool:
        if hasattr(self._channel, "persistent"):
            self._channel.persistent = False  # daphne sends a Connection header, and does not heed it
        return True

    def close_websocket(self, code: int, seconds: float) -> bool:
        close = getattr(self._channel, "sendCloseFrame", None)
        if close is None:
            return False
        self._channel.closeHandshakeTimeout = seconds  # else 1 s, and what a slow client has not had is lost
        close(code=code)  # autobahn's own `sendClose` takes no code of the protocol's, but 1000
        return True

    def keep_open(self, seconds: float) -> float:
        if not hasattr(self._channel, "_savedTimeOut"):
            return self.window
        self._channel._savedTimeOut = seconds
        return seconds

    def _raw(self) -> Any:
        return self._tcp.getHandle() if self._tcp.connected else None


class _Asyncio(_Kernel):
    """uvicorn's and hypercorn's: an asyncio transport, or uvloop's."""

    def __init__(
        self,
        transport: Any,
        *,
        owner: Any = None,
        is_open: Callable[[Any], bool] | None = None,
        protocol: Any = None,
        cycle: Any = None,
        window: float = SHORTEST_WINDOW,
    ) -> None:
        self._transport = transport
        self._cycle = cycle  # uvicorn's, of one request
        self.owner = owner
        self.is_open = is_open
        self._protocol = protocol  # uvicorn's: each has a window of its own
        self.window = window
        # asyncio's TLS counts its own bytes only; what uvloop's has below cannot be seen.
        self._below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)

    def pending(self) -> int | None:
        size: int = self._transport.get_write_buffer_size()
        return size if self._below is None else size + self._below.get_write_buffer_size()

    def abort(self) -> bool:
        if (raw := self._raw()) is not None:
            set_option(raw, socket.SOL_SOCKET, "SO_LINGER", RESET)
        self._transport.abort()
        return True

    def close_when_done(self) -> bool:
        if not hasattr(self._cycle, "keep_alive"):
            return False
        self._cycle.keep_alive = False
        return True

    def keep_open(self, seconds: float) -> float:
        if self._protocol is None:
            return self.window
        self._protocol.timeout_keep_alive = seconds
        return seconds

    def bound(self, size: int) -> None:
        super().bound(size)
        if not self._transport.is_closing():  # uvloop raises
            self._transport.set_write_buffer_limits(high=size, low=size // 2)

    def _raw(self) -> Any:
        raw = self._transport.get_extra_info("socket")
        return raw if raw is not None and raw.fileno() >= 0 else None


class _Descriptor(_Kernel):
    """granian's: it is in Rust, and shows nothing but its addresses. By them its descriptor is found."""

    window = 30
    costly = True

    def __init__(self, client: tuple[str, int], server: tuple[str, int]) -> None:
        self.owner = self._ends = (client, server)

    def acked(self) -> int | None:
        raw = self._raw()
        if raw is None:
            return None
        with raw:
            return acked(raw)

    def abort(self) -> bool:
        raw = self._raw()
        if raw is None:
            return False
        with raw, suppress(OSError):
            set_option(raw, socket.SOL_SOCKET, "SO_LINGER", RESET)
            raw.shutdown(socket.SHUT_RDWR)  # the server notices, and closes its own
        return True

    def probe(self, seconds: float) -> None:
        raw = self._raw()
        if raw is not None:
            with raw:
                probe(raw, seconds)

    def bound(self, size: int) -> None:
        pass  # not worth a look at every descriptor

    def _raw(self) -> socket.socket | None:
        return descriptors.find(self._ends)


def longest_retry_ms(window: float) -> int:
    """Return the latest ``retry:`` at which the server still has the socket, open for *window* seconds."""
    return round(1000 * window * WINDOW_SHARE)


def find_socket(send: Any, scope: Mapping[str, Any] | None = None, *, by_address: bool = False) -> Socket:
    """Return the socket below *send*, which must be the server's own: a wrapper hides it.

    *by_address*: find it by its two ends where *send* does not show it; a proxy's headers, once the server
    believes them, hide those.
    """
    if (scope or {}).get("http_version", "1.1") not in ("1.0", "1.1"):
        return Socket()  # an HTTP/2 socket carries others' streams as well
    channel = send.args[0] if isinstance(send, partial) and send.args else None
    if (scope or {}).get("type") != "websocket":  # a WebSocket of daphne's has the transport itself
        channel = getattr(channel, "channel", None)
    if hasattr(getattr(channel, "transport", None), "abortConnection"):
        found = _Twisted(channel)
        return found if hasattr(found._tcp, "_tempDataLen") else Socket()
    cycle: Any = getattr(send, "__self__", None)
    if hasattr(getattr(cycle, "transport", None), "get_write_buffer_size"):  # uvicorn
        protocol = getattr(getattr(cycle, "on_response", None), "__self__", None)
        window = getattr(protocol, "timeout_keep_alive", None)
        if window is None:
            return _Asyncio(cycle.transport)
        return _Asyncio(
            cycle.transport,
            owner=protocol,
            is_open=_uvicorn_is_open,
            protocol=protocol,
            cycle=cycle,
            window=window,
        )
    server = getattr(getattr(getattr(cycle, "send", None), "__self__", None), "send", None)
    server = getattr(server, "__self__", None)  # hypercorn: stream, HTTP/1.1, TCP
    transport = getattr(getattr(server, "writer", None), "transport", None)
    if hasattr(transport, "get_write_buffer_size"):
        window = getattr(getattr(server, "config", None), "keep_alive_timeout", None)
        return _Asyncio(transport, owner=server, is_open=_hypercorn_is_open, window=window or _Asyncio.window)
    if (by_address or type(cycle).__module__.partition(".")[0] == "granian") and scope is not None:
        with suppress(TypeError, ValueError):  # no TCP
            (client, port), (host, own) = scope["client"], scope["server"]
            return _Descriptor((client, int(port)), (host, int(own)))
    return Socket()


def _twisted_is_open(channel: Any) -> bool:
    tcp = channel.transport
    while (below := getattr(tcp, "transport", None)) is not None:
        tcp = below
    return bool(getattr(tcp, "connected", False))


def _uvicorn_is_open(protocol: Any) -> bool:
    return not protocol.transport.is_closing()


def _hypercorn_is_open(server: Any) -> bool:
    return not server.writer.transport.is_closing()
