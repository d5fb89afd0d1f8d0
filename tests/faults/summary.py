"""The table of docs/reliability.md: ``python -m tests.faults.summary FILE…`` of SSE_POLLING_FAULT_REPORT."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["summary"]

COLUMNS = {
    "worst_during": "latest event during it",
    "recovery": "all caught up after",
    "worst_after": "latest event after",
    "longest_publish": "longest publish",
}


def summary(lines: Iterable[str]) -> str:
    """Return a Markdown table: for each fault how many trials, and the median and worst of its figures."""
    trials: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        trial = json.loads(line)
        if "fault" not in trial:
            continue  # a rolling restart's
        trials[trial["fault"], trial["where"], trial["layer"]].append(trial)
    heads = ("fault", "where, layer", "trials", "lasted", *COLUMNS.values())
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (fault, where, layer), found in sorted(trials.items()):
        figures = [
            f"{median(values):.1f} ({max(values):.1f})"
            for values in ([each[column] for each in found] for column in COLUMNS)
        ]
        lasted = median(each["seconds"] for each in found)
        rows.append(f"| {fault} | {where}, {layer} | {len(found)} | {lasted:g} s | {' | '.join(figures)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    found = [line for name in sys.argv[1:] for line in Path(name).read_text().splitlines()]
    sys.stdout.write(summary(found) + "\n")
