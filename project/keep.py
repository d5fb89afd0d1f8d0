"""Small secrets and process ids, kept in files under `var/`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["kept_secret", "read_pid", "write_pid"]


def kept_secret(path: Path, length: int = 50) -> str:
    """Return the secret in `path`, making it, readable by its owner only, the first time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip()
    made = secrets.token_urlsafe(length)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(made + "\n")
    return made


def write_pid(path: Path, pid: int) -> None:
    """Write a process id in one piece, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{pid}\n", encoding="utf-8")
    fresh.replace(path)


def read_pid(path: Path) -> int | None:
    """Return the process id in `path`, or None if there is none."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
