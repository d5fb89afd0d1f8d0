"""More clients than sockets: a budget that is shared out, and a storm that is answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from statistics import median

import pytest

from tests.harness.client import EventSourceClient
from tests.harness.connection import request
from tests.harness.server import AsgiServer, Kind
from tests.harness.site import Site

from .served import eventually

BUDGET = 16
READERS = 50
STORM = 300
LIMIT = 60


@pytest.fixture(params=["daphne", pytest.param("uvicorn", marks=pytest.mark.faults)])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def budgeted(tmp_path_factory: pytest.TempPathFactory, kind: Kind) -> Iterator[AsgiServer]:
    settings = {"BUDGET": BUDGET, "PRESET": "balanced"}
    with AsgiServer(Site(tmp_path_factory.mktemp("budgeted"), sse_polling=settings), kind=kind) as server:
        yield server


async def test_a_crowd_beyond_the_budget_misses_nothing_and_stays_under_it(budgeted: AsgiServer) -> None:
    budgeted.publish("crowd", "0")
    idle = budgeted.sockets()
    address = f"{budgeted.url}/events/crowd/?last_event_id=earliest"
    clients = [EventSourceClient(address, reconnect_seconds=None) for _ in range(READERS)]
    events = [f"{number}" for number in range(12)]
    reading = [asyncio.ensure_future(client.read_until(len(events), deadline=60)) for client in clients]
    sockets = []
    for data in events[1:]:
        await asyncio.sleep(0.2)  # the pace at which events come, not a wait for anything
        sockets.append(budgeted.sockets() - idle)
        await asyncio.to_thread(budgeted.publish, "crowd", data)
    await asyncio.gather(*reading)
    assert [client.data for client in clients] == [events] * READERS
    counts = await asyncio.to_thread(budgeted.counts)
    assert counts["admitted"] > 1.5 * READERS  # they took turns
    # Not of each: those who have just come are all connected, until the server has got round to them.
    assert median(sockets) <= 1.5 * BUDGET
    assert {status for client in clients for status in client.statuses} == {200}


async def test_a_few_readers_within_the_budget_are_held(budgeted: AsgiServer) -> None:
    address = f"{budgeted.url}/events/few/"
    clients = [EventSourceClient(address, reconnect_seconds=None) for _ in range(5)]
    reading = [asyncio.ensure_future(client.read_until(3, deadline=30)) for client in clients]
    await eventually(lambda: budgeted.counts()["open"] == len(clients), what="all to be there")
    for data in "abc":
        await asyncio.sleep(0.8)  # longer than any other preset would linger
        await asyncio.to_thread(budgeted.publish, "few", data)
    await asyncio.gather(*reading)
    assert [client.data for client in clients] == [["a", "b", "c"]] * 5
    assert [client.connections for client in clients] == [1] * 5


async def test_a_storm_is_answered_within_the_limit_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind
) -> None:
    settings = {"MAX_SOCKETS": LIMIT, "PRESET": "live", "BURST": {"max_seconds": 3}}
    site = Site(tmp_path_factory.mktemp("storm"), sse_polling=settings)
    with AsgiServer(site, kind=kind) as server:
        server.publish("storm", *"abc")
        idle = server.sockets()
        address = f"{server.url}/events/storm/?last_event_id=earliest"

        async def come(polite: bool) -> str:
            found = await request(address + ("&busy=stream" if polite else ""), deadline=60)
            if found.status != 200:
                assert found.text == "Connection pool exhausted. Retry in 30s."
                return str(found.status)
            return "stream" if b"data: c" in found.body else "polite"

        answers = Counter(await asyncio.gather(*(come(number % 2 == 0) for number in range(STORM))))
        counts = await asyncio.to_thread(server.counts)
        assert sum(answers.values()) == STORM
        assert answers["stream"] >= int(LIMIT * 0.9)
        assert answers["503"] > 0
        assert answers["polite"] > 0
        assert counts["most"] == int(LIMIT * 0.9)
        assert counts["open"] == 0
        assert counts["refused"]["capacity"] == answers["503"] + answers["polite"]
        server.wait_for(lambda: server.sockets() <= idle + 1, seconds=10, what="to close its sockets")
        log = server.log()
        assert "Traceback" not in log
        assert "ERROR" not in log
