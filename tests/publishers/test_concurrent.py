"""Processes and threads that publish at once, on one channel and on many, in random transactions.

    SSE_POLLING_TRANSACTIONS=400 SSE_POLLING_RANDOM=7 .venv/bin/python -m pytest tests/publishers -k order

runs more of it, from another seed. What is checked is in ``ledger.py``. These bugs were planted once
each, on PostgreSQL, and this is what was reported:

- a sequence from the primary key's counter: "[19] appeared after 75 was seen"
- a sequence given out in a transaction of its own, so that the lock is gone before the commit:
  "[4, 5, 6, 7] appeared after 8 was seen"
- the events of one call placed backwards: "0.0 got 2 on many.2 after 3"
- the head's tag that of the first event of a call: "many.5 has the head 100.YgomB, its last event is
  (100, 'X292w')"
- the rows of a call stored in another order than they were returned: "... which is not there"
- a finished channel takes more: "short.3 has ends at [1, 3, 5], is finished: True, and goes to 6"
- keys not looked up, nor unique in the database: "many.4 has a key twice"
- keys looked up and not stored: "0.0 was told of (..., 'key.7'), which is not there"
- publishing on a connection of its own: "0.0 rolled back ['0.0.74'], which are there"
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.site import Site
from tests.publishers.ledger import Reader, faults, query
from tests.publishers.work import CHANNELS

TRANSACTIONS = os.environ.get("SSE_POLLING_TRANSACTIONS", "10")
SEED = os.environ.get("SSE_POLLING_RANDOM", "1")
PROCESSES, THREADS = 3, 3


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_what_is_acknowledged_is_stored_once_and_commit_order_is_sequence_order(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site: Site = request.getfixturevalue("postgres_site") if database == "postgresql" else Site(tmp_path)
    site.migrate()
    ask, close = query(site.database)
    with ExitStack() as stack:
        stack.callback(close)
        working = [stack.enter_context(_spawn(site, number)) for number in range(PROCESSES)]
        for process in working:
            assert _line(process) == "ready"
        with Reader(site.database) as reader:
            for process in working:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            reports: list[dict[str, Any]] = [
                report for process in working for report in json.loads(_line(process))
            ]
        assert reader.faults == []
        assert [report["error"] for report in reports] == [""] * (PROCESSES * THREADS)
        assert list(faults(ask, reports, CHANNELS)) == []
        assert reader.looks > 2
        assert sum(len(report["committed"]) for report in reports) > PROCESSES * THREADS


def _spawn(site: Site, number: int) -> subprocess.Popen[str]:
    code = "import sys\nfrom tests.publishers.work import main\nmain(*sys.argv[1:])"
    return site.spawn(code, str(number), SEED, str(THREADS), TRANSACTIONS)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        process.kill()
        raise AssertionError(process.communicate()[1])
    return line
