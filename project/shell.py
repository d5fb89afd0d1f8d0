"""How a visitor calls the demo's commands from a shell, so that they reach what the page is about."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest

from .peers import fleet_size

__all__ = ["WRAPPER", "manage", "write_wrapper"]

WRAPPER = "manage"
"""The name of a fleet's own `manage.py`, in its folder."""


def write_wrapper(folder: Path, environment: Mapping[str, str]) -> Path:
    """Write a script that calls `manage.py` with this environment, and return it."""
    path = folder / WRAPPER
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    call = f'exec {shlex.quote(sys.executable)} {shlex.quote(str(settings.BASE_DIR / "manage.py"))} "$@"'
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as file:
        file.write("\n".join(["#!/bin/sh", *lines, call, ""]))
    return path


def manage(request: HttpRequest) -> dict[str, object]:
    """Give each page `manage`, the command, and `servers`, the size of the fleet. A context processor."""
    wrapper = settings.VAR / WRAPPER
    servers = fleet_size()
    if not servers:
        return {"manage": ".venv/bin/python manage.py", "servers": 1}
    near = wrapper.is_relative_to(settings.BASE_DIR)
    return {"manage": wrapper.relative_to(settings.BASE_DIR) if near else wrapper, "servers": servers}
