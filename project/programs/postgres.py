"""A real PostgreSQL server in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from .finding import require
from .ports import HOST, free_port
from .process import Process, ProcessFailed

__all__ = ["Postgres"]

_SETTINGS = {
    "fsync": "off",
    # On: else a commit is only in the server's memory for a while, and a killed process loses it.
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "log_min_duration_statement": "-1",
}


# What is kept for another day must survive the machine's crash too.
_KEPT = {"fsync": "on", "full_page_writes": "on"}


class Postgres(Process):
    """Run PostgreSQL on a free port, as another user when the owner is root (it refuses root).

    The cluster's user is `sse`, without a password, on loopback only. With fsync off a *process*
    may crash (`kill`) and keep every commit; only the machine must not.

    `keep` is a folder for the data that outlives this object, and gets fsync; a cluster that is there
    already is used. Raises :exc:`ProcessFailed` when PostgreSQL's user cannot reach it.
    """

    stop_signal = signal.SIGINT  # fast shutdown: does not wait for clients

    def __init__(self, directory: Path, *, name: str = "postgres", keep: Path | None = None) -> None:
        super().__init__(name, directory)
        self.initdb = require("initdb")
        self.postgres = require("postgres")
        self.port = free_port()
        self.kept = keep is not None
        if keep is not None:
            keep.mkdir(mode=0o700, exist_ok=True)
        # Not under `directory`: a folder of pytest's, say, lets nobody but root through.
        self.home = keep or Path(tempfile.mkdtemp(prefix="sse-polling-postgres-"))
        self.data = self.home / "data"
        if identity := self.identity():
            os.chown(self.home, *identity)
            if keep is not None and not _reaches(identity, keep):
                raise ProcessFailed(f"{keep} cannot be reached by the user that PostgreSQL runs as")

    def identity(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return entry.pw_uid, entry.pw_gid
        raise ProcessFailed("this runs as root and there is no user `postgres` or `nobody`")

    def working_directory(self) -> Path:
        return self.home

    def command(self) -> Sequence[str | Path]:
        settings = {**_SETTINGS, **_KEPT} if self.kept else _SETTINGS
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [self.postgres, "-D", self.data, "-p", str(self.port), *options]

    def start(self, *, wait: bool = True) -> Postgres:
        if not self.data.exists():
            self._create()
        self._outwait_predecessor()
        super().start(wait=wait)
        return self

    def _outwait_predecessor(self) -> None:
        """Wait until a server that somebody else started here has ended, as one told to does soon."""
        deadline = time.monotonic() + self.stop_seconds
        while time.monotonic() < deadline and _runs(self.data / "postmaster.pid"):
            time.sleep(0.05)

    def _create(self) -> None:
        user, group = self.identity() or (None, None)
        # Under another name until it is whole: an initdb that was cut off leaves half a cluster.
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        done = subprocess.run(
            [self.initdb, "-D", fresh, "-U", "sse", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.home,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            timeout=60,
        )
        if done.returncode:
            raise ProcessFailed(f"initdb ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        fresh.rename(self.data)

    def restart(self, *, kill: bool = False) -> Postgres:
        if kill:
            self.kill()
        else:
            self.stop()
        # After a kill the backends need a moment to notice; until then the server refuses to start.
        for attempt in range(20):
            try:
                return self.start()
            except ProcessFailed:
                if attempt == 19:
                    raise
        raise AssertionError("unreachable")

    def is_ready(self) -> bool:
        try:
            self.query("SELECT 1", timeout=1)
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """Return the address of one database, as `DATABASE_URL` has it."""
        return f"postgres://sse@{HOST}:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its address."""
        self.query(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def query(
        self, sql: LiteralString, *, database: str = "postgres", timeout: int = 10
    ) -> list[tuple[Any, ...]]:
        """Run one statement outside any transaction and return its rows."""
        with psycopg.connect(
            self.url(database), autocommit=True, connect_timeout=timeout, application_name="harness"
        ) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def connections(self, database: str | None = None) -> int:
        """Count the clients' connections, to one database or to all, the harness's own left out."""
        rows = self.query(
            "SELECT datname FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND application_name <> 'harness'"
        )
        return sum(database in (None, name) for (name,) in rows)

    def disconnect_all(self, database: str | None = None) -> None:
        """Cut every client's connection, to one database or to all, as a failover does."""
        if database is None:
            self.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        else:
            self.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
                database=database,
            )

    def remove(self) -> None:
        """Stop the server and delete its data."""
        if self.running:
            # At once, but through the server, which ends its own children.
            self.signal(signal.SIGQUIT)
            with contextlib.suppress(ProcessFailed):
                self.wait(self.stop_seconds)
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def _reaches(identity: tuple[int, int], folder: Path) -> bool:
    """Tell whether that user may enter the folder: each one above it must let him through."""
    user, group = identity
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1"', "sh", folder],
        check=False,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=user,
        group=group,
        extra_groups=[],
        timeout=10,
    )
    return done.returncode == 0


def _runs(pid_file: Path) -> bool:
    """Tell whether the process whose id is the file's first line is there."""
    try:
        os.kill(int(pid_file.read_text().split()[0]), 0)
    except (OSError, ValueError, IndexError):
        return False
    return True
