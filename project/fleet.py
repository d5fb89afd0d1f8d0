"""A fleet: several servers on PostgreSQL and Redis behind nginx, in a folder of its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from django.conf import settings

from .children import Child, Kind, Server, Worker, end_all
from .peers import PEERS
from .programs.finding import Program, find
from .programs.front import Front
from .programs.ports import HOST, free_port
from .programs.postgres import Postgres
from .programs.process import Process, ProcessFailed
from .programs.redis import Redis
from .restart import SUPERVISOR
from .shell import WRAPPER, write_wrapper
from .supervisor import STOP_SECONDS, GivenUp, Supervisor

__all__ = ["Fleet", "lacking"]

_DATABASE = "demo"

_LACKING: Mapping[Program, str] = {
    "postgres": "no PostgreSQL (Debian: apt install postgresql): "
    "the events are in a SQLite file, which all servers share.",
    "redis-server": "no redis-server (Debian: apt install redis-server): servers do not wake each other. "
    "They look into the database instead, all the time on SQLite, every two seconds on PostgreSQL.",
    "nginx": "no nginx (Debian: apt install nginx): there is no address for all servers, only those below. "
    "A page stays with its server, and waits for it when it is killed.",
}
# What another command must have in its environment to be of the same site.
_SHARED = ("DJANGO_SETTINGS_MODULE", "DJANGO_VAR", "DATABASE_URL", "REDIS_URL", "REDIS_LAYER")


def lacking() -> dict[Program, str]:
    """Return which programs the machine does not have, and what the fleet goes without."""
    missing = {program: text for program, text in _LACKING.items() if find(program) is None}
    if find("initdb") is None:
        missing.setdefault("postgres", _LACKING["postgres"])
    return missing


class Fleet:
    """The programs of a fleet, started and ended in their order: what others need comes first and goes last.

    All it writes is in `folder`; the database there is used again the next time.
    """

    def __init__(self, folder: Path, *, port: int, kinds: Mapping[Kind, int]) -> None:
        self.folder = folder
        self.port = port
        self.notes: list[str] = []
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self.front: Front | None = None
        self.servers: list[Server] = []
        self.machine: Child | None = None
        self.workers: list[Worker] = []
        self.login = ""
        self.environment: dict[str, str] = {}
        self.wrapper = folder / WRAPPER
        self._kinds = kinds
        self._lock: TextIO | None = None

    @property
    def url(self) -> str:
        """The address to visit: nginx's, else the first server's."""
        return f"http://{HOST}:{self.front.port if self.front else self.servers[0].port}"

    @property
    def processes(self) -> list[Process]:
        """Everything that is supervised, in the order of starting."""
        named = [self.postgres, self.redis, *self.servers, self.front, self.machine, *self.workers]
        return [process for process in named if process is not None]

    def claim(self) -> None:
        """Take the folder for this process, and clear what an earlier one left. Raises :exc:`GivenUp`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "lock"
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            holder = path.read_text().strip() or "?"
            raise GivenUp(f"A fleet runs in {self.folder} already, as process {holder}.") from None
        self._lock = lock  # held until this process ends, however it ends
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        for pattern in ("*.pid", "*.log", "nginx.conf", WRAPPER):
            for left in self.folder.glob(pattern):
                left.unlink()

    def start(self, supervisor: Supervisor) -> bool:
        """Start everything; False when asked to stop meanwhile. Raises :exc:`GivenUp`."""
        try:
            return (
                supervisor.start(*self._services())
                and self._prepare()
                and supervisor.start(*self._serving())
                and supervisor.start(*self._fronts())
                and supervisor.start(*self._working())
            )
        except ProcessFailed as failure:
            if supervisor.stopping:
                return False
            raise GivenUp(str(failure)) from None

    def restart(self, supervisor: Supervisor) -> None:
        """Restart the servers one after the other, so that there is always one that serves."""
        for server in self.servers:
            if not supervisor.restart(server):
                return

    def end(self) -> None:
        """End everything, last started first, each step within a bound."""
        end_all([*([self.machine] if self.machine else []), *self.workers], 5)
        # nginx stays a little longer, so that the streams are ended by their servers and not cut.
        end_all(self.servers, STOP_SECONDS)
        for service in (self.front, self.redis, self.postgres):
            if service:
                end_all([service], 15)
        if self.postgres and not self.postgres.kept:
            self.postgres.remove()
        for server in self.servers:
            server.forget()
        (self.folder / WRAPPER).unlink(missing_ok=True)

    def _services(self) -> list[Process]:
        missing = lacking()
        self.notes += [f"Going on with {text}" for text in missing.values()]
        if "postgres" not in missing:
            self.postgres = self._make_postgres()
            self.postgres.leashed = True
        if "redis-server" not in missing:
            self.redis = Redis(self.folder)
            self.redis.leashed = True
        return [service for service in (self.postgres, self.redis) if service]

    def _make_postgres(self) -> Postgres:
        try:
            return Postgres(self.folder, keep=self.folder / "postgres")
        except ProcessFailed as failure:
            self.notes.append(f"{failure}: the database is in a temporary folder, and gone at the end.")
            return Postgres(self.folder)

    def _prepare(self) -> bool:
        """Make the tables and the login, in a process that has the fleet's settings."""
        ports = [free_port() for _ in range(sum(self._kinds.values()))]
        self.environment = {
            "DJANGO_VAR": str(self.folder),
            "DATABASE_URL": self._make_database() if self.postgres else "",
            "REDIS_URL": self.redis.url if self.redis else "",
            SUPERVISOR: str(os.getpid()),
            PEERS: " ".join(map(str, ports)),
        }
        done = subprocess.run(
            [sys.executable, "manage.py", "prepare"],
            cwd=settings.BASE_DIR,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            start_new_session=True,
        )
        if done.returncode:
            raise GivenUp(f"manage.py prepare ended with status {done.returncode}.\n{done.stderr.strip()}")
        self.login = done.stdout.strip()
        self._make_servers(ports)
        environment = os.environ | self.environment
        shared = {name: environment[name] for name in _SHARED if name in environment}
        self.wrapper = write_wrapper(self.folder, shared)
        return True

    def _make_database(self) -> str:
        assert self.postgres is not None  # noqa: S101 - its only caller asks
        names = [name for (name,) in self.postgres.query("SELECT datname FROM pg_database")]
        return self.postgres.url(_DATABASE) if _DATABASE in names else self.postgres.create(_DATABASE)

    def _make_servers(self, ports: list[int]) -> None:
        kinds = [(kind, number) for kind, count in self._kinds.items() for number in range(1, count + 1)]
        for (kind, number), port in zip(kinds, ports, strict=True):
            name = f"{kind}-{number}"
            self.servers.append(
                Server(
                    name,
                    kind,
                    port,
                    self.environment,
                    pid_file=self.folder / f"server-{name}.pid",
                    logs=self.folder,
                )
            )

    def _serving(self) -> list[Process]:
        self.machine = Child("machine", ["manage.py", "machine"], self.environment, logs=self.folder)
        return [*self.servers, self.machine]

    def _fronts(self) -> list[Process]:
        if "nginx" in lacking():
            return []
        self.front = Front(self.folder, [server.port for server in self.servers], port=self.port)
        self.front.leashed = True
        return [self.front]

    def _working(self) -> list[Process]:
        """Make the workers, which need the address of all servers."""
        places = [("worker-1", "agents", 2), ("worker-2", "agents", 2), ("reader", "readers", 4)]
        self.workers = [
            Worker(name, queue, at_once, self.environment, url=self.url, logs=self.folder)
            for name, queue, at_once in places
        ]
        return [*self.workers]
