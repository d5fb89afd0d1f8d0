"""``manage.py sse_trim``: apply retention now, or erase one channel."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import history
from ...conf import get_config
from ...exceptions import InvalidChannel
from ...history import Trimmed
from ...protocol.names import check_channel
from ...wake import look_again


class Command(BaseCommand):
    help = (
        "Apply each channel's retention, in small transactions, as a serving process does by itself once a "
        "minute; or erase one channel and its events."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="delete nothing, say what would go")
        parser.add_argument("--channel", metavar="NAME", help="this channel only")
        parser.add_argument(
            "--all",
            action="store_true",
            help="erase the channel named with --channel, whatever its retention",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name: str | None = options["channel"]
        dry_run: bool = options["dry_run"]
        if options["all"] and name is None:
            raise CommandError("--all erases one channel: name it with --channel NAME.")
        if name is not None:
            _check_known(name)
        if name is not None and options["all"]:
            steps = history.erase(name, dry_run=dry_run)
        else:
            steps = history.trim(get_config(), channel=name, dry_run=dry_run)
        self._report(steps, would="would be " if dry_run else "")
        if name is not None and not dry_run:
            look_again([name])

    def _report(self, steps: Iterable[Trimmed], *, would: str) -> None:
        events = channels = deleted = 0
        for name, parts in groupby(steps, key=lambda step: step.channel):
            gone, all_gone = 0, False
            for part in parts:
                gone += part.events
                all_gone = all_gone or part.deleted
            events, channels, deleted = events + gone, channels + 1, deleted + all_gone
            self.stdout.write(
                f"{name}: {_count(gone, 'event')} {would}deleted{' and the channel' if all_gone else ''}"
            )
        if not channels:
            self.stdout.write(f"Nothing {would or 'was '}deleted.")
            return
        whole = f" and {_count(deleted, 'channel')}" if deleted else ""
        self.stdout.write(
            f"In all {_count(events, 'event')} of {_count(channels, 'channel')}{whole} {would}deleted."
        )


def _check_known(name: str) -> None:
    try:
        known = history.states([check_channel(name)])
    except InvalidChannel as error:
        raise CommandError(str(error)) from None
    if not known:
        raise CommandError(f"There is no channel {name!r}.")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
