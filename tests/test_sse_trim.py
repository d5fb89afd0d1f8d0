"""``sse_trim``: retention now, or one channel erased, and what it says about it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from sse_polling import pools, publish_many
from sse_polling.hub import Hub
from sse_polling.management.commands import sse_trim
from sse_polling.models import Channel, Event

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture(autouse=True)
def _history(settings: Any) -> None:
    settings.SSE_POLLING = {"RETENTION": {"max_events": 3}}
    publish_many("builds", range(5))
    publish_many("audit", range(4))
    publish_many("short", range(2))


def trim(*words: str) -> list[str]:
    out = io.StringIO()
    call_command("sse_trim", *words, stdout=out)
    return out.getvalue().splitlines()


def retained() -> dict[str, list[int]]:
    return {
        channel.name: list(channel.events.order_by("sequence").values_list("sequence", flat=True))
        for channel in Channel.objects.all()
    }


EVERYTHING = {"builds": [1, 2, 3, 4, 5], "audit": [1, 2, 3, 4], "short": [1, 2]}


def test_retention_is_applied_to_every_channel_and_it_says_what_went() -> None:
    assert trim() == [
        "builds: 2 events deleted",
        "audit: 1 event deleted",
        "In all 3 events of 2 channels deleted.",
    ]
    assert retained() == {"builds": [3, 4, 5], "audit": [2, 3, 4], "short": [1, 2]}
    assert trim() == ["Nothing was deleted."]


def test_a_dry_run_says_what_would_go_and_deletes_nothing() -> None:
    assert trim("--dry-run") == [
        "builds: 2 events would be deleted",
        "audit: 1 event would be deleted",
        "In all 3 events of 2 channels would be deleted.",
    ]
    assert retained() == EVERYTHING
    assert trim("--dry-run", "--channel", "short") == ["Nothing would be deleted."]


def test_one_channel_is_trimmed_alone() -> None:
    assert trim("--channel", "audit") == ["audit: 1 event deleted", "In all 1 event of 1 channel deleted."]
    assert retained() == {**EVERYTHING, "audit": [2, 3, 4]}


def test_one_channel_is_erased_whatever_its_retention() -> None:
    assert trim("--channel", "builds", "--all", "--dry-run") == [
        "builds: 5 events would be deleted and the channel",
        "In all 5 events of 1 channel and 1 channel would be deleted.",
    ]
    assert retained() == EVERYTHING
    assert trim("--channel", "builds", "--all") == [
        "builds: 5 events deleted and the channel",
        "In all 5 events of 1 channel and 1 channel deleted.",
    ]
    assert retained() == {"audit": [1, 2, 3, 4], "short": [1, 2]}
    assert Event.objects.count() == 6


def test_readers_are_told_to_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sse_trim, "look_again", told.extend)
    trim("--channel", "builds", "--all", "--dry-run")
    assert told == []
    trim("--channel", "builds", "--all")
    assert told == ["builds"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--all"], "name it with --channel"),
        (["--channel", "unknown"], "There is no channel 'unknown'"),
        (["--channel", "unknown", "--all"], "There is no channel 'unknown'"),
        (["--channel", "not a name", "--all"], "Not a channel name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_goes(words: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        trim(*words)
    assert retained() == EVERYTHING


@pytest.mark.django_db(transaction=True)
async def test_a_reader_in_the_process_notices_an_erased_channel_at_once(settings: Any) -> None:
    settings.SSE_POLLING = {"SYNC_SECONDS": 60}
    hub = Hub.current()
    try:
        (live,) = await hub.open(["builds"])
        assert live.position.sequence == 5
        await sync_to_async(trim)("--channel", "builds", "--all")
        await hub.refresh(live)
        assert live.state is None
    finally:
        hub.stop()
        pools.shutdown()
        await sync_to_async(connections.close_all)()  # asgiref's thread outlives the test
