"""A database that is away for a moment: what may be repeated is repeated until it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

__all__ = ["AWAY", "outlast"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

AWAY = (OperationalError, InterfaceError)


def outlast(action: Callable[[], T], *, seconds: float = 20, pause: float = 0.5) -> T:
    """Call *action* until the database answers, so long at most, and return what it returns.

    It may have been carried out when its answer was lost, so it must be one that can be repeated
    without harm: publishing with a `key` is.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            return action()
        except AWAY as error:
            connection.close()  # a command has no end of a request to do it
            if time.monotonic() + pause > deadline:
                raise
            if not told:
                logger.warning("The database is away, trying again: %s", str(error).strip().split("\n")[0])
                told = True
            time.sleep(pause)
