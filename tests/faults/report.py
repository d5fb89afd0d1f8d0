"""What each trial is reported as: a JSON line in the file that SSE_POLLING_FAULT_REPORT names."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from .verdict import Verdict

__all__ = ["report"]


def report(verdict: Verdict, **what: str | float) -> None:
    """Append one trial's figures, if a file is named."""
    name = os.environ.get("SSE_POLLING_FAULT_REPORT")
    if not name:
        return
    figures = {key: round(value, 3) for key, value in asdict(verdict).items()}
    with Path(name).open("a") as file:
        file.write(json.dumps({**what, **figures}) + "\n")
