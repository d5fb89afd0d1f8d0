"""`manage.py worker`: carry out background tasks until stopped."""

from __future__ import annotations

import os
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from project.tasks.agents import AGENTS, READERS, read_library
from project.tasks.worker import Worker


class Command(BaseCommand):
    help = "Carry out the background tasks of a queue, several at once, until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queue", choices=[AGENTS, READERS], default=AGENTS)
        parser.add_argument("--at-once", type=int, default=4, metavar="N")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        parent = os.getppid()
        if options["queue"] == AGENTS:
            read_library()  # before the first task waits for it
        worker = Worker(str(options["queue"]), at_once=int(options["at_once"]))
        worker.work(stop, orphaned=lambda: os.getppid() != parent)
