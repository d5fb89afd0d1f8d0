"""The harness itself: real programs that start, can be looked at, break and come back."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from project.programs.front import Front
from project.programs.nginx import Nginx
from project.programs.ports import free_port
from project.programs.postgres import Postgres
from project.programs.process import Process, ProcessFailed
from project.programs.redis import Redis
from tests.harness import programs
from tests.harness.chromium import open_page
from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.server import AsgiServer
from tests.harness.site import Site

TICKER = "tests.harness.ticker:application"


@pytest.fixture
def bare_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose servers need no tables."""
    monkeypatch.setattr(site, "migrate", lambda: None)
    return site


def test_redis_forgets_at_a_restart_and_is_mute_while_paused(redis: Redis) -> None:
    redis.execute("SET", "a", "1")
    assert redis.execute("GET", "a") == "$1\r\n1\r\n"
    redis.pause()
    with pytest.raises(TimeoutError):
        redis.execute("PING", timeout=0.2)
    redis.resume()
    assert redis.execute("GET", "a") == "$1\r\n1\r\n"
    redis.restart(kill=True)
    assert redis.execute("GET", "a") == "$-1\r\n"
    assert redis.stop() == 0
    with pytest.raises(ConnectionError):
        redis.execute("PING")


def test_postgres_keeps_commits_over_a_kill(postgres: Postgres) -> None:
    address = postgres.create("site")
    assert address == postgres.url("site")
    postgres.query("CREATE TABLE a (b int)", database="site")
    postgres.query("INSERT INTO a VALUES (7)", database="site")
    assert postgres.connections() == 0
    postgres.restart(kill=True)
    assert postgres.query("SELECT b FROM a", database="site") == [(7,)]
    postgres.restart()
    assert postgres.query("SELECT b FROM a", database="site") == [(7,)]


def test_a_kept_database_is_there_for_the_next_server() -> None:
    programs.require("postgres")
    # Not pytest's own folder: PostgreSQL's user could not enter it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        first = Postgres(folder, keep=folder / "kept").start()
        assert first.query("SHOW fsync") == [("on",)]
        first.create("site")
        first.query("CREATE TABLE a AS SELECT 7 AS b", database="site")
        # Its successor waits until it is gone.
        first.signal(first.stop_signal)
        second = Postgres(folder, keep=folder / "kept")
        with second.start():
            assert not first.running
            assert second.query("SELECT b FROM a", database="site") == [(7,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as somebody else")
def test_a_folder_that_postgresql_cannot_enter_is_refused_in_words(tmp_path: Path) -> None:
    programs.require("postgres")
    tmp_path.chmod(0o700)
    with pytest.raises(ProcessFailed, match="cannot be reached by the user that PostgreSQL runs as"):
        Postgres(tmp_path, keep=tmp_path / "kept")


async def test_with_no_server_there_a_stream_is_told_to_come_back_and_a_page_is_not(tmp_path: Path) -> None:
    """A browser's EventSource never comes back from the 502 that nginx answers by itself."""
    programs.require("nginx")
    with Front(tmp_path, [free_port(), free_port()]) as front:
        for _ in range(3):  # also when both are known to be away
            stream = await request(f"{front.url}/", headers={"Accept": "text/event-stream"})
            assert (stream.status, stream.header("content-type")) == (200, "text/event-stream")
            assert re.fullmatch(rb"retry: [12]\d00\n\n", stream.body)
        page = await request(f"{front.url}/")
        assert (page.status, page.body) == (502, b"No server of the fleet answers.\n")


def test_a_program_that_does_not_start_says_why(tmp_path: Path) -> None:
    class Broken(Process):
        def command(self) -> list[str]:
            return ["sh", "-c", "echo no such thing; exit 3"]

        def is_ready(self) -> bool:
            return False

    with pytest.raises(ProcessFailed, match=r"ended with 3(.|\n)*no such thing"):
        Broken("broken", tmp_path).start()


def test_a_program_that_will_not_leave_is_killed_and_reported(tmp_path: Path) -> None:
    class Deaf(Process):
        def command(self) -> list[str]:
            return ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]

        def is_ready(self) -> bool:
            return "up" in self.log()

    deaf = Deaf("deaf", tmp_path).start()
    with pytest.raises(ProcessFailed, match="still ran"):
        deaf.stop(seconds=0.3)
    assert not deaf.running


def test_a_missing_program_skips_or_fails_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find", lambda program: None)
    monkeypatch.setattr(programs, "REQUIRE_ALL", False)
    with pytest.raises(pytest.skip.Exception, match="nginx is not installed"):
        programs.require("nginx")
    monkeypatch.setattr(programs, "REQUIRE_ALL", True)
    with pytest.raises(pytest.fail.Exception, match="SSE_POLLING_REQUIRE_ALL"):
        programs.require("nginx")


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_a_server_is_read_killed_and_read_again(
    bare_site: Site, serve: Callable[..., AsgiServer], kind: str
) -> None:
    server = serve(bare_site, kind=kind, app=TICKER)
    client = EventSourceClient(server.url)
    await client.read_until(25, deadline=10)
    assert server.fds() > 3
    assert server.sockets() >= 1
    assert server.threads() >= 1
    assert server.memory() > 1_000_000
    assert server.cpu_seconds() > 0
    port, pid = server.port, server.pid
    await asyncio.to_thread(server.restart, kill=True)
    assert (server.port, server.pid != pid) == (port, True)
    await client.run(deadline=10)
    assert client.data == [str(number) for number in range(1, 101)]
    assert client.statuses[-1] == 204
    await asyncio.to_thread(server.stop)
    assert not server.running


async def test_nginx_passes_a_stream_on(
    bare_site: Site, serve: Callable[..., AsgiServer], tmp_path: Path
) -> None:
    programs.require("nginx")
    servers = [serve(bare_site, kind="uvicorn", app=TICKER) for _ in range(2)]
    nginx = Nginx(tmp_path, [server.port for server in servers])
    with nginx:
        client = await EventSourceClient(nginx.url + "/").run(deadline=10)
        assert client.data == [str(number) for number in range(1, 101)]


async def test_chromium_reads_a_stream_with_its_own_event_source(
    bare_site: Site, serve: Callable[..., AsgiServer], tmp_path: Path
) -> None:
    server = serve(bare_site, kind="uvicorn", app=TICKER)
    async with open_page(screenshots=tmp_path) as page:
        await page.goto(server.url + "/", wait_until="commit")  # any page of the origin will do
        seen: Any = await page.evaluate(
            """() => new Promise(resolve => {
                const seen = [], source = new EventSource("/");
                source.onmessage = event => seen.push(event.lastEventId + "=" + event.data);
                source.onerror = () => { if (source.readyState === 2) resolve(seen); };
            })"""
        )
    assert seen == [f"{number}={number}" for number in range(1, 101)]


def test_the_environment_of_a_site_is_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_POLLING_TEST_DATABASE_URL", "postgres://elsewhere/")
    environment = site.environment()
    assert "SSE_POLLING_TEST_DATABASE_URL" not in environment
    assert environment["DATABASE_URL"].startswith("sqlite:///")
    assert environment["DJANGO_SETTINGS_MODULE"] == "tests.server_settings"
    assert os.environ["SSE_POLLING_TEST_DATABASE_URL"]


async def test_a_request_reaches_a_server(bare_site: Site, serve: Callable[..., AsgiServer]) -> None:
    server = serve(bare_site, kind="daphne", app=TICKER)
    response = await request(server.url + "/", headers={"Last-Event-ID": "100"})
    assert response.status == 204
