"""The other servers of a fleet, for what only the process that holds a socket can do."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
import urllib.request

from .programs.ports import HOST

__all__ = ["PEERS", "ask_peers", "fleet_size"]

PEERS = "SSE_POLLING_DEMO_PEERS"
"""The environment variable that holds the ports of all the fleet's servers, this one's too."""

ANSWER_SECONDS = 3


def _ports() -> list[int]:
    return [int(port) for port in os.environ.get(PEERS, "").split()]


def fleet_size() -> int:
    """Return how many servers the fleet has, 0 if this process is in none."""
    return len(_ports())


async def ask_peers(path: str, form: dict[str, str]) -> int:
    """Post a form to every server of the fleet at once and return the sum of the numbers they answer."""
    answers = await asyncio.gather(*(asyncio.to_thread(_ask, port, path, form) for port in _ports()))
    return sum(answers)


def _ask(port: int, path: str, form: dict[str, str]) -> int:
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:  # noqa: S310 - as above
            return int(response.read(20))
    except (OSError, ValueError):
        return 0  # it is down or being started again, so it holds nobody's socket
