"""A site in many processes: servers, publishers, what they share. Started once, mended after each fault."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import redis as redis_client

from project.programs.front import Front
from project.programs.ports import HOST
from project.programs.postgres import Postgres
from project.programs.process import Process, ProcessFailed
from project.programs.redis import Redis
from tests.harness.proxy import Proxy
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Layer, Site

from .publishers import Publisher
from .store import Store
from .streams import ROLLING, SOAKING, STREAMS

__all__ = ["FRONTS", "Fleet", "Where", "embedded", "full", "mixed", "proxied", "rolling"]

Where = Literal["fleet", "embedded", "proxied"]

#: The addresses of the nginx in front of a fleet: a browser opens six sockets to each.
FRONTS = [f"127.0.0.{number}" for number in range(1, 5)]


def _arguments(kind: Kind, graceful_seconds: int) -> list[str]:
    if kind == "daphne":
        return ["--access-log", "/dev/null"]
    # As a deployment does: a process that was told to stop does not wait for its streams for ever.
    return ["--no-access-log", "--timeout-graceful-shutdown", str(graceful_seconds)]


class Fleet:
    """The processes of one site. Use :func:`full`, :func:`embedded`, :func:`rolling` and so on.

    *servers* and *publishers* may be of several sites, which differ in how they reach what they share.
    """

    def __init__(
        self,
        servers: Sequence[tuple[Kind, Site]],
        publishers: Sequence[Site],
        *,
        redis: Redis | None = None,
        postgres: Postgres | None = None,
        app: str = "tests.asgi:application",
        graceful_seconds: int = 1,
    ) -> None:
        self.redis = redis
        self.postgres = postgres
        #: The nginx before the servers, where there is one.
        self.front: Front | None = None
        self.redis_proxy: Proxy | None = None
        self.postgres_proxy: Proxy | None = None
        self.servers = [
            AsgiServer(
                site,
                kind=kind,
                app=app,
                arguments=_arguments(kind, graceful_seconds),
                name=f"{kind}-{index}",
            )
            for index, (kind, site) in enumerate(servers)
        ]
        #: Servers that a fault may end.
        self.mortal = list(self.servers)
        self.publishers = [
            Publisher(site, name=f"publisher-{index}") for index, site in enumerate(publishers)
        ]
        #: The site as it is without proxies: the last publisher's.
        self.site = publishers[-1]
        self.store = Store(self.site.database)
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
    def processes(self) -> list[AsgiServer | Publisher]:
        return [*self.servers, *self.publishers]

    def start(self) -> Fleet:
        """Start every process and wait for all."""
        try:
            for process in self.processes:
                process.site.migrate()
            for process in self.processes:
                process.start(wait=False)
            for process in self.processes:
                process.wait_ready()
        except BaseException:
            self.close()
            raise
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
        shared: list[Process] = [each for each in (self.redis, self.postgres) if each is not None]
        for process in [*shared, *self.processes]:
            process.resume()
            if anew and process not in shared:
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


def full(
    directory: Path,
    *,
    layer: Layer,
    app: str = "tests.asgi:application",
    env: Mapping[str, str] | None = None,
) -> Fleet:
    """Start PostgreSQL, Redis, two servers of each kind and two publishers."""
    redis, postgres = Redis(directory).start(), Postgres(directory).start()
    site = Site(
        directory,
        database=postgres.create("fleet"),
        redis=redis,
        layer=layer,
        sse_polling=STREAMS,
        env=env,
    )
    fleet = Fleet(
        [("daphne", site), ("daphne", site), ("uvicorn", site), ("uvicorn", site)],
        [site, site],
        redis=redis,
        postgres=postgres,
        app=app,
    )
    fleet.own(redis.kill, postgres.remove)
    return fleet.start()


def embedded(directory: Path) -> Fleet:
    """Start one server of each kind on one SQLite file, with the in-memory layer."""
    site = Site(directory, sse_polling=STREAMS)
    return Fleet([("daphne", site), ("uvicorn", site)], [site, site]).start()


def proxied(directory: Path, *, beside: Fleet) -> Fleet:
    """Start two servers that reach the Redis and the PostgreSQL of another fleet through proxies.

    One publisher goes past the proxies: not all suffer alike.
    """
    redis, postgres = beside.redis, beside.postgres
    if redis is None or postgres is None:
        raise ProcessFailed("the fleet beside has no Redis and no PostgreSQL")
    layer = beside.site.layer
    site = Site(directory, database=postgres.create("proxied"), redis=redis, layer=layer, sse_polling=STREAMS)
    through, proxies = _through_proxies(site, redis, postgres)
    fleet = Fleet(
        [("daphne", through), ("uvicorn", through)], [through, site], redis=redis, postgres=postgres
    )
    _own_proxies(fleet, proxies)
    return fleet.start()


def mixed(directory: Path, *, layer: Layer) -> Fleet:
    """Start the fleet of the soak: of each kind a server that may be killed, behind proxies, and one not."""
    redis, postgres = Redis(directory).start(), Postgres(directory).start()
    site = Site(directory, database=postgres.create("soak"), redis=redis, layer=layer, sse_polling=SOAKING)
    through, proxies = _through_proxies(site, redis, postgres)
    fleet = Fleet(
        [("daphne", site), ("daphne", through), ("uvicorn", site), ("uvicorn", through)],
        [through, site],
        redis=redis,
        postgres=postgres,
    )
    fleet.mortal = [fleet.servers[1], fleet.servers[3]]
    fleet.own(redis.kill, postgres.remove)
    _own_proxies(fleet, proxies)
    return fleet.start()


def rolling(
    directory: Path,
    kinds: Sequence[Kind],
    *,
    layer: Layer,
    on_postgres: bool,
    app: str = "tests.asgi:application",
    env: Mapping[str, str] | None = None,
) -> Fleet:
    """Start servers of these kinds that may take their time to stop, behind nginx."""
    redis = Redis(directory).start()
    postgres = Postgres(directory).start() if on_postgres else None
    site = Site(
        directory,
        database=postgres.create("rolling") if postgres is not None else None,
        redis=redis,
        layer=layer,
        sse_polling=ROLLING,
        django={"ALLOWED_HOSTS": FRONTS},
        env=env,
    )
    fleet = Fleet([(kind, site) for kind in kinds], [site, site], redis=redis, app=app, graceful_seconds=60)
    fleet.own(redis.kill, *([postgres.remove] if postgres is not None else []))
    fleet.front = Front(directory, [server.port for server in fleet.servers], hosts=FRONTS)
    fleet.own(fleet.front.kill)
    fleet.front.start()
    return fleet.start()


def _through_proxies(site: Site, redis: Redis, postgres: Postgres) -> tuple[Site, tuple[Proxy, Proxy]]:
    to_redis, to_postgres = Proxy(redis.port).start(), Proxy(postgres.port).start()
    through = Site(
        site.directory,
        database=site.database.replace(f":{postgres.port}/", f":{to_postgres.port}/"),
        redis=redis,
        layer=site.layer,
        sse_polling=site.sse_polling,
        env={"REDIS_URL": f"redis://{HOST}:{to_redis.port}/0"},
    )
    return through, (to_redis, to_postgres)


def _own_proxies(fleet: Fleet, proxies: tuple[Proxy, Proxy]) -> None:
    fleet.redis_proxy, fleet.postgres_proxy = proxies
    fleet.own(*(proxy.close for proxy in proxies))
