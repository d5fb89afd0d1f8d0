"""A process that publishes until it is told to stop: ``python -m tests.faults.publisher PORT LOG``.

It takes one JSON object a line on its port, ``{"do": name, ...}``, and answers with one. What it knows
of each transaction goes to LOG, a line as soon as it is known, so that a killed one has told as well.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any

import django

from project.programs.ports import HOST

from .load import GIVE_UP_SECONDS, Load, Log, commit
from .planted import plant_here

__all__ = ["main"]


class Handler(socketserver.StreamRequestHandler):
    """Answer the lines of one connection."""

    server: Server

    def handle(self) -> None:
        for line in self.rfile:
            asked = json.loads(line)
            try:
                answer = getattr(self.server, f"do_{asked.pop('do')}")(**asked)
            except Exception as error:  # noqa: BLE001 - the asker raises it
                answer = {"error": repr(error)}
            self.wfile.write((json.dumps(answer) + "\n").encode())


class Server(socketserver.ThreadingTCPServer):
    """What the process can be asked to do."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, log: Log) -> None:
        super().__init__((HOST, port), Handler)
        self.log = log
        self.load: Load | None = None

    def do_start(self, **options: Any) -> Any:
        self.load = Load(self.log, **options)
        return {}

    def do_rollback(self, share: float) -> Any:
        if self.load is not None:
            self.load.rollback = share
        return {}

    def do_stop(self) -> Any:
        ended = self.load is None or self.load.stop()
        self.load = None
        return {"ended": ended}

    def do_fill(self, channel: str, count: int, size: int) -> Any:
        """Publish a history of large events."""
        for start in range(0, count, 20):
            numbers = range(start, min(start + 20, count))
            commit(self.log, [(channel, f"fill.{n}") for n in numbers], fill=size, roll_back=False)
        return {}

    def do_hold(self, channel: str, number: str) -> Any:
        """Publish in a transaction that stays open until the process is killed."""
        held = threading.Event()

        def hold() -> None:
            from django.db import transaction

            from sse_polling import publish

            with transaction.atomic():
                publish(channel, {"n": number, "at": time.time()}, key=number)
                held.set()
                time.sleep(3600)

        threading.Thread(target=hold, daemon=True).start()
        return {"held": held.wait(20)}

    def do_finish(self, channels: list[str]) -> Any:
        from django.db import DatabaseError, InterfaceError, connections

        from sse_polling import finish

        until = time.monotonic() + GIVE_UP_SECONDS
        for channel in channels:
            while True:
                try:
                    finish(channel, {"n": "end", "at": time.time()})
                    break
                except (DatabaseError, InterfaceError):
                    connections.close_all()
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.1)
        connections.close_all()
        return {}


def main(port: int, log: Path) -> None:
    """Serve until killed."""
    django.setup()
    plant_here()
    from channels.layers import get_channel_layer

    get_channel_layer()  # its import takes longer than a publish may
    with log.open("a") as file, Server(port, Log(file)) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
