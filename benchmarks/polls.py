"""What a poll costs the server: CPU microseconds for each door, each server, with and without a login.

    .venv/bin/python -m benchmarks.polls [--polls 2000] [--rounds 3]

A poll is: connect, GET with a cursor ten events behind the head of a warm channel (preset
`reclaim`), read the burst to the closed socket. Four clients poll at once. CPU time is the server
process's own (from /proc), so the client's cost does not count. Combinations alternate within a
round; the median of the rounds is printed. Only loopback is used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
from pathlib import Path

from tests.harness.connection import request
from tests.harness.server import AsgiServer
from tests.harness.site import Site

APPS = {"mount": "tests.asgi:application", "view": "tests.asgi:plain_application"}
KINDS = ("daphne", "uvicorn")
CLIENTS = 4


async def measure(server: AsgiServer, *, polls: int, headers: dict[str, str]) -> float:
    """Return the server's CPU microseconds for a poll."""
    address = f"{server.url}/events/warm/?last_event_id=earliest"
    share = polls // CLIENTS

    async def poll(times: int) -> None:
        for _ in range(times):
            response = await request(address, headers=headers, deadline=10)
            if response.status != 200 or b"data: 9\n" not in response.body:
                raise AssertionError(f"{response.status} {response.body!r}")

    await poll(50)
    before = server.cpu_seconds()
    await asyncio.gather(*(poll(share) for _ in range(CLIENTS)))
    return (server.cpu_seconds() - before) / (share * CLIENTS) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--polls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        site = Site(
            Path(directory), sse_polling={"PRESET": "reclaim", "AUTHORIZE": "sse_polling.access.public"}
        )
        site.migrate()
        cookie = "; ".join(f"{name}={value}" for name, value in site.session("reader").items())
        servers = {
            (kind, door): stack.enter_context(AsgiServer(site, kind=kind, app=app))
            for kind in KINDS
            for door, app in APPS.items()
        }
        next(iter(servers.values())).publish("warm", *(str(number) for number in range(10)))
        for number in range(options.rounds):
            for (kind, door), server in servers.items():
                for who, headers in (("nobody", {}), ("a login", {"Cookie": cookie})):
                    cost = asyncio.run(measure(server, polls=options.polls, headers=headers))
                    found.setdefault((kind, door, who), []).append(cost)
                    print(f"round {number + 1} {kind} {door} {who}: {cost:.0f}", flush=True)
    print("\n| server | door | who | CPU microseconds a poll |\n|---|---|---|---|")
    for (kind, door, who), costs in found.items():
        print(f"| {kind} | {door} | {who} | {statistics.median(costs):,.0f} |")


if __name__ == "__main__":
    main()
