"""What the load client itself can take, so that a benchmark measures the server and not its client.

    .venv/bin/python -m benchmarks.load_capacity [--seconds 3] [--rounds 3]

Polls: connect, ten events, closed socket, from nginx (a static file) and from the smallest server in C
(`benchmarks/load/echo.c`). Events: a file of 200,000 from nginx, and readers that are held by the small
server, which sends them 100,000 and 150,000 events a second all together.

`client's CPU` is its share of one core; well below 100 % it was the server, or what else runs on the
machine, that did not do more. `a CPU second` is what the client read with a second of CPU time: what it
could do on a core of its own. Variants alternate within a round; the median of the rounds is printed. Only
loopback is used.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load_client import Load, build, run
from project.programs.nginx import Nginx
from project.programs.ports import accepts, free_port
from project.programs.process import Process

EVENT = 'id: {n}\ndata: {{"n":{n},"at":0.5,"text":"                    "}}\n\n'


class Echo(Process):
    """The smallest server: it ends by itself after a minute."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.port = free_port()
        super().__init__(f"echo-{self.port}", directory)
        self.arguments = arguments

    def command(self) -> Sequence[str | Path]:
        return [build("echo"), "--port", str(self.port), *self.arguments]

    def is_ready(self) -> bool:
        return accepts(self.port)


class Files(Nginx):
    """nginx with a file of events, closed after each response."""

    template = """\
{user}
worker_processes 1;
pid {directory}/{name}.pid;
error_log stderr;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    keepalive_timeout 0;
    default_type text/event-stream;
    server {{ listen {host}:{port} backlog=4096; location / {{ root {directory}; }} }}
}}
"""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, [])


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    server: Callable[[Path], AbstractContextManager[Any]]
    #: What differs from a :class:`Load` with only a port and a duration.
    options: dict[str, Any]


def _held(readers: int, rate: int) -> Variant:
    return Variant(
        f"{readers * rate:,} events/s to {readers:,} held readers, small server",
        lambda directory: Echo(directory, "--rate", str(rate)),
        # The first second is for connecting.
        {"clients": readers, "ramp": 0.5, "warmup": 1},
    )


def variants() -> Iterator[Variant]:
    """Yield what is measured."""
    polls = {"clients": 200, "ignore_retry_ms": 0, "warmup": 0.5}
    yield Variant("polls of ten events, nginx", Files, {**polls, "path": "/ten"})
    yield Variant("polls of ten events, small server", Echo, polls)
    yield Variant(
        "a file of 200,000 events, nginx",
        Files,
        {"clients": 4, "ignore_retry_ms": 0, "warmup": 0.5, "path": "/many"},
    )
    for readers, rate in ((100, 1000), (1000, 100), (5000, 20), (1000, 150)):
        yield _held(readers, rate)


def measure(variant: Variant, directory: Path, seconds: float) -> dict[str, Any]:
    """Run one variant; its readers must have been sent something, without an error."""
    with variant.server(directory) as server:
        load = Load(port=server.port, seconds=seconds + variant.options["warmup"], **variant.options)
        found = run(load)
    if any(found["errors"].values()) or not found["measured"]["events"] or found["sequence"]["missing"]:
        raise AssertionError(f"{variant.name}: {found}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "ten").write_text("".join(EVENT.format(n=n) for n in range(1, 11)))
        (directory / "many").write_text("".join(EVENT.format(n=n) for n in range(1, 200_001)))
        for number in range(options.rounds):
            for variant in variants():
                found = measure(variant, directory, options.seconds)
                # The events of a file are older than their readers: no latency.
                latency = found["latency_ms"] or {"p50": math.nan, "p99": math.nan}
                rate, used = found["per_second"], found["self"]["cpu_seconds"]
                row = [
                    rate["responses"],
                    rate["events"],
                    latency["p50"],
                    latency["p99"],
                    100 * found["self"]["busy_share"],
                    found["total"]["responses"] / used,
                    found["total"]["events"] / used,
                ]
                rows.setdefault(variant.name, []).append(row)
                print(f"round {number + 1} {variant.name}: {[round(each, 2) for each in row]}", flush=True)
    print("\n| what | polls/s | events/s | latency p50 | p99 | client's CPU | a CPU second |")
    print("|---|---|---|---|---|---|---|")
    for name, measured in rows.items():
        middle = [statistics.median(column) for column in zip(*measured, strict=True)]
        polls, events, p50, p99, cpu, polls_each, events_each = middle
        late = "| | |" if math.isnan(p50) else f"| {p50:.1f} ms | {p99:.1f} ms |"
        each = f"{polls_each:,.0f} polls" if "polls" in name else f"{events_each:,.0f} events"
        print(f"| {name} | {polls:,.0f} | {events:,.0f} {late} {cpu:.0f} % | {each} |")


if __name__ == "__main__":
    main()
