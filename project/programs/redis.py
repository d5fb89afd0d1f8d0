"""A real Redis server that keeps nothing on disk."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from .finding import require
from .ports import HOST, free_port
from .process import Process

__all__ = ["Redis"]


class Redis(Process):
    """Run redis-server on a free port; a restart forgets everything, as a lost Redis does."""

    def __init__(self, directory: Path, *, name: str = "redis") -> None:
        super().__init__(name, directory)
        self.program = require("redis-server")
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        options = {
            "--port": str(self.port),
            "--bind": HOST,
            "--dir": str(self.directory),
            "--save": "",
            "--appendonly": "no",
            "--daemonize": "no",
        }
        return [self.program, *(word for option in options.items() for word in option)]

    def is_ready(self) -> bool:
        try:
            return self.execute("PING", timeout=0.5).startswith("+PONG")
        except OSError:
            return False

    def execute(self, *words: str, timeout: float = 5.0) -> str:
        """Send one command and return the raw reply (up to 64 KiB)."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection((HOST, self.port), timeout=timeout) as connection:
            connection.sendall(request.encode())
            return connection.recv(65_536).decode(errors="replace")
