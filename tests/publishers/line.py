"""A TCP line to a database that can lose a COMMIT, or the answer to one, on demand."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal, Self

from project.programs.ports import HOST

__all__ = ["Failure", "Line"]

#: The next COMMIT never arrives; its answer never does; or it arrives long after the line was cut.
Failure = Literal["lost", "unanswered", "late"]


class Line:
    """Forward connections to a port of this machine; parses nothing but for the bytes ``COMMIT``.

    A context manager. After a failure it works again, unless it was told to refuse.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._failure: Failure | None = None
        self._refuses = self._refuses_next = False
        self._released = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="line")]
        self._threads[0].start()

    def fail(self, failure: Failure, *, refuse: bool = False) -> None:
        """Let the next COMMIT fail, and with *refuse* every other connection from then on."""
        self._failure = failure
        self._refuses_next = refuse

    def heal(self) -> None:
        """Take connections again, and forget a failure that has not come yet."""
        self._failure = None
        self._refuses = False

    def release(self) -> None:
        """Let a COMMIT that is late arrive."""
        self._released.set()

    def close(self) -> None:
        self._released.set()
        _cut(self._listener, *self._sockets)
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                here.close()
                continue
            there = socket.create_connection((HOST, self.target))
            self._sockets += [here, there]
            unanswered = threading.Event()
            for pump in (self._ask, self._answer):
                thread = threading.Thread(target=pump, args=(here, there, unanswered), name="line")
                self._threads.append(thread)
                thread.start()

    def _ask(self, here: socket.socket, there: socket.socket, unanswered: threading.Event) -> None:
        with suppress(OSError):
            while data := here.recv(65_536):
                if b"COMMIT" not in data or self._failure is None:
                    there.sendall(data)
                    continue
                failure, self._failure = self._failure, None
                if self._refuses_next:
                    self._refuses = True
                    _cut(*(each for each in self._sockets if each not in (here, there)))
                if failure == "lost":
                    break
                unanswered.set()
                if failure == "late":
                    _cut(here)
                    self._released.wait(30)
                    self._released.clear()
                there.sendall(data)
                return  # the server closes when it has nobody to answer; until then it is heard out
        _cut(here, there)

    def _answer(self, here: socket.socket, there: socket.socket, unanswered: threading.Event) -> None:
        with suppress(OSError):
            while data := there.recv(65_536):
                if unanswered.is_set():
                    break
                here.sendall(data)
        _cut(here, there)


def _cut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits on it
        each.close()
