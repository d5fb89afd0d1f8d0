"""Side tasks that somebody watches: one that dies is logged and started again."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable

__all__ = ["Outage", "supervise"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Outage(Exception):
    """What a task needs is away, and who raises this has said so. *worked*: it had been there."""

    def __init__(self, message: str, *, worked: bool = False) -> None:
        super().__init__(message)
        self.worked = worked


def supervise(
    name: str, work: Callable[[], Awaitable[None]], *, longest: float = _LONGEST_PAUSE
) -> asyncio.Task[None]:
    """Run *work* again and again until the returned task is cancelled; the caller keeps the task.

    It runs in a context of its own: a task made inside a request would inherit that request's
    executor. After an error it waits 0.5 s, then twice as long up to *longest* seconds, each time
    with full jitter on the upper half.
    """
    loop = asyncio.get_running_loop()
    coroutine = _forever(name, work, longest)
    return loop.create_task(coroutine, name=f"sse_polling-{name}", context=contextvars.Context())


async def _forever(name: str, work: Callable[[], Awaitable[None]], longest: float) -> None:
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while True:
        started = loop.time()
        worked = False
        try:
            await work()
            logger.error("sse_polling task %s ended; it should not: starting it again", name)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            # Nobody has asked this task to end: a library's own task was cancelled below it.
            logger.exception("sse_polling task %s died: starting it again", name)
        except Outage as outage:
            logger.debug("sse_polling task %s waits: %s", name, outage)
            worked = outage.worked
        except Exception:
            logger.exception("sse_polling task %s died: starting it again", name)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # the work has made another error of the wish to end it
        if worked or loop.time() - started > 60:
            pause = _FIRST_PAUSE
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter is no secret
        pause = min(pause * 2, longest)
