"""``manage.py sse_drain``: ask processes to let their streams go, and wait until they have."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import get_config
from ...database import ERRORS
from ...models import Order
from ...nodes.reading import read_fleet
from ..errand import Errand, NoSuchProcess, choose
from ..looks import away, let_go

LOOK_SECONDS = 0.5
SAY_SECONDS = 1.0
SAY_SELDOM_SECONDS = 10.0  # where nobody watches: a log
MORE_SECONDS = 10.0  # than a drain may take: until it is taken up, and the row says that it is over
USAGE, INTERRUPTED = 2, 130


class Command(BaseCommand):
    """It only gives orders and reads rows: a process that does not hear it drains by SIGTERM all the same."""

    help = (
        "Ask server processes to take no stream any more and to let those they have go, and wait for it. "
        "Ends with 0 when no socket is left, 1 when time ran out, 2 when there is no such process."
    )

    requires_system_checks = ()  # their warnings are not what a deploy's log is for

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="every process that is known")
        parser.add_argument(
            "--node",
            metavar="NAME",
            action="append",
            default=[],
            help="a process as sse_status names it, or a host: all of its processes. May be repeated",
        )
        parser.add_argument(
            "--wait",
            metavar="SECONDS",
            type=_wait,
            help=f'how long to wait, 0 not at all (DRAIN["seconds"] and {MORE_SECONDS:g})',
        )
        parser.add_argument("--resume", action="store_true", help="let them take streams again")

    def handle(self, *args: Any, **options: Any) -> None:
        names: list[str] = options["node"]
        if options["all"] == bool(names):
            raise CommandError("Say which processes: either --all or --node NAME.", returncode=USAGE)
        given: float | None = options["wait"]
        try:
            seconds = get_config().drain.seconds + MORE_SECONDS if given is None else given
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        kind = Order.Kind.RESUME if options["resume"] else Order.Kind.DRAIN
        try:
            errand = Errand(kind, choose(read_fleet(), names))
            errand.begin()
        except NoSuchProcess as error:
            raise CommandError(str(error), returncode=USAGE) from None
        except ERRORS as error:
            raise CommandError(away(error)) from None
        self._say(errand.beginning())
        if seconds == 0:
            return
        try:
            self._wait(errand, seconds)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. What was ordered goes on.", returncode=INTERRUPTED) from None
        if errand.failed:
            raise CommandError(" ".join(errand.failed))
        self._say(errand.end())

    def _wait(self, errand: Errand, seconds: float) -> None:
        began = time.monotonic()
        every = SAY_SECONDS if self.stdout.isatty() else SAY_SELDOM_SECONDS
        said, last = began, ""
        while True:
            now = time.monotonic()
            try:
                errand.look(read_fleet())
                text = errand.progress()
            except ERRORS as error:
                text = f"{away(error)} Trying again."
            if errand.is_over:
                return
            if now - began >= seconds:
                errand.give_up(seconds)
                return
            if text != last and now - said >= (every if last else SAY_SECONDS):
                self._say(text)
                said, last = now, text
            let_go()
            time.sleep(min(LOOK_SECONDS, max(0.01, began + seconds - now)))

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86,400")
    return seconds
