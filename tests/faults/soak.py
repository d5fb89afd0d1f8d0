"""Mixed load with random faults: ``python -m tests.faults.soak --minutes 10``, or ``make soak MINUTES=10``.

Prints a line each second and a verdict; the exit status is 0 if no event was lost or repeated, no `gap`
was sent, every transcript was the committed history, and no server's memory grew. The load comes in
generations of a few faults, each on channels of its own that are finished and compared at its end, so
that neither the readers' memory nor the comparison grows with the length of the soak.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.harness.server import AsgiServer
from tests.harness.site import Layer

from . import fleet as fleets
from .fault import Fault
from .fleet import Fleet
from .tally import Memory, Tally, slope
from .trial import Trial, trial_on
from .twenty import TWENTY

__all__ = ["Soak", "main"]

FAULTS_IN_A_GENERATION = 6
#: Of each of four threads; a transaction is two and a half events.
TRANSACTIONS_PER_SECOND = 4.0
#: A fault may not last longer than this part of the time between two.
LONGEST_FAULT = 0.5
#: At this age a process is expected to have all that it needs.
SETTLED_SECONDS = 120.0
#: Below this a slope is noise: a run of ten minutes sees single pages of a heap come and go.
MOST_GROWTH_MB_A_MINUTE = 0.5


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass
class Soak:
    """One run."""

    fleet: Fleet
    minutes: float
    clients: int
    fault_seconds: float
    seed: int
    failures: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    memories: dict[str, Memory] = field(default_factory=dict)
    compared: int = 0

    async def run(self) -> bool:
        """Soak for so long, print the verdict, and return it."""
        rng = Random(self.seed)
        until = time.monotonic() + self.minutes * 60
        ticker = asyncio.create_task(self._tick())
        try:
            faults = _shuffled(rng)
            generation = 0
            while time.monotonic() < until:
                generation += 1
                try:
                    await self._generation(rng, faults, until)
                except Exception as error:  # noqa: BLE001 - told in the verdict, and the soak goes on
                    say(traceback.format_exc())
                    self.failures.append(f"generation {generation}, {self.tally.fault}: {str(error)[:500]}")
                    self.tally.fault = ""
                self.tally.retire()
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
        return self.verdict()

    async def _generation(self, rng: Random, faults: Iterator[Fault], until: float) -> None:
        async with trial_on(
            self.fleet, seed=rng.randrange(2**32), keep=False, pace=TRANSACTIONS_PER_SECOND
        ) as trial:
            self.tally.readers = trial.readers
            await trial.start_publishing()
            # A third of the clients comes through proxies, so that a fault between them strikes these.
            direct, proxied = self.fleet.urls, [proxy.url for proxy in self.fleet.client_proxies]
            for count, servers in ((self.clients - self.clients // 3, direct), (self.clients // 3, proxied)):
                trial.start_readers(count, servers, on_latency=self.tally.on_latency)
            await trial.warm_up()
            for _ in range(FAULTS_IN_A_GENERATION):
                began = time.monotonic()
                await self._strike(trial, rng, next(faults))
                await trial.pause(max(0.0, began + self.fault_seconds - time.monotonic()))
                if time.monotonic() > until:
                    break
            await trial.stop_publishing()
            await trial.finish()
            await trial.call(trial.compare)
            self.compared += sum(reader.events for reader in trial.readers)

    async def _strike(self, trial: Trial, rng: Random, fault: Fault) -> None:
        longest = max(fault.short, min(fault.full, self.fault_seconds * LONGEST_FAULT))
        self.tally.begin_fault(fault.name)
        await fault.strike(trial, rng.uniform(fault.short, longest))
        if not trial.publishing:
            await trial.start_publishing()
        self.tally.end_fault(await trial.caught_up())
        await trial.hearing()

    async def _tick(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + 1, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            sockets = sum(_sockets(server) for server in self.fleet.servers)
            at = time.monotonic() - self.tally.began
            for server in self.fleet.servers:
                self.memories.setdefault(server.name, Memory()).take(server, at)
            say(self.tally.line(sockets))

    def verdict(self) -> bool:
        """Print what came of it and tell whether all is well."""
        totals = self.tally.totals()
        say(f"\n{'fault':28} {'times':>5} {'worst latency':>14} {'longest recovery':>17}")
        for name, figures in sorted(self.tally.faults.items()):
            say(
                f"{name:28} {figures.count:5} {figures.worst_latency:12.2f} s"
                f" {figures.longest_recovery:15.2f} s"
            )
        grew = self._say_memory()
        say(
            f"\n{totals['events']} events read over {totals['connections']} connections, {self.compared} of"
            f" them compared with the history: {totals['lost']} lost, {totals['repeated']} repeated,"
            f" {totals['gaps']} gaps"
        )
        wrong = self.failures + grew
        for failure in wrong:
            say(f"FAILED {failure}")
        well = not wrong and not any(totals[name] for name in ("lost", "repeated", "gaps"))
        say("verdict: well" if well else "verdict: NOT well")
        return well

    def _say_memory(self) -> list[str]:
        """Print each process's memory over its own life; return those that grew, of those not killed."""
        grew = []
        say(f"\n{'process':12} {'lived from':>10} {'settled MB':>11} {'last MB':>8} {'MB/minute':>10}")
        mortal = {server.name for server in self.fleet.mortal}
        for name, memory in self.memories.items():
            born = memory.samples[0][0] if memory.samples else 0.0
            settled = [sample for sample in memory.samples if sample[0] >= born + SETTLED_SECONDS]
            if len(settled) < 2:
                continue  # a fault ended it, and it has not lived long since
            per_minute = slope(settled) * 60 / 2**20
            say(
                f"{name:12} {born:8.0f} s {settled[0][1] / 2**20:11.1f}"
                f" {settled[-1][1] / 2**20:8.1f} {per_minute:+10.3f}"
            )
            # What lived for a few minutes only tells too little.
            if (
                name not in mortal
                and settled[-1][0] - settled[0][0] > 300
                and per_minute > MOST_GROWTH_MB_A_MINUTE
            ):
                grew.append(f"{name} grew by {per_minute:.2f} MB a minute")
        say(f"the soak itself takes {_own_memory() / 2**20:.0f} MB")
        return grew


def _shuffled(rng: Random) -> Iterator[Fault]:
    """Yield every fault once, then again, in another order each time."""
    while True:
        yield from rng.sample(TWENTY, len(TWENTY))


def _sockets(server: AsgiServer) -> int:
    try:
        return server.sockets() if server.running else 0
    except OSError:  # it has ended meanwhile
        return 0


def _own_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run a soak as the command line says; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--fault-seconds", type=float, default=20, help="from one fault to the next")
    parser.add_argument("--layer", choices=["pubsub", "core"], default="pubsub")
    parser.add_argument("--seed", type=int, default=None, help="the order and length of the faults")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int(time.time())
    layer: Layer = given.layer
    with tempfile.TemporaryDirectory(prefix="sse-polling-soak-") as directory:
        fleet = fleets.mixed(Path(directory), layer=layer)
        try:
            say(
                f"seed {seed}: {given.clients} clients, {len(fleet.servers)} servers, layer {layer},"
                f" a fault every {given.fault_seconds:g} s"
            )
            soak = Soak(fleet, given.minutes, given.clients, given.fault_seconds, seed)
            return 0 if asyncio.run(soak.run()) else 1
        finally:
            fleet.close()


if __name__ == "__main__":
    sys.exit(main())
