"""A client's goodbye that reaches another process than the one that has its stream."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

from project.programs.redis import Redis
from tests.harness.connection import request
from tests.harness.http import Response
from tests.harness.reading import Reading
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Site

from .fleet import give, node_of
from .served import eventually, fresh

ACK_SECONDS = 60.0


async def ack(server: AsgiServer, **fields: str) -> Response:
    body = urlencode(fields).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await request(f"{server.url}/events/ack/", method="POST", headers=headers, body=body)


async def test_an_ack_is_heard_by_the_process_that_has_the_stream_whichever_is_asked(
    tmp_path: Path, redis: Redis, serve: Callable[..., AsgiServer]
) -> None:
    site = Site(
        tmp_path,
        redis=redis,
        sse_polling={
            "BURST": {"hold_seconds": 200, "linger_seconds": 200, "max_seconds": 300},
            "DRAIN": {"seconds": 120, "ack_seconds": ACK_SECONDS, "spread_seconds": 0},
        },
    )
    one, other = serve(site, kind="daphne"), serve(site, kind="uvicorn", app="tests.asgi:plain_application")
    clients = [secrets.token_urlsafe(18) for _ in range(4)]
    with Shell(site) as shell, ExitStack() as stack:
        node = await node_of(shell, one.pid)
        readings = [await Reading.open(f"{one.url}/events/{fresh()}/?client={client}") for client in clients]

        for reading in readings:
            stack.callback(reading.close)

        async def hears() -> bool:
            return b'"layer": "live"' in (await request(f"{one.url}/events/ready/")).body

        await eventually(hears)
        assert (await ack(one, client=clients[0])).status == 202  # not asked yet: it does not listen
        await give(shell, "drain", node["pk"])
        for reading in readings:
            await reading.asked(deadline=20)
        streams = [reading.response.header("x-sse-stream") for reading in readings]
        async with asyncio.timeout(ACK_SECONDS / 2):  # well before they would go by themselves
            assert (await ack(other, client=clients[0])).status == 202
            await readings[0].assert_farewell(deadline=20)
            assert (await ack(other, stream=streams[1])).status == 202
            await readings[1].assert_farewell(deadline=20)
            assert (await ack(one, client=clients[2])).status == 204
            await readings[2].assert_farewell(deadline=20)
            readings[3].close()

            async def went() -> bool:
                figures = (await node_of(shell, one.pid))["figures"]
                return bool(figures["farewells"] == {"acked": 3, "closed": 1})

            await eventually(went)
        # A server logs the addresses that it is asked for, and what acks carry is in none.
        lines = [line for line in (one.log() + other.log()).splitlines() if '"GET /events/' not in line]
        assert any("POST /events/ack/" in line for line in lines)
        assert not [line for line in lines for secret in (*clients, *streams) if secret in line]
