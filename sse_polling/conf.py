"""The settings: one ``SSE_POLLING`` dict, read live into one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .identity import Proxies
from .presets import PRESETS
from .protocol.burst import BurstLimits
from .protocol.names import is_own
from .protocol.retry import RetryLimits
from .rules import NAME, problems

__all__ = [
    "Config",
    "DrainLimits",
    "Effective",
    "RetentionLimits",
    "SendLimits",
    "get_config",
]

DEFAULT_PRIORITY = 0


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
class DrainLimits:
    """How long a drain takes: at most, for a client's ack, and until the last stream was asked."""

    seconds: float = 20
    ack_seconds: float = 5
    spread_seconds: float = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """What may wait for clients that do not read: in one socket, in all, and how long without progress."""

    stall_seconds: float = 10
    buffer_bytes: int = 131_072
    total_bytes: int = 33_554_432


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What holds for one channel, and where each part comes from.

    *sources* maps ``preset``, ``burst.max_events``, ``retention.max_age_seconds`` and so on to
    ``default``, ``preset``, ``budget``, ``settings``, ``CHANNELS[<index>]``, ``app`` (its own
    channels) or ``admin``. *priority*: who is refused last has the highest.
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
    drain: DrainLimits = DrainLimits()
    send: SendLimits = SendLimits()
    close_socket: bool = True
    keep_alive_seconds: float = 50
    priming: str = "id"
    channel_layer: str = "default"
    metrics_token: str | None = None
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
        if is_own(channel):
            return _OWN, "app"
        for index, (pattern, options) in enumerate(self.channels):
            if fnmatchcase(channel, pattern):
                return options, f"CHANNELS[{index}]"
        return {}, ""


_DEFAULTS = Config()
# The app's own channels say that something has changed: of interest for a moment, and to few.
_OWN: Mapping[str, Any] = {
    "PRESET": "live",
    "PRIORITY": 100,
    "RETENTION": {"max_events": 100, "max_age_seconds": 600},
}


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
    values = {key.lower(): value for key, value in raw.items()}
    if "tail" in values:
        values["tail"] = TailLimits(**values["tail"])
    if "drain" in values:
        values["drain"] = DrainLimits(**values["drain"])
    if "send" in values:
        values["send"] = SendLimits(**values["send"])
    if "breaker" in values:
        values["breaker"] = BreakerLimits(**values["breaker"])
    if "per_client" in values:
        values["per_client"] = ClientLimits(**values["per_client"])
    values["trusted_proxies"] = Proxies.parse(values.get("trusted_proxies", ()))
    values["channels"] = tuple((pattern, dict(options)) for pattern, options in values.get("channels", ()))
    return Config(**values)
