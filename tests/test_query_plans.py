"""The queries that must stay cheap use an index, with 50,000 events in each of two channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from sse_polling import history, publish, publish_many
from sse_polling.conf import get_config
from sse_polling.models import Channel, Event
from sse_polling.publishing import Draft

pytestmark = [pytest.mark.django_db, pytest.mark.database]

EVENTS = 50_000
NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %s)"


@pytest.fixture
def channel() -> Channel:
    """A channel of 50,000 events beside another as large, every tenth with a key."""
    for name in ("beside", "log", "small"):
        made = Channel.objects.create(name=name, life=f"life{name}", head=EVENTS, head_tag="t")
        count = 10 if name == "small" else EVENTS
        with connection.cursor() as cursor:
            cursor.execute(
                f"{NUMBERS} INSERT INTO sse_polling_event "
                "(channel_id, sequence, tag, event, data, key, ends_burst, created) "
                "SELECT %s, n, 'tag', 'message', 'a line of a log', "
                "CASE n %% 10 WHEN 0 THEN 'key-' || n END, %s, %s FROM numbers",
                [count, made.pk, False, timezone.now()],
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return Channel.objects.get(name="log")


@contextmanager
def plans() -> Iterator[list[str]]:
    """Collect the plan of every query on events that is sent meanwhile."""
    found: list[str] = []
    asking = False

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal asking
        if not asking and "sse_polling_event" in sql and not sql.startswith("INSERT"):
            asking = True
            prefix = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
            with connection.cursor() as cursor:
                cursor.execute(f"{prefix} {sql}", params)
                rows = cursor.fetchall()
            asking = False
            found.append("\n".join(str(row[-1]) for row in rows))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield found


POSITION, KEY = "sse_polling_event_position", "sse_polling_event_key"


def assert_indexed(plan: str, index: str = POSITION) -> None:
    if index == POSITION and connection.vendor == "sqlite":
        index = "sqlite_autoindex_sse_polling_event_1"  # SQLite names a constraint's index itself
    assert f" {index}" in plan
    for sign in ("SCAN ", "Seq Scan", "TEMP B-TREE", "Sort"):
        assert sign not in plan


def assert_seeks(plan: str) -> None:
    """The index is entered at the cursor, and not at the channel's first event."""
    assert_indexed(plan)
    seek = "(channel_id=? AND sequence>?)" if connection.vendor == "sqlite" else "AND (sequence >= "
    assert seek in plan


def state() -> history.ChannelState:
    return history.states(["log"])["log"]


@pytest.mark.parametrize("cursor", [0, 1, EVENTS // 2, EVENTS - 3, EVENTS])
def test_the_replay_of_any_cursor_is_one_indexed_query(channel: Channel, cursor: int) -> None:
    known = state()
    with plans() as found:
        rows = history.replay(known, cursor)
    assert len(found) == 1
    assert_seeks(found[0])
    first = max(cursor, 1)
    assert [row.sequence for row in rows] == list(range(first, min(first + 129, EVENTS + 1)))


def test_the_newest_events_are_read_by_the_index(channel: Channel) -> None:
    known = state()
    with plans() as found:
        rows = history.newest(known, max_events=200, max_bytes=10**6)
    assert [rows[0].sequence, rows[-1].sequence] == [EVENTS - 199, EVENTS]
    assert len(found) == 2
    for plan in found:
        assert_indexed(plan)


def test_the_first_retained_event_is_found_by_the_index(channel: Channel) -> None:
    known = state()
    with plans() as found:
        assert history.first_sequence(known) == 1
    assert len(found) == 1
    assert_indexed(found[0])


def test_a_key_is_found_by_its_own_index(channel: Channel) -> None:
    with plans() as found:
        again = publish("log", "another", key=f"key-{EVENTS - 10}")
    assert (again.sequence, again.data) == (EVENTS - 10, "a line of a log")
    assert_indexed(found[0], KEY)


def test_many_keys_are_found_by_their_own_index(channel: Channel) -> None:
    drafts = [Draft("another", key=f"key-{number}") for number in range(EVENTS - 100, EVENTS)]
    with plans() as found:
        stored = publish_many("log", drafts)
    assert sum(event.data == "a line of a log" for event in stored) == 10
    assert_indexed(found[0], KEY)


def test_a_step_of_the_trimmer_reads_and_deletes_by_the_index(channel: Channel, settings: Any) -> None:
    settings.SSE_POLLING = {"RETENTION": {"max_events": EVENTS - 700}}
    with plans() as found:
        steps = history.trim(get_config(), channel="log")
        assert sum(step.events for step in steps) == 700
    assert len(found) == 4  # two pages, two deletions
    for plan in found:
        assert_indexed(plan)
    assert Event.objects.filter(channel=channel).count() == EVENTS - 700


def test_a_trimmer_that_finds_nothing_reads_one_page(channel: Channel, settings: Any) -> None:
    settings.SSE_POLLING = {"RETENTION": {"max_events": EVENTS}}
    with plans() as found:
        assert list(history.trim(get_config(), channel="log")) == []
    assert len(found) == 1
    assert_indexed(found[0])


def test_erasing_reads_and_deletes_by_the_index(channel: Channel) -> None:
    with plans() as found:
        steps = history.erase("log")
        assert next(steps).events == 500
    assert len(found) == 2
    for plan in found:
        assert_indexed(plan)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", None),
        ("?p=50", None),
        ("?channel__id__exact={key}", POSITION),
        ("?channel__id__exact={key}&p=50", POSITION),
        ("?q=log", POSITION),
        ("?q=log+49000", POSITION),
        ("?q=log+key-49000", KEY),
    ],
)
def test_the_admins_lists_of_events_read_an_index_as_far_as_they_show(
    channel: Channel, admin_client: Client, query: str, where: str | None
) -> None:
    with plans() as found:
        response = admin_client.get(f"/admin/sse_polling/event/{query.format(key=channel.pk)}")
        assert response.status_code == 200
    assert response.context["cl"].result_count == (1 if "49000" in query else 10_000)
    assert len(found) == 2  # the bounded count and the page
    for plan in found:
        # SQLite says SCAN also of an index that it walks from one end, and of the count's subquery.
        assert "Seq Scan on sse_polling_event" not in plan
        assert not re.search(r"SCAN sse_polling_event(?! USING COVERING INDEX)\b", plan) or where is None
        assert "TEMP B-TREE" not in plan or "49000" in query
        assert "Sort" not in plan or "49000" in query
        if where is not None:
            assert (where in plan) or "sqlite_autoindex_sse_polling_event_1" in plan
