"""The channel layer as this app uses it: what a wake looks like on it, and a layer of the hub's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

from channels.layers import InMemoryChannelLayer, channel_layers

from .conf import get_config
from .protocol.cursor import UNKNOWN
from .protocol.names import channel_hash

__all__ = [
    "FLEET",
    "PROBE",
    "WAKE",
    "Wake",
    "configured",
    "group_name",
    "hosts",
    "is_in_memory",
    "own",
    "reason",
    "reset",
    "send",
    "turn",
]

WAKE = "sse_polling.wake"
PROBE = "sse_polling.probe"
FLEET = "sse_polling.fleet"
"""The group of all processes, and the type of its messages: ``{"look": True}`` says that a row has changed,
``{"ack": {"stream" or "client": …}}`` what a client has acked (:mod:`.acks`)."""
_REDIS = "channels_redis."
_own: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Wake(NamedTuple):
    """Word that *channel* has grown to *sequence*. *life* is empty to say: look, whatever you know."""

    channel: str
    life: str
    sequence: int
    tag: str = UNKNOWN
    ends_burst: bool = False

    @classmethod
    def of(cls, message: Any) -> Self:
        """Return the wake that *message* is. Raises KeyError, TypeError or ValueError if it is none."""
        return cls(
            channel=_text(message["channel"]),
            life=_text(message["life"]),
            sequence=int(message["sequence"]),
            tag=_text(message.get("tag", UNKNOWN)),  # a process of an older version says none
            ends_burst=bool(message.get("ends_burst")),
        )

    def message(self) -> dict[str, Any]:
        return {"type": WAKE, **self._asdict()}


def group_name(channel: str) -> str:
    """Return the layer's group for *channel*: ASCII and short, as every layer wants it."""
    return f"sse_polling.{channel_hash(channel)}"


def configured() -> Any:
    """Return the layer that ``CHANNEL_LAYER`` names, as the whole process shares it."""
    return channel_layers[get_config().channel_layer]


def is_in_memory(layer: Any) -> bool:
    """Tell whether *layer* reaches its own process alone."""
    return isinstance(layer, InMemoryChannelLayer)


def reason(error: BaseException) -> str:
    """Return *error* in words: client libraries' own ``repr`` says too little, some ``str`` nothing."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def own() -> Any:
    """Return this loop's own layer, with its own connections, where that is possible, else the shared one.

    What is wrong with a Redis connection is mended by throwing it away. The site's own consumers
    must not lose theirs over it, nor wait for a lock that ours holds. One for each loop, for as long as it
    runs: channels_redis keeps every layer that a loop has used.
    """
    layer = configured()
    if _module(layer) is None:
        return layer
    loop = asyncio.get_running_loop()
    if loop not in _own:
        _own[loop] = channel_layers.make_backend(get_config().channel_layer)
    return _own[loop]


def hosts() -> int:
    """Return how many servers the configured layer spreads its groups over."""
    entry = channel_layers.configs.get(get_config().channel_layer) or {}
    return max(1, len((entry.get("CONFIG") or {}).get("hosts") or ()))


async def send(layer: Any, group: str, message: dict[str, Any]) -> None:
    """Send *message* to *group*, with one more try after an error. Raises what the layer raises."""
    try:
        await layer.group_send(group, message)
    except Exception:  # noqa: BLE001 - each layer has errors of its own
        # The connection had been kept since before a restart, say: the second try makes another.
        await layer.group_send(group, message)


def turn() -> asyncio.Lock:
    """Return the lock under which this loop's own layer is used: by one subscription after another."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


async def reset(layer: Any, address: str | None, groups: Iterable[str]) -> None:
    """Let *address* hear no more: throw the connections of an :func:`own` layer away, or leave *groups*."""
    module = _module(layer)
    if module == "pubsub":
        await layer.flush()  # touches nothing but this object, unlike the core layer's, which empties Redis
    elif module == "core":
        await layer.close_pools()
    elif address is not None:
        for group in groups:
            await layer.group_discard(group, address)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


def _module(layer: Any) -> str | None:
    """Return which module of channels_redis *layer* comes from, None for another's."""
    for each in type(layer).__mro__:
        if each.__module__.startswith(_REDIS):
            return each.__module__.removeprefix(_REDIS)
    return None
