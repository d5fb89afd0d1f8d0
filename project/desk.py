"""Where questions are handed in: a bounded number of agents, each a process of its own.

An agent outlives a restart of the server that started it. Its slot is a locked
file whose lock the agent inherits, so the slot is free again the moment the
agent ends, however it ends, and no server has to remember it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from django.conf import settings

from .keep import read_pid

__all__ = ["SLOTS", "end_agents", "hire"]

SLOTS = 3
_started: list[subprocess.Popen[bytes]] = []


def _slots(var: Path) -> list[Path]:
    directory = var / "desk"
    directory.mkdir(parents=True, exist_ok=True)
    return [directory / f"slot-{number}" for number in range(1, SLOTS + 1)]


def hire(channel: str, question: str) -> bool:
    """Start an agent on a question; False when all of them are at work."""
    _started[:] = [each for each in _started if each.poll() is None]
    for slot in _slots(settings.VAR):
        descriptor = _lock(slot)
        if descriptor is None:
            continue
        try:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "ask", "--", channel, question],
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[descriptor],
                start_new_session=True,
            )
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{process.pid}\n".encode())
        finally:
            os.close(descriptor)
        _started.append(process)
        return True
    return False


def end_agents(var: Path, seconds: float = 3) -> None:
    """End the agents at work for the servers of this folder, which are those that hold a slot's lock."""
    slots = [slot for slot in _slots(var) if slot.exists()]
    pids = [pid for slot in slots if (pid := _holder(slot))]
    for pid in pids:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(_holder(slot) for slot in slots) and time.monotonic() < deadline:
        time.sleep(0.05)
    for slot in slots:
        if pid := _holder(slot):
            _signal(pid, signal.SIGKILL)


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _holder(path: Path) -> int | None:
    descriptor = _lock(path)
    if descriptor is None:
        return read_pid(path)
    os.close(descriptor)
    return None


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
