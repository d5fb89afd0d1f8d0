"""`manage.py machine`: publish this machine's and the server's vital signs, once a second."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError

from project.keep import read_pid
from project.numbering import last_number
from project.vitals import machine_sample, process_sample, read_cpu
from sse_polling import Draft, publish_many

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Publish to the channels `machine`, `server` and `crowd`, once a second, until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        numbers = {name: last_number(name) for name in ("machine", "server", "crowd")}
        parent = os.getppid()
        before, due = read_cpu(), time.monotonic() + 1
        while not stop.wait(max(0.0, due - time.monotonic())) and os.getppid() == parent:
            # After a long sleep of the machine there is nothing to catch up with.
            due = max(due + 1, time.monotonic())
            after = read_cpu()
            try:
                self._publish(numbers, machine_sample(before, after))
            except DatabaseError:
                logger.exception("One second's figures could not be stored")
            else:
                numbers = {name: number + 1 for name, number in numbers.items()}
            before = after

    def _publish(self, numbers: dict[str, int], sample: dict[str, object]) -> None:
        pid = read_pid(settings.VAR / "server.pid")
        server = process_sample(pid) if pid is not None else None
        now = round(time.time() * 1000)
        # One transaction for all three, so one wait for the disk.
        publish_many(
            "machine",
            [
                {"n": numbers["machine"] + 1, "at": now, **sample},
                Draft(
                    {"n": numbers["server"] + 1, "at": now, **(server or {"down": True})}, channel="server"
                ),
                Draft({"n": numbers["crowd"] + 1, "at": now}, channel="crowd"),
            ],
        )
