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
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._listener: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

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
        self.cut()
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
        self._call(self._cut(how))

    def cut_at_random(self, mean_bytes: float) -> None:
        """Cut each connection after a random number of bytes, in mid-message, now by FIN, now by RST."""
        self._cut_bytes = mean_bytes

    def refuse(self) -> None:
        """Refuse new connections; the open ones stay."""
        self._call(self._unlisten())

    def heal(self) -> None:
        """Behave again. Connections that were kept mute are cut, as a firewall does that forgot them."""
        self._delay, self._cut_bytes = (0.0, 0.0), None
        if self._mute:
            self.cut()
            self._mute = False
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((HOST, self.port), backlog=1024)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _unlisten(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _cut(self, how: How) -> None:
        links = list(self._links)
        for task in links:
            self._links[task].end(how)
        if links:
            await asyncio.wait(links)

    def _accept(self, listener: socket.socket) -> None:
        # A callback and not a task: one that is cancelled just after it has accepted would lose the socket.
        with suppress(BlockingIOError, ConnectionError):
            here, _ = listener.accept()
            self.accepted += 1
            link = _Link(self, here)
            task = self._loop.create_task(link.run())
            self._links[task] = link
            task.add_done_callback(self._links.pop)

    async def before(self) -> float | None:
        """Wait as long as bytes are held back; return the bytes after which to cut, if at all."""
        low, high = self._delay
        if high:
            await asyncio.sleep(self._rng.uniform(low, high))
        while self._mute:  # noqa: ASYNC110 - set from any thread, which an asyncio.Event cannot be
            await asyncio.sleep(0.02)
        return None if self._cut_bytes is None else self._rng.expovariate(1 / self._cut_bytes)

    def how(self) -> How:
        """Choose a way to cut."""
        return self._rng.choice(("fin", "rst"))


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, here: socket.socket) -> None:
        self._proxy = proxy
        self._here = here
        self._there = socket.socket()
        self._how: How = "fin"
        self._ending = asyncio.Event()

    def end(self, how: How) -> None:
        """Let both connections end so."""
        self._how = how
        self._ending.set()

    async def run(self) -> None:
        """Pass bytes in both directions until one side ends or the proxy has had enough."""
        loop = asyncio.get_running_loop()
        for each in (self._here, self._there):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tasks: list[asyncio.Task[Any]] = [loop.create_task(self._ending.wait())]
        try:
            await loop.sock_connect(self._there, (HOST, self._proxy.target))
            tasks += [
                loop.create_task(self._pump(self._here, self._there)),
                loop.create_task(self._pump(self._there, self._here)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            self._how = "rst"  # nobody is there
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            # The loop must have let go of both sockets before their numbers are given to others.
            await asyncio.sleep(0)
            self._close()

    def _close(self) -> None:
        for each in (self._here, self._there):
            if self._how == "rst":
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()

    async def _pump(self, source: socket.socket, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(source, 65_536):
                limit = await self._proxy.before()
                if limit is not None and limit < len(data):
                    await loop.sock_sendall(target, data[: int(limit)])
                    self._how = self._proxy.how()
                    return
                await loop.sock_sendall(target, data)
        except OSError:
            self._how = "rst"
