"""The app's own database threads on a PostgreSQL that restarts, cuts its clients off, or goes mute."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from project.programs.postgres import Postgres
from sse_polling import driver
from tests.harness.shell import Shell
from tests.harness.site import Site

_CALLS = """
import asyncio, time
from django.db import connections
from sse_polling import database, history

async def ask():
    began = time.monotonic()
    try:
        await database.run(history.states, ["a"])
        said = "ok"
    except Exception as error:
        said = f"{type(error).__module__}.{type(error).__name__}: {error}"
    return [said, time.monotonic() - began]

async def ask_all():
    return await asyncio.gather(*(ask() for _ in range(count)))

result = loop.run_until_complete(ask_all())
"""
#: One loop and one pool for all calls of a test, as a server has.
_LOOP = "import asyncio, builtins; builtins.loop = asyncio.new_event_loop()"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The test's own database on the server that all share."""
    return f"database{abs(hash(request.node.name))}"


@pytest.fixture
def shell(tmp_path: Path, shared_postgres: Postgres, name: str) -> Any:
    with Shell(Site(tmp_path, database=shared_postgres.create(name))) as made:
        made.run(_LOOP)
        yield made


def ask(shell: Shell, count: int = 1) -> list[tuple[str, float]]:
    return [(said, seconds) for said, seconds in shell.run(_CALLS, count=count)]


def test_a_server_that_cut_its_clients_off_costs_no_call_an_error(
    shell: Shell, shared_postgres: Postgres, name: str
) -> None:
    assert [said for said, _ in ask(shell, 4)] == ["ok"] * 4
    shared_postgres.disconnect_all(name)
    assert [said for said, _ in ask(shell, 4)] == ["ok"] * 4


_WRITES = """
import asyncio, threading
from sse_polling import database, history

async def write_all():
    # Each keeps its thread until all have one, so that each has a connection of its own.
    gate = threading.Barrier(count)
    def write():
        gate.wait(10)
        history.states(["a"])
        gate.wait(10)
    await asyncio.gather(*(database.run_writing(write) for _ in range(count)))

async def write_one():
    try:
        await database.run_writing(history.states, ["a"])
        return "ok"
    except Exception as error:
        return type(error).__name__

result = loop.run_until_complete(write_one() if count == 1 else write_all())
"""


def test_a_lost_connection_costs_one_writer_an_error_and_not_the_next(
    shell: Shell, shared_postgres: Postgres, name: str
) -> None:
    shell.run(_WRITES, count=2)
    shared_postgres.disconnect_all(name)
    first = shell.run(_WRITES, count=1)
    assert first in ("ok", "OperationalError")  # nothing is tried twice: who writes decides
    assert [shell.run(_WRITES, count=1) for _ in range(4)] == ["ok"] * 4


def test_calls_wait_for_a_server_that_restarts(tmp_path: Path, postgres: Postgres) -> None:
    with Shell(Site(tmp_path, database=postgres.create("site"))) as shell:
        shell.run(_LOOP)
        assert ask(shell)[0][0] == "ok"
        postgres.kill()
        back = threading.Timer(1.0, postgres.restart)
        back.start()
        answers = ask(shell, 6)
        back.join()
        assert [said for said, _ in answers] == ["ok"] * 6
        assert postgres.connections() <= 2


@pytest.mark.faults
def test_a_server_that_is_gone_is_told_in_the_databases_own_error(tmp_path: Path, postgres: Postgres) -> None:
    with Shell(Site(tmp_path, database=postgres.create("site"))) as shell:
        shell.run(_LOOP)
        assert ask(shell)[0][0] == "ok"
        postgres.kill()
        for said, seconds in ask(shell, 5):
            assert said.startswith("django.db.utils.OperationalError: ")
            assert seconds < 30
        said, seconds = ask(shell)[0]
        assert "away for a while" in said or "refused" in said
        assert seconds < 4


def test_a_mute_server_loses_the_pool_no_thread(tmp_path: Path, shared_postgres: Postgres) -> None:
    """A query that gets no answer is cut off at its socket: two of them would else be the whole pool."""
    with Shell(Site(tmp_path, database=shared_postgres.create("mute"))) as shell:
        shell.run(_LOOP)
        shell.run("from sse_polling import database; database.ANSWER_SECONDS = 0.5")
        sleeping = (
            "async def sleep():\n"
            "    from django.db import connections\n"
            "    from sse_polling import database\n"
            "    def query():\n"
            "        with connections['default'].cursor() as cursor:\n"
            "            cursor.execute('SELECT pg_sleep(60)')\n"
            "    answers = await asyncio.gather(\n"
            "        *(database._answer(query) for _ in range(2)), return_exceptions=True)\n"
            "    return [str(each) for each in answers]\n"
            "import asyncio\n"
            "result = loop.run_until_complete(sleep())\n"
        )
        for _ in range(3):
            assert shell.run(sleeping) == ["The database did not answer within 0.5 s."] * 2
        shell.run("from sse_polling import database; database.ANSWER_SECONDS = 10")
        began = time.monotonic()
        assert [said for said, _ in ask(shell, 4)] == ["ok"] * 4
        assert time.monotonic() - began < 20
        threads = "import threading; result = [each.name for each in threading.enumerate()]"
        assert sum("database-reading" in name for name in shell.run(threads)) <= 2


_CANCELLED = """
async def leave():
    from sse_polling import database
    from django.db import connections
    def sleeps():
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")
    calls = [asyncio.ensure_future(database.run(sleeps)) for _ in range(2)]
    await asyncio.sleep(0.3)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
import asyncio
result = loop.run_until_complete(leave())
"""


def test_clients_that_leave_while_the_database_is_mute_lose_the_pool_no_thread(shell: Shell) -> None:
    shell.run("from sse_polling import database; database.ANSWER_SECONDS = 1")
    shell.run(_CANCELLED)
    shell.run("from sse_polling import database; database.ANSWER_SECONDS = 30")
    assert [said for said, _ in ask(shell, 4)] == ["ok"] * 4


_LET_GO = """
import asyncio, time
from django.db import connections
from sse_polling import database, pools

def sleeps():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")

async def main():
    kinds = (database.run, database.run_writing, database.run_aside, database.run_aside)
    calls = [asyncio.ensure_future(run(sleeps)) for run in kinds]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    pools.let_go()
    await asyncio.wait(calls[1:])  # run() tries again, and finds no pool
    calls[0].cancel()
    how = ["cancelled" if each.cancelled() else type(each.exception()).__name__ for each in calls[1:]]
    print(*how, time.monotonic() - began < 5)

asyncio.run(main())
"""


def test_a_process_that_ends_waits_for_no_answer_of_a_mute_database(
    tmp_path: Path, shared_postgres: Postgres, name: str
) -> None:
    """What waits is cut off, what has not begun does not: the interpreter waits for both."""
    site = Site(tmp_path, database=shared_postgres.create(name))
    site._migrated = True  # it needs no table
    assert site.python(_LET_GO, timeout=20).split() == [
        *["OperationalError"] * 2,
        "cancelled",  # it waited for the one before it
        "True",
    ]


def test_a_call_that_is_cut_while_it_connects_does_not_begin_to_wait(
    tmp_path: Path, shared_postgres: Postgres
) -> None:
    line = driver.Line()
    line.cut()
    with psycopg.connect(shared_postgres.url(), autocommit=True) as connection:
        line.hold(SimpleNamespace(connection=connection))
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_sleep(60)")
        line.release()


_TIMES_OUT = """
async def ask():
    from sse_polling import database
    from django.db import connections
    def slow():
        with connections["default"].cursor() as cursor:
            cursor.execute("SET statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(60)")
    try:
        await database.run(slow)
    except Exception as error:
        return [type(error).__name__, database._gate(loop).shut_since]
import asyncio
result = loop.run_until_complete(ask())
"""


def test_a_statement_that_the_database_refuses_is_no_outage(shell: Shell) -> None:
    """Else one slow query would hold every reader up at the gate."""
    assert shell.run(_TIMES_OUT) == ["OperationalError", None]
    assert ask(shell)[0][0] == "ok"


@pytest.mark.faults
def test_connections_cut_again_and_again_give_djangos_errors_or_none(
    shell: Shell, shared_postgres: Postgres, name: str
) -> None:
    cutting = threading.Event()

    def cut() -> None:
        while not cutting.is_set():
            shared_postgres.disconnect_all(name)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        said = [each for _ in range(20) for each, _ in ask(shell, 8)]
    finally:
        cutting.set()
        thread.join()
    assert all(each == "ok" or each.startswith("django.db.utils.") for each in said), said
    for _ in range(50):  # the gate's pauses are up to a second
        answers = [each for each, _ in ask(shell, 8)]
        if answers == ["ok"] * 8:
            return
        time.sleep(0.1)
    raise AssertionError(answers)


def test_a_drivers_own_error_becomes_djangos(shell: Shell) -> None:
    """psycopg's cursors of the server raise one when they are closed on a lost connection."""
    said = shell.run(
        "import psycopg\n"
        "from sse_polling import database\n"
        "def fails():\n"
        "    raise psycopg.OperationalError('consuming input failed')\n"
        "async def ask():\n"
        "    try:\n"
        "        await database._answer(fails)\n"
        "    except Exception as error:\n"
        "        error = getattr(error, 'error', error)\n"
        "        return f'{type(error).__module__}.{type(error).__name__}: {error}'\n"
        "result = loop.run_until_complete(ask())"
    )
    assert said == "django.db.utils.OperationalError: consuming input failed"


class _Wrapper:
    def __init__(self, vendor: str, options: dict[str, Any]) -> None:
        self.vendor = vendor
        self.settings_dict = {"NAME": "x", "OPTIONS": options}


def test_the_pools_connections_notice_a_lost_host_and_the_projects_own_options_win() -> None:
    given = {"connect_timeout": 2, "sslmode": "require"}
    wrapper = _Wrapper("postgresql", given)
    before = wrapper.settings_dict
    driver.limit(wrapper)
    driver.limit(wrapper)
    assert wrapper.settings_dict["OPTIONS"] == {**driver.LIMITS, **given}
    assert before["OPTIONS"] == given  # shared with every other connection of the process


def test_a_thread_of_ours_takes_no_connection_of_the_sites_pool() -> None:
    """It would keep it: four threads, and a pool of four has none left for the site."""
    wrapper = _Wrapper("postgresql", {"pool": True, "sslmode": "require"})
    driver.limit(wrapper)
    assert wrapper.settings_dict["OPTIONS"] == {**driver.LIMITS, "sslmode": "require"}


@pytest.mark.parametrize("vendor", ["sqlite", "mysql", "oracle"])
def test_other_databases_are_left_alone(vendor: str) -> None:
    wrapper = _Wrapper(vendor, {"timeout": 20})
    before = wrapper.settings_dict
    driver.limit(wrapper)
    assert wrapper.settings_dict is before


class _Lost:
    """psycopg's connection once it knows that it is lost."""

    class pgconn:  # noqa: N801 - as it is called there
        @property
        def socket(self) -> int:
            raise RuntimeError("the connection is lost")


@pytest.mark.parametrize("below", [None, object(), _Lost(), SimpleNamespace(pgconn=_Lost.pgconn())])
def test_a_call_without_a_socket_to_reach_is_not_cut(below: Any) -> None:
    line = driver.Line()
    line.hold(SimpleNamespace(connection=below))
    line.cut()
    line.release()
    line.release()
