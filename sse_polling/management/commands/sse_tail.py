"""``manage.py sse_tail``: follow a channel in the terminal, from the database or from any server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from random import SystemRandom
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf import get_config
from ...connections import Connection, Registry
from ...database import ERRORS
from ...exceptions import SSEPollingError
from ...hub import Hub
from ...lifecycle import Node
from ...pools import shutdown
from ...protocol.cursor import parse_cursor
from ...protocol.encoding import JsonLines
from ...protocol.names import check_channel
from ...stream import open_stream

POLL_SECONDS = 0.5
AWAY_SECONDS = 2.0
FIELDS = ("channel", "id", "event", "data")
# What a terminal may take for an order. Line ends and tabs are text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Shown = dict[str, Any]


class Command(BaseCommand):
    """Events go to standard output, what is to say about them to standard error."""

    help = (
        "Follow a channel until it is finished, or until interrupted: a CHANNEL of this project, read twice "
        "a second from its database, or the URL of a stream, read as any client does, reconnects and all. "
        "It begins with what comes from now on, and prints the data of each event, after its name if that "
        'is not "message".'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", metavar="CHANNEL_OR_URL")
        parser.add_argument(
            "--last-event-id",
            metavar="ID",
            default="",
            help='go on after this id; "earliest": with the first event that is kept',
        )
        parser.add_argument(
            "--header",
            metavar="'NAME: VALUE'",
            action="append",
            type=_header,
            default=[],
            help="send this with each request to a URL; may be repeated",
        )
        parser.add_argument(
            "--json", action="store_true", help="one JSON object on each line: channel, id, event, data"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._json = options["json"]
        source: str = options["source"]
        try:
            if "://" in source:
                self._read_url(source, options["last_event_id"], dict(options["header"]))
            elif options["header"]:
                raise CommandError("--header is for a URL; a channel is read from the database.")
            else:
                try:
                    asyncio.run(self._read_channel(source, options["last_event_id"]))
                finally:
                    shutdown()
        except SSEPollingError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # Whoever read the output has left. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _read_url(self, url: str, last_event_id: str, headers: dict[str, str]) -> None:
        try:
            import httpx

            from ...client import iter_events
        except ImportError:
            raise CommandError('A URL needs httpx: pip install "django-sse-polling[client]".') from None
        try:
            with closing(iter_events(url, last_event_id, headers=headers, on_error=self._wait)) as events:
                for event in events:
                    self._show({name: getattr(event, name) for name in FIELDS})
        except (httpx.InvalidURL, httpx.HTTPError) as error:
            raise CommandError(f"{url} cannot be asked: {error}") from None

    async def _read_channel(self, channel: str, last_event_id: str) -> None:
        # A hub without its tasks: nothing is subscribed to, trimmed or written by who only looks.
        hub = Hub(asyncio.get_running_loop())
        cursor = last_event_id
        check_channel(channel)
        parse_cursor(cursor)
        while True:
            try:
                found = False
                async for frame in _burst(hub, channel, cursor):
                    cursor = frame.get("id") or frame.get("last_event_id") or cursor
                    if "id" in frame:
                        found = True
                        self._show(frame)
                    if frame.get("end"):
                        return
            except ERRORS as error:
                self._wait(error, AWAY_SECONDS)
                await asyncio.sleep(AWAY_SECONDS)
            else:
                if not found:
                    await asyncio.sleep(POLL_SECONDS)

    def _show(self, event: Shown) -> None:
        if self._json:
            text = json.dumps({name: event[name] for name in FIELDS}, ensure_ascii=False)
        elif event["event"] == "message":
            text = event["data"]
        else:
            text = f"{event['event']}: {event['data']}"
        if self.stdout.isatty():
            text = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        self.stdout.write(f"{text}\n", ending="")  # also after a line end of its own
        self.stdout.flush()

    def _wait(self, error: Exception, seconds: float) -> None:
        text = (str(error).strip() or type(error).__name__).rstrip(".")
        with suppress(BrokenPipeError):
            self.stderr.write(f"{text}. Trying again in {seconds:.1f} s.")


async def _burst(hub: Hub, channel: str, cursor: str) -> AsyncIterator[Shown]:
    """Yield the frames of what follows *cursor*, judged as any client's; ``{"end": True}`` if nothing can."""
    (live,) = await hub.open([channel])
    await hub.refresh(live)
    stream = await open_stream(
        hub,
        Connection(channels=(channel,), door="command"),
        parse_cursor(cursor),
        several=False,
        finite=True,
        encoder=JsonLines(several=False),
        config=get_config(),
        node=Node(Registry()),
        rng=SystemRandom(),
        clock=time.monotonic,
    )
    if stream is None:
        yield {"end": True}
        return
    async for chunk in stream.run():
        for line in chunk.splitlines():
            yield json.loads(line)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):
        raise ArgumentTypeError(f"{text!r} is not a header; expected 'Name: value'")
    return name.strip(), value.strip()
