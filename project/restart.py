"""Ask the demo's or the fleet's supervisor for fresh servers."""

from __future__ import annotations

import os
import signal

__all__ = ["SUPERVISOR", "ask_for_restart", "is_supervised"]

SUPERVISOR = "SSE_POLLING_DEMO_SUPERVISOR"
"""The environment variable that holds the supervisor's process id."""


def is_supervised() -> bool:
    """Tell whether `manage.py demo` or `fleet` started this very process and still runs."""
    return os.environ.get(SUPERVISOR) == str(os.getppid())


def ask_for_restart() -> bool:
    """Ask for a restart; False when nobody would start the server again."""
    if not is_supervised():
        return False
    os.kill(os.getppid(), signal.SIGUSR1)
    return True
