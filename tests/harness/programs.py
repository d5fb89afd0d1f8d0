"""What a test does when a program of the system is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from project.programs.finding import Program, find

__all__ = ["REQUIRE_ALL", "require"]

#: Where CI says so, a missing program is a failure and not a skip.
REQUIRE_ALL = os.environ.get("SSE_POLLING_REQUIRE_ALL") == "1"


def require(program: Program) -> Path:
    """Return the program's path; without it skip the test, or fail it where everything is required."""
    path = find(program)
    if path is None:
        reason = f"{program} is not installed on this machine"
        if REQUIRE_ALL:
            pytest.fail(f"{reason}, and SSE_POLLING_REQUIRE_ALL=1 asks for it", pytrace=False)
        pytest.skip(reason)
    return path
