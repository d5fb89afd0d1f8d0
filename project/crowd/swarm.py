"""Run many clients for a bounded time, and say once a second how they fare."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import time
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

from .client import Client, Counters, Target

__all__ = ["MAX_CLIENTS", "MAX_SECONDS", "Refused", "Swarm", "make_room", "read_target"]

MAX_CLIENTS = 10_000
MAX_SECONDS = 3_600
_CONNECTS_PER_SECOND = 400
_SPARE_DESCRIPTORS = 64


class Refused(ValueError):
    """This crowd is not let loose; the message says why."""


def read_target(url: str, path: str) -> Target:
    """Return where to connect; only an address of this machine's loopback is taken."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise Refused(f"Expected an address such as http://127.0.0.1:8000, got {url!r}.")
    port = parts.port or 80
    try:
        found = socket.getaddrinfo(parts.hostname, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(f"{parts.hostname} has no address: {error}") from None
    host = str(found[0][4][0])
    if not ipaddress.ip_address(host).is_loopback:
        raise Refused(f"The crowd visits this machine only (127.0.0.0/8); {parts.hostname} is {host}.")
    return Target(host=host, port=port, path=path)


def make_room(clients: int) -> None:
    """Raise this process's soft limit of open files, or say why that many clients do not fit."""
    needed = clients + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise Refused(
            f"{clients} clients need {needed} open files, and this machine allows {hard} (ulimit -Hn)."
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Swarm:
    """So many clients of one stream."""

    def __init__(self, target: Target, clients: int) -> None:
        self.counters = Counters()
        self.clients = [Client(target, self.counters) for _ in range(clients)]

    async def run(self, seconds: float) -> AsyncGenerator[dict[str, float], None]:
        """Yield the figures of each second; the clients are gone when this ends."""
        tasks: list[asyncio.Task[None]] = []
        arriving = asyncio.create_task(self._arrive(tasks), name="crowd-arrivals")
        start = time.monotonic()
        events, due = 0, start + 1
        try:
            while (now := time.monotonic()) < start + seconds:
                await asyncio.sleep(max(0.0, due - now))
                passed = time.monotonic() - due + 1
                due = time.monotonic() + 1
                yield self._figures(passed, self.counters.events - events)
                events = self.counters.events
        finally:
            arriving.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(arriving, *tasks, return_exceptions=True)

    async def _arrive(self, tasks: list[asyncio.Task[None]]) -> None:
        for number, client in enumerate(self.clients, 1):
            tasks.append(asyncio.create_task(client.run(), name=f"crowd-{number}"))
            if number % (_CONNECTS_PER_SECOND // 20) == 0:
                await asyncio.sleep(0.05)

    def _figures(self, passed: float, events: int) -> dict[str, float]:
        now = time.monotonic()
        lags, self.counters.lags_ms = sorted(self.counters.lags_ms), []
        return {
            "readers": sum(client.reading(now) for client in self.clients),
            "sockets": self.counters.sockets,
            "connections": self.counters.connections,
            "events": self.counters.events,
            "events_per_second": round(events / passed),
            "lost": sum(client.tally.lost for client in self.clients),
            "repeated": sum(client.tally.repeated for client in self.clients),
            "gaps": self.counters.gaps,
            "failures": self.counters.failures,
            "ended": self.counters.ended,
            "lag_ms": round(lags[len(lags) // 2]) if lags else 0,
            "lag_p95_ms": round(lags[len(lags) * 95 // 100]) if lags else 0,
        }
