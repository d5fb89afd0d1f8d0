"""The hub's one subscription to the channel layer: a group for each channel it holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers

from .conf import get_config
from .protocol.names import channel_hash
from .supervisor import Outage

__all__ = ["WAKE", "Subscription", "group_name"]

logger = logging.getLogger(__name__)

LAYER_TIMEOUT = 5.0
WAKE = "sse_polling.wake"


def group_name(channel: str) -> str:
    """Return the layer's group for *channel*: ASCII and short, as every layer wants it."""
    return f"sse_polling.{channel_hash(channel)}"


class Subscription:
    """Hears of wakes, and says in ``state`` whether it does: ``down``, ``live``, or ``polling``.

    *names* returns the channels to hear of, *on_wake* is told (channel, life, sequence, ends_burst),
    *on_live* is called each time that it begins to hear: what came before nobody has told.
    """

    def __init__(
        self,
        *,
        names: Callable[[], Iterable[str]],
        on_wake: Callable[[str, str, int, bool], None],
        on_live: Callable[[], None],
    ) -> None:
        self.state = "down"
        self.layer: Any = None
        self.joined: set[str] = set()
        self._names = names
        self._on_wake = on_wake
        self._on_live = on_live
        self._address: str | None = None
        self._parting: set[str] = set()

    @property
    def in_memory(self) -> bool:
        """True if the layer reaches this process alone."""
        return isinstance(self.layer, InMemoryChannelLayer)

    async def listen(self) -> None:
        """Hear of wakes until cancelled. Raises ``Outage`` when the layer fails."""
        self.layer = channel_layers[get_config().channel_layer]
        try:
            self._address = await self.layer.new_channel()
            for name in list(self._names()):
                await self.join(name)
            self.state = "live"
            self._on_live()
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    message = await self.layer.receive(self._address)
                except Exception as error:
                    # A client library's own time-out while nothing came; one at once is an outage.
                    waited = asyncio.get_running_loop().time() - began
                    if type(error).__name__ == "TimeoutError" and waited > 0.5:
                        continue
                    raise
                self._heard(message)
        except Exception as error:
            raise Outage(f"the channel layer fails, comparing heads meanwhile: {error!r}") from error
        finally:
            self.state = "polling"
            self._address = None
            self.joined.clear()

    def _heard(self, message: Any) -> None:
        try:
            name, life, sequence = message["channel"], message["life"], int(message["sequence"])
        except (KeyError, TypeError, ValueError):
            logger.warning("sse_polling got a message that is no wake: %.200r", message)
            return
        self._on_wake(name, life, sequence, bool(message.get("ends_burst")))

    async def join(self, name: str) -> bool:
        """Join the channel's group, and tell whether it is joined."""
        if self._address is None:
            return False
        try:
            async with asyncio.timeout(LAYER_TIMEOUT):
                await self.layer.group_add(group_name(name), self._address)
        except Exception as error:  # noqa: BLE001 - each layer has errors of its own
            if self.state == "live":
                self.state = "polling"
                logger.warning("sse_polling cannot join a layer group, comparing heads: %r", error)
            return False
        self.joined.add(name)
        self._parting.discard(name)
        return True

    async def rejoin(self) -> None:
        """Join every group again: Redis forgets them when it restarts, the core layer after a day."""
        for name in list(self._names()):
            self.joined.discard(name)
            if not await self.join(name):
                return
        if self._address is not None:
            self.state = "live"

    def part(self, name: str) -> None:
        """Leave the channel's group at the next :meth:`tidy`."""
        if name in self.joined:
            self.joined.discard(name)
            self._parting.add(name)

    async def tidy(self) -> None:
        """Leave the groups that were parted from."""
        while self._parting and self._address is not None and self.state == "live":
            name = self._parting.pop()
            try:
                async with asyncio.timeout(LAYER_TIMEOUT):
                    await self.layer.group_discard(group_name(name), self._address)
            except Exception:  # noqa: BLE001 - the layer is away: it forgets its groups by itself
                break
            if name in self.joined:
                await self.join(name)  # somebody came back for it meanwhile
        self._parting.clear()
