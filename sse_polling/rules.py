"""What the ``SSE_POLLING`` dict may hold, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .identity import UNIX, Proxies
from .presets import PRESETS

__all__ = [
    "MAX_RETENTION_EVENTS",
    "MAX_RETENTION_SECONDS",
    "NAME",
    "Problem",
    "problems",
]

NAME = "SSE_POLLING"
MAX_RETENTION_EVENTS = 2**40
MAX_RETENTION_SECONDS = 100 * 366 * 86_400  # a century: beyond it dates overflow


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one setting. *where* is its path, as ``BURST["max_events"]``."""

    where: str
    message: str
    hint: str


# What a value must be: a test and the words for it.
_Rule = tuple[Callable[[Any], bool], str]


def _number(low: float, high: float, *, whole: bool = False, none: bool = False, unit: str = "") -> _Rule:
    kinds = (int,) if whole else (int, float)

    def test(value: Any) -> bool:
        if value is None:
            return none
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    words = f"{'a whole number' if whole else 'a number'} from {low:,} to {high:,}{unit and f' ({unit})'}"
    return test, words + (" or None" if none else "")


def _one_of(*words: str) -> _Rule:
    return (lambda value: isinstance(value, str) and value in words), "one of " + ", ".join(map(repr, words))


_NAMED: _Rule = (
    lambda value: callable(value) or (isinstance(value, str) and "." in value),
    "a callable or the dotted path of one",
)
_ANY: _Rule = (lambda _: True), "anything"
_TEXT: _Rule = (lambda value: isinstance(value, str) and value != "", "a text that is not empty")
_BURST = {
    "max_events": _number(1, 100_000, whole=True),
    "max_bytes": _number(1024, 2**30, whole=True, unit="bytes"),
    "max_seconds": _number(0, 3600, unit="seconds"),
    "linger_seconds": _number(0, 3600, unit="seconds"),
    "hold_seconds": _number(0, 3600, unit="seconds"),
}
_RETRY = {
    "base_ms": _number(0, 3_600_000, whole=True, unit="milliseconds"),
    "behind_ms": _number(0, 3_600_000, whole=True, unit="milliseconds"),
    "jitter": _number(0, 1),
    "max_ms": _number(0, 3_600_000, whole=True, unit="milliseconds"),
}
_RETENTION = {
    "max_events": _number(1, MAX_RETENTION_EVENTS, whole=True, none=True),
    "max_age_seconds": _number(1, MAX_RETENTION_SECONDS, none=True, unit="seconds"),
}
_CHANNEL: Mapping[str, _Rule | Mapping[str, _Rule]] = {
    "PRESET": _one_of(*PRESETS),
    "BURST": _BURST,
    "RETRY": _RETRY,
    "RETENTION": _RETENTION,
    "AUTHORIZE": _NAMED,
    "PRIORITY": _number(0, 100, whole=True),
}
_RULES: Mapping[str, _Rule | Mapping[str, _Rule]] = {
    "AUTHORIZE": _NAMED,
    "AUTH_CACHE_SECONDS": _number(0, 3600, unit="seconds"),
    "PRESET": _one_of(*PRESETS),
    "BURST": _BURST,
    "RETRY": _RETRY,
    "HEARTBEAT_SECONDS": _number(0.1, 3600, unit="seconds"),
    "MAX_SOCKETS": _number(1, 1_000_000, whole=True, none=True),
    "BREAKER": {"threshold": _number(0.01, 1), "retry_after_seconds": _number(1, 3600, whole=True)},
    "BUDGET": _number(1, 1_000_000, whole=True, none=True),
    "PER_CLIENT": {
        "max_sockets": _number(1, 1_000_000, whole=True),
        "key": (lambda value: value is None or _NAMED[0](value), _NAMED[1] + " or None"),
    },
    "TRUSTED_PROXIES": (lambda value: isinstance(value, (list, tuple)), "a list of addresses or networks"),
    "TAIL": {
        "max_events": _number(1, 1_000_000, whole=True),
        "max_bytes": _number(1024, 2**34, whole=True, unit="bytes"),
        "total_bytes": _number(1024, 2**40, whole=True, unit="bytes"),
        "idle_seconds": _number(1, 86_400, unit="seconds"),
        "max_unknown_channels": _number(1, 10_000_000, whole=True),
    },
    "MAX_EVENT_BYTES": _number(1, 64 * 2**20, whole=True, unit="bytes"),
    "SYNC_SECONDS": _number(0.05, 3600, unit="seconds"),
    "DATABASE_THREADS": _number(1, 100, whole=True),
    "RETENTION": _RETENTION,
    "DRAIN": {
        "seconds": _number(0, 3600, unit="seconds"),
        "ack_seconds": _number(0, 3600, unit="seconds"),
        "spread_seconds": _number(0, 3600, unit="seconds"),
    },
    "SEND": {
        "stall_seconds": _number(1, 3600, unit="seconds"),
        "buffer_bytes": _number(4096, 2**30, whole=True, unit="bytes"),
        "total_bytes": _number(65_536, 2**40, whole=True, unit="bytes"),
    },
    "CLOSE_SOCKET": (lambda value: isinstance(value, bool), "True or False"),
    "KEEP_ALIVE_SECONDS": _number(1, 3600, unit="seconds"),
    "PRIMING": _one_of("id", "data"),
    "CHANNEL_LAYER": _TEXT,
    "METRICS_TOKEN": (lambda value: value is None or _TEXT[0](value), _TEXT[1] + " or None"),
}


def problems(raw: object) -> Iterator[Problem]:
    """Yield what is wrong with *raw*, the value of ``settings.SSE_POLLING``."""
    if not isinstance(raw, Mapping):
        yield Problem(NAME, f"is {type(raw).__name__}, not a dict", "Make it a dict of the documented keys.")
        return
    yield from _dict_problems("", raw, {**_RULES, "CHANNELS": _ANY})
    yield from _proxy_problems(raw.get("TRUSTED_PROXIES", ()))
    channels = raw.get("CHANNELS", [])
    if not isinstance(channels, (list, tuple)):
        yield Problem("CHANNELS", f"is {channels!r}", 'Expected a list of ("pattern", {options}) pairs.')
        return
    for index, entry in enumerate(channels):
        where = f"CHANNELS[{index}]"
        if not (
            isinstance(entry, (list, tuple))
            and len(entry) == 2
            and isinstance(entry[0], str)
            and isinstance(entry[1], Mapping)
        ):
            yield Problem(where, f"is {entry!r}", 'Expected a ("pattern", {options}) pair.')
            continue
        yield from _dict_problems(where, entry[1], _CHANNEL)


def _proxy_problems(given: object) -> Iterator[Problem]:
    for index, each in enumerate(given if isinstance(given, (list, tuple)) else ()):
        try:
            Proxies.parse([each])
        except ValueError:
            yield Problem(
                f"TRUSTED_PROXIES[{index}]",
                f"is {each!r}",
                f"Expected an address ('10.0.0.5'), a network without host bits ('10.0.0.0/8') or {UNIX!r}.",
            )


def _dict_problems(
    where: str, raw: Mapping[Any, Any], rules: Mapping[str, _Rule | Mapping[str, _Rule]]
) -> Iterator[Problem]:
    for key, value in raw.items():
        path = f"{where}[{key!r}]" if where else str(key)
        rule = rules.get(key) if isinstance(key, str) else None
        if rule is None:
            yield Problem(path, "is not a setting", f"Known here: {', '.join(sorted(rules))}.")
        elif isinstance(rule, Mapping):
            if isinstance(value, Mapping):
                yield from _dict_problems(path, value, rule)
            else:
                yield Problem(path, f"is {value!r}", f"Expected a dict with {', '.join(rule)}.")
        elif not rule[0](value):
            yield Problem(path, f"is {value!r}", f"Expected {rule[1]}.")
