"""Find the programs of the system that a fleet, and some tests, need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

__all__ = ["Program", "ProgramMissing", "find", "require"]

Program = Literal["chromium", "initdb", "msgfmt", "nginx", "postgres", "redis-server", "xgettext"]

_SYSTEM = (Path("/usr/local/bin"), Path("/usr/bin"), Path("/usr/local/sbin"), Path("/usr/sbin"))


class ProgramMissing(RuntimeError):
    """A program is not installed; the message says which."""


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
    """Return the program's path. Raises :exc:`ProgramMissing`."""
    path = find(program)
    if path is None:
        raise ProgramMissing(f"{program} is not installed on this machine")
    return path
