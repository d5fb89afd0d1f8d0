"""A proxy's kept sockets carry one user after the other: nothing of one may show to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from project.programs.nginx import Nginx
from tests.harness import programs
from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.http import Response
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

from .served import eventually, fresh, opening_id


class KeepingNginx(Nginx):
    """It has one socket to the server, and keeps it between requests."""

    server_options = "; keepalive 1"


@dataclass
class Proxied:
    server: AsgiServer
    url: str
    cookies: dict[str, dict[str, str]]

    async def get(self, user: str | None, channel: str, last_event_id: str = "") -> Response:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        cookies = self.cookies[user] if user else None
        return await request(f"{self.url}/events/{channel}/", headers=headers, cookies=cookies)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(
        tmp_path_factory.mktemp("users"),
        sse_polling={
            "AUTHORIZE": "tests.servers.owners.owned",
            "CLOSE_SOCKET": False,
            "BURST": {"hold_seconds": 0, "linger_seconds": 0},
        },
    )


@pytest.fixture(scope="module")
def cookies(site: Site) -> dict[str, dict[str, str]]:
    programs.require("nginx")
    return {user: site.session(user) for user in ("alice", "bob")}


@pytest.fixture(scope="module", params=get_args(Kind))
def proxied(
    request: pytest.FixtureRequest, site: Site, cookies: dict[str, dict[str, str]]
) -> Iterator[Proxied]:
    kind: Kind = request.param
    directory: Path = site.directory
    with ExitStack() as stack:
        server = AsgiServer(site, kind=kind).start()
        stack.callback(server.kill)
        nginx = KeepingNginx(directory, [server.port], name=f"nginx-{kind}").start()
        stack.callback(nginx.stop)  # killed, it would leave its worker behind
        yield Proxied(server, nginx.url, cookies)


async def test_a_proxy_keeps_the_browsers_socket_when_the_servers_is_closed(tmp_path: Path) -> None:
    """`Connection: close` is for one hop: what docs/sockets.md says of nginx."""
    programs.require("nginx")
    site = Site(tmp_path, sse_polling={"BURST": {"hold_seconds": 0, "linger_seconds": 0}})
    channel = fresh()
    with AsgiServer(site, kind="uvicorn") as server, KeepingNginx(tmp_path, [server.port]) as nginx:
        server.publish(channel, "1")
        before = {each for each in server.descriptors() if each.startswith("socket:")}
        url = f"{nginx.url}/events/{channel}/?last_event_id=earliest"
        async with EventSourceClient(url) as client:
            for _ in range(3):
                response = await client.one_response(deadline=10)
                assert response.header("connection").lower() == "keep-alive"
            assert client.connections == 1
            # One more may have come: a database's, a log's.
            await eventually(
                lambda: sum("socket:" in each for each in server.descriptors()) <= len(before) + 1
            )


async def test_two_users_in_turn_share_a_socket_and_nothing_else(proxied: Proxied) -> None:
    hers, his = fresh("alice"), fresh("bob")
    proxied.server.publish(hers, "1", "2", "3")
    proxied.server.publish(his, "1")
    await proxied.get("alice", hers)
    kept = {each for each in proxied.server.descriptors() if each.startswith("socket:")}

    first = await proxied.get("alice", hers)
    begin = opening_id(first)
    assert begin.split(".")[1] == "3"
    streams = [first.header("x-sse-stream")]
    for _ in range(3):
        # He: his own channel from its own now, whatever cursor the socket carried before.
        other = await proxied.get("bob", his)
        assert other.status == 200
        assert opening_id(other).split(".")[:2] != begin.split(".")[:2]
        assert opening_id(other).split(".")[1] == "1"
        back = await proxied.get("alice", hers, last_event_id=begin)
        assert back.status == 200
        streams += [other.header("x-sse-stream"), back.header("x-sse-stream")]
    now = {each for each in proxied.server.descriptors() if each.startswith("socket:")}
    assert now <= kept, "the proxy did not keep its socket: nothing was shared"
    for _ in range(3):
        # Neither he nor a stranger is her, though she was the last on this socket (a refusal closes it).
        assert (await proxied.get("alice", hers)).status == 200
        assert (await proxied.get("bob", hers)).status == 403
        assert (await proxied.get("alice", hers)).status == 200
        assert (await proxied.get("bob", hers, last_event_id=begin)).status == 403
        assert (await proxied.get("alice", hers)).status == 200
        assert (await proxied.get(None, hers)).status == 403
        assert (await proxied.get("bob", his)).status == 200
        assert (await proxied.get("alice", his)).status == 403
    assert len(set(streams)) == len(streams), "an ack token was given twice"
    assert all(streams)
