"""A fault as a value: what strikes, for how long, and where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .fleet import Where
from .trial import Trial

__all__ = ["Fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. *short* and *full* are how many seconds it lasts."""

    name: str
    #: Does the damage for so many seconds, and heals it.
    strike: Callable[[Trial, float], Awaitable[None]]
    short: float
    full: float
    where: tuple[Where, ...] = ("fleet",)
    #: Where it is part of ``make test``.
    quick: tuple[Where, ...] = ()
    #: The database is well throughout, so that no publisher may wait long.
    publishing_goes_on: bool = False
    #: Clients reach the servers through proxies.
    proxies: bool = False
