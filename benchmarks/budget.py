"""What a socket budget buys: 10,000 clients on one uvicorn with budgets of 500, 2,000 and 6,000 sockets.

    .venv/bin/python -m benchmarks.budget [--clients 10000] [--channels 100] [--seconds 30] [--rounds 3]

and with `--plot benchmarks/budget.svg` a drawing of the last round (needs `pip install matplotlib`).

An event a second on each channel; the layer is Redis pubsub, the database SQLite. Beside the budgets: the
same crowd with the preset `reclaim`, its `RETRY["base_ms"]` set so that the server uses as much processor
time as with the first budget, and the same crowd as held streams (`live`). For each: the server's open
sockets (from /proc, every 100 ms), its processor share, polls a second, and how late events come; and what
theory says of the latter: the share of the crowd that is open gets an event at once, the rest spread over
the wait. Only loopback is used. A budget is measured after the controller has had time to learn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load_client import Load, start
from benchmarks.producer import Producer
from project.programs.redis import Redis
from tests.harness.server import AsgiServer
from tests.harness.site import Site

QUANTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
JITTER = 0.3


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Latencies are in seconds; *share*: of the crowd that is open."""

    sockets: float
    most: int
    busy: float
    polls: float
    share: float
    latencies: Mapping[str, float]
    missing: int
    repeated: int
    clients: int

    @property
    def wait(self) -> float:
        """How long a client is away, by Little's law: those who are away, by how many come a second."""
        return self.clients * (1 - self.share) / self.polls if self.polls else 0.0


class Sockets(threading.Thread):
    """Counts a process's descriptors every 100 ms, less those it had before."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._directory = Path(f"/proc/{pid}/fd")
        self._idle = self._count()
        self._over = threading.Event()
        self.samples: list[tuple[float, int]] = []

    def _count(self) -> int:
        return len(os.listdir(self._directory))  # noqa: PTH208 - ten thousand paths are not wanted

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.samples.append((time.monotonic(), self._count() - self._idle))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def since(self, begin: float) -> list[int]:
        return [count for at, count in self.samples if at >= begin]


def measure(
    directory: Path, redis: Redis, settings: Mapping[str, Any], options: argparse.Namespace, learn: float
) -> Figures:
    """Let the crowd come, wait for *learn* seconds, and take figures for as long as asked for."""
    site = Site(directory, redis=redis, sse_polling=settings)
    directory.mkdir(parents=True)
    site.migrate()
    ramp = options.clients / 500
    whole = ramp + learn + options.seconds
    arguments = ["--no-access-log", "--log-level", "warning", "--backlog", "4096"]
    with (
        AsgiServer(site, kind="uvicorn", arguments=arguments) as server,
        Producer(site, prefix="load", channels=options.channels, rate=1, seconds=whole + 120) as producer,
    ):
        sockets = Sockets(server.pid)
        sockets.start()
        load = Load(
            port=server.port,
            clients=options.clients,
            channels=options.channels,
            ramp=ramp,
            seconds=whole,
            warmup=ramp + learn,
            settle=25,
            sources=16,
            query="busy=stream",
        )
        with start(load) as client:
            time.sleep(ramp + learn)
            begin, cpu = time.monotonic(), server.cpu_seconds()
            time.sleep(options.seconds)
            spent = (server.cpu_seconds() - cpu) / (time.monotonic() - begin)
            producer.stop()
            found = client.result()
        sockets.stop()
        errors = [line for line in server.log().splitlines() if "ERROR" in line or "Traceback" in line]
        if errors:
            raise AssertionError("\n".join(errors[:20]))
    counted = sockets.since(begin)[: int(options.seconds * 10)]
    if os.environ.get("SHOW"):
        print(found)
    return Figures(
        sockets=statistics.mean(counted),
        most=max(count for _, count in sockets.samples),
        busy=spent,
        polls=found["per_second"]["requests"],
        share=found["open_share"],
        latencies={name: found["latency_ms"][name] / 1000 for name in QUANTILES},
        missing=found["sequence"]["missing"] + found["sequence"]["behind"]["events"],
        repeated=found["sequence"]["repeats"],
        clients=options.clients,
    )


def expected(figures: Figures, quantile: float) -> float:
    """Return the latency that theory gives: at once for the open share, else what is left of a wait.

    A wait is w within the jitter. An event that comes while a client is away comes in a wait of length L
    with a probability as L, and is seen after a time even in 0 to L.
    """
    if quantile <= figures.share or not figures.wait:
        return 0.0
    rest = (quantile - figures.share) / (1 - figures.share)
    lengths = [figures.wait * (1 + JITTER * (2 * each / 200 - 1)) for each in range(201)]
    low, high = 0.0, max(lengths)
    for _ in range(50):
        middle = (low + high) / 2
        below = sum(min(middle, length) for length in lengths) / sum(lengths)
        low, high = (middle, high) if below < rest else (low, middle)
    return low


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--learn", type=float, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budgets", type=int, nargs="*", default=[500, 2000, 6000])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    found: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as temporary, Redis(Path(temporary)) as redis:

        def run(name: str, settings: Mapping[str, Any], *, learn: float, keep: bool = True) -> Figures:
            directory = Path(temporary) / f"{time.monotonic_ns()}"
            figures = measure(directory, redis, settings, options, learn)
            if keep:
                found.setdefault(name, []).append(figures)
            print(f"round {number + 1} {name}{'' if keep else ' (to find the base)'}: {figures}", flush=True)
            return figures

        base_ms = 0
        for number in range(options.rounds):  # noqa: B007 - `run` says it
            first: Figures | None = None
            for budget in options.budgets:
                figures = run(f"BUDGET {budget:,}", {"BUDGET": budget}, learn=options.learn)
                first = first or figures
            if first is None:
                continue
            if not base_ms:  # as many polls as the first budget's, then corrected by what they cost
                base_ms = round(1000 * options.clients / first.polls)
                tried = run("reclaim", reclaim(base_ms), learn=20, keep=False)
                base_ms = round(base_ms * tried.busy / first.busy)
            run("reclaim, at its processor time", reclaim(base_ms), learn=20)
            run("held (live)", {"PRESET": "live", "MAX_SOCKETS": 2 * options.clients}, learn=10)
    report(found)
    if options.plot:
        draw(options.plot, {name: runs[-1] for name, runs in found.items()})


def reclaim(base_ms: int) -> dict[str, Any]:
    return {"PRESET": "reclaim", "RETRY": {"base_ms": base_ms}, "MAX_SOCKETS": 20_000}


def report(found: Mapping[str, list[Figures]]) -> None:
    print(
        "\n| | sockets, mean | at most | processor | polls a second | open share | wait "
        "| p50 | p75 | p90 | p95 | p99 | lost | repeated |"
    )
    print("|" + "---|" * 14)
    for name, runs in found.items():

        def middle(field: str, runs: list[Figures] = runs) -> float:
            return statistics.median(getattr(each, field) for each in runs)

        late = []
        for quantile, share in QUANTILES.items():
            got = statistics.median(each.latencies[quantile] for each in runs)
            theory = statistics.median(expected(each, share) for each in runs)
            late.append(f"{got:.3f} s ({theory:.3f})")
        most = max(each.most for each in runs)
        print(
            f"| {name} | {middle('sockets'):,.0f} | {most:,} | {middle('busy'):.2f}"
            f" | {middle('polls'):,.0f} | {middle('share'):.3f} | {middle('wait'):.2f} s | {' | '.join(late)}"
            f" | {sum(each.missing for each in runs)} | {sum(each.repeated for each in runs)} |"
        )


def draw(path: Path, runs: Mapping[str, Figures]) -> None:
    """Draw how late events come: measured points on the curves of theory. Needs matplotlib (pip install)."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for number, (name, figures) in enumerate(runs.items()):
        shares = [each / 100 for each in range(100)]
        axes.plot([expected(figures, each) for each in shares], shares, color=f"C{number}", linewidth=1)
        axes.plot(
            [figures.latencies[each] for each in QUANTILES],
            list(QUANTILES.values()),
            "o",
            color=f"C{number}",
            label=f"{name}: {figures.sockets:,.0f} sockets",
        )
    axes.set(
        xlabel="seconds from publish to the client", ylabel="share of events", ylim=(0, 1), xlim=(0, None)
    )
    axes.set_title("Points: measured. Lines: the open share at once, the rest spread over the wait")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
