"""Fixtures that give a test real programs, each stopped when the test ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings

from project.programs.postgres import Postgres
from project.programs.process import Process
from project.programs.redis import Redis
from tests.harness.programs import require
from tests.harness.server import AsgiServer
from tests.harness.site import Site

if TYPE_CHECKING:
    from sse_polling.hub import Hub

    from .timeless import Timeless


def pytest_unconfigure() -> None:
    """Remove what SQLite leaves beside the test database."""
    file = getattr(settings, "DATABASE_FILE", None) if settings.configured else None
    if file is not None:
        for left in Path(file).parent.glob(f"{Path(file).name}*"):  # a worker's name, -wal, -shm
            left.unlink(missing_ok=True)


@pytest.fixture(autouse=True, scope="session")
def no_beat() -> None:
    """Let no test's own process write a row or listen to signals, unless it begins to itself."""
    from sse_polling.nodes.beat import beat

    beat.enabled = False


@pytest.fixture
def hub(time: Timeless) -> Iterator[Hub]:
    """A hub in the loop of the module's own fixture ``time``."""
    from sse_polling.hub import Hub

    made = Hub(time.loop)
    yield made
    made.stop()
    time.settle()


@pytest.fixture
def processes() -> Iterator[contextlib.ExitStack]:
    """Stop, last started first, what is registered with it: `processes.callback(server.stop)`."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of the test's own."""
    require("redis-server")
    server = Redis(tmp_path).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL for all tests that leave it running; make a database each: `.create("name")`."""
    require("postgres")
    server = Postgres(tmp_path_factory.mktemp("postgres")).start()
    yield server
    server.remove()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, to kill and restart."""
    require("postgres")
    server = Postgres(tmp_path).start()
    yield server
    server.remove()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A project on a SQLite file with the in-memory layer."""
    return Site(tmp_path)


@pytest.fixture
def serve(processes: contextlib.ExitStack) -> Callable[..., AsgiServer]:
    """Start a server: `serve(site, kind="uvicorn", app="tests.asgi:plain_application")`."""

    def start(site: Site, **options: Any) -> AsgiServer:
        server = AsgiServer(site, **options).start()
        processes.callback(_end, server)
        return server

    return start


def _end(process: Process) -> None:
    # A test that is about leaving calls `stop` itself; here it must only be quick and sure.
    process.kill()
