"""The channel layer that `REDIS_URL` and `REDIS_LAYER` name, as an entry of CHANNEL_LAYERS."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured

from .address import without_password

__all__ = ["BACKENDS", "layer"]

BACKENDS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}

# The core layer waits up to 5 s for a message inside one command, so a shorter time-out, and redis-py's
# own default of 5 s, would take every quiet spell for a dead server.
_ANSWER_SECONDS = 10
# Nothing tells a subscriber that the host is gone: it only reads. The kernel asks for it.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": 4,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 10_000,
    }.items()
    if hasattr(socket, name)  # macOS has not all of them
}
# Wakes are small and soon gone; dropping one costs its readers SYNC_SECONDS.
_CAPACITY = 20_000

_EXPECTED = "Expected redis://host:6379/0, rediss://user:password@host:6379/0 or unix:///path/to/socket?db=0."


def layer(url: str, *, kind: str = "pubsub") -> dict[str, Any]:
    """Return the settings for Redis at *url*, or for the in-memory layer when it is empty.

    *kind* is `pubsub`, the one to use, or `core`. Raises ``ImproperlyConfigured``, with what came but for
    the password, and what was expected.
    """
    if kind not in BACKENDS:
        raise ImproperlyConfigured(f"REDIS_LAYER is {kind!r}. Expected pubsub or core.")
    if not url:
        return {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    parts = _checked(url)
    # redis-py reads the rest of the address itself when it connects.
    host: dict[str, Any] = {
        "address": url,
        "socket_timeout": _ANSWER_SECONDS,
        "socket_connect_timeout": 5,
        "health_check_interval": 15,
    }
    if parts.scheme != "unix":
        host |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    config: dict[str, Any] = {"hosts": [host]}
    if kind == "core":
        config["capacity"] = _CAPACITY
    return {"BACKEND": BACKENDS[kind], "CONFIG": config}


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        named = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise _improper(url, "cannot be read") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise _improper(url, "is no address of a Redis")
    if not named:
        raise _improper(url, "names no server")
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        # redis-py would take database 0 in silence.
        raise _improper(url, "names a database that is no number")
    return parts


def _improper(url: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"REDIS_URL {why}: {without_password(url)}. {_EXPECTED}")
