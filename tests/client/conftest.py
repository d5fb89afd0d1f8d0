"""Both twins, read the same way: what came, how long was waited, what was raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import pytest

from sse_polling.client import Event, iter_events, stream_events

__all__ = ["Half", "Read"]


class Half(Random):
    """Always one half: a backoff is half of its limit, a Retry-After is a twentieth longer."""

    def random(self) -> float:
        return 0.5


@dataclass
class Read:
    """What a client made of a server."""

    events: list[Event] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    error: Exception | None = None

    @property
    def data(self) -> list[str]:
        return [each.data for each in self.events]


Reader = Callable[..., Read]


@pytest.fixture(scope="session")
def blocking() -> Iterator[httpx.Client]:
    """One client for all tests: making one reads certificates for 20 ms."""
    with httpx.Client() as client:
        yield client


@pytest.fixture(params=["async", "sync"])
def read(request: pytest.FixtureRequest, blocking: httpx.Client) -> Iterator[Reader]:
    """Read a stream to its end: `read(url, …) -> Read`, with no wait in real time, by either twin."""

    def options(given: dict[str, Any]) -> dict[str, Any]:
        return {"rng": Half(), "clock": lambda: 0.0, **given}

    def by_iter(url: str, last_event_id: str | None = None, **given: Any) -> Read:
        found = Read()
        given.setdefault("client", blocking)
        try:
            for event in iter_events(url, last_event_id, sleep=found.waits.append, **options(given)):
                found.events.append(event)
        except Exception as error:  # noqa: BLE001 - whatever it is
            found.error = error
        return found

    async def connect() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=False, trust_env=False)  # noqa: S501 - no TLS here

    async def by_stream(url: str, last_event_id: str | None = None, **given: Any) -> Read:
        found = Read()

        async def sleep(seconds: float) -> None:
            found.waits.append(seconds)

        try:
            given.setdefault("client", client)
            events: AsyncGenerator[Event, None] = stream_events(
                url, last_event_id, sleep=sleep, **options(given)
            )
            async for event in events:
                found.events.append(event)
        except Exception as error:  # noqa: BLE001 - whatever it is
            found.error = error
        return found

    if request.param == "sync":
        yield by_iter
        return
    with asyncio.Runner() as runner:
        client = runner.run(connect())
        yield lambda *args, **given: runner.run(by_stream(*args, **given))
        runner.run(client.aclose())
