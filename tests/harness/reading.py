"""Streams that are read to their very end, byte by byte, to see how they end."""

from __future__ import annotations

import asyncio
import re
from typing import Self

from .client import assert_clean_chunks
from .connection import Address, Connection
from .eventsource import Message, parse
from .http import Response, ResponseParser

__all__ = ["FAREWELL", "Reading"]

#: The last bytes of a stream that was asked to leave.
FAREWELL = re.compile(rb"event: close\ndata: pool_draining\n\nretry: \d+\n\n\Z")


class Reading:
    """One stream, read by a task of its own until the server ends it. It neither acks nor comes back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parser = ResponseParser()
        self._opened = asyncio.Event()
        self._received = asyncio.Event()
        self._asked = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, *, deadline: float = 30) -> Self:
        """Connect, and return once the opening block has come."""
        address = Address(url)
        connection = await Connection.open(address)
        await connection.send(address.head({"Accept": "text/event-stream"}))
        reading = cls(connection)
        async with asyncio.timeout(deadline):
            await reading._opened.wait()
        return reading

    @property
    def response(self) -> Response:
        return self._parser.response

    @property
    def messages(self) -> list[Message]:
        return parse(self.response.body)

    async def asked(self, *, deadline: float) -> None:
        """Wait until the server has asked the client to close."""
        async with asyncio.timeout(deadline):
            await self._asked.wait()

    async def received(self, *, deadline: float) -> None:
        """Wait until there was an event."""
        async with asyncio.timeout(deadline):
            await self._received.wait()

    async def end(self, *, deadline: float) -> Response:
        """Wait until the server has closed the socket."""
        async with asyncio.timeout(deadline):
            await self._task
        return self.response

    async def assert_farewell(self, *, deadline: float) -> None:
        """Assert that the stream ended as a drain ends it: whole frames, asked to close, the last chunk."""
        response = await self.end(deadline=deadline)
        body = response.body
        assert response.status == 200, response.status
        assert response.complete, f"cut off after {body[-100:]!r} and {response.partial!r}"
        assert FAREWELL.search(body), f"the last bytes are {body[-200:]!r}"
        assert_clean_chunks(response)

    def close(self) -> None:
        self._task.cancel()
        self._connection.close()

    async def _read(self) -> None:
        response = self._parser.response
        while True:
            try:
                data = await self._connection.receive()
            except ConnectionError:
                data = b""
            if not data:
                self._parser.close()
                for event in (self._opened, self._received, self._asked):
                    event.set()
                return
            news = self._parser.feed(data)
            if not self._opened.is_set() and b"\nid: " in response.body + response.partial:
                self._opened.set()
            if b"data: " in news:
                self._received.set()
            if b"event: close" in news:
                self._asked.set()
