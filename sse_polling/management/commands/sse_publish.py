"""``manage.py sse_publish``: each line of a file or of standard input becomes an event."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, reset_queries

from ...conf import get_config
from ...exceptions import InvalidEvent, SSEPollingError
from ...following import Line, LineError, Lines, follow, read
from ...history import NewEvent
from ...publishing import Draft, finish, prepare, store

MAX_BATCH = 10_000
BATCH_BYTES = 4 * 2**20  # a batch in memory, whatever the number of its lines
FLUSH_SECONDS = 0.2  # how long a line of a slow input waits for others
PROGRESS_SECONDS = 0.2


class Command(BaseCommand):
    """The input is read in bounded memory; what was read is published, also when the user stops it."""

    help = (
        "Publish each line of a file or of standard input as one event. Lines are UTF-8 and end with LF or "
        "CRLF; all else is published as it came, an empty line as an event without data. It stops at the "
        "first line that cannot be published and says which; the lines before it are published."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("channel", metavar="CHANNEL")
        parser.add_argument(
            "file", metavar="FILE", nargs="?", default="-", help='"-", which is the default: standard input'
        )
        parser.add_argument(
            "--follow",
            action="store_true",
            help="publish the whole file and then what is appended, until interrupted; goes on when the file "
            "is truncated or replaced, as tail -F does. An unfinished last line waits for its end",
        )
        parser.add_argument("--event", metavar="E", default="message", help='the events\' name ("message")')
        parser.add_argument(
            "--batch",
            metavar="N",
            type=_batch,
            default=500,
            help="lines in one transaction (500). Fewer go together when no more come for 0.2 seconds",
        )
        parser.add_argument(
            "--finish",
            action="store_true",
            help="finish the channel after the last line; with --follow, when interrupted",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        channel: str = options["channel"]
        feed = _Feed(channel, options["event"], options["batch"], self._progress(options["file"]))
        lines = Lines(max_bytes=get_config().max_event_bytes)
        try:
            prepare(channel, Draft("", event=options["event"]))  # bad names are refused before any line
        except SSEPollingError as error:
            raise CommandError(str(error)) from None
        with _Stop() as stop:
            try:
                with _source(options["file"], following=options["follow"]) as blocks:
                    _publish(blocks, lines, feed, stop)
                if options["finish"] and (options["follow"] or not stop.signal):
                    finish(channel)
            except (SSEPollingError, DatabaseError, InterfaceError, OSError) as error:
                raise CommandError(f"{_sentence(error)} {feed.done()}") from None
        if lines and options["follow"]:
            self._say("The unfinished last line was not published.")
        if stop.signal and not options["follow"]:
            raise CommandError(f"Interrupted. {feed.done()}", returncode=128 + stop.signal)
        ended = f" The channel {channel} is finished." if options["finish"] else ""
        self._say(f"{feed.done()}{ended}")

    def _say(self, text: str) -> None:
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            # Whoever read the output has left. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            with contextlib.suppress(BrokenPipeError):
                self.stderr.write(text, lambda line: line)

    def _progress(self, file: str) -> Callable[[str], None] | None:
        """Return how to show progress: on a terminal, unless the lines are typed there."""
        if not self.stderr.isatty() or (file == "-" and sys.stdin.isatty()):
            return None

        def show(text: str) -> None:
            with contextlib.suppress(BrokenPipeError):
                self.stderr.write(f"\r\033[K{text}", lambda line: line, ending="")
                self.stderr.flush()

        return show


class _Feed:
    """Gathers lines and publishes them, a batch a transaction."""

    def __init__(self, channel: str, event: str, size: int, progress: Callable[[str], None] | None) -> None:
        self.published = 0
        self._channel, self._event, self._size = channel, event, size
        self._progress = progress
        self._batch: list[NewEvent] = []
        self._bytes = 0
        self._started = self._shown = self._since = time.monotonic()

    def add(self, line: Line) -> None:
        try:
            event = prepare(self._channel, Draft(line.text, event=self._event))
        except InvalidEvent as error:
            where = f"Line {line.number:,}, which begins at byte {line.offset:,} of the input"
            raise LineError(f"{where}, cannot be published. {error}") from None
        if not self._batch:
            self._since = time.monotonic()
        self._batch.append(event)
        self._bytes += len(event.data)
        if len(self._batch) >= self._size or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush_if_due(self) -> None:
        if self._batch and time.monotonic() - self._since >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        if not batch:
            return
        store(batch)
        self.published += len(batch)
        if settings.DEBUG:
            reset_queries()  # each is kept, its data included
        now = time.monotonic()
        if self._progress and now - self._shown >= PROGRESS_SECONDS:
            self._shown = now
            self._progress(self._rate())

    def done(self) -> str:
        """Return the sentence that says what was published."""
        if self._progress:
            self._progress("")
        return f"Published {self._rate()}."

    def _rate(self) -> str:
        seconds = time.monotonic() - self._started
        lines = f"{self.published:,} line{'' if self.published == 1 else 's'}"
        rate = f", {self.published / seconds:,.0f} lines/s" if seconds else ""
        return f"{lines} to {self._channel} in {seconds:.1f} s{rate}"


class _Stop:
    """Remembers that the user or the system asked to stop; a second signal does what it did before."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()


def _publish(blocks: Iterator[bytes | None], lines: Lines, feed: _Feed, stop: _Stop) -> None:
    try:
        for block in blocks:
            for line in lines.end() if block is None else lines.cut(block):
                feed.add(line)
            feed.flush_if_due()
            if stop.signal:
                break
    except (LineError, OSError):
        feed.flush()  # the lines before the bad one
        raise
    feed.flush()


@contextlib.contextmanager
def _source(name: str, *, following: bool) -> Iterator[Iterator[bytes | None]]:
    if following:
        if name == "-" or not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - a Path of "" is "."
            raise CommandError("--follow needs a FILE that can grow; a pipe is read to its end anyway.")
        with contextlib.closing(follow(Path(name))) as blocks:
            yield blocks
    elif name == "-":
        yield read(sys.stdin.fileno())
    else:
        with Path(name).open("rb", buffering=0) as file:
            yield read(file.fileno())


def _sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _batch(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_BATCH:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_BATCH:,}")
    return number
