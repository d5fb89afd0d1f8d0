"""What publishing costs, and what the lock on a channel's row costs others.

    .venv/bin/python -m benchmarks.publishing [--seconds 3] [--rounds 3]

On a PostgreSQL of its own with fsync on, and on a SQLite file as the README asks for it (WAL,
`synchronous=NORMAL`: the log is not flushed at each commit):

- 1, 4 and 16 publishers (1 process, 4, and 4 with 4 threads each) that publish 100 characters in a
  loop, each time in a transaction of its own, all to one channel or each to its own;
- a transaction that publishes to a channel, first or last, and is open for 0 to 1000 ms: how long a
  publish takes that begins while it is open, to the same channel and to another, and how long from there
  to a reader of both channels (one daphne, preset `live`; Redis wakes it on PostgreSQL).

Variants alternate within a round; the median of the rounds is printed. Only loopback is used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from project.programs.postgres import Postgres
from project.programs.redis import Redis
from tests.harness.client import EventSourceClient
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Site

PUBLISHERS = (1, 4, 16)
PROCESSES = 4
OPEN_MS = (0, 10, 100, 1000)

LOOP = "from benchmarks.loads import loop\nresult = loop(channels, start, seconds)"
BESIDE = (
    "from benchmarks.loads import beside\n"
    "result = beside(channel, other, first=first, seconds=seconds, times=times)"
)


@contextlib.contextmanager
def sites(directory: Path) -> Iterator[dict[str, Site]]:
    """Give a project on each database, with `live` bursts."""
    # A folder that is kept has fsync on. Not under `directory`, where PostgreSQL's user cannot go.
    postgres = Postgres(directory, keep=Path(tempfile.gettempdir()) / f"sse-polling-benchmark-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.remove)
        postgres.start()
        ((fsync,),) = postgres.query("SHOW fsync")
        if fsync != "on":
            raise AssertionError("fsync is off")
        redis = stack.enter_context(Redis(directory))
        (directory / "postgresql").mkdir()
        options = {"PRESET": "live"}
        found = {
            "PostgreSQL": Site(
                directory / "postgresql", database=postgres.create("app"), redis=redis, sse_polling=options
            ),
            "SQLite": Site(directory, sse_polling=options),
        }
        for site in found.values():
            site.migrate()
        yield found


def rate(shells: list[Shell], channels: list[str], seconds: float) -> tuple[float, float, float]:
    """Return publishes a second of all publishers, their median and p99 in milliseconds."""
    start = time.monotonic() + 1
    shares = [share for number in range(PROCESSES) if (share := channels[number::PROCESSES])]
    with ThreadPoolExecutor(PROCESSES) as pool:
        running = [
            pool.submit(shell.run, LOOP, channels=share, start=start, seconds=seconds, deadline=seconds + 60)
            for shell, share in zip(shells, shares, strict=False)
        ]
        durations = sorted(each for one in running for each in one.result())
    return (
        len(durations) / seconds,
        statistics.median(durations) * 1000,
        durations[int(len(durations) * 0.99)] * 1000,
    )


async def beside(
    server: AsgiServer, shell: Shell, channel: str, *, first: bool, milliseconds: int
) -> dict[str, float]:
    """Return medians in milliseconds: a publish to the same channel, to another, and both deliveries."""
    times = max(5, min(30, 4000 // max(1, milliseconds)))
    other = f"{channel}.other"
    address = f"{server.url}/events/?channel={channel}&channel={other}&last_event_id=earliest"
    client = EventSourceClient(address)
    reading = asyncio.create_task(client.read_until(3 * times, deadline=times * milliseconds / 500 + 60))
    while not client.responses:  # noqa: ASYNC110 - until the reader is there
        await asyncio.sleep(0.02)
    found = await asyncio.to_thread(
        shell.run,
        BESIDE,
        channel=channel,
        other=other,
        first=first,
        seconds=milliseconds / 1000,
        times=times,
        deadline=120,
    )
    await reading
    arrived: dict[str, list[float]] = {channel: [], other: []}
    for entry in client.transcript:
        said = json.loads(entry.data)
        if said["data"] != "holder":
            arrived[said["channel"]].append(entry.at - float(said["data"]))
    return {
        "same": statistics.median(found["same"]) * 1000,
        "other": statistics.median(found["other"]) * 1000,
        "same arrives": statistics.median(arrived[channel]) * 1000,
        "other arrives": statistics.median(arrived[other]) * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[tuple[str, int, str], list[tuple[float, ...]]] = {}
    locks: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        sites(Path(directory)) as found,
        contextlib.ExitStack() as stack,
    ):
        shells = {
            name: [stack.enter_context(Shell(site)) for _ in range(PROCESSES)] for name, site in found.items()
        }
        servers = {name: stack.enter_context(AsgiServer(site)) for name, site in found.items()}
        for number in range(options.rounds):
            for name in found:
                for count in PUBLISHERS:
                    for where in ("one channel", "each its own"):
                        prefix = f"rate.{number}.{count}"
                        own = where == "each its own"
                        channels = [f"{prefix}.{each}" if own else prefix for each in range(count)]
                        figures: tuple[float, ...] = rate(shells[name], channels, options.seconds)
                        rates.setdefault((name, count, where), []).append(figures)
                        print(f"round {number + 1} {name} {count} {where}: {figures}", flush=True)
                for milliseconds in OPEN_MS:
                    for when in ("first", "last"):
                        channel = f"lock.{number}.{milliseconds}.{when}"
                        measured = beside(
                            servers[name],
                            shells[name][0],
                            channel,
                            first=when == "first",
                            milliseconds=milliseconds,
                        )
                        latencies = asyncio.run(measured)
                        locks.setdefault((name, when, milliseconds), []).append(latencies)
                        print(f"round {number + 1} {name} {when} {milliseconds}: {latencies}", flush=True)
    print("\n| database | publishers | to | publishes a second | median | p99 |\n|---|---|---|---|---|---|")
    for (name, count, where), rounds in rates.items():
        a_second, median, p99 = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(f"| {name} | {count} | {where} | {a_second:,.0f} | {median:.1f} ms | {p99:.1f} ms |")
    print("\n| database | it publishes | and is open for | same | another | same arrives | another arrives |")
    print("|---|---|---|---|---|---|---|")
    for (name, when, milliseconds), several in locks.items():
        middle = [statistics.median(each[key] for each in several) for key in several[0]]
        print(
            f"| {name} | {when} | {milliseconds:,} ms | "
            + " | ".join(f"{each:,.0f} ms" for each in middle)
            + " |"
        )


if __name__ == "__main__":
    main()
