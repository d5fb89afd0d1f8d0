"""Locks between publishers on PostgreSQL: their order, what breaks it, and what is left after an error.

Planted once each, and red: channels locked in the order of their appearance (the crossing calls
deadlock); the rows of new channels made before any is locked, unsorted (the same, on the channels
that nobody had made yet); an error inside ``append`` wrapped in the app's own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from project.programs.postgres import Postgres
from tests.harness.site import Site
from tests.publishers.publisher import Publisher

OPERATIONAL = "django.db.utils.OperationalError"
Waiting = Callable[..., None]


def stored(postgres: Postgres, prefix: str) -> dict[str, list[tuple[int, str]]]:
    """Return what is in the channels whose names begin with *prefix*, empty ones included."""
    rows = postgres.query(
        "SELECT name, sequence, data FROM sse_polling_channel c"
        " LEFT JOIN sse_polling_event e ON e.channel_id = c.id ORDER BY name, sequence",
        database="publishers",
    )
    found: dict[str, list[tuple[int, str]]] = {}
    for name, sequence, data in rows:
        if name.startswith(prefix):
            found.setdefault(name, [])
            if sequence is not None:
                found[name].append((sequence, data))
    return found


# The order of locks


def test_calls_that_name_their_channels_in_opposite_orders_never_deadlock(
    publishers: list[Publisher], shared_postgres: Postgres
) -> None:
    """On channels that are there, on ones that both calls make, and on both kinds at once."""
    shuffle = random.Random(7).shuffle
    calls: list[list[list[str]]] = [[], []]
    for number in range(60):
        names = [f"order.{number}.{letter}" for letter in "abc"] + ["order.old.a", "order.old.b"]
        for each in calls:
            mine = list(names)
            shuffle(mine)
            each.append(mine)
    publishers[0].do("spread('order.old.a', 'order.old.b')")
    paced = "[(together(start + 0.015 * number), spread(*names)) for number, names in enumerate(calls)]"
    start = time.monotonic() + 0.1
    running = [
        process.later(paced, calls=mine, start=start, deadline=100)
        for process, mine in zip(publishers, calls, strict=True)
    ]
    assert [each.result(100) for each in running] == [None, None]
    found = stored(shared_postgres, "order.")
    assert len(found) == 60 * 3 + 2
    for name, events in found.items():
        count = 121 if "old" in name else 2
        assert [sequence for sequence, _ in events] == list(range(1, count + 1)), name


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_a_channel_that_another_transaction_is_making_is_waited_for(
    publishers: list[Publisher], shared_postgres: Postgres, waiting: Waiting, how: str
) -> None:
    one, other = publishers
    a, b, c = [f"made.{how}.{letter}" for letter in "abc"]
    one.do("begin()\nspread(b, a)", a=a, b=b)
    later = other.later("spread(c, b, a, data='y')", a=a, b=b, c=c)
    waiting(1)
    one.do(f"{how}()")
    assert later.result(30) is None
    first = [(1, "x"), (2, "y")] if how == "commit" else [(1, "y")]
    assert stored(shared_postgres, f"made.{how}.") == {a: first, b: first, c: [(1, "y")]}


# What breaks it


def test_of_two_transactions_that_cross_each_other_one_goes_through_and_one_is_undone_whole(
    publishers: list[Publisher], shared_postgres: Postgres, waiting: Waiting
) -> None:
    """Several calls in one transaction, in opposite orders: the database finds it and picks a victim."""
    for process, mine, made in zip(publishers, "ab", ("cross.0", "cross.1"), strict=True):
        process.do("begin()\npublish(made, mine)\npublish('cross.' + mine, mine)", mine=mine, made=made)
    crossing = [
        process.later("(publish('cross.' + other, mine), commit())", mine=mine, other=other)
        for process, mine, other in zip(publishers, "ab", "ba", strict=True)
    ]
    outcomes = [each.result(30) for each in crossing]
    winner = outcomes.index(None)
    assert outcomes[1 - winner] == [OPERATIONAL, "psycopg.errors.DeadlockDetected"]
    letter = "ab"[winner]
    assert stored(shared_postgres, "cross.") == {
        f"cross.{winner}": [(1, letter)],
        "cross.a": [(1, letter)],
        "cross.b": [(1, letter)],
    }
    assert publishers[winner].do("result = sorted(set(woken()))") == sorted(
        [f"cross.{winner}", "cross.a", "cross.b"]
    )
    assert publishers[1 - winner].do("result = woken()") == []
    # The victim tries its transaction again.
    assert (
        publishers[1 - winner].attempt("(publish('cross.b', 'again'), publish('cross.a', 'again'))") is None
    )


# The database's own errors


def _lock_timeout(process: Publisher, postgres: Postgres, waiting: Waiting, later: Callable[[], Any]) -> Any:
    process.do("execute(\"SET lock_timeout = '30ms'\")")
    return later().result(30)


def _statement_timeout(
    process: Publisher, postgres: Postgres, waiting: Waiting, later: Callable[[], Any]
) -> Any:
    process.do("execute(\"SET statement_timeout = '300ms'\")")
    return later().result(30)


def _terminated(process: Publisher, postgres: Postgres, waiting: Waiting, later: Callable[[], Any]) -> Any:
    waits: Future[Any] = later()
    waiting(1)
    postgres.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = 'publishers' AND wait_event_type = 'Lock'"
    )
    return waits.result(30)


ERRORS: dict[str, tuple[Any, str]] = {
    "lock_timeout": (_lock_timeout, "psycopg.errors.LockNotAvailable"),
    "statement_timeout": (_statement_timeout, "psycopg.errors.QueryCanceled"),
    "terminated": (_terminated, "psycopg.errors.AdminShutdown"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_while_it_waits_for_the_lock_leaves_nothing_half_done(
    publishers: list[Publisher], shared_postgres: Postgres, waiting: Waiting, name: str
) -> None:
    """Neither of a call by itself, nor of the transaction that a call was made in."""
    fail, cause = ERRORS[name]
    one, other = publishers
    held = f"held.{name}.z"
    one.do("begin()\npublish(held, 'x')", held=held)
    call = "spread('held.' + name + '.new', 'held.' + name + '.z')"
    alone = fail(other, shared_postgres, waiting, lambda: other.later(call, name=name))
    assert alone == [OPERATIONAL, cause]
    other.do("execute('RESET ALL')\nbegin()\npublish('held.' + name + '.mine', 'x')", name=name)
    in_a_transaction = fail(other, shared_postgres, waiting, lambda: other.later(call, name=name))
    assert in_a_transaction == [OPERATIONAL, cause]
    one.do("commit()")
    assert stored(shared_postgres, f"held.{name}") == {held: [(1, "x")]}
    assert other.do("execute('RESET ALL')\nresult = woken()") == []
    assert other.attempt("publish(held, 'y')", held=held) is None
    assert stored(shared_postgres, f"held.{name}") == {held: [(1, "x"), (2, "y")]}


def test_an_error_in_a_savepoint_of_the_callers_undoes_that_alone(
    publishers: list[Publisher], shared_postgres: Postgres
) -> None:
    one, other = publishers
    one.do("begin()\npublish('point.z', 'x')")
    other.do("begin()\nexecute(\"SET LOCAL lock_timeout = '30ms'\")\npublish('point.a', '0')\nbegin()")
    error = other.do("result = attempt(lambda: spread('point.new', 'point.a', 'point.z'), blocks=1)")
    assert error == [OPERATIONAL, "psycopg.errors.LockNotAvailable"]
    other.do("publish('point.a', '1')\ncommit()")
    one.do("rollback()")
    assert stored(shared_postgres, "point.") == {"point.a": [(1, "0"), (2, "1")]}
    assert set(other.do("result = woken()")) == {"point.a"}


def test_a_connection_that_is_ended_in_mid_transaction_takes_all_of_it(
    publishers: list[Publisher], shared_postgres: Postgres
) -> None:
    process = publishers[0]
    process.do("begin()\npublish('ended.a', 'x')")
    shared_postgres.query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = 'publishers' AND state = 'idle in transaction'"
    )
    assert process.attempt("publish('ended.b', 'x')") == [OPERATIONAL, "psycopg.errors.AdminShutdown"]
    assert stored(shared_postgres, "ended.") == {}
    assert process.do("result = woken()") == []
    assert process.attempt("spread('ended.a', 'ended.b')") is None
    assert stored(shared_postgres, "ended.") == {"ended.a": [(1, "x")], "ended.b": [(1, "x")]}


def test_on_sqlite_a_lock_that_is_not_given_in_time_is_django_s_own_error(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with Publisher(site) as one, Publisher(site) as other:
        one.do("begin()\npublish('a', 'x')")
        other.do("options(timeout=0.05)\nwoken()")
        locked = [OPERATIONAL, "sqlite3.OperationalError"]
        assert other.attempt("spread('new', 'a')") == locked
        assert other.attempt("(begin(), publish('a', 'y'))") == locked
        one.do("commit()")
        assert other.do("result = woken()") == []
        assert other.attempt("spread('a', data='y')") is None
        code = "from sse_polling.models import Event, Channel\n"
        code += "result = [list(Channel.objects.values_list('name', 'head')), Event.objects.count()]"
        assert other.do(code) == [[["a", 2]], 2]


# Isolation levels


@pytest.mark.parametrize("level", [3, 4], ids=["repeatable-read", "serializable"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "old"])
def test_under_a_stricter_isolation_level_who_comes_second_is_told_to_try_again(
    publishers: list[Publisher], shared_postgres: Postgres, waiting: Waiting, level: int, there: bool
) -> None:
    """The database's own error, whether the channel was there or both are its first publishers."""
    one, other = publishers
    name = f"level.{level}.{there}"
    before = [(1, "0")] if there else []
    if there:
        one.do("publish(name, '0')", name=name)
    for process in publishers:
        process.do("options(isolation_level=level)", level=level)
    refused = [OPERATIONAL, "psycopg.errors.SerializationFailure"]
    # The first has not committed yet.
    one.do("begin()\npublish(name, 'x')", name=name)
    later = other.later("spread('level.new', name)", name=name)
    waiting(1)
    one.do("commit()")
    assert later.result(30) == refused
    assert stored(shared_postgres, name) == {name: [*before, (len(before) + 1, "x")]}
    # The first has committed, but after the second began.
    other.do("begin()\nexecute('SELECT count(*) FROM sse_polling_event')")
    one.do("publish(name + '.b', 'x')\npublish(name, 'y')", name=name)
    blind = f"{name}.b" if not there else name
    assert other.attempt("spread('level.new', blind)", blind=blind) == refused
    assert other.do("result = woken()") == []
    assert stored(shared_postgres, "level.new") == {}
    assert other.attempt("publish(blind, 'z')", blind=blind) is None
    assert stored(shared_postgres, blind)[blind][-1][1] == "z"


@pytest.mark.parametrize("level", [3, 4], ids=["repeatable-read", "serializable"])
def test_first_publishers_that_race_under_a_stricter_level_see_no_other_error(
    publishers: list[Publisher], shared_postgres: Postgres, level: int
) -> None:
    code = """
found = []
for number in range(60):
    while error := attempt(lambda: publish(f"race.{level}.{number}", who)):
        found.append(error)
result = found
"""
    for process in publishers:
        process.do("options(isolation_level=level)", level=level)
    running = [
        process._thread.submit(process.do, code, level=level, who=who, deadline=100)
        for process, who in zip(publishers, "ab", strict=True)
    ]
    errors = [error for each in running for error in each.result(100)]
    assert all(error == [OPERATIONAL, "psycopg.errors.SerializationFailure"] for error in errors)
    found = stored(shared_postgres, f"race.{level}.")
    assert len(found) == 60
    for events in found.values():
        assert [sequence for sequence, _ in events] == [1, 2]
        assert sorted(data for _, data in events) == ["a", "b"]
