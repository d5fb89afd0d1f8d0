"""Processes are restarted one after the other, and no client loses, repeats or waits for anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.programs import require

from . import fleet as fleets
from .conftest import LAYER
from .fleet import Fleet
from .planted import PLANTED_BUG
from .report import report_rolling
from .rolling import Rolling, roll

#: 480 clients and 20 of a real browser.
FULL = {
    "signal": Rolling(clients={"plain": 480}, tabs=5),
    "ordered": Rolling(clients={"plain": 400, "stays": 80}, tabs=5, ordered=True),
    "acks": Rolling(clients={"plain": 180, "acks": 100, "closes": 100, "stays": 100}, tabs=5),
}
SHORT = Rolling(clients={"plain": 12, "acks": 6, "closes": 6, "stays": 6}, pace=4.0)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two processes of each server, on PostgreSQL and Redis, behind nginx."""
    for program in ("nginx", "postgres", "redis-server", "chromium"):
        require(program)
    kinds: Any = ["daphne", "uvicorn", "daphne", "uvicorn"]
    fleet = fleets.rolling(tmp_path_factory.mktemp("four"), kinds, layer=LAYER, on_postgres=True)
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One process of each server, on SQLite and Redis, behind nginx."""
    for program in ("nginx", "redis-server"):
        require(program)
    kinds: Any = ["daphne", "uvicorn"]
    fleet = fleets.rolling(tmp_path_factory.mktemp("two"), kinds, layer=LAYER, on_postgres=False)
    yield fleet
    fleet.close()


@pytest.mark.faults
async def test_two_processes_are_replaced_in_turn(two: Fleet) -> None:
    rolled = await roll(two, SHORT)
    report_rolling(rolled, form="short")


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", FULL)
async def test_four_processes_are_replaced_in_turn(four: Fleet, form: str) -> None:
    rolled = await roll(four, FULL[form])
    report_rolling(rolled, form=form)


#: A planted bug, and what the restart says about it; with SSE_POLLING_PLANTED=1 all are planted.
FOUND = {
    "no drain before the end": r"cut off after|was not drained",
    "a drain takes its clients back": r":\d+ after \d+",
    "acks reach no other process": "acked",
}


@pytest.mark.faults
@pytest.mark.parametrize("bug", FOUND if "SSE_POLLING_PLANTED" in os.environ else list(FOUND)[:1])
async def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    for program in ("nginx", "redis-server"):
        require(program)
    fleet = fleets.rolling(
        tmp_path,
        ["daphne", "uvicorn"],
        layer=LAYER,
        on_postgres=False,
        app="tests.faults.planted_asgi:application",
        env={PLANTED_BUG: bug},
    )
    try:
        with pytest.raises(AssertionError, match=FOUND[bug]):
            await roll(fleet, SHORT)
    finally:
        fleet.close()
