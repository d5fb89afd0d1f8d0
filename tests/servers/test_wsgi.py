"""Under a WSGI server: every request is a poll that ends at once, and the same client works, slower."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.eventsource import parse
from tests.harness.http import Response
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Site

from .served import fresh, opening_id, retries

#: The standard library's server, a thread for each request; it refuses a Connection header as PEP 3333 says.
SERVE = """
import os, sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server
from django.core.wsgi import get_wsgi_application

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application(), server_class=Server).serve_forever()
"""


class WsgiServer(AsgiServer):
    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-c", SERVE, str(self.port)]


@pytest.fixture(scope="module")
def wsgi_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(
        tmp_path_factory.mktemp("wsgi"),
        sse_polling={
            "MAX_SOCKETS": 1,
            "BREAKER": {"threshold": 0.01},
            "PER_CLIENT": {"max_sockets": 1, "key": "tests.servers.rules.everybody"},
            "PRESET": "live",
            "BURST": {"max_events": 7},
        },
    )


@pytest.fixture(scope="module")
def wsgi(wsgi_site: Site) -> Iterator[WsgiServer]:
    server = WsgiServer(wsgi_site, name="wsgi")
    server.start()
    yield server
    log = server.log()
    server.kill()
    assert "Traceback" not in log, log[-8000:]


@pytest.fixture(scope="module")
def shell(wsgi_site: Site) -> Iterator[Shell]:
    with Shell(wsgi_site) as shell:
        yield shell


def address(server: WsgiServer, channel: str, query: str = "") -> str:
    return f"{server.url}/events/{channel}/{query}"


async def test_an_event_source_follows_a_channel_to_its_end(wsgi: WsgiServer, shell: Shell) -> None:
    channel = fresh()
    expected = [f"event {number}" for number in range(60)]
    client = EventSourceClient(address(wsgi, channel), reconnect_seconds=0.01, strict=True)
    await client.one_response(deadline=20)  # it knows from now on where it stands
    assert client.last_event_id

    def publish() -> None:
        for start in range(0, 60, 12):
            shell.publish(channel, *expected[start : start + 12])
        shell.run("sse_polling.finish(channel, {'status': 'passed'})", channel=channel)

    publishing = asyncio.create_task(asyncio.to_thread(publish))
    await client.run(deadline=30)
    await publishing
    assert client.data == [*expected, '{"status":"passed"}']
    assert client.types[-1] == "end"
    assert len(set(client.ids)) == len(client.ids)
    assert set(client.statuses[:-1]) == {200}
    assert client.statuses[-1] == 204


async def test_a_poll_is_answered_at_once_and_says_to_come_back_in_two_seconds_unless_more_is_there(
    wsgi: WsgiServer, shell: Shell
) -> None:
    channel = fresh()
    *_, last = shell.publish(channel, *"abcdefgh")
    async with asyncio.timeout(5):  # the preset holds for 25 s
        behind = await request(address(wsgi, channel, "?last_event_id=earliest"))
        at_head = await request(address(wsgi, channel, f"?last_event_id={last}&wait=0"))
    assert [each.data for each in parse(behind.body)] == list("abcdefg")
    assert retries(behind)[0] >= 2000
    assert retries(behind)[-1] <= 65
    assert parse(at_head.body) == []
    assert opening_id(at_head) == last
    assert all(2000 <= each <= 2600 for each in retries(at_head))


async def test_no_connection_header_is_sent(wsgi: WsgiServer) -> None:
    for given in (await request(address(wsgi, "a")), await request(address(wsgi, "poll"))):
        assert not given.header("connection")


@pytest.mark.parametrize("wait", ["5", "0.1", "inf", "nan", "long", ""])
async def test_a_longer_wait_is_refused_in_words(wsgi: WsgiServer, wait: str) -> None:
    given = await request(address(wsgi, "a", f"?wait={wait}"))
    assert given.status == 400
    assert given.header("content-type") == "text/plain; charset=utf-8"
    assert f"wait is '{wait}', and this server runs under WSGI, which cannot hold a stream." in given.text
    assert "wait=0" in given.text
    assert "ASGI" in given.text


async def test_a_poll_holds_no_socket_and_is_answered_whatever_is_full(wsgi: WsgiServer) -> None:
    given: Sequence[Response] = await asyncio.gather(*(request(address(wsgi, fresh())) for _ in range(24)))
    assert {each.status for each in given} == {200}
    assert all(2000 <= retry <= 2600 for each in given for retry in retries(each))
