"""A real Chromium with its own plain EventSource."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import pytest
from playwright.async_api import Page

from tests.harness.chromium import open_page
from tests.harness.connection import Address, Connection
from tests.harness.server import AsgiServer
from tests.harness.site import Site

#: Reads into `window.seen` whatever a plain EventSource is given.
READ = """url => {
    const source = new EventSource(url);
    const seen = window.seen = {lines: [], gaps: [], ends: [], ids: new Set(), opened: 0, errors: 0};
    source.onopen = () => { seen.opened++; };
    source.onerror = () => { seen.errors++; };
    source.onmessage = event => { seen.lines.push(event.data); seen.ids.add(event.lastEventId); };
    source.addEventListener("gap", event => seen.gaps.push(event.data));
    source.addEventListener("end", event => seen.ends.push(event.data));
    window.source = source;
}"""
STATE = """() => ({
    count: seen.lines.length, ids: seen.ids.size, opened: seen.opened, errors: seen.errors,
    gaps: seen.gaps, ends: seen.ends, state: source.readyState,
})"""


async def read(page: Page, server: AsgiServer, address: str) -> None:
    """Begin to read an address of the server from a page of the same origin."""
    await page.goto(f"{server.url}/events/ready/")
    await page.evaluate(READ, address)


async def state(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(STATE)
    return found


async def until(
    page: Page, condition: Callable[[dict[str, Any]], bool], *, deadline: float
) -> dict[str, Any]:
    """Wait for what the page has seen; return it."""
    ends = time.monotonic() + deadline
    while not condition(found := await state(page)):
        assert time.monotonic() < ends, f"after {deadline} s: {found}"
        await asyncio.sleep(0.05)
    return found


def real_lines(least: int) -> list[str]:
    """Return so many lines of real text that every machine has: Django's own source."""
    lines: list[str] = []
    for path in sorted(Path(django.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\r" not in text and "\0" not in text:
            lines += text.split("\n")
        if len(lines) >= least:
            return lines
    raise AssertionError(f"Django has {len(lines)} lines only")


@pytest.mark.faults
@pytest.mark.timeout(240)
async def test_every_line_of_a_long_text_reaches_a_browser_once_and_in_order(
    tmp_path: Path, serve: Callable[..., AsgiServer]
) -> None:
    """The demo as it is: `sse_publish log -` on one side, a plain EventSource on the other."""
    lines = real_lines(50_000)
    site = Site(tmp_path, settings="project.settings", env={"DJANGO_VAR": str(tmp_path / "var")})
    server = serve(
        site, kind="daphne", app="project.asgi:application", arguments=["--access-log", "/dev/null"]
    )
    async with open_page(screenshots=tmp_path) as page:
        await read(page, server, "/events/log/?last_event_id=earliest")
        publishing = asyncio.create_task(
            asyncio.to_thread(
                site.manage, "sse_publish", "log", "-", "--finish", stdin="\n".join(lines) + "\n", timeout=120
            )
        )
        seen = await until(page, lambda seen: seen["state"] == 2, deadline=120)
        await publishing
        received: list[str] = await page.evaluate("() => seen.lines")
    assert received == lines
    assert seen["ids"] == len(lines)
    assert seen["gaps"] == []
    assert len(seen["ends"]) == 1
    assert seen["opened"] >= 100, "bursts"
    assert "Traceback" not in server.log(), server.log_tail()


FAST = {
    "BURST": {"max_events": 20, "hold_seconds": 0.2, "linger_seconds": 0.1},
    "RETRY": {"base_ms": 20, "behind_ms": 10},
}


@pytest.mark.parametrize("kind", ["daphne", pytest.param("uvicorn", marks=pytest.mark.faults)])
async def test_a_browser_continues_exactly_when_the_server_is_killed_and_when_it_is_told_to_stop(
    site: Site, serve: Callable[..., AsgiServer], kind: str
) -> None:
    site.sse_polling.update(FAST)
    server = serve(site, kind=kind)
    lines = real_lines(1500)[:1500]
    async with open_page() as page:
        await read(page, server, "/events/log/?last_event_id=earliest")
        published = 0
        for upto, kill in ((500, True), (1000, False), (1500, None)):
            await asyncio.to_thread(server.publish, "log", *lines[published:upto])
            published = upto
            if kill is not None:
                await until(page, lambda seen, upto=upto: seen["count"] > upto - 400, deadline=30)
                await asyncio.to_thread(server.restart, kill=kill)
        await asyncio.to_thread(server.publish, "log", finish={"all": True})
        seen = await until(page, lambda seen: seen["state"] == 2, deadline=30)
        received: list[str] = await page.evaluate("() => seen.lines")
    assert received == lines
    assert (seen["gaps"], seen["ends"]) == ([], ['{"all":true}'])


async def test_a_browser_comes_back_from_a_polite_refusal_and_never_from_a_503(
    site: Site, serve: Callable[..., AsgiServer]
) -> None:
    site.sse_polling.update({**FAST, "MAX_SOCKETS": 1, "BREAKER": {"threshold": 1, "retry_after_seconds": 1}})
    site.sse_polling["CHANNELS"] = [("held", {"BURST": {"hold_seconds": 300, "max_seconds": 300}})]
    server = serve(site)
    server.publish("log", "a", "b")
    address = Address(f"{server.url}/events/held/")
    connection = await Connection.open(address)
    await connection.send(address.head({}))
    async with asyncio.timeout(20):
        assert b"200 OK" in await connection.receive()
    async with open_page() as page:
        await read(page, server, "/events/log/?last_event_id=earliest")
        refused = await until(page, lambda seen: seen["state"] == 2, deadline=30)
        assert (refused["opened"], refused["count"]) == (0, 0)
        await read(page, server, "/events/log/?last_event_id=earliest&busy=stream")
        refused = await until(page, lambda seen: seen["opened"] >= 2, deadline=30)
        assert refused["count"] == 0
        connection.close()
        await until(page, lambda seen: seen["count"] == 2, deadline=30)
        await asyncio.to_thread(server.publish, "log", finish=None)
        seen = await until(page, lambda seen: seen["state"] == 2, deadline=30)
        assert await page.evaluate("() => seen.lines") == ["a", "b"]
        assert seen["ends"] == ["{}"]


async def test_204_ends_a_browsers_stream_for_good(site: Site, serve: Callable[..., AsgiServer]) -> None:
    site.sse_polling.update(FAST)
    server = serve(site)
    server.publish("log", "a", finish=None)
    async with open_page() as page:
        await read(page, server, "/events/log/?last_event_id=earliest")
        ended = await until(page, lambda seen: seen["state"] == 2, deadline=30)
        # One burst; a polite refusal or a second burst would have opened it again.
        assert (ended["count"], ended["ends"], ended["opened"]) == (1, ["{}"], 1)
        await asyncio.sleep(0.5)
        assert await state(page) == ended
