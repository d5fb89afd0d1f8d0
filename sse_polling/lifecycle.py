"""This process as a server: how many streams it takes."""

from __future__ import annotations

import resource

from .conf import Config
from .connections import Registry

__all__ = ["State", "capacity", "has_room", "state"]

State = str
RESERVE = 128  # descriptors kept for the database, the layer, logs and the server itself
MOST = 10_000


def capacity(config: Config) -> int:
    """Return how many streams this process may hold: ``MAX_SOCKETS``, or what descriptors allow."""
    if config.max_sockets is not None:
        return config.max_sockets
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft - RESERVE))


def has_room(registry: Registry, config: Config) -> bool:
    """Tell whether one more stream may be admitted: below the breaker's share of the capacity."""
    return len(registry) < max(1, int(capacity(config) * config.breaker.threshold))


def state(registry: Registry, config: Config) -> State:
    """Return ``serving`` or ``full``."""
    return "serving" if has_room(registry, config) else "full"
