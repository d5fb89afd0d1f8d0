"""A server under test, with the door its streams go through."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.eventsource import Message, parse
from tests.harness.http import Response
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell

__all__ = ["APPLICATIONS", "MOST_SOCKETS", "Door", "Served", "eventually", "fresh", "opening_id", "retries"]

Door = Literal["mount", "view"]
APPLICATIONS: Mapping[Door, str] = {
    "mount": "tests.asgi:application",
    "view": "tests.asgi:plain_application",
}

#: How many streams the site of WebSockets takes.
MOST_SOCKETS = 6


def fresh(prefix: str = "plain") -> str:
    """Return a channel name that no other test has; its prefix chooses the settings (conftest)."""
    return f"{prefix}.{secrets.token_hex(6)}"


@dataclass
class Served:
    """One combination of door and server, and a process beside it on the same site."""

    door: Door
    server: AsgiServer
    shell: Shell

    def path(self, channel: str | Sequence[str], **query: str) -> str:
        if isinstance(channel, str):
            return f"/events/{channel}/" + (f"?{urlencode(query)}" if query else "")
        return "/events/?" + urlencode([*(("channel", each) for each in channel), *query.items()])

    def url(self, channel: str | Sequence[str], **query: str) -> str:
        return self.server.url + self.path(channel, **query)

    def client(
        self, channel: str | Sequence[str], *, query: Mapping[str, str] | None = None, **options: Any
    ) -> EventSourceClient:
        return EventSourceClient(self.url(channel, **(query or {})), **options)

    async def get(
        self, channel: str | Sequence[str], *, query: Mapping[str, str] | None = None, **options: Any
    ) -> Response:
        """Make one request as a browser does and read the whole burst; not for channels that hold."""
        headers = {"Connection": "keep-alive", **options.pop("headers", {})}
        return await request(self.url(channel, **(query or {})), headers=headers, **options)

    async def messages(
        self, channel: str | Sequence[str], *, query: Mapping[str, str] | None = None, **options: Any
    ) -> list[Message]:
        """Return the events of one burst, which must be whole."""
        response = await self.get(channel, query=query, **options)
        assert response.status == 200, response.text
        assert response.complete
        return parse(response.body)

    async def ready(self) -> dict[str, Any]:
        response = await request(f"{self.server.url}/events/ready/")
        assert response.status == 200, response.text
        state: dict[str, Any] = json.loads(response.text)
        return state

    async def sockets(self) -> int:
        return int((await self.ready())["sockets"])


async def eventually(condition: Any, *, deadline: float = 20, what: str = "") -> Any:
    """Ask again and again, until the (a)sync condition holds; return what it returned."""
    try:
        async with asyncio.timeout(deadline):
            while True:
                found = condition()
                found = await found if asyncio.iscoroutine(found) else found
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"after {deadline} s: {what or condition}") from None


def retries(response: Response) -> list[int]:
    """Return what each `retry:` of a response said."""
    return [int(found) for found in re.findall(rb"(?m)^retry: (\d+)$", response.body)]


def opening_id(response: Response) -> str:
    """Return the id of the opening block."""
    found = re.match(rb"retry: \d+\nid: ([!-~]+)\n(?:data:\n)?\n", response.body)
    assert found, f"not an opening block: {response.body[:200]!r}"
    return found[1].decode()
