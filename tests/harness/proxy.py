"""A TCP proxy that misbehaves on request: late, mute, cut off, refusing."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from random import Random
from typing import Any, Literal, TypeVar

from project.programs.ports import HOST, free_port

__all__ = ["How", "Proxy"]

How = Literal["fin", "rst"]
T = TypeVar("T")
_ANSWER_SECONDS = 10.0


class Proxy:
    """Stand before one port of this machine, in a thread of its own; every method may be called from any.

    Healthy after :meth:`start` and :meth:`heal`. What is asked for holds for open connections too.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.target = target
        self.port = free_port()
        #: Connections that were accepted.
        self.accepted = 0
        self._rng = Random(seed)
        self._delay = (0.0, 0.0)
        self._cut_bytes: float | None = None
        self._mute = False
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> Proxy:
        """Accept connections."""
        self._thread.start()
        self._call(self._listen())
        return self

    def close(self) -> None:
        """Cut every connection and end the thread."""
        self.refuse()
        self._mute = False
        self.cut()
        self._call(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_SECONDS)
        self._loop.close()

    def delay(self, low: float, high: float) -> None:
        """Hold back whatever passes for a random time in seconds, in both directions."""
        self._delay = (low, high)

    def mute(self) -> None:
        """Accept, and let nothing pass: a black hole."""
        self._mute = True

    def cut(self, how: How = "rst") -> None:
        """Cut every connection that is open."""

        async def cut() -> None:
            for link in list(self._links):
                link.end(how)
            await asyncio.sleep(0)

        self._call(cut())

    def cut_at_random(self, mean_bytes: float) -> None:
        """Cut each connection after a random number of bytes, in mid-message, now by FIN, now by RST."""
        self._cut_bytes = mean_bytes

    def refuse(self) -> None:
        """Refuse new connections; the open ones stay."""
        self._call(self._unlisten())

    def heal(self) -> None:
        """Behave again. Connections that were kept mute are cut, since bytes of theirs may be missing."""
        self._delay, self._cut_bytes = (0.0, 0.0), None
        if self._mute:
            self._mute = False
            self.cut()
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _settle(self) -> None:
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            there = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), there)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def before(self) -> float | None:
        """Wait as long as bytes are held back; return the bytes after which to cut, if at all."""
        low, high = self._delay
        if high:
            await asyncio.sleep(self._rng.uniform(low, high))
        while self._mute:  # noqa: ASYNC110 - asked from any thread, which an asyncio.Event cannot be
            await asyncio.sleep(0.02)
        return None if self._cut_bytes is None else self._rng.expovariate(1 / self._cut_bytes)

    def how(self) -> How:
        """Choose a way to cut."""
        return self._rng.choice(("fin", "rst"))


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, here: _Stream, there: _Stream) -> None:
        self._proxy = proxy
        self._here = here
        self._there = there
        self._pumps: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Pass bytes in both directions until one side ends."""
        self._pumps = [
            asyncio.ensure_future(self._pump(self._here[0], self._there[1])),
            asyncio.ensure_future(self._pump(self._there[0], self._here[1])),
        ]
        await asyncio.wait(self._pumps, return_when=asyncio.FIRST_COMPLETED)
        self.end("fin")
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def end(self, how: How) -> None:
        """End both connections. Idempotent."""
        for pump in self._pumps:
            pump.cancel()
        for _, writer in (self._here, self._there):
            if how == "rst":
                raw = writer.get_extra_info("socket")
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                limit = await self._proxy.before()
                if limit is not None and limit < len(data):
                    writer.write(data[: int(limit)])
                    self.end(self._proxy.how())
                    return
                writer.write(data)
                await writer.drain()
