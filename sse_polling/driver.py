"""The socket below a database connection, where the driver lets itself be reached.

A query to a host that has vanished waits for as long as the kernel does, which is a quarter of an hour
and more, and its thread with it. PostgreSQL's drivers take limits for that and show their socket.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any

__all__ = ["Line", "limit"]

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
LIMITS = {
    "connect_timeout": 5,  # seconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}


def limit(connection: Any) -> None:
    """Let this thread's *connection*, and no other, notice in time that its server has gone.

    What the project's own ``OPTIONS`` say wins. Only PostgreSQL has these options.
    """
    given = connection.settings_dict
    options = given["OPTIONS"]
    if connection.vendor == "postgresql" and not options.get("pool") and not LIMITS.keys() <= options.keys():
        connection.settings_dict = {**given, "OPTIONS": {**LIMITS, **options}}


class Line:
    """The socket of one call's connection, held so that another thread can cut the call off.

    A duplicate of the descriptor: the driver may close its own, and the number be another's, at any
    moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: int | None = None

    def hold(self, connection: Any) -> None:
        """Take hold of the socket of *connection* (Django's), if it has one and shows it."""
        self.release()
        with suppress(Exception):  # psycopg raises its own error for the socket of a connection that is lost
            descriptor = connection.connection.pgconn.socket
            with self._lock:
                self._held = os.dup(descriptor)

    def release(self) -> None:
        """Let go of it."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def cut(self) -> bool:
        """Shut the socket down, which ends the call with an error; False if there is none to reach."""
        with self._lock:
            if self._held is None:
                return False
            with suppress(OSError), socket.socket(fileno=os.dup(self._held)) as held:
                held.shutdown(socket.SHUT_RDWR)
        return True
