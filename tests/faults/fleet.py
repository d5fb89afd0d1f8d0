"""A site in many processes: servers, publishers, what they share. Started once, mended after each fault."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import redis as redis_client

from project.programs.ports import HOST
from project.programs.postgres import Postgres
from project.programs.process import Process, ProcessFailed
from project.programs.redis import Redis
from tests.harness.proxy import Proxy
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Layer, Site

from .publishers import Publisher
from .store import Store
from .streams import streams

__all__ = ["Fleet", "Where", "embedded", "full", "proxied"]

Where = Literal["fleet", "embedded", "proxied"]

#: As a deployment does: a process that was told to stop does not wait for its streams for ever.
_ARGUMENTS: dict[Kind, list[str]] = {
    "daphne": ["--access-log", "/dev/null"],
    "uvicorn": ["--no-access-log", "--timeout-graceful-shutdown", "1"],
}


class Fleet:
    """The processes of one site. Use :func:`full`, :func:`embedded` or :func:`proxied`."""

    def __init__(
        self,
        site: Site,
        *,
        kinds: list[Kind],
        redis: Redis | None = None,
        postgres: Postgres | None = None,
        app: str = "tests.asgi:application",
        beside: Site | None = None,
    ) -> None:
        self.site = site
        self.redis = redis
        self.postgres = postgres
        self.redis_proxy: Proxy | None = None
        self.postgres_proxy: Proxy | None = None
        self.servers = [
            AsgiServer(site, kind=kind, app=app, arguments=_ARGUMENTS[kind], name=f"{kind}-{index}")
            for index, kind in enumerate(kinds)
        ]
        # The second goes past the proxies, if there are any: not all publishers suffer alike.
        self.publishers = [
            Publisher(each, name=f"publisher-{index}") for index, each in enumerate((site, beside or site))
        ]
        self.store = Store((beside or site).database)
        self._owned = contextlib.ExitStack()
        self._client_proxies: list[Proxy] = []

    def own(self, *closings: Any) -> None:
        """Call these when the fleet ends, the last first."""
        for each in closings:
            self._owned.callback(each)

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def client_proxies(self) -> list[Proxy]:
        """A proxy before each server, for clients; made when they are first asked for."""
        if not self._client_proxies:
            self._client_proxies = [Proxy(server.port).start() for server in self.servers]
            self.own(*(proxy.close for proxy in self._client_proxies))
        return self._client_proxies

    @property
    def processes(self) -> list[Process]:
        return [*self.servers, *self.publishers]

    def start(self) -> Fleet:
        """Start every process and wait for all."""
        self.site.migrate()
        for process in self.processes:
            process.start(wait=False)
        for process in self.processes:
            process.wait_ready()
        return self

    def close(self) -> None:
        """End every process."""
        for process in self.processes:
            with contextlib.suppress(ProcessFailed):
                process.kill()
        self._owned.close()

    def mend(self, *, anew: bool = False) -> None:
        """Bring back whatever a fault has left broken.

        *anew*: start every process again, since a trial has failed and the next shall not suffer from it.
        """
        for proxy in (self.redis_proxy, self.postgres_proxy, *self._client_proxies):
            if proxy is not None:
                proxy.heal()
        for process in (self.redis, self.postgres, *self.processes):
            if process is None:
                continue
            process.resume()
            if anew and process in self.processes:
                process.kill()
            if not process.running:
                process.start()
        if self.redis is not None:
            with self.redis_line() as line:
                line.config_set("maxclients", 10_000)

    def redis_line(self) -> Any:
        """Return a client of Redis with one connection, kept until it is dropped."""
        if self.redis is None:
            raise ProcessFailed("this fleet has no Redis")
        return redis_client.Redis(
            host=HOST, port=self.redis.port, single_connection_client=True, socket_timeout=5
        )

    def logs(self) -> str:
        """Return the end of every process's log."""
        return "\n".join(process.log_tail(15) for process in self.processes)


def full(directory: Path, *, layer: Layer, app: str = "tests.asgi:application", **settings: Any) -> Fleet:
    """Start PostgreSQL, Redis, two servers of each kind and two publishers."""
    redis = Redis(directory).start()
    postgres = Postgres(directory).start()
    site = Site(
        directory,
        database=postgres.create("fleet"),
        redis=redis,
        layer=layer,
        sse_polling=streams(**settings),
    )
    fleet = Fleet(
        site, kinds=["daphne", "daphne", "uvicorn", "uvicorn"], redis=redis, postgres=postgres, app=app
    )
    fleet.own(redis.kill, postgres.remove)
    return fleet.start()


def embedded(directory: Path) -> Fleet:
    """Start one server of each kind on one SQLite file, with the in-memory layer."""
    return Fleet(Site(directory, sse_polling=streams()), kinds=["daphne", "uvicorn"]).start()


def proxied(directory: Path, *, beside: Fleet) -> Fleet:
    """Start two servers that reach the Redis and the PostgreSQL of another fleet through proxies."""
    redis, postgres = beside.redis, beside.postgres
    if redis is None or postgres is None:
        raise ProcessFailed("the fleet beside has no Redis and no PostgreSQL")
    redis_proxy, postgres_proxy = Proxy(redis.port).start(), Proxy(postgres.port).start()
    direct = postgres.create("proxied")
    common: dict[str, Any] = {"redis": redis, "layer": beside.site.layer, "sse_polling": streams()}
    site = Site(
        directory,
        database=direct.replace(f":{postgres.port}/", f":{postgres_proxy.port}/"),
        env={"REDIS_URL": f"redis://{HOST}:{redis_proxy.port}/0"},
        **common,
    )
    fleet = Fleet(
        site,
        kinds=["daphne", "uvicorn"],
        redis=redis,
        postgres=postgres,
        beside=Site(directory, database=direct, **common),
    )
    fleet.redis_proxy, fleet.postgres_proxy = redis_proxy, postgres_proxy
    fleet.own(redis_proxy.close, postgres_proxy.close)
    return fleet.start()
