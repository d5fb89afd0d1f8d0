"""The gate before the database: shut while it is away, so that one call tries it and the others wait.

Callers that come early in an outage wait for its end; when it has lasted, they are sent away at once.
"""

from __future__ import annotations

import asyncio
import random

__all__ = ["PATIENCE_SECONDS", "Gate"]

PATIENCE_SECONDS = 5.0
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


class Gate:
    """One event loop's view of the database. Open at first. *patience*: a caller's, in seconds."""

    def __init__(self, *, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self.shut_since: float | None = None
        self.reason: BaseException | None = None
        self._pause = FIRST_PAUSE
        self._next_try = 0.0
        self._trying = False
        self._opened: asyncio.Event = asyncio.Event()

    async def enter(self) -> bool:
        """Return True to go on, False when the caller must not wait any longer.

        While the gate is shut, one caller at a time goes on, to try: it says :meth:`open` or
        :meth:`shut` afterwards, or :meth:`give_up`.
        """
        loop = asyncio.get_running_loop()
        while self.shut_since is not None:
            now = loop.time()
            if not self._trying and now >= self._next_try:
                self._trying = True
                return True
            if now >= self.shut_since + self._patience:
                return False
            until = self._next_try if not self._trying else now + LONGEST_PAUSE
            try:
                async with asyncio.timeout(max(0.0, until - now)):
                    await self._opened.wait()
            except TimeoutError:
                pass
        return True

    def open(self) -> float | None:
        """Say that the database has answered; return for how many seconds it was away, if it was."""
        self._trying = False
        since, self.shut_since = self.shut_since, None
        if since is None:
            return None
        self.reason = None
        self._pause = FIRST_PAUSE
        self._opened.set()
        return asyncio.get_running_loop().time() - since

    def shut(self, reason: BaseException) -> bool:
        """Say that the database has not answered; return whether that is news.

        The next try is after a pause that grows to 1 s.
        """
        now = asyncio.get_running_loop().time()
        self._trying = False
        is_news = self.shut_since is None
        if is_news:
            self.shut_since = now
            self._opened.clear()
        self.reason = reason
        self._next_try = now + self._pause * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return is_news

    def give_up(self) -> None:
        """Say that a try came to nothing: it was cancelled, say."""
        self._trying = False
