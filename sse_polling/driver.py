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
    """Make this thread's *connection*, and no other, notice in time that its server has gone.

    What the project's own ``OPTIONS`` say wins, but for a pool: a thread that keeps its connection would
    keep one of the site's. Only PostgreSQL has these options.
    """
    given = connection.settings_dict
    options = {key: value for key, value in given["OPTIONS"].items() if key != "pool"}
    if connection.vendor == "postgresql" and (wanted := {**LIMITS, **options}) != given["OPTIONS"]:
        connection.settings_dict = {**given, "OPTIONS": wanted}


class Line:
    """The socket of one call's connection, held so that another thread can cut the call off.

    A duplicate of the descriptor: the driver may close its own, and the number be another's, at any
    moment. ``began`` tells whether a thread has taken the call up.
    """

    def __init__(self) -> None:
        self.began = False
        self._lock = threading.Lock()
        self._held: int | None = None
        self._cut = False

    def hold(self, connection: Any) -> None:
        """Take hold of the socket of *connection* (Django's), if it has one and shows it."""
        self.release()
        with suppress(Exception):  # psycopg raises its own error for the socket of a connection that is lost
            descriptor = connection.connection.pgconn.socket
            with self._lock:
                self._held = os.dup(descriptor)
                if self._cut:
                    self._shut_down()  # while it was still connecting

    def release(self) -> None:
        """Let go of it."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def cut(self) -> None:
        """Shut the socket down, now or once there is one: the call ends with an error."""
        with self._lock:
            self._cut = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._held is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(self._held)) as held:
                held.shutdown(socket.SHUT_RDWR)
