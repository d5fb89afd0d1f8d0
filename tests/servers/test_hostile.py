"""Hostile inputs by the thousand at each door: every one answered in words, nothing stored."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.connection import Address, Connection
from tests.harness.eventsource import parse
from tests.harness.http import BadResponse, Response, ResponseParser
from tests.harness.server import AsgiServer, Kind
from tests.harness.shell import Shell
from tests.harness.site import Site

from .hostile import Hostile, Hostility
from .served import APPLICATIONS, Door, Served, eventually

logger = logging.getLogger(__name__)

#: One costs several times as much through Django's own handler, which gets half of them.
AT_ONCE = 24
REFUSALS = {400, 403, 404, 405}
#: What an HTTP server may say by itself about a request that is too long, or of another kind.
SERVERS_OWN = {413, 414, 431, 501, 505}

#: Twisted hangs up on a longer line.
LONGEST = 16_000
#: What reads a request before the app does.
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
#: Django itself logs each bad Host header with a traceback.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}, "null": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django.security.DisallowedHost": {"handlers": ["null"], "propagate": False},
        "django.request": {"level": "ERROR"},
    },
}

COUNTS = (
    "from sse_polling.models import Channel, Event\n"
    "from django.contrib.sessions.models import Session\n"
    "result = [model.objects.count() for model in (Channel, Event, Session)]"
)


async def send(address: Address, hostile: Hostile) -> Response:
    """Return the answer, with status 0 if there was none."""
    parser = ResponseParser(method=hostile.method)
    connection = await Connection.open(address)
    try:
        async with asyncio.timeout(30):
            try:
                await connection.send(hostile.raw)
                if not hostile.is_http:
                    connection.half_close()  # what is incomplete stays so
                while not parser.response.complete:
                    data = await connection.receive()
                    if not data:
                        parser.close()
                        break
                    parser.feed(data)
            except ConnectionError:
                parser.close()
            except BadResponse:
                if hostile.is_http:
                    raise  # else: HTTP/0.9, or the answers to two requests in one go
    except TimeoutError:
        raise TimeoutError(f"no answer in 30 s: {hostile}") from None
    finally:
        connection.close()
    return parser.response


def check(hostile: Hostile, response: Response) -> None:
    """Assert that the answer is one, and in words."""
    assert response.status < 500 or response.status in SERVERS_OWN, f"{hostile}: {response}"
    if not hostile.is_http or len(hostile.raw) > LONGEST:
        return
    assert response.status, f"no answer: {hostile}"
    assert response.complete, f"{hostile}: {response}"
    if response.status == 200 and hostile.method == "GET":
        kind = response.header("content-type")
        if kind == "application/json":
            assert any(each in hostile.raw for each in (b"/events/ready", b"/../ready", b"/poll"))
            json.loads(response.body)
        else:
            assert kind == "text/event-stream"
            parse(response.body)
    elif response.status == 400 and not response.headers:
        assert b"multipart" in hostile.raw  # Twisted reads forms itself, and has no words for broken ones
    elif response.status in REFUSALS:
        assert hostile.method == "HEAD" or re.search(r"\w+ \w+", response.text), (
            f"no words: {hostile}: {response}"
        )
    else:
        assert response.status in {200, 204, 301} | SERVERS_OWN, f"{hostile}: {response}"


@pytest.mark.parametrize(
    ("door", "kind", "count"),
    [
        ("view", "uvicorn", 1_000),
        pytest.param("view", "uvicorn", 5_000, marks=pytest.mark.faults),
        pytest.param("mount", "daphne", 10_000, marks=pytest.mark.faults),
    ],
)
async def test_hostile_inputs_are_answered_in_words_and_nothing_is_stored(
    tmp_path: Path, serve: Callable[..., AsgiServer], door: Door, kind: Kind, count: int
) -> None:
    site = Site(
        tmp_path,
        sse_polling={
            "AUTHORIZE": "sse_polling.access.authenticated",
            "CHANNELS": [("open.*", {"AUTHORIZE": "sse_polling.access.public"})],
            "BURST": {"max_events": 10, "hold_seconds": 0, "linger_seconds": 0},
        },
        django={"MIDDLEWARE": MIDDLEWARE, "LOGGING": LOGGING, "SILENCED_SYSTEM_CHECKS": ["admin.E409"]},
    )
    quiet = ["--no-access-log"] if kind == "uvicorn" else ["--access-log", "/dev/null"]
    server = serve(site, kind=kind, app=APPLICATIONS[door], arguments=quiet)
    with Shell(site) as shell:
        served = Served(door, server, shell)
        channels = [f"open.{number}" for number in range(40)]
        cursors = [cursor for name in channels for cursor in shell.publish(name, "a", "b", "c")]
        stored = shell.run(COUNTS)
        source = Hostility(f"{door} {kind}", channels=channels, cursors=cursors)
        inputs = (next(source) for _ in range(count))
        seen: Counter[tuple[str, int]] = Counter()

        async def attack() -> None:
            for hostile in inputs:
                response = await send(Address(server.url), hostile)
                check(hostile, response)
                seen[hostile.kind, response.status] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(attack())

        logger.info("%s inputs at the %s of %s cost it %.1f s", count, door, kind, server.cpu_seconds())
        assert seen.total() == count
        # They reach what they are meant for: the app says no in each of its ways, and sometimes yes.
        by_status: Counter[int] = Counter()
        for (_, status), times in seen.items():
            by_status[status] += times
        assert min(by_status[status] for status in (200, 400, 403, 404, 405)) > count / 200, seen
        for hostile_kind in ("cursor", "channel", "query", "headers"):
            assert seen[hostile_kind, 400] > count / 200, seen

        assert shell.run(COUNTS) == stored
        await eventually(lambda: _is_idle(served))
        log = server.log()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
        assert "Internal Server Error" not in log
        server.publish("open.0", "still serving")
        client = served.client("open.0", query={"last_event_id": "earliest"})
        await client.read_until(4, deadline=30)
        assert client.data == ["a", "b", "c", "still serving"]


async def _is_idle(served: Served) -> bool:
    return await served.sockets() == 0
