"""One client with too many sockets is told to come back later, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.harness.connection import Address, Connection
from tests.harness.http import Response, ResponseParser
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Site

from .served import APPLICATIONS, Served, eventually, fresh, opening_id, retries

LIMIT = 20  # the default


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(
        tmp_path_factory.mktemp("client-limit"),
        sse_polling={
            "TRUSTED_PROXIES": ["127.0.0.1", "10.0.0.0/8"],
            "PRESET": "live",
            "BURST": {"hold_seconds": 60, "max_seconds": 60},
        },
    )


@pytest.fixture(scope="module")
def shell(site: Site) -> Iterator[Shell]:
    with Shell(site) as shell:
        yield shell


@pytest.fixture(scope="module")
def users(shell: Shell) -> list[Mapping[str, str]]:
    made = shell.run(
        "from django.test import Client\n"
        "from django.contrib.auth.models import User\n"
        "result = []\n"
        "for name in ('one', 'other'):\n"
        "    client = Client()\n"
        "    client.force_login(User.objects.create(username=name))\n"
        "    result.append(client.cookies['sessionid'].value)\n"
    )
    return [{"sessionid": key} for key in made]


@pytest.fixture(
    scope="module", params=[("mount", "uvicorn"), ("view", "uvicorn"), ("mount", "daphne")], ids="-".join
)
def limited(request: pytest.FixtureRequest, site: Site, shell: Shell) -> Iterator[Served]:
    door, kind = request.param
    server = AsgiServer(site, kind=kind, app=APPLICATIONS[door], name=f"limited-{door}-{kind}").start()
    yield Served(door, server, shell)
    log = server.log()
    server.kill()
    assert "Traceback" not in log, log[-8000:]


class Crowd:
    """Open streams, each of a connection of its own."""

    def __init__(self, served: Served, stack: ExitStack) -> None:
        self.served, self.stack = served, stack

    async def open(self, count: int, **headers: str) -> list[Response]:
        """Ask *count* times at once; return the answers, as far as they have come."""
        return await asyncio.gather(*(self._one(headers) for _ in range(count)))

    async def _one(self, headers: Mapping[str, str]) -> Response:
        address = Address(self.served.url("crowded"))
        connection = await Connection.open(address)
        self.stack.callback(connection.close)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await connection.send(address.head({"Accept": "text/event-stream", **named}))
        parser = ResponseParser()
        async with asyncio.timeout(20):
            while b"\n\n" not in parser.response.body:
                data = await connection.receive()
                assert data, "closed before the opening block"
                parser.feed(data)
            if retries(parser.response)[0] >= 30_000:  # closed at once
                while not parser.response.complete:
                    parser.feed(await connection.receive())
        return parser.response


@pytest.fixture(autouse=True)
async def _idle(limited: Served) -> None:
    await eventually(lambda: is_idle(limited))


@pytest.fixture
async def crowd(limited: Served) -> AsyncIterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(limited, stack)


async def is_idle(served: Served) -> bool:
    return await served.sockets() == 0


def refused(responses: list[Response]) -> list[Response]:
    return [each for each in responses if retries(each)[0] >= 30_000]


def cookie(user: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in user.items())


async def test_a_user_with_too_many_sockets_is_refused_politely_and_another_is_served(
    limited: Served, crowd: Crowd, users: list[Mapping[str, str]]
) -> None:
    (stored,) = limited.shell.publish("crowded", "here")
    one, other = map(cookie, users)
    first = await crowd.open(1, Cookie=one)  # it makes the channel known
    given = first + await crowd.open(LIMIT + 4, Cookie=one, X_Forwarded_For="203.0.113.9")
    assert {each.status for each in given} == {200}
    assert len(refused(given)) == 5
    for each in refused(given):
        assert each.complete
        assert each.header("content-type") == "text/event-stream"
        assert opening_id(each) == stored
        assert retries(each)[0] <= 39_000
    assert await limited.sockets() == LIMIT
    assert refused(await crowd.open(1, Cookie=other)) == []
    assert await limited.sockets() == LIMIT + 1


async def test_places_are_given_back_when_streams_end(
    limited: Served, users: list[Mapping[str, str]]
) -> None:
    one = cookie(users[0])
    for _ in range(2):
        with ExitStack() as stack:
            crowd = Crowd(limited, stack)
            assert refused(await crowd.open(LIMIT, Cookie=one)) == []
            assert len(refused(await crowd.open(2, Cookie=one))) == 2
        await eventually(lambda: is_idle(limited))


async def test_anonymous_clients_count_by_the_address_behind_the_trusted_proxies(
    limited: Served, crowd: Crowd
) -> None:
    chain = "198.51.100.7, 10.0.0.2"
    assert refused(await crowd.open(LIMIT, X_Forwarded_For=chain)) == []
    # What the client wrote itself, to the left, makes it nobody else.
    assert len(refused(await crowd.open(1, X_Forwarded_For=f"203.0.113.1, {chain}"))) == 1
    assert refused(await crowd.open(1, X_Forwarded_For="198.51.100.8, 10.0.0.2")) == []
    assert refused(await crowd.open(1, X_Forwarded_For="2001:db8:1:1::1")) == []


async def test_an_ipv6_client_counts_by_its_network(limited: Served, crowd: Crowd) -> None:
    given = [
        await crowd.open(1, X_Forwarded_For=f"2001:db8:1:1::{number:x}") for number in range(1, LIMIT + 3)
    ]
    assert [len(refused(each)) for each in given] == [0] * LIMIT + [1, 1]
    assert refused(await crowd.open(1, X_Forwarded_For="2001:db8:1:2::1")) == []


async def test_a_refused_client_is_served_once_there_is_a_place(limited: Served) -> None:
    channel, address = fresh(), {"X-Forwarded-For": "198.51.100.77"}
    limited.shell.publish(channel, "x")
    query = {"last_event_id": "earliest"}
    client = limited.client(channel, query=query, headers=address, reconnect_seconds=0.02)
    with ExitStack() as stack:
        await Crowd(limited, stack).open(LIMIT, **address)
        reading = asyncio.create_task(client.read_until(1, deadline=20))
        await eventually(lambda: len(client.responses) >= 3)
        assert client.data == []
    await reading
    assert client.data == ["x"]
    assert set(client.statuses) == {200}
