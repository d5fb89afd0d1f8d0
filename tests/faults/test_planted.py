"""Each planted bug is found by the suite: with SSE_POLLING_PLANTED=1, `make faults` runs this as well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.programs import require

from . import fleet as fleets
from . import redis_faults
from .planted import PLANTED_BUG
from .trial import run

#: The bug, and what the suite says about it.
FOUND = {
    "wakes are data": r"complaints \['.*:\d+ after \d+",
    "the sequence is the primary key": r"complaints \['(a gap|.*:\d+ after \d+)",
    # An event lost, or a cursor that moves over one that another channel's event came before.
    "replay, then register": r"complaints \[.* after ",
    "nobody supervises the receiving task": "not every server hears",
}

if "SSE_POLLING_PLANTED" in os.environ:

    @pytest.mark.faults
    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("bug", FOUND)
    async def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
        require("redis-server")
        require("postgres")
        fleet = fleets.full(
            tmp_path, layer="pubsub", app="tests.faults.planted_asgi:application", env={PLANTED_BUG: bug}
        )
        try:
            with pytest.raises(AssertionError, match=FOUND[bug]):
                await run(fleet, redis_faults.killed, 1)
        finally:
            fleet.close()
