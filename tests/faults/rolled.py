"""What came of a rolling restart: its figures, and whether everybody tells the same of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .browsers import Tab
from .departures import Departure
from .leavers import Leaver, Manner
from .scraping import Scrapes
from .trial import Trial

__all__ = ["Rolled", "check_farewells", "check_scrapes"]

#: A refusal below this sends a client to the other processes, one above it away.
SHORT_MS = 1_000
#: Of fewer clients of one process all may be late.
FEW = 5


@dataclass(slots=True)
class Rolled:
    """What came of it, in figures."""

    departures: list[Departure] = field(default_factory=list)
    clients: int = 0
    events: int = 0
    read: int = 0
    connections: int = 0
    unanswered: int = 0
    refused: int = 0
    sent_away: int = 0
    nobody: int = 0
    longest_retry_ms: int = 0
    scrapes: int = 0
    acks: dict[int, int] = field(default_factory=dict)
    worst_latency: float = 0.0
    #: Seconds of each step.
    steps: dict[str, float] = field(default_factory=dict)
    _at: float = field(default_factory=time.monotonic)

    def step(self, name: str) -> None:
        """Note that a step has ended."""
        now = time.monotonic()
        self.steps[name] = self.steps.get(name, 0.0) + now - self._at
        self._at = now

    def count(self, trial: Trial, leavers: Sequence[Leaver]) -> None:
        """Add up what clients have counted."""
        self.clients = len(trial.readers)
        self.events = len(trial.known.acknowledged)
        self.read = sum(reader.events for reader in trial.readers)
        self.connections = sum(reader.connections for reader in trial.readers)
        self.unanswered = sum(leaver.unanswered for leaver in leavers)
        refusals = [refused_ms for leaver in leavers for refused_ms in leaver.refused_ms]
        self.refused = len(refusals)
        self.sent_away = sum(refused_ms >= SHORT_MS for refused_ms in refusals)
        self.nobody = sum(leaver.nobody for leaver in leavers)
        self.longest_retry_ms = max(leaver.longest_retry_ms for leaver in leavers)
        self.acks = dict(sum((leaver.acked for leaver in leavers), Counter()))
        self.worst_latency = max((late for _, late in trial.latencies), default=0.0)

    @property
    def seconds(self) -> float:
        return sum(self.steps.values())

    @property
    def farewells(self) -> Counter[str]:
        return sum((Counter(each.farewells) for each in self.departures), Counter())

    def figures(self) -> dict[str, Any]:
        return {**asdict(self), "farewells": self.farewells, "seconds": self.seconds}


def check_farewells(rolled: Rolled, leavers: Sequence[Leaver], tabs: Sequence[Tab]) -> None:
    """Assert that the processes know how each client went."""
    farewells = rolled.farewells
    asked: Counter[Manner] = Counter()
    for leaver in leavers:
        asked[leaver.manner] += leaver.asked.total()
    browsers = sum(tab.closes for tab in tabs)
    assert not rolled.nobody, f"nginx had nobody to ask {rolled.nobody} times"
    assert farewells["not_asked"] == asked["plain"] + browsers, (farewells, asked, browsers)
    named = asked.total() - asked["plain"]
    assert farewells["acked"] + farewells["closed"] + farewells["not_acked"] == named, (farewells, asked)
    # An ack, or a close, may come too late on a machine that is busy; it then counts as none.
    assert farewells["acked"] <= asked["acks"], (farewells, asked)
    assert farewells["closed"] <= asked["closes"], (farewells, asked)
    assert bool(farewells["not_asked"]) == bool(asked["plain"] + browsers)
    assert bool(farewells["acked"]) == bool(asked["acks"]), (farewells, asked, rolled.acks)
    assert bool(farewells["closed"]) == bool(asked["closes"]), (farewells, asked)
    assert farewells["not_acked"] >= asked["stays"] > 0 or not asked["stays"], (farewells, asked)
    for departure in rolled.departures:
        for manner, how in (("acks", "acked"), ("closes", "closed")):
            count = sum(leaver.asked[departure.port] for leaver in leavers if leaver.manner == manner)
            assert departure.farewells.get(how) or count < FEW, (departure, manner, count)
        here = sum(leaver.asked[departure.port] for leaver in leavers)
        total = sum(departure.farewells.values())
        assert here <= total <= here + browsers, (departure, here)
        assert total > 0, departure
    if asked["acks"]:
        # 202: the process that took it has told the others, through the channel layer.
        assert rolled.acks.get(202), rolled.acks


def check_scrapes(rolled: Rolled, scrapes: Scrapes, *, ordered: bool) -> None:
    """Assert that who watched the metrics saw the processes drain."""
    mine = {departure.node: departure for departure in rolled.departures}
    seen = {node: told for node, told in scrapes.drains.items() if node in mine}
    assert seen, f"no scrape of {scrapes.count} told of a drain"
    for node, told in seen.items():
        assert told <= {0, mine[node].drained}, (node, told, mine[node])
    assert any(told - {0} for told in seen.values()), seen
    for node, count in scrapes.farewells.items():
        assert node not in mine or count <= sum(mine[node].farewells.values())
    if ordered:
        assert mine.keys() & scrapes.refusals.keys(), f"no scrape told of a refusal: {scrapes.refusals}"
