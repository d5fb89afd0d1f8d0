"""The hub's one subscription to the channel layer: a group for each channel it holds.

Whether it hears is asked of the layer itself, end to end: a probe goes out to a group of the
subscription's own every two seconds and must come back. Layers fail in too many ways to tell otherwise:
one raises, one goes mute, one forgets its groups, one's listening task dies inside the library.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from .layer import FLEET, PROBE, Wake, group_name, hosts, is_in_memory, own, reason, reset, send, turn
from .supervisor import Outage

__all__ = ["Subscription"]

logger = logging.getLogger(__name__)

LAYER_TIMEOUT = 5.0
JOIN_TIMEOUT = 1.0  # while a stream waits for the channel to be read
PROBE_SECONDS = 2.0
REJOIN_SECONDS = 30.0
PROBES_A_HOST = 8  # with two hosts, one of them is missed by all of them once in 30,000 processes
LOST_PROBES = 3  # then the connections are thrown away
JOINS = 32  # at once


class Subscription:
    """Hears of wakes, and says in ``hears`` whether it does.

    *names* returns the channels to hear of, *on_wake* is told each :class:`Wake`, *on_fleet* each message to
    all processes, *on_live* is called each time that it begins to hear: what came before nobody has told.
    """

    def __init__(
        self,
        *,
        names: Callable[[], Collection[str]],
        on_wake: Callable[[Wake], None],
        on_live: Callable[[], None],
        on_fleet: Callable[[dict[str, Any]], None] = lambda message: None,
    ) -> None:
        self.hears = False
        self.layer: Any = None
        self.joined: set[str] = set()
        self._names = names
        self._on_wake = on_wake
        self._on_live = on_live
        self._on_fleet = on_fleet
        self._address: str | None = None
        self._joining: dict[str, asyncio.Task[None]] = {}
        self._parting: set[str] = set()
        # Some for each of the layer's servers, so that none fails unnoticed.
        token = secrets.token_hex(8)
        self._probes = [f"sse_polling.probe.{token}.{number}" for number in range(_probes())]
        self._silent: set[str] = set()  # of which no probe has come back yet
        self._echo = asyncio.Event()
        self._deaf_since: float | None = None
        self._worked = False

    @property
    def in_memory(self) -> bool:
        """True if the layer reaches this process alone."""
        return is_in_memory(self.layer)

    async def listen(self) -> None:
        """Hear of wakes until cancelled. Raises ``Outage`` when the layer fails, its connections dropped."""
        async with turn():
            await self._listen()

    async def _listen(self) -> None:
        self._worked = False
        tasks: list[asyncio.Task[None]] = []
        try:
            self.layer = own()
            async with asyncio.timeout(LAYER_TIMEOUT):
                self._address = await self.layer.new_channel()
            loop = asyncio.get_running_loop()
            for name, work in (("receive", self._receive), ("care", self._care)):
                tasks.append(loop.create_task(work(self._address), name=f"sse_polling-layer-{name}"))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Exception as error:
            self._deafened(reason(error))
            raise Outage(reason(error), worked=self._worked) from error
        finally:
            self.hears = False
            address, self._address = self._address, None
            groups = [FLEET, *self._probes, *map(group_name, self.joined)]
            self.joined.clear()
            self._parting.clear()
            await self._end([*tasks, *self._joining.values()], address, groups)

    async def _end(self, tasks: list[asyncio.Task[None]], address: str | None, groups: list[str]) -> None:
        # First the connections: a cancelled receive() of the pubsub layer would talk to a mute Redis.
        with suppress(Exception):
            async with asyncio.timeout(LAYER_TIMEOUT):
                await reset(self.layer, address, groups)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAYER_TIMEOUT)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # the first error is told; the others follow from it

    async def _receive(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                message = await self.layer.receive(address)
            except Exception as error:
                # A client library's own time-out while nothing came; one at once is an outage.
                if type(error).__name__ == "TimeoutError" and loop.time() - began > 0.5:
                    continue
                raise
            self._heard(message)

    def _heard(self, message: Any) -> None:
        if isinstance(message, dict) and message.get("type") == PROBE:
            self._silent.discard(message.get("group", ""))
            if not self._silent:
                self._echo.set()
            return
        if isinstance(message, dict) and message.get("type") == FLEET:
            self._on_fleet(message)
            return
        try:
            wake = Wake.of(message)
        except (AttributeError, KeyError, TypeError, ValueError):
            logger.warning("sse_polling got a message that is no wake: %.200r", message)
            return
        self._on_wake(wake)

    async def _care(self, address: str) -> None:
        """Keep the groups, and know whether their messages come through."""
        loop = asyncio.get_running_loop()
        rejoined: float | None = None
        lost = 0
        while True:
            # Redis forgets groups when it restarts or is flushed, the core layer after a day.
            if rejoined is None or lost or loop.time() - rejoined >= REJOIN_SECONDS:
                rejoined = loop.time()
                async with asyncio.timeout(LAYER_TIMEOUT):
                    for group in (FLEET, *self._probes):
                        await self.layer.group_add(group, address)
                await self._join_all(address, list(self._names()))
            else:
                await self._join_all(address, [name for name in self._names() if name not in self.joined])
            self._echo.clear()
            self._silent = set(self._probes)
            began = loop.time()
            async with asyncio.timeout(LAYER_TIMEOUT):
                for group in self._probes:
                    await send(self.layer, group, {"type": PROBE, "group": group})
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._echo.wait()
            except TimeoutError:
                lost += 1
                self._deafened("a probe that was sent did not come back")
                if lost >= LOST_PROBES:
                    raise Outage("no probe comes back") from None
                continue
            lost = 0
            self._undeafened()
            await self._part()
            await asyncio.sleep(max(0.0, began + PROBE_SECONDS - loop.time()))

    def _deafened(self, why: str) -> None:
        self.hears = False
        if self._deaf_since is None:
            self._deaf_since = asyncio.get_running_loop().time()
            logger.warning(
                "sse_polling does not hear from the channel layer and compares heads with the database "
                "meanwhile: %s",
                why,
            )

    def _undeafened(self) -> None:
        self._worked = True
        if self._deaf_since is not None:
            seconds = asyncio.get_running_loop().time() - self._deaf_since
            logger.warning("sse_polling hears from the channel layer again, after %.1f s", seconds)
            self._deaf_since = None
        if not self.hears:
            self.hears = True
            self._on_live()

    async def join(self, name: str) -> bool:
        """Join the channel's group, and tell whether it is joined within 1 s; it goes on trying."""
        if self._address is None:
            return False
        task = self._joining.get(name)
        if task is None:
            task = self._joining[name] = asyncio.get_running_loop().create_task(
                self._join(name, self._address),
                name=f"sse_polling-layer-join-{name}",
                context=contextvars.Context(),
            )
            task.add_done_callback(partial(self._tried, name))
        await asyncio.wait([task], timeout=JOIN_TIMEOUT)
        return name in self.joined

    def _tried(self, name: str, task: asyncio.Task[None]) -> None:
        self._joining.pop(name, None)
        if not task.cancelled():
            task.exception()  # the next probe tells what it means

    async def _join(self, name: str, address: str) -> None:
        async with asyncio.timeout(LAYER_TIMEOUT):
            await self.layer.group_add(group_name(name), address)
        if self._address != address:
            return
        self.joined.add(name)
        self._parting.discard(name)
        if name not in self._names():
            self.part(name)  # nobody reads it any more

    async def _join_all(self, address: str, names: list[str]) -> None:
        """Join these channels' groups, some at a time. Raises what the layer raises."""
        for start in range(0, len(names), JOINS):
            await _all(self._join(name, address) for name in names[start : start + JOINS])

    def part(self, name: str) -> None:
        """Leave the channel's group soon."""
        if name in self.joined:
            self.joined.discard(name)
            self._parting.add(name)

    async def _part(self) -> None:
        """Leave the groups that were parted from. Raises what the layer raises."""
        while self._parting and self._address is not None:
            name = self._parting.pop()
            async with asyncio.timeout(LAYER_TIMEOUT):
                await self.layer.group_discard(group_name(name), self._address)
            if name in self.joined or name in self._joining:
                self.joined.discard(name)
                await self.join(name)  # somebody came back for it meanwhile


def _probes() -> int:
    """Return how many probe groups it takes: which server has a group is the layer's secret."""
    return 1 if (count := hosts()) == 1 else PROBES_A_HOST * count


async def _all(joins: Iterable[Coroutine[Any, Any, None]]) -> None:
    for error in await asyncio.gather(*joins, return_exceptions=True):
        if error is not None:
            raise error
