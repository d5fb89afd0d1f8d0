"""Free ports on the loopback interface."""

from __future__ import annotations

import errno
import random
import socket
import time

__all__ = ["HOST", "accepts", "free_port", "why_not"]

HOST = "127.0.0.1"

# Below the range that the kernel takes clients' ports from: a server that restarts finds its port
# free although a thousand clients have connected meanwhile.
_FIRST, _LAST = 18_000, 32_000


def free_port() -> int:
    """Return a port that nobody listens on."""
    for _ in range(200):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST}")


def accepts(port: int, *, timeout: float = 0.5) -> bool:
    """Tell whether something accepts a connection on the port."""
    started = time.monotonic()
    try:
        with socket.create_connection((HOST, port), timeout=timeout):
            return True
    except OSError:
        # A refusal comes at once; do not let a caller's loop spin on it.
        time.sleep(max(0.0, 0.02 - (time.monotonic() - started)))
        return False


def why_not(port: int) -> str | None:
    """Return why nobody can listen on the port now, or None if one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            return "is already in use" if in_use else f"cannot be had ({error})"
    return None
