"""The tests that are about the database, once more on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from project.programs.postgres import Postgres

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.database
@pytest.mark.django_db
def test_the_database_is_set_up_as_the_readme_says() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            assert "SSE_POLLING_TEST_DATABASE_URL" not in os.environ
            cursor.execute("PRAGMA journal_mode")
            assert cursor.fetchone() == ("wal",)
            cursor.execute("PRAGMA database_list")
            # A file, which threads can share; under xdist with the worker's name.
            assert cursor.fetchone()[2].startswith(str(settings.DATABASE_FILE))
        else:
            cursor.execute("SELECT version()")
            assert cursor.fetchone()[0].startswith("PostgreSQL")


@pytest.mark.skipif("SSE_POLLING_TEST_DATABASE_URL" in os.environ, reason="runs on PostgreSQL already")
@pytest.mark.faults
@pytest.mark.timeout(400)
def test_the_database_tests_pass_on_postgresql_too(shared_postgres: Postgres) -> None:
    """Run everything marked `database` in a pytest of its own."""
    done = subprocess.run(
        # The server is thrown away afterwards, and the package's threads may still be connected.
        [sys.executable, "-m", "pytest", "-q", "-m", "database", "--reuse-db", "-p", "no:cacheprovider"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SSE_POLLING_TEST_DATABASE_URL": shared_postgres.url("app"), "PYTEST_ADDOPTS": ""},
        timeout=390,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
