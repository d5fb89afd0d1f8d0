"""Find the programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import pytest

__all__ = ["REQUIRE_ALL", "Program", "find", "require"]

Program = Literal["chromium", "initdb", "nginx", "postgres", "redis-server"]

#: Where CI says so, a missing program is a failure and not a skip.
REQUIRE_ALL = os.environ.get("SSE_POLLING_REQUIRE_ALL") == "1"

_SYSTEM = (Path("/usr/local/bin"), Path("/usr/bin"), Path("/usr/local/sbin"), Path("/usr/sbin"))


def find(program: Program) -> Path | None:
    """Return the program's path, or None when the machine has none."""
    if found := shutil.which(program):
        return Path(found)
    places = list(_SYSTEM)
    if program in {"initdb", "postgres"}:
        # Debian keeps the server's programs of each major version out of PATH.
        versions = Path("/usr/lib/postgresql").glob("*/bin")
        places += sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    return next((path for place in places if os.access(path := place / program, os.X_OK)), None)


def require(program: Program) -> Path:
    """Return the program's path; without it skip the test, or fail it where everything is required."""
    path = find(program)
    if path is None:
        reason = f"{program} is not installed on this machine"
        if REQUIRE_ALL:
            pytest.fail(f"{reason}, and SSE_POLLING_REQUIRE_ALL=1 asks for it", pytrace=False)
        pytest.skip(reason)
    return path
