"""A database of this folder's own, and publishers in processes of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from project.programs.postgres import Postgres
from tests.harness.site import Site
from tests.publishers.publisher import Publisher

DATABASE = "publishers"


@pytest.fixture(scope="session")
def postgres_site(shared_postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("publishers"), database=shared_postgres.create(DATABASE))
    # A test of deadlocks waits this long for each.
    shared_postgres.query("ALTER DATABASE publishers SET deadlock_timeout = '50ms'")
    site.migrate()
    return site


@pytest.fixture(scope="session")
def _processes(postgres_site: Site) -> Iterator[list[Publisher]]:
    processes = [Publisher(postgres_site) for _ in range(2)]
    yield processes
    for process in processes:
        process.close()


@pytest.fixture
def publishers(_processes: list[Publisher]) -> list[Publisher]:
    """Two publishers to one PostgreSQL, connected anew."""
    for process in _processes:
        process.do("options(isolation_level=None)\nexecute('SELECT 1')\nwoken()")
    return _processes


@pytest.fixture
def waiting(shared_postgres: Postgres) -> Callable[[int], None]:
    """Wait until so many connections wait for a lock of another transaction."""

    def wait(count: int = 1) -> None:
        def reached() -> bool:
            rows = shared_postgres.query(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = 'publishers' AND wait_event_type = 'Lock'"
            )
            return int(rows[0][0]) == count

        shared_postgres.wait_for(reached, seconds=20, what=f"to have {count} waiting for a lock")

    return wait
