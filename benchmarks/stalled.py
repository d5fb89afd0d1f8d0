"""What clients that never read cost: the process's memory, and how long their sockets stay.

    .venv/bin/python -m benchmarks.stalled [--clients 200] [--rounds 3] [--kinds daphne uvicorn]

Each of the clients has a small receive buffer, follows one channel and reads nothing, while 256 KB a
second are published to it: as four events of 64 KB, 64 of 4 KB, or one of 250 KB. Unbounded, 200 of them
would be 51 MB a second. A round is one server, warmed up by two clients that read; reported are the
growth of its resident memory (the most, of a look every 20 ms) and the seconds from the first event to the
last of the clients' sockets. The settings are the defaults but for the burst, which has no end here,
so that nothing but the limits of sending ends a stream. Only loopback is used.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import get_args

from tests.harness.client import EventSourceClient
from tests.harness.connection import stalled
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

BURST = {
    "max_events": 10_000,
    "max_bytes": 2**28,
    "max_seconds": 300,
    "hold_seconds": 60,
    "linger_seconds": 60,
}
SHAPES = {"4 x 64 KB": (4, 64_000), "64 x 4 KB": (64, 4_000), "1 x 250 KB": (1, 250_000)}
LONGEST = 60.0


async def warm_up(server: AsgiServer, events: int, size: int) -> None:
    """Fill the tail and let two clients read it: what follows is the stalled ones' alone."""
    readers = [EventSourceClient(f"{server.url}/events/a/?last_event_id=earliest") for _ in range(2)]
    for _ in range(24):  # more than a tail keeps
        await asyncio.to_thread(server.publish, "a", *["x" * size] * events)
    await asyncio.gather(*(reader.read_until(24 * events, deadline=60) for reader in readers))
    for reader in readers:
        reader.close()
    await until(lambda: server.sockets() < 10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST):
        while not condition():  # noqa: ASYNC110 - a look at /proc
            await asyncio.sleep(0.02)


async def measure(server: AsgiServer, clients: int, events: int, size: int) -> tuple[float, float]:
    """Return the growth in MB, and how long the sockets stayed."""
    await warm_up(server, events, size)
    before, idle = server.memory(), server.sockets()
    most = before
    async with AsyncExitStack() as stack:
        for _ in range(clients):
            await stack.enter_async_context(stalled(f"{server.url}/events/a/"))
        await until(lambda: server.sockets() >= clients)
        started = due = time.monotonic()
        while (now := time.monotonic()) < started + LONGEST:
            if now >= due:
                due += 1
                publishing = asyncio.create_task(
                    asyncio.to_thread(server.publish, "a", *["x" * size] * events)
                )
            most = max(most, server.memory())
            if server.sockets() <= idle + 2:
                break
            await asyncio.sleep(0.02)
        took = time.monotonic() - started
        await publishing
    return (most - before) / 2**20, took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=["daphne", "uvicorn"])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    given = parser.parse_args()
    print("| server | a second | memory, MB over before | sockets gone after, s |")
    print("|---|---|---|---|")
    for kind in given.kinds:
        for shape in given.shapes:
            rounds = []
            for _ in range(given.rounds):
                with tempfile.TemporaryDirectory() as directory:
                    server = AsgiServer(
                        Site(Path(directory), sse_polling={"BURST": BURST}), kind=kind
                    ).start()
                    try:
                        rounds.append(asyncio.run(measure(server, given.clients, *SHAPES[shape])))
                    finally:
                        server.kill()
            grown, took = zip(*rounds, strict=True)
            print(
                f"| {kind} | {shape} | {statistics.median(grown):.0f} (at most {max(grown):.0f})"
                f" | {statistics.median(took):.1f} (at most {max(took):.1f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
