"""A storm: 5,000 clients connect within a second to a process that takes 1,000.

    .venv/bin/python -m benchmarks.storm [--clients 5000] [--sockets 1000] [--rounds 3]

on uvicorn and on daphne, each with a listen backlog of 4,096 (daphne's own is 50: it is given an endpoint,
`-e tcp:8000:backlog=4096`). A channel that nobody has read yet has 100 events; every client asks for all of
them, without `busy=stream`, so a refusal is a 503; streams are held for 6 s (preset `live`), so nobody makes
room. Two storms, 12 s apart. Reported of the second: how the clients were answered and when, the most
streams that were open at once, errors in the log, descriptors and resident memory before and after, and what
garbage collections cost. And the memory before the first, which is of a process that has served 250 clients.
Only loopback is used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load_client import Load, run
from project.programs.ports import HOST
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

BACKLOG = 4096
KINDS: tuple[Kind, ...] = ("uvicorn", "daphne")


class Endpoint(AsgiServer):
    """daphne with an endpoint of its own, which is where a backlog can be said."""

    def command(self) -> Sequence[str | Path]:
        endpoint = f"tcp:port={self.port}:interface={HOST}:backlog={BACKLOG}"
        return [sys.executable, "-m", "daphne", "-e", endpoint, "-v", "0", self.app]


def serve(site: Site, kind: Kind) -> AsgiServer:
    if kind == "daphne":
        return Endpoint(site, kind=kind)
    arguments = ["--no-access-log", "--log-level", "warning", "--backlog", str(BACKLOG)]
    return AsgiServer(site, kind=kind, arguments=arguments)


def measure(directory: Path, kind: Kind, options: argparse.Namespace) -> dict[str, Any]:
    directory.mkdir()
    live = {"PRESET": "live", "BURST": {"max_seconds": 6}}
    site = Site(directory, sse_polling={"MAX_SOCKETS": options.sockets, **live})
    with serve(site, kind) as server:
        server.publish("warm.0", "a")
        run(Load(port=server.port, path="/events/warm.%d/", clients=250, seconds=3, query="busy=stream"))
        fresh = server.memory()
        server.publish("storm.0", *(json.dumps({"n": each + 1, "at": 0}) for each in range(100)))
        load = Load(
            port=server.port,
            path="/events/storm.%d/",
            since="earliest",
            clients=options.clients,
            storm=True,
            sources=8,
            seconds=options.seconds,
        )
        run(load)
        time.sleep(12)  # streams end after 6 s, idle connections of before after 5
        memory, descriptors, before = server.memory(), server.fds(), server.counts()
        storm = run(load)["storm"]
        time.sleep(12)
        after, left, counted = server.memory(), server.fds(), server.counts()
        log = server.log()
    answered = [storm["times_ms"][each] for each in ("stream", "503") if storm[each]]
    pauses, paused = counted["pauses"], before["pauses"]
    return {
        "streams": storm["stream"],
        "503": storm["503"],
        "otherwise": sum(storm[each] for each in ("refusal", "other", "failed")),
        "unanswered": storm["unanswered"],
        "half were answered within (s)": max(each["p50"] for each in answered) / 1000,
        "all were answered within (s)": max(each["max"] for each in answered) / 1000,
        "most streams at once": counted["most"],
        "errors in the log": sum("ERROR" in line or "Traceback" in line for line in log.splitlines()),
        "descriptors before": descriptors,
        "descriptors after": left,
        "memory before any storm (MB)": fresh / 1e6,
        "memory before (MB)": memory / 1e6,
        "memory after (MB)": after / 1e6,
        "longest collection since the start (ms)": pauses["longest_seconds"] * 1000,
        "collections of this storm (ms)": (pauses["total_seconds"] - paused["total_seconds"]) * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.rounds):
            for kind in KINDS:
                figures = measure(Path(temporary) / f"{kind}-{number}", kind, options)
                found[kind].append(figures)
                print(f"round {number + 1} {kind}: {figures}", flush=True)
    print("\n| | " + " | ".join(KINDS) + " |\n|---|" + "---|" * len(KINDS))
    for row in found[KINDS[0]][0]:
        medians = (statistics.median(each[row] for each in found[kind]) for kind in KINDS)
        print(f"| {row} | " + " | ".join(f"{each:,.6g}" for each in medians) + " |")


if __name__ == "__main__":
    main()
