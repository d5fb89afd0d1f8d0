"""`make fleet`: what it prints, that its servers are one site, what it survives, and that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from project.fleet import Fleet as Claimant
from project.management.commands.fleet import Command
from project.programs.finding import Program
from project.programs.ports import HOST, accepts
from project.supervisor import GivenUp
from tests.demo.conftest import Demo, alive
from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.programs import require
from tests.harness.site import ROOT

PROGRAMS: list[Program] = ["initdb", "postgres", "redis-server", "nginx"]
WORKERS = ["worker-1", "worker-2", "reader"]
SERVERS = ["daphne-1", "daphne-2", "uvicorn-1", "uvicorn-2"]


class Fleet(Demo):
    """`manage.py fleet`, read as its operator reads it: by what it prints."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        super().__init__(directory, "fleet", *arguments)
        self.folder = self.var / "fleet"

    def table(self) -> dict[str, tuple[int, int | None]]:
        """Return each process's id and port; of a process that was started again, the newest."""
        rows = re.findall(rf"^  ([\w-]+) +(\d+)  (?:{HOST}:(\d+))?", self.log(), re.MULTILINE)
        found = {name: (int(pid), int(port) if port else None) for name, pid, port in rows}
        for name, pid in re.findall(r"^([\w-]+) runs again, as process (\d+)\.$", self.log(), re.MULTILINE):
            found[name] = int(pid), found[name][1]
        return found

    def server(self, port: int) -> str:
        """Return the name of the server on a port."""
        return next(name for name, (_pid, its) in self.table().items() if its == port)


class Publisher:
    """A process of its own that publishes numbers, through the fleet's own `manage`."""

    CODE = """
import sys, time
from sse_polling import publish
for line in sys.stdin:
    channel, number = line.split()
    publish(channel, {"n": int(number), "at": time.monotonic()})
"""

    def __init__(self, fleet: Fleet) -> None:
        self._process = subprocess.Popen(
            [fleet.folder / "manage", "shell", "--verbosity", "0", "--command", self.CODE],
            stdin=subprocess.PIPE,
            text=True,
        )

    def publish(self, channel: str, number: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{channel} {number}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            assert self._process.wait(20) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    for program in PROGRAMS:
        require(program)
    # Not pytest's own folder: PostgreSQL's user, who is not root, could not enter it.
    with tempfile.TemporaryDirectory(prefix="sse-polling-fleet-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        process = Fleet(directory)
        process.start()
        try:
            yield process
        finally:
            with contextlib.suppress(AssertionError):
                process.stop()


@pytest.fixture(scope="module")
def publisher(fleet: Fleet) -> Iterator[Publisher]:
    publisher = Publisher(fleet)
    yield publisher
    publisher.end()


@contextlib.asynccontextmanager
async def reading(urls: Sequence[str]) -> AsyncIterator[list[EventSourceClient]]:
    """Read all addresses at once, each as an EventSource; leave when the block does."""
    clients = [EventSourceClient(url) for url in urls]
    tasks = [asyncio.create_task(client.run(deadline=60)) for client in clients]
    try:
        await eventually(lambda: all(client.last_event_id for client in clients), tasks)
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def eventually(
    condition: Callable[[], bool], tasks: Sequence[asyncio.Task[object]] = (), seconds: float = 30
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.02)


def numbers(client: EventSourceClient) -> list[int]:
    return [json.loads(data)["n"] for data in client.data]


def test_it_says_where_everything_is_and_each_process_is_its_own(fleet: Fleet) -> None:
    table = fleet.table()
    assert list(table) == ["postgres", "redis", *SERVERS, "nginx", "machine", *WORKERS]
    assert sorted(pid for pid, _port in table.values()) == sorted(fleet.children())
    assert f"{fleet.url}/\n" in fleet.log()
    assert f"admin / {(fleet.folder / 'admin-password').read_text().strip()}\n" in fleet.log()
    assert f"kill -9 {table['daphne-1'][0]}`" in fleet.log()
    assert "Going on with" not in fleet.log()
    for name, (pid, _port) in table.items():
        assert (fleet.folder / f"{name}.log").exists()
        if name in SERVERS:
            assert int((fleet.folder / f"server-{name}.pid").read_text()) == pid


async def test_all_servers_serve_through_one_address(fleet: Fleet) -> None:
    ports = set()
    for path in (
        "/",
        "/ask/",
        "/machine/",
        "/crowd/",
        "/static/demo/demo.css",
        "/admin/login/",
        "/",
        "/ask/",
    ):
        response = await request(fleet.url + path)
        assert response.status == 200, path
        ports.add(int(response.header("x-upstream").rpartition(":")[2]))
    assert {fleet.server(port) for port in ports} == set(SERVERS)


def test_a_login_made_on_one_server_holds_on_all(fleet: Fleet) -> None:
    """The cookie, the CSRF token and the address with nginx's port pass through."""
    opener, jar = visitor()
    opener.open(f"{fleet.url}/admin/login/", timeout=20).close()
    password = (fleet.folder / "admin-password").read_text().strip()
    form = {"username": "admin", "password": password, "next": "/admin/"}
    with post(opener, jar, f"{fleet.url}/admin/login/", form) as answer:
        assert answer.url == f"{fleet.url}/admin/"
    for name in SERVERS:
        with opener.open(f"http://{HOST}:{fleet.table()[name][1]}/admin/", timeout=20) as page:
            assert b"Site administration" in page.read(), name


async def test_an_event_of_one_process_reaches_the_streams_of_all_at_once(
    fleet: Fleet, publisher: Publisher
) -> None:
    urls = [f"http://{HOST}:{fleet.table()[name][1]}/events/fleet.all/" for name in SERVERS]
    async with reading(urls) as clients:
        for number in range(10):
            publisher.publish("fleet.all", number)
            await eventually(lambda count=number: all(len(client.data) > count for client in clients))
    delays = [entry.at - json.loads(entry.data)["at"] for client in clients for entry in client.transcript]
    for name, client in zip(SERVERS, clients, strict=True):
        assert numbers(client) == list(range(10)), name
    # Without the wakes through Redis an event waits for the next comparison of heads, or the next stream.
    assert statistics.median(delays) < 0.3, sorted(delays)


async def test_a_stream_survives_the_death_of_its_server_and_the_server_is_back(
    fleet: Fleet, publisher: Publisher
) -> None:
    sent = 0
    async with reading([f"{fleet.url}/events/fleet.killed/"]) as (client,):
        killed = {}
        while len(killed) < 2:
            publisher.publish("fleet.killed", sent)
            sent += 1
            # In mid-stream: after something has come, before the server has ended it.
            await eventually(lambda count=sent // 2: len(client.data) > count)
            response = client.responses[-1]
            name = fleet.server(int(response.header("x-upstream").rpartition(":")[2]))
            if sent > 5 and not response.complete and name not in killed:
                killed[name], _port = fleet.table()[name]
                os.kill(killed[name], signal.SIGKILL)
        for _ in range(20):
            publisher.publish("fleet.killed", sent)
            sent += 1
        await eventually(lambda: len(client.data) >= sent)
        assert numbers(client) == list(range(sent))
        assert set(client.statuses) == {200}, "a browser never comes back from anything else"
        assert set(client.types) == {"message"}, "no gap is told where nothing was lost"
        for name, pid in killed.items():
            words = f"{name} was ended by SIGKILL; starting it again."
            await eventually(lambda words=words: words in fleet.log())  # it looks ten times a second
            await eventually(lambda name=name, pid=pid: fleet.table()[name][0] != pid)
            port = fleet.table()[name][1]
            assert port is not None
            await eventually(lambda port=port: accepts(port))


async def test_a_stream_is_cut_by_whichever_server_is_asked(fleet: Fleet) -> None:
    ports = [fleet.table()[name][1] for name in ("uvicorn-2", "daphne-2")]
    token = "a-name-of-its-own-0123456789"
    async with reading([f"http://{HOST}:{ports[0]}/events/machine/?client={token}"]) as (client,):
        opener, jar = visitor()
        opener.open(f"http://{HOST}:{ports[1]}/crowd/", timeout=20).close()

        def cut() -> bool:
            with post(opener, jar, f"http://{HOST}:{ports[1]}/crowd/cut/", {"client": token}) as answer:
                return "Cut" in json.load(answer)["message"]

        # Between two bursts there is nothing to cut.
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(cut):
                pass
        await eventually(lambda: any(not each.complete for each in client.responses[:-1]))


def test_a_second_fleet_in_the_same_folder_is_refused(fleet: Fleet) -> None:
    with pytest.raises(GivenUp, match=f"A fleet runs in {fleet.folder} already, as process {fleet.pid}."):
        Claimant(fleet.folder, port=0, kinds={}).claim()
    assert (fleet.folder / "nginx.pid").exists(), "nothing of the first one is cleared away"


def test_ctrl_c_ends_everything(fleet: Fleet, publisher: Publisher) -> None:
    table, children = fleet.table(), fleet.children()
    assert len(children) == len(table)
    # PostgreSQL's own processes too, which are not the fleet's children.
    backends = [pid for pid in processes() if parent(pid) == table["postgres"][0]]
    assert backends
    stream = urllib.request.urlopen(f"{fleet.url}/events/machine/", timeout=20)
    fleet.signal(signal.SIGINT)
    assert fleet.wait(60) == 0
    stream.close()
    assert [pid for pid in [*children, *backends] if alive(pid)] == []
    assert [name for name, (_pid, port) in table.items() if port and accepts(port)] == []
    assert fleet.log().rstrip().endswith("Stopped.")
    left = {path.name for path in fleet.folder.iterdir()}
    assert not {name for name in left if name.endswith(".pid")}
    assert "manage" not in left
    # The database is kept for the next time, and was closed in order.
    assert (fleet.folder / "postgres" / "data").is_dir()
    assert not (fleet.folder / "postgres" / "data" / "postmaster.pid").exists()
    assert "database system is shut down" in (fleet.folder / "postgres.log").read_text()


def test_a_bare_machine_has_a_smaller_fleet_and_is_told_what_it_lacks(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "--daphne", "0", "--uvicorn", "1")
    # Python reads it before anything else; the programs of this machine are then not to be found.
    (tmp_path / "sitecustomize.py").write_text(
        "from project.programs import finding\nfinding.find = lambda program: None\n"
    )
    fleet.site.env["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    with fleet:
        log = fleet.log()
        for package, without in [
            ("postgresql", "SQLite"),
            ("redis-server", "every two seconds"),
            ("nginx", "only those below"),
        ]:
            assert re.search(rf"Going on with no .*apt install {package}\).*{without}", log)
        table = fleet.table()
        assert list(table) == ["uvicorn-1", "machine", *WORKERS]
        address = f"http://{HOST}:{table['uvicorn-1'][1]}"
        assert f"{address}/\n" in log
        with urllib.request.urlopen(f"{address}/ask/", timeout=20) as page:
            assert page.status == 200
        assert (fleet.folder / "db.sqlite3").exists()
        fleet.signal(signal.SIGTERM)
        assert fleet.wait(40) == 0
    assert [pid for pid, _port in table.values() if alive(pid)] == []


def test_what_cannot_be_is_refused_before_anything_starts() -> None:
    with pytest.raises(CommandError, match="take 1 to 16 processes together"):
        call_command(Command(), daphne=0, uvicorn=0)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Port {port} on {HOST} is already in use: .*fleet"):
            call_command(Command(), port=port)


def visitor() -> tuple[urllib.request.OpenerDirector, CookieJar]:
    """Return a browser of one's own, with its cookies."""
    jar = CookieJar()
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar)), jar


def post(opener: urllib.request.OpenerDirector, jar: CookieJar, url: str, form: dict[str, str]) -> Any:
    """Post a form as a browser does, with the token and the Origin that Django asks for."""
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
    data = urllib.parse.urlencode({**form, "csrfmiddlewaretoken": token}).encode()
    headers = {"Origin": origin, "Accept": "application/json"}
    return opener.open(urllib.request.Request(url, data, headers), timeout=20)


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent(pid: int) -> int | None:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None
