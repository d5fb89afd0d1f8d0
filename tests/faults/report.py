"""What each trial is reported as: a JSON line in the file that SSE_POLLING_FAULT_REPORT names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .rolled import Rolled
from .verdict import Verdict

__all__ = ["report", "report_rolling"]


def report(verdict: Verdict, **what: str | float) -> None:
    """Append one trial's figures, if a file is named."""
    _write({**what, **{key: round(value, 3) for key, value in asdict(verdict).items()}})


def report_rolling(rolled: Rolled, *, form: str) -> None:
    """Append the figures of a rolling restart, if a file is named."""
    _write({"rolling": form, **rolled.figures()})


def _write(figures: Mapping[str, Any]) -> None:
    if name := os.environ.get("SSE_POLLING_FAULT_REPORT"):
        with Path(name).open("a") as file:
            file.write(json.dumps(figures) + "\n")
