"""The app's own database threads on a PostgreSQL that restarts, cuts its clients off, or goes mute."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
def shell(tmp_path: Path, shared_postgres: Postgres, request: pytest.FixtureRequest) -> Any:
    name = f"database{abs(hash(request.node.name))}"
    with Shell(Site(tmp_path, database=shared_postgres.create(name))) as made:
        made.run(_LOOP)
        yield made


def ask(shell: Shell, count: int = 1) -> list[tuple[str, float]]:
    return [(said, seconds) for said, seconds in shell.run(_CALLS, count=count)]


def test_a_server_that_cut_its_clients_off_costs_no_call_an_error(
    shell: Shell, shared_postgres: Postgres
) -> None:
    assert [said for said, _ in ask(shell, 4)] == ["ok"] * 4
    shared_postgres.disconnect_all()
    assert [said for said, _ in ask(shell, 4)] == ["ok"] * 4


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


@pytest.mark.parametrize(
    ("vendor", "options"), [("sqlite", {}), ("mysql", {}), ("postgresql", {"pool": True})]
)
def test_other_databases_and_djangos_own_pool_are_left_alone(vendor: str, options: dict[str, Any]) -> None:
    wrapper = _Wrapper(vendor, options)
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
    assert not line.cut()
    line.release()
    line.release()
