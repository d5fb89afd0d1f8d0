"""``manage.py sse_status``: how the fleet is, once or every few seconds."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import no_style

from ...database import ERRORS
from ...nodes.reading import read_fleet
from ..looks import away, let_go
from ..status import as_json, as_text

CLEAR = "\033[H\033[2J"
WIDTH = 100  # where there is no terminal
INTERVAL_SECONDS = 2.0
STYLES = {
    "serving": "SUCCESS",
    "full": "ERROR",
    "silent": "ERROR",
    "draining": "WARNING",
    "drained": "WARNING",
}


class Command(BaseCommand):
    help = (
        "Say how the server processes are: one sentence, then a line for each, as their rows in the database "
        "tell. A process refreshes its row every 5 seconds, every second while it drains."
    )

    requires_system_checks = ()  # their warnings do not belong into a watch

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            help="one JSON object, its keys as in docs/reference.md; with --watch one on each line",
        )
        parser.add_argument("--watch", action="store_true", help="again and again, until interrupted")
        parser.add_argument(
            "--interval",
            metavar="SECONDS",
            type=_interval,
            default=INTERVAL_SECONDS,
            help="how long --watch waits between two looks (2)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        render = self._as_json if options["json"] else self._as_text
        try:
            if options["watch"]:
                self._watch(render, options)
            else:
                self.stdout.write(render(options))
                self.stdout.flush()
        except ERRORS as error:
            raise CommandError(away(error)) from None
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # Whoever read the output has left. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _watch(self, render: Callable[[dict[str, Any]], str], options: dict[str, Any]) -> None:
        clear = CLEAR if self.stdout.isatty() and not options["json"] else ""
        between = "" if clear or options["json"] else "\n"
        first = True
        while True:
            try:
                text = render(options)
            except ERRORS as error:
                # What reads JSON gets no sentence in it.
                out = self.stderr if options["json"] else self.stdout
                out.write(f"{clear}{'' if first else between}{away(error)} Trying again.")
            else:
                self.stdout.write(f"{clear}{'' if first else between}{text}")
            self.stdout.flush()
            first = False
            let_go()
            time.sleep(options["interval"])

    def _as_json(self, options: dict[str, Any]) -> str:
        return json.dumps(as_json(read_fleet()), indent=None if options["watch"] else 2)

    def _as_text(self, options: dict[str, Any]) -> str:
        colours = self.stdout.isatty() or options["force_color"]
        style: Any = self.style if colours else no_style()
        width = shutil.get_terminal_size((WIDTH, 24)).columns if self.stdout.isatty() else WIDTH

        def paint(text: str, state: str) -> str:
            return str(getattr(style, STYLES[state])(text)) if state in STYLES else text

        return as_text(read_fleet(), width=width, paint=paint)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds
