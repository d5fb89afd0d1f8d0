"""A rolling restart under load: each process is told to end, ends by itself, and a new one takes its place.

Most clients come through nginx, some to the processes themselves, some are a browser's; publishers never
pause. What must hold is asserted while it happens and at the end:

- every transcript is the committed history, each event once, without a gap;
- every response that began has ended: between two blocks, with its last chunk, at nginx and at the process;
- each process drains, says so in its log and in its row, cuts nobody and exits with its own status;
- what the processes say of how clients went is what the clients know of it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

from tests.harness.server import AsgiServer

from .browsers import Tab, browsing
from .departures import Departure
from .fleet import FRONTS, Fleet
from .leavers import MANNERS, Leaver, Manner
from .rolled import Rolled, check_farewells, check_scrapes
from .scraping import scraping
from .streams import ROLLING
from .trial import Trial, trial_on

__all__ = ["Rolling", "roll"]

#: Bounds that only a process that hangs reaches.
LEAVE_SECONDS = 60.0
OPEN_SECONDS = 60.0
#: One client in so many reads from the processes themselves, one in so many several channels.
DIRECT, SEVERAL = 5, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """One form of the restart. *clients* by their manner; *tabs*: EventSources for each address of nginx.

    *ordered*: each process is asked to drain by ``sse_drain`` before it is told to end.
    """

    clients: Mapping[Manner, int]
    tabs: int = 0
    ordered: bool = False
    pace: float = 1.0


async def roll(fleet: Fleet, form: Rolling, *, seed: int = 0) -> Rolled:
    """Restart every process of *fleet* in turn and return the figures. Raises AssertionError."""
    front = fleet.front
    assert front is not None, "this fleet has no nginx"
    rolled = Rolled()
    async with trial_on(fleet, seed=seed, keep=False, pace=form.pace) as trial, AsyncExitStack() as stack:
        await trial.start_publishing()
        leavers = _start_clients(trial, front.url, form)
        tabs: list[Tab] = []
        if form.tabs:
            urls = [f"http://{host}:{front.port}" for host in FRONTS]
            tabs = await stack.enter_async_context(browsing(trial, urls, each=form.tabs))
        await trial.until(
            lambda: all(reader.events for reader in trial.readers),
            seconds=OPEN_SECONDS,
            what="not every reader has read",
        )
        rolled.step("reading")
        async with scraping(front.url, ROLLING["METRICS_TOKEN"]) as scrapes:
            for server in fleet.servers:
                await _opened(trial, leavers, server)
                rolled.step("opening")
                departure = await _end(trial, server, ordered=form.ordered)
                rolled.departures.append(departure)
                rolled.step("leaving")
                await _start(trial, server, departure)
                rolled.step("starting")
        rolled.scrapes = scrapes.count
        check_scrapes(rolled, scrapes, ordered=form.ordered)
        await trial.caught_up()
        rolled.step("catching up")
        await trial.stop_publishing()
        await trial.finish()
        rolled.step("finishing")
        await trial.call(trial.compare)
        rolled.count(trial, leavers)
        check_farewells(rolled, leavers, tabs)
        log = front.log()
        assert "while reading upstream" not in log, log[-2000:]
    rolled.step("closing")
    return rolled


def _start_clients(trial: Trial, front: str, form: Rolling) -> list[Leaver]:
    manners = [manner for manner in MANNERS for _ in range(form.clients.get(manner, 0))]
    leavers = []
    for index, manner in enumerate(manners):
        direct = index % DIRECT == 0
        leavers.append(
            trial.add(
                Leaver(
                    f"{manner}-{index}",
                    trial.rng.sample(trial.fleet.urls, len(trial.fleet.urls)) if direct else [front],
                    trial.rng.sample(trial.channels, 2)
                    if index % SEVERAL == 0
                    else [trial.channels[index % len(trial.channels)]],
                    rng=Random(trial.rng.randrange(2**32)),
                    manner=manner,
                    front=front,
                    direct=direct,
                    delay=trial.rng.uniform(0, 1),
                    on_latency=lambda at, late: trial.latencies.append((at, late)),
                )
            )
        )
    return leavers


async def _opened(trial: Trial, leavers: Sequence[Leaver], server: AsgiServer) -> None:
    """Wait until clients of every manner have a stream open at *server*, some of them directly."""
    manners = {leaver.manner for leaver in leavers}

    def ready() -> bool:
        here = [leaver for leaver in leavers if leaver.upstream == server.port]
        return {each.manner for each in here} == manners and any(each.direct for each in here)

    await trial.until(ready, seconds=OPEN_SECONDS, what=f"not every kind of client is at {server.name}")


async def _end(trial: Trial, server: AsgiServer, *, ordered: bool) -> Departure:
    """Tell *server* to end, and wait until it has."""
    store = trial.fleet.store
    pid, printed = server.pid, len(server.log())
    name, *_ = await trial.call(store.node, pid)
    began = time.monotonic()
    if ordered:
        await trial.call(_order, server, name)
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    status = await trial.call(server.wait, LEAVE_SECONDS)
    left = time.monotonic()
    departure = Departure(server.name, name, server.port, pid, left - told, left - began)
    await trial.pause(0.2)  # until clients have noticed how it ended
    departure.read(server, status, server.log()[printed:])
    await trial.call(departure.check_row, store)
    trial.check()
    return departure


async def _start(trial: Trial, server: AsgiServer, before: Departure) -> None:
    """Let a new process take the place of the one *before*."""
    server.start(wait=False)
    await trial.call(server.wait_ready)
    assert server.pid != before.pid


def _order(server: AsgiServer, name: str) -> None:
    server.site.manage("sse_drain", "--node", name, "--wait", str(int(LEAVE_SECONDS)), timeout=90)
