"""The settings: read live, checked, and resolved for each channel."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from sse_polling.conf import get_config
from sse_polling.presets import PRESETS
from sse_polling.rules import problems


def test_no_settings_at_all_give_the_documented_defaults(settings: Any) -> None:
    del settings.SSE_POLLING
    config = get_config()
    effective = config.effective("builds.1")
    assert (config.preset, config.sync_seconds, config.database_threads) == ("balanced", 2, 2)
    assert effective.burst.max_events == 500
    assert effective.retention.max_events == 10_000
    assert set(effective.sources.values()) == {"default"}


def test_a_replaced_dict_is_seen_at_once(settings: Any) -> None:
    assert get_config().sync_seconds == 2
    settings.SSE_POLLING = {"SYNC_SECONDS": 7}
    assert get_config().sync_seconds == 7


def test_a_preset_is_where_burst_and_retry_start(settings: Any) -> None:
    settings.SSE_POLLING = {"PRESET": "live", "BURST": {"max_events": 7}}
    effective = get_config().effective("a")
    assert effective.burst.hold_seconds == PRESETS["live"].burst.hold_seconds == 25
    assert effective.burst.max_events == 7
    assert effective.sources["preset"] == "settings"
    assert effective.sources["burst.hold_seconds"] == "preset"
    assert effective.sources["burst.max_events"] == "settings"


def test_the_first_matching_channel_pattern_wins_over_the_settings(settings: Any) -> None:
    settings.SSE_POLLING = {
        "RETENTION": {"max_events": 5},
        "CHANNELS": [
            ("builds.*", {"PRESET": "reclaim", "RETENTION": {"max_events": None}, "AUTHORIZE": "a.b"}),
            ("builds.1", {"PRESET": "live"}),
        ],
    }
    effective = get_config().effective("builds.1")
    assert (effective.preset, effective.retention.max_events, effective.authorize) == ("reclaim", None, "a.b")
    assert effective.sources["retention.max_events"] == "CHANNELS[0]"
    assert get_config().effective("other").retention.max_events == 5


def test_what_the_admin_set_wins_over_everything(settings: Any) -> None:
    settings.SSE_POLLING = {"CHANNELS": [("*", {"PRESET": "reclaim", "RETENTION": {"max_events": 9}})]}
    effective = get_config().effective("a", preset="live", max_events=3)
    assert (effective.preset, effective.retention.max_events) == ("live", 3)
    assert (effective.sources["preset"], effective.sources["retention.max_events"]) == ("admin", "admin")


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ([], "SSE_POLLING"),
        ({"NOPE": 1}, "NOPE"),
        ({"BURST": 3}, "BURST"),
        ({"BURST": {"max_events": 0}}, "BURST['max_events']"),
        ({"BURST": {"max_events": True}}, "BURST['max_events']"),
        ({"BURST": {"nope": 1}}, "BURST['nope']"),
        ({"RETRY": {"jitter": 2}}, "RETRY['jitter']"),
        ({"PRESET": "fast"}, "PRESET"),
        ({"SYNC_SECONDS": "2"}, "SYNC_SECONDS"),
        ({"CLOSE_SOCKET": 1}, "CLOSE_SOCKET"),
        ({"CHANNELS": 5}, "CHANNELS"),
        ({"CHANNELS": [("a",)]}, "CHANNELS[0]"),
        ({"CHANNELS": [("a", {"PRESET": "x"})]}, "CHANNELS[0]['PRESET']"),
        ({"CHANNELS": [("a", {"BURST": {"max_bytes": -1}})]}, "CHANNELS[0]['BURST']['max_bytes']"),
        ({1: 2}, "1"),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_a_hint(raw: Any, where: str) -> None:
    (problem,) = problems(raw)
    assert problem.where == where
    assert problem.hint


def test_using_bad_settings_says_all_that_is_wrong(settings: Any) -> None:
    settings.SSE_POLLING = {"SYNC_SECONDS": 0, "NOPE": 1}
    with pytest.raises(ImproperlyConfigured, match=r"SYNC_SECONDS is 0.*NOPE is not a setting"):
        get_config()


def test_every_documented_setting_is_accepted() -> None:
    documented = {
        "AUTHORIZE": "sse_polling.access.authenticated",
        "AUTH_CACHE_SECONDS": 5,
        "PRESET": "balanced",
        "BURST": {
            "max_events": 500,
            "max_bytes": 1_048_576,
            "max_seconds": 30,
            "linger_seconds": 0.5,
            "hold_seconds": 2,
        },
        "CHANNELS": [("builds.*", {"PRIORITY": 5})],
        "RETRY": {"base_ms": 1000, "behind_ms": 50, "jitter": 0.3, "max_ms": 60_000},
        "HEARTBEAT_SECONDS": 20,
        "MAX_SOCKETS": None,
        "BREAKER": {"threshold": 0.9, "retry_after_seconds": 30},
        "BUDGET": None,
        "PER_CLIENT": {"max_sockets": 20, "key": None},
        "TRUSTED_PROXIES": [],
        "TAIL": {
            "max_events": 1000,
            "max_bytes": 4_194_304,
            "total_bytes": 268_435_456,
            "idle_seconds": 120,
            "max_unknown_channels": 10_000,
        },
        "MAX_EVENT_BYTES": 262_144,
        "SYNC_SECONDS": 2,
        "DATABASE_THREADS": 2,
        "RETENTION": {"max_events": 10_000, "max_age_seconds": 86_400},
        "DRAIN": {"seconds": 20, "ack_seconds": 5, "spread_seconds": 3},
        "SEND": {"stall_seconds": 10, "buffer_bytes": 131_072, "total_bytes": 33_554_432},
        "CLOSE_SOCKET": True,
        "KEEP_ALIVE_SECONDS": 50,
        "PRIMING": "id",
        "CHANNEL_LAYER": "default",
        "METRICS_TOKEN": None,
    }
    assert list(problems(documented)) == []
