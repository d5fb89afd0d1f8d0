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
from django.db import DatabaseError, connection

from project.keep import read_pid
from project.numbering import last_number
from project.vitals import machine_sample, processes_sample, read_cpu
from sse_polling import Draft, publish_many

logger = logging.getLogger(__name__)

CHANNELS = ("machine", "server", "crowd")


class Command(BaseCommand):
    help = "Publish to the channels `machine`, `server` and `crowd`, once a second, until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        numbers: dict[str, int] | None = None
        parent = os.getppid()
        before, due = read_cpu(), time.monotonic() + 1
        while not stop.wait(max(0.0, due - time.monotonic())) and os.getppid() == parent:
            # After a long sleep of the machine there is nothing to catch up with.
            due = max(due + 1, time.monotonic())
            after = read_cpu()
            try:
                if numbers is None:
                    numbers = {name: last_number(name) for name in CHANNELS}
                self._publish(numbers, machine_sample(before, after))
            except DatabaseError as error:
                logger.warning("One second's figures could not be stored: %s", _first_line(error))
                # It may have been stored and only the answer lost, so ask where the numbers stand.
                numbers = None
                connection.close()
            else:
                numbers = {name: number + 1 for name, number in numbers.items()}
            before = after

    def _publish(self, numbers: dict[str, int], sample: dict[str, object]) -> None:
        # One file for each server: `server.pid` of the demo, `server-….pid` of a fleet.
        pids = [pid for file in settings.VAR.glob("server*.pid") if (pid := read_pid(file))]
        servers = processes_sample(pids)
        now = round(time.time() * 1000)
        # One transaction for all three, so one wait for the disk.
        publish_many(
            "machine",
            [
                {"n": numbers["machine"] + 1, "at": now, **sample},
                Draft(
                    {"n": numbers["server"] + 1, "at": now, **(servers or {"down": True})}, channel="server"
                ),
                Draft({"n": numbers["crowd"] + 1, "at": now}, channel="crowd"),
            ],
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
