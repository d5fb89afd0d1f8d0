"""`manage.py ask CHANNEL QUESTION`: answer a question about Django's source, as a channel."""

from __future__ import annotations

import logging
import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from django.core.management.base import BaseCommand

from project.agent.investigation import investigate
from project.agent.library import Library
from project.agent.steps import Step
from project.outage import outlast
from sse_polling import finish, publish

logger = logging.getLogger(__name__)

MAX_SECONDS = 60


class Command(BaseCommand):
    help = "Answer a question about the installed Django's source; each step is an event."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("channel")
        parser.add_argument("question")
        parser.add_argument(
            "--pace", type=float, default=0.6, help="seconds between two steps, for people who read along"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _terminated)
        signal.signal(signal.SIGALRM, _took_too_long)
        signal.alarm(MAX_SECONDS)
        channel, number = str(options["channel"]), 0
        status = "answered"
        try:
            for step in self._steps(str(options["question"])):
                if number:
                    time.sleep(float(options["pace"]))
                self._publish(channel, number + 1, step)
                number += 1
        except Exception as error:
            # Whatever it was, the reader is owed an end.
            logger.exception("The agent on %s failed", channel)
            status = "failed"
            signal.alarm(0)
            self._publish(channel, number + 1, Step("final", _apology(error)))
        signal.alarm(0)
        outlast(lambda: finish(channel, {"status": status}))

    def _publish(self, channel: str, number: int, step: Step) -> None:
        # The view has stored the first step under the same key, so the page begins with it.
        # At a paragraph's end the streams may hang up.
        # A step that was stored although nobody said so is stored once all the same: it has a key.
        outlast(
            lambda: publish(channel, step.data(number), key=f"step-{number}", ends_burst=step.ends_paragraph)
        )
        self.stdout.write(f"{number:>3} {step.type}")

    def _steps(self, question: str) -> Iterator[Step]:
        library = Library.read(Path(django.__file__).parent)
        yield from investigate(library, question)


def _apology(error: Exception) -> dict[str, object]:
    return {
        "answer": f"I stopped before I had an answer. {type(error).__name__}: {error}",
        "failed": True,
    }


def _terminated(number: int, frame: object) -> None:
    raise InterruptedError("the demo was stopped while I was at work.")


def _took_too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"this took longer than {MAX_SECONDS} seconds.")
