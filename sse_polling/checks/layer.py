"""The channel layer: is there one, and can it wake readers in time?"""

from __future__ import annotations

from typing import Any

from channels.layers import InMemoryChannelLayer
from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from ..conf import get_config
from .values import is_readable

__all__ = ["check_capacity", "check_in_memory", "check_layer"]


def _configured() -> tuple[str, dict[str, Any] | None]:
    """Return the layer's name in ``CHANNEL_LAYERS`` and its entry there."""
    name = get_config().channel_layer
    layers = getattr(settings, "CHANNEL_LAYERS", None)
    entry = layers.get(name) if isinstance(layers, dict) else None
    return name, entry if isinstance(entry, dict) else None


def _backend(entry: dict[str, Any]) -> Any:
    """Return the layer's class, or None if there is none; it is not made, that could connect."""
    try:
        return import_string(entry.get("BACKEND", ""))
    except ImportError:
        return None


@checks.register
def check_layer(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    name, entry = _configured()
    if entry is None:
        message = f"CHANNEL_LAYERS has no entry {name!r}, which SSE_POLLING: CHANNEL_LAYER names."
    elif _backend(entry) is None:
        message = (
            f"CHANNEL_LAYERS[{name!r}] has the BACKEND {entry.get('BACKEND')!r}, which cannot be imported."
        )
    else:
        return []
    return [
        checks.Error(
            message,
            hint="Readers are woken through it. The BACKEND for one process is "
            "'channels.layers.InMemoryChannelLayer', for several "
            "'channels_redis.pubsub.RedisPubSubChannelLayer' (install django-sse-polling[redis]).",
            id="sse_polling.E003",
        )
    ]


@checks.register
def check_in_memory(**options: Any) -> list[checks.CheckMessage]:
    if settings.DEBUG or not is_readable():
        return []
    name, entry = _configured()
    backend = _backend(entry) if entry else None
    if not (isinstance(backend, type) and issubclass(backend, InMemoryChannelLayer)):
        return []
    return [
        checks.Warning(
            f"CHANNEL_LAYERS[{name!r}] is the in-memory layer, which reaches its own process only.",
            hint="Readers in other processes get events when they next compare with the database "
            "(SYNC_SECONDS; at once on SQLite). Use 'channels_redis.pubsub.RedisPubSubChannelLayer', or "
            "silence sse_polling.W001 if one process does everything.",
            id="sse_polling.W001",
        )
    ]


@checks.register
def check_capacity(**options: Any) -> list[checks.CheckMessage]:
    if not is_readable():
        return []
    name, entry = _configured()
    # By its path: channels_redis need not be installed to be asked about.
    if entry is None or entry.get("BACKEND") != "channels_redis.core.RedisChannelLayer":
        return []
    if "capacity" in (entry.get("CONFIG") or {}):
        return []
    return [
        checks.Warning(
            f"CHANNEL_LAYERS[{name!r}] is channels_redis.core.RedisChannelLayer with its default capacity of "
            "100 messages: it drops wakes when many channels are published to at once.",
            hint="Use 'channels_redis.pubsub.RedisPubSubChannelLayer', or set CONFIG['capacity'] to several "
            "thousand. What is dropped arrives when readers next compare with the database.",
            id="sse_polling.W002",
        )
    ]
