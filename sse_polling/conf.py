"""The settings: one ``SSE_POLLING`` dict, read live into one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .clients import UNIX, Proxies
from .protocol.burst import BurstLimits
from .protocol.retry import RetryLimits

__all__ = [
    "MAX_RETENTION_EVENTS",
    "MAX_RETENTION_SECONDS",
    "PRESETS",
    "RESERVED",
    "Config",
    "Effective",
    "Problem",
    "RetentionLimits",
    "SendLimits",
    "get_config",
    "problems",
]

NAME = "SSE_POLLING"
DEFAULT_PRIORITY = 0
MAX_RETENTION_EVENTS = 2**40
MAX_RETENTION_SECONDS = 100 * 366 * 86_400  # a century: beyond it dates overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLimits:
    """What a channel keeps. None keeps without that limit."""

    max_events: int | None = 10_000
    max_age_seconds: float | None = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLimits:
    max_events: int = 1000
    max_bytes: int = 4_194_304
    total_bytes: int = 268_435_456
    idle_seconds: float = 120
    max_unknown_channels: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerLimits:
    threshold: float = 0.9
    retry_after_seconds: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """How many streams one client may hold in a process.

    *key* says who a client is, by a text; None for one leaves it without a limit. None at all: the user,
    the signed subject, or the address.
    """

    max_sockets: int = 20
    key: str | Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """What may wait for clients that do not read: in one socket, in all, and how long without progress."""

    stall_seconds: float = 10
    buffer_bytes: int = 131_072
    total_bytes: int = 33_554_432


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Where a channel's burst and retry start."""

    burst: BurstLimits
    retry: RetryLimits


PRESETS: Mapping[str, Preset] = {
    "reclaim": Preset(burst=BurstLimits(hold_seconds=0, linger_seconds=0), retry=RetryLimits(base_ms=2000)),
    "balanced": Preset(burst=BurstLimits(), retry=RetryLimits()),
    "live": Preset(burst=BurstLimits(hold_seconds=25, linger_seconds=25), retry=RetryLimits(base_ms=250)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What holds for one channel, and where each part comes from.

    *sources* maps ``preset``, ``burst.max_events``, ``retention.max_age_seconds`` and so on to
    ``default``, ``preset``, ``budget``, ``settings``, ``CHANNELS[<index>]`` or ``admin``. *priority*: who is
    refused last has the highest.
    """

    preset: str
    priority: int
    burst: BurstLimits
    retry: RetryLimits
    retention: RetentionLimits
    authorize: str | Callable[..., Any]
    sources: Mapping[str, str] = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole ``SSE_POLLING`` dict, checked, with its defaults filled in."""

    authorize: str | Callable[..., Any] = "sse_polling.access.authenticated"
    auth_cache_seconds: float = 5
    preset: str = "balanced"
    burst: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    retry: Mapping[str, Any] = field(default_factory=dict)
    heartbeat_seconds: float = 20
    max_sockets: int | None = None
    breaker: BreakerLimits = BreakerLimits()
    budget: int | None = None
    per_client: ClientLimits = ClientLimits()
    trusted_proxies: Proxies = field(default_factory=Proxies)
    tail: TailLimits = TailLimits()
    max_event_bytes: int = 262_144
    sync_seconds: float = 2
    database_threads: int = 2
    retention: Mapping[str, Any] = field(default_factory=dict)
    send: SendLimits = SendLimits()
    close_socket: bool = True
    keep_alive_seconds: float = 50
    priming: str = "id"
    channel_layer: str = "default"
    # Those that channels may have, that of a channel without one among them.
    priorities: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        given = (options.get("PRIORITY", DEFAULT_PRIORITY) for _, options in self.channels)
        object.__setattr__(self, "priorities", frozenset((DEFAULT_PRIORITY, *given)))

    def effective(
        self,
        channel: str,
        *,
        preset: str | None = None,
        max_events: int | None = None,
        max_age_seconds: float | None = None,
    ) -> Effective:
        """Return what holds for *channel*; the keywords are what its row says (the admin), and win."""
        matched, source = self._matched(channel)
        sources: dict[str, str] = {}
        chosen, sources["preset"] = self.preset, "settings" if self.preset != _DEFAULTS.preset else "default"
        if "PRESET" in matched:
            chosen, sources["preset"] = matched["PRESET"], source
        if preset:
            chosen, sources["preset"] = preset, "admin"
        start = PRESETS[chosen]
        start_from = "default" if chosen == _DEFAULTS.preset else "preset"
        if self.budget is not None:  # streams are held while there is room, and end by the budget
            start, start_from = PRESETS["live"], "budget"
        layers = [("settings", self.burst, self.retry, self.retention)]
        layers.append((source, *(matched.get(key, {}) for key in ("BURST", "RETRY", "RETENTION"))))
        burst, retry, retention = start.burst, start.retry, RetentionLimits()
        for part, value in (("burst", burst), ("retry", retry)):
            sources |= {f"{part}.{each.name}": start_from for each in fields(value)}
        sources |= {f"retention.{each.name}": "default" for each in fields(RetentionLimits)}
        for name, over_burst, over_retry, over_retention in layers:
            burst, retry, retention = (
                replace(burst, **over_burst),
                replace(retry, **over_retry),
                replace(retention, **over_retention),
            )
            for part, over in (("burst", over_burst), ("retry", over_retry), ("retention", over_retention)):
                sources |= dict.fromkeys((f"{part}.{key}" for key in over), name)
        own: dict[str, Any] = {"max_events": max_events, "max_age_seconds": max_age_seconds}
        given = {key: value for key, value in own.items() if value is not None}
        sources |= dict.fromkeys((f"retention.{key}" for key in given), "admin")
        authorize, sources["authorize"] = (
            (matched["AUTHORIZE"], source)
            if "AUTHORIZE" in matched
            else (self.authorize, "settings" if self.authorize != _DEFAULTS.authorize else "default")
        )
        sources["priority"] = source if "PRIORITY" in matched else "default"
        return Effective(
            preset=chosen,
            priority=matched.get("PRIORITY", DEFAULT_PRIORITY),
            burst=burst,
            retry=retry,
            retention=replace(retention, **given),
            authorize=authorize,
            sources=sources,
        )

    def _matched(self, channel: str) -> tuple[Mapping[str, Any], str]:
        for index, (pattern, options) in enumerate(self.channels):
            if fnmatchcase(channel, pattern):
                return options, f"CHANNELS[{index}]"
        return {}, ""


_DEFAULTS = Config()


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

RESERVED = ("DRAIN", "METRICS_TOKEN")
"""Settings that are checked already and take effect in a later version."""


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


_cached: tuple[object, Config] | None = None


def get_config() -> Config:
    """Return the settings as they are now. Raises ``ImproperlyConfigured`` with all that is wrong."""
    global _cached  # noqa: PLW0603 - one dict, read again only when it was replaced
    raw = getattr(settings, NAME, None)
    cached = _cached
    if cached is not None and cached[0] is raw:
        return cached[1]
    config = _read({} if raw is None else raw)
    _cached = (raw, config)
    return config


def _read(raw: Mapping[str, Any]) -> Config:
    wrong = [f"{each.where} {each.message}. {each.hint}" for each in problems(raw)]
    if wrong:
        raise ImproperlyConfigured(f"{NAME}: " + " ".join(wrong))
    values = {key.lower(): value for key, value in raw.items() if key not in RESERVED}
    if "tail" in values:
        values["tail"] = TailLimits(**values["tail"])
    if "send" in values:
        values["send"] = SendLimits(**values["send"])
    if "breaker" in values:
        values["breaker"] = BreakerLimits(**values["breaker"])
    if "per_client" in values:
        values["per_client"] = ClientLimits(**values["per_client"])
    values["trusted_proxies"] = Proxies.parse(values.get("trusted_proxies", ()))
    values["channels"] = tuple((pattern, dict(options)) for pattern, options in values.get("channels", ()))
    return Config(**values)
