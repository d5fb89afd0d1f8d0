"""Does a flood on one channel delay another's events?

    .venv/bin/python -m benchmarks.flood [--seconds 20] [--rounds 3]

One server process (uvicorn, then daphne) on PostgreSQL and Redis pubsub. 100 held readers follow a quiet
channel with 5 events a second: alone; and beside a second channel with 100 held readers of its own to which
one process publishes without a pause, 20 events in each transaction. Reported: how late the quiet channel's
events come in both cases, and how many events a second the flood's readers were sent. The publishers, both
databases and the load clients share the two cores with the server, so part of the delay is theirs; so the
case "publisher only" has the flood published and nobody reading it. Only loopback is used.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load_client import Load, start
from benchmarks.producer import Producer
from project.programs.postgres import Postgres
from project.programs.redis import Redis
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

CASES = ("alone", "beside the publisher only", "beside the flood")
READERS = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies of the quiet channel in seconds; the flood's events a second, published and sent to all."""

    p50: float
    p99: float
    longest: float
    published: float
    flood: float
    missing: int


def measure(site: Site, kind: Kind, case: str, name: str, seconds: float) -> Figures:
    arguments = ["--no-access-log", "--log-level", "warning"] if kind == "uvicorn" else ["-v", "0"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(AsgiServer(site, kind=kind, arguments=arguments))
        common = {"port": server.port, "clients": READERS, "warmup": 3.0, "seconds": seconds + 3}
        loud = None
        if case == CASES[2]:
            load = Load(path=f"/events/{name}.loud.%d/", settle=3, **common)
            loud = stack.enter_context(start(load))
        quiet = stack.enter_context(start(Load(path=f"/events/{name}.quiet.%d/", settle=3, **common)))
        time.sleep(1.5)
        whole = seconds + 1.5
        slow = stack.enter_context(Producer(site, prefix=f"{name}.quiet", channels=1, rate=5, seconds=whole))
        fast = None
        if case != CASES[0]:
            fast = stack.enter_context(
                Producer(site, prefix=f"{name}.loud", channels=1, rate=0, batch=20, seconds=whole)
            )
        found = quiet.result()
        sent = loud.result() if loud else None
        slow.stop()
        published = fast.stop() if fast else {"last": 0, "seconds": 1}
    missing = [each["sequence"]["missing"] for each in (found, sent) if each]
    return Figures(
        p50=found["latency_ms"]["p50"] / 1000,
        p99=found["latency_ms"]["p99"] / 1000,
        longest=found["latency_ms"]["max"] / 1000,
        published=published["last"] / published["seconds"],
        flood=sent["per_second"]["events"] if sent else 0,
        missing=sum(missing),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kinds: tuple[Kind, ...] = ("uvicorn", "daphne")
    found: dict[tuple[Kind, str], list[Figures]] = {(kind, case): [] for kind in kinds for case in CASES}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        directory = Path(temporary)
        redis = stack.enter_context(Redis(directory))
        postgres = Postgres(directory).start()
        stack.callback(postgres.remove)
        live = {"PRESET": "live", "RETENTION": {"max_events": 1_000_000}}
        site = Site(directory, database=postgres.create("flood"), redis=redis, sse_polling=live)
        site.migrate()
        for number in range(options.rounds):
            for (kind, case), runs in found.items():
                name = f"{kind}.{number}.{CASES.index(case)}"
                figures = measure(site, kind, case, name, options.seconds)
                runs.append(figures)
                print(f"round {number + 1} {kind} {case}: {figures}", flush=True)
    print("\n| server | quiet channel | p50 | p99 | longest | flood: published | sent a second | missing |")
    print("|---|---|---|---|---|---|---|---|")
    for (kind, case), runs in found.items():
        p50, p99, longest, published, flood = (
            statistics.median(getattr(each, field) for each in runs)
            for field in ("p50", "p99", "longest", "published", "flood")
        )
        print(
            f"| {kind} | {case} | {p50 * 1000:.1f} ms | {p99 * 1000:.1f} ms | {longest * 1000:.0f} ms"
            f" | {published:,.0f} | {flood:,.0f} | {sum(each.missing for each in runs)} |"
        )


if __name__ == "__main__":
    main()
