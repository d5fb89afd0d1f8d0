"""A connection that dies while it commits: nobody knows whether the events are stored, until they look.

A real PostgreSQL behind a line that is cut when a COMMIT passes: before it arrives, before its answer
does, or with the COMMIT still on its way. Planted once each, and red: a writer that does not
look (each event that was stored is there twice); one that believes that what failed was not stored,
or that it was (twice, or never); one that looks without the lock ("late": twice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from project.programs.postgres import Postgres
from tests.harness.site import Site
from tests.publishers.line import Failure, Line
from tests.publishers.publisher import Publisher
from tests.publishers.test_locks import OPERATIONAL, stored

Waiting = Callable[..., None]


@pytest.fixture(scope="module")
def whole(shared_postgres: Postgres) -> Iterator[Line]:
    with Line(shared_postgres.port) as line:
        yield line


@pytest.fixture
def line(whole: Line) -> Iterator[Line]:
    yield whole
    whole.heal()


@pytest.fixture(scope="module")
def behind(
    whole: Line, postgres_site: Site, shared_postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Publisher]:
    """A publisher whose database is at the other end of the line."""
    address = postgres_site.database.replace(f":{shared_postgres.port}/", f":{whole.port}/")
    site = Site(tmp_path_factory.mktemp("behind"), database=address)
    with Publisher(site) as publisher:
        yield publisher


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    return f"cut.{request.node.name}".replace("[", ".").replace("]", "")


BEGIN = "out = writer(channel, flush_ms=0)\nfor each in before: out.write(each)"
LOST_OR_NOT = pytest.mark.parametrize("failure", ["lost", "unanswered"])
FIRST_OR_NOT = pytest.mark.parametrize("first", [True, False], ids=["first", "later"])


@LOST_OR_NOT
@FIRST_OR_NOT
def test_a_writer_finds_out_at_once_what_became_of_its_events(
    behind: Publisher, line: Line, shared_postgres: Postgres, channel: str, failure: Failure, first: bool
) -> None:
    """A write whose commit was done does not raise; one that raises did not store, and may be repeated."""
    before = [] if first else ["a"]
    behind.do(
        "out = writer(channel, flush_ms=0)\nfor each in before: out.write(each)",
        channel=channel,
        before=before,
    )
    line.fail(failure)
    outcome = behind.attempt("writer(channel).write('b')", channel=channel)
    assert outcome == (None if failure == "unanswered" else [OPERATIONAL, "psycopg.OperationalError"])
    if outcome:
        assert behind.attempt("writer(channel).write('b')", channel=channel) is None
    assert behind.attempt("writer(channel).__exit__(None, None, None)", channel=channel) is None
    assert [data for _, data in stored(shared_postgres, channel)[channel]] == [*before, "b"]


@LOST_OR_NOT
@FIRST_OR_NOT
def test_a_writer_that_cannot_find_out_yet_does_so_before_it_stores_again(
    behind: Publisher,
    line: Line,
    publishers: list[Publisher],
    shared_postgres: Postgres,
    channel: str,
    failure: Failure,
    first: bool,
) -> None:
    """Also where another has published since, at the very place that its events had been given."""
    before = [] if first else ["a"]
    behind.do(
        "out = writer(channel, flush_ms=0, finish=True)\nfor each in before: out.write(each)",
        channel=channel,
        before=before,
    )
    line.fail(failure, refuse=True)
    assert behind.attempt("writer(channel).write('b')", channel=channel) is None  # taken, and in doubt
    error = behind.attempt("writer(channel).write('refused')", channel=channel)
    assert error == [OPERATIONAL, "psycopg.OperationalError"]
    publishers[0].do("publish(channel, 'other')", channel=channel)
    line.heal()
    assert behind.attempt("writer(channel).write('c')", channel=channel) is None
    assert behind.attempt("writer(channel).__exit__(None, None, None)", channel=channel) is None
    shown = [data for _, data in stored(shared_postgres, channel)[channel]]
    assert shown == [*before, *(["b", "other"] if failure == "unanswered" else ["other", "b"]), "c", "{}"]


@LOST_OR_NOT
def test_the_last_flush_of_a_writer_is_exact_too(
    behind: Publisher, line: Line, shared_postgres: Postgres, channel: str, failure: Failure
) -> None:
    behind.do(
        "out = writer(channel, flush_ms=600_000, finish=True)\nout.write('a')\nout.write('b')",
        channel=channel,
    )
    line.fail(failure)
    outcome = behind.attempt("writer(channel).__exit__(None, None, None)", channel=channel)
    found = stored(shared_postgres, channel)
    if failure == "unanswered":
        assert outcome is None
        assert found == {channel: [(1, "a"), (2, "b"), (3, "{}")]}
    else:
        assert outcome == [OPERATIONAL, "psycopg.OperationalError"]
        assert found == {}


@FIRST_OR_NOT
def test_a_writer_waits_for_a_commit_that_may_still_arrive(
    behind: Publisher,
    line: Line,
    waiting: Waiting,
    shared_postgres: Postgres,
    channel: str,
    first: bool,
) -> None:
    """The server does not know yet that the line is cut: the transaction is open, and holds its locks."""
    before = [] if first else ["a"]
    behind.do(
        "out = writer(channel, flush_ms=0)\nfor each in before: out.write(each)",
        channel=channel,
        before=before,
    )
    line.fail("late")
    writing = behind.later("(writer(channel).write('b'), writer(channel).write('c'))", channel=channel)
    waiting(1)
    line.release()
    assert writing.result(30) is None
    assert [data for _, data in stored(shared_postgres, channel)[channel]] == [*before, "b", "c"]


def test_a_writer_waits_until_the_server_has_given_the_transaction_up(
    behind: Publisher, line: Line, waiting: Waiting, shared_postgres: Postgres, channel: str
) -> None:
    behind.do("writer(channel, flush_ms=600_000).write('b')", channel=channel)
    line.fail("late")
    flushing = behind.later("writer(channel).flush()", channel=channel)
    waiting(1)
    shared_postgres.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = 'publishers' AND state = 'idle in transaction'"
    )
    assert flushing.result(30) == [OPERATIONAL, "psycopg.OperationalError"]
    line.release()
    assert behind.attempt("writer(channel).flush()", channel=channel) is None
    assert stored(shared_postgres, channel) == {channel: [(1, "b")]}


@LOST_OR_NOT
def test_a_key_makes_it_safe_to_publish_again(
    behind: Publisher, line: Line, shared_postgres: Postgres, channel: str, failure: Failure
) -> None:
    """``publish`` cannot look: the transaction is the caller's, who is told, and may try it again."""
    behind.do("woken()")
    line.fail(failure)
    call = "publish(channel, 'a', key='once')"
    assert behind.attempt(call, channel=channel) == [OPERATIONAL, "psycopg.OperationalError"]
    assert behind.do("result = woken()") == []
    assert behind.attempt(call, channel=channel) is None
    assert behind.attempt(call, channel=channel) is None
    assert stored(shared_postgres, channel) == {channel: [(1, "a")]}


@LOST_OR_NOT
def test_keys_make_it_safe_to_try_a_whole_transaction_again(
    behind: Publisher, line: Line, shared_postgres: Postgres, channel: str, failure: Failure
) -> None:
    code = """
def both():
    begin()
    publish_many(channel, [Draft("a", key="1"), Draft("b", key="2", channel=channel + ".b")])
    publish(channel, "c", key="3")
    commit()
result = attempt(both)
"""
    line.fail(failure)
    assert behind.do(code, channel=channel) == [OPERATIONAL, "psycopg.OperationalError"]
    assert behind.do(code, channel=channel) is None
    assert stored(shared_postgres, channel) == {channel: [(1, "a"), (2, "c")], f"{channel}.b": [(1, "b")]}
