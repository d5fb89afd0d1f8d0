"""What each preset costs: sockets held, latency, requests. All presets side by side in one run.

    .venv/bin/python -m benchmarks.presets [--readers 60] [--seconds 60] [--rounds 3]

For each preset and two rates (an event a second; an event every 15 s) it starts one daphne with the
mount on SQLite and the in-memory layer, lets *readers* follow one channel as an EventSource does,
and reports, for 100 readers: the mean of the server's open sockets (from /proc), the latency from
just before the publishing request to the arrival at the reader, and the requests a reader makes a
minute. Rounds are repeated and the median of each figure is printed. Only loopback is used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.harness.client import EventSourceClient
from tests.harness.server import AsgiServer
from tests.harness.site import Site

PRESETS = ("reclaim", "balanced", "live")
RATES = {"1 a second": 1.0, "1 in 15 s": 15.0}


@dataclass(frozen=True, slots=True)
class Figures:
    sockets: float
    median: float
    p99: float
    requests: float
    lost: int


async def measure(server: AsgiServer, channel: str, *, readers: int, seconds: float, every: float) -> Figures:
    """Follow *channel* with that many readers while an event comes every *every* seconds."""
    address = f"{server.url}/events/{channel}/?last_event_id=earliest"
    clients = [EventSourceClient(address, reconnect_seconds=None, keep_open=False) for _ in range(readers)]
    idle = server.sockets()  # the listener, and what earlier requests left to time out
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(_follow(client, seconds + 5)))
        await asyncio.sleep(1.0 / readers)  # arrivals spread over a second
    started, samples, published = time.monotonic(), [], 0
    due = started + every / 2
    while (now := time.monotonic()) < started + seconds:
        if now >= due:
            published += 1
            data = json.dumps({"n": published, "at": time.monotonic()})
            await asyncio.to_thread(server.publish, channel, data)
            due += every
        samples.append(server.sockets())
        await asyncio.sleep(0.05)
    idle = min(idle, *samples) if channel.startswith("reclaim") else idle
    requests = sum(client.connections for client in clients)
    await asyncio.gather(*tasks)
    late = [
        entry.at - json.loads(entry.data)["at"]
        for client in clients
        for entry in client.transcript
        if entry.type == "message"
    ]
    late.sort()
    return Figures(
        sockets=100 * (statistics.mean(samples) - idle) / readers,
        median=statistics.median(late),
        p99=late[int(len(late) * 0.99)],
        requests=requests / readers / seconds * 60,
        lost=readers * published - len(late),
    )


async def _follow(client: EventSourceClient, seconds: float) -> None:
    with suppress(TimeoutError):
        await client.run(deadline=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readers", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    channels = [[f"{preset}.*", {"PRESET": preset}] for preset in PRESETS]
    found: dict[tuple[str, str], list[Figures]] = {}
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory), sse_polling={"CHANNELS": channels})
        with AsgiServer(site) as server:
            for number in range(options.rounds):
                for rate, every in RATES.items():
                    for preset in PRESETS:
                        channel = f"{preset}.{number}.{int(every)}"
                        followed = measure(
                            server, channel, readers=options.readers, seconds=options.seconds, every=every
                        )
                        figures = asyncio.run(followed)
                        found.setdefault((rate, preset), []).append(figures)
                        print(f"round {number + 1} {rate} {preset}: {figures}", flush=True)
    print("\n| events | preset | sockets per 100 readers | median latency | p99 | requests a minute | lost |")
    print("|---|---|---|---|---|---|---|")
    for (rate, preset), rounds in found.items():
        middle = [statistics.median(getattr(each, name) for each in rounds) for name in Figures.__slots__]
        print(
            f"| {rate} | {preset} | {middle[0]:.0f} | {middle[1]:.3f} s | {middle[2]:.2f} s"
            f" | {middle[3]:.1f} | {sum(each.lost for each in rounds)} |"
        )


if __name__ == "__main__":
    main()
