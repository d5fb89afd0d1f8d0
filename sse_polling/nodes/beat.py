"""The beat: every few seconds this process writes its row, and does what it is asked there."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import history, hub
from ..conf import get_config
from ..connections import registry
from ..database import ERRORS, run_aside, run_aside_later
from ..draining import SIGNAL, draining
from ..history import NewEvent
from ..lifecycle import node
from ..live import Waiter
from ..measures import measures
from ..publishing import store
from ..shutdown import listen
from ..supervisor import supervise
from ..wake import sender
from . import rows
from .figures import gather
from .listing import list_sockets
from .obeying import obey
from .points import Points

__all__ = ["LIVE_CHANNEL", "Beat", "beat", "give_word"]

logger = logging.getLogger(__name__)

LIVE_CHANNEL = "sse_polling.live"
BEAT_SECONDS = 5.0
QUICK_SECONDS = 1.0  # while it drains, or somebody looks
SOCKETS_SECONDS, SOCKETS_QUICK_SECONDS = 10.0, 2.0  # between two lists of sockets, which are larger
WATCHED_SECONDS = 10.0  # since the last reader of the live channel was here
TIDY_SECONDS = 60.0
SERVERS = ("daphne", "uvicorn", "hypercorn", "granian", "gunicorn")


class Beat:
    """This process's beat. It lives in one event loop; when that ends, the next loop that asks takes over."""

    def __init__(self) -> None:
        self.enabled = True  # tests that bring their own database switch it off
        self.name = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted: Waiter | None = None
        self._points: Points | None = None
        self._listed = self._tidied = float("-inf")
        self._watched = False
        self._told_end = False
        self._results: dict[int, str] = {}  # of orders, until the database has them

    def start(self) -> None:
        """Begin in the running loop, unless it beats already. Cheap: called with every request."""
        loop = asyncio.get_running_loop()
        task = self._task
        if task is not None and not task.done() and (loop is self._loop or not task.get_loop().is_closed()):
            return
        if not self.enabled:
            return
        listen()
        if not self.name:
            self.name = f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(2)}"
        self._loop, self._wanted = loop, Waiter()
        self._points = self._points or Points(now=time.monotonic())
        draining.bind(loop)
        draining.on_change = self.look
        draining.is_told = lambda: self._told_end
        if self._heard not in hub.on_fleet:
            hub.on_fleet.append(self._heard)
        self._task = supervise("node", self._run)
        self._task.add_done_callback(self._ended)

    def show(self) -> None:
        """Learn that somebody begins to look at the fleet: a stream of the live channel is open here."""
        if not self._watched:
            self.look()

    def look(self) -> None:
        """Beat now. From any thread."""
        loop, wanted = self._loop, self._wanted
        if loop is not None and wanted is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(wanted.set)

    def _heard(self, message: dict[str, Any]) -> None:
        if message.get("look"):
            self.look()

    async def _run(self) -> None:
        assert self._wanted is not None  # noqa: S101 - made in start()
        while True:
            self._wanted.clear()
            try:
                await self._once()
            except ERRORS as error:
                logger.debug("sse_polling could not write this process's row: %s", error)
            quick = (
                self._watched or self._watches() or (node.draining and node.state(get_config()) != "drained")
            )
            await self._wanted.wait(QUICK_SECONDS if quick else BEAT_SECONDS)

    async def _once(self) -> None:
        config, now = get_config(), time.monotonic()
        registry.reap()
        points = self._points
        assert points is not None  # noqa: S101 - made in start()
        if points.is_due(now):
            points.take(node, measures, now=now)
        figures = gather(node, measures, config)
        values = {
            "state": node.state(config),
            "sockets": node.sockets,
            "readers": node.readers,
            "capacity": figures.pop("capacity"),
            "figures": figures,
            "history": points.packed(now),
        }
        listing = None
        every = SOCKETS_QUICK_SECONDS if self._watched or node.draining else SOCKETS_SECONDS
        if now - self._listed >= every:
            self._listed = now
            listing = list_sockets(node, now=now)
        tidies = now - self._tidied >= TIDY_SECONDS
        if tidies:
            self._tidied = now
        before, watches, ends = self._watched, self._watches(), self._ends
        told = await run_aside(self._write, values, listing, watches=watches, tidies=tidies, ends=ends)
        self._told_end = ends
        tells, self._watched, node.elsewhere, orders = told
        if watches and self._watched and not before:
            sender.post({"look": True})  # only now do the others find that somebody looks
        for order, late in orders:
            if order.pk not in self._results:  # else it was carried out, and that could not be written
                self._results[order.pk] = obey(order, node, draining, late=late)
        if self._results:
            await run_aside(rows.fulfil, list(self._results.items()))
            self._results.clear()
            self.look()
        if tells:
            text = json.dumps({"node": self.name, "state": values["state"]})
            await run_aside(store, [NewEvent(channel=LIVE_CHANNEL, event="fleet", data=text)])

    def _write(
        self,
        values: dict[str, Any],
        listing: tuple[int, bytes] | None,
        *,
        watches: bool,
        tidies: bool,
        ends: bool,
    ) -> tuple[bool, bool, bool, list[Any]]:
        rows.write(self._identity(), values, ends=ends)
        if listing is not None:
            rows.write_sockets(self.name, *listing)
        if tidies:
            rows.tidy()
        # Whoever has the lease tells all who look, for all processes.
        tells = watches and history.lease(rows.WATCH, self.name, WATCHED_SECONDS)
        # Known before it is needed: who is refused in a drain's first moment is told when to come back by it.
        return tells, rows.is_watched(), rows.others(self.name), rows.orders(self.name)

    @property
    def _ends(self) -> bool:
        """True once the process has let go of all and is about to end."""
        return draining.why == SIGNAL and draining.is_over

    def _identity(self) -> dict[str, Any]:
        host, pid, _ = self.name.rsplit(":", 2)
        return {"name": self.name, "host": host, "pid": int(pid), "server": _server()}

    def _watches(self) -> bool:
        """Tell whether anybody reads the live channel here, or did so a moment ago."""
        for each in list(hub.hubs.values()):
            live = each.known(LIVE_CHANNEL)
            if live is not None and (live.waiters or each.loop.time() - live.used < WATCHED_SECONDS):
                return True
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Say good-bye when a server ends its loop: the pool's thread is waited for at exit."""
        if task.cancelled() and self._task is task:
            run_aside_later(rows.stop, self.name)


def _server() -> str:
    """Return which server this process is, by the program that was started."""
    parts = [Path(part).stem for part in Path(sys.argv[0]).parts[-2:]] + sys.argv[1:2]
    return next((each for each in SERVERS if each in parts), "runserver" if "runserver" in parts else "asgi")


def give_word() -> None:
    """Tell all processes to look at their rows at once: an order was given."""
    sender.post({"look": True})
    beat.look()


beat = Beat()
os.register_at_fork(after_in_child=beat.__init__)  # type: ignore[misc]  # as a new one
