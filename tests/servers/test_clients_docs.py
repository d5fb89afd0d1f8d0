"""The scripts of docs/clients.md in a real browser, to the letter."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.harness.chromium import open_page
from tests.harness.server import AsgiServer
from tests.harness.site import Site

from .served import eventually

pytestmark = pytest.mark.faults

#: Counts what the browser's own EventSource fires, beside what the example makes of it.
COUNT = """
window.errors = 0;
window.EventSource = class extends EventSource {
    constructor(...given) {
        super(...given);
        window.source = this;
        this.addEventListener("error", () => { window.errors += 1; });
    }
};
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AsgiServer]:
    site = Site(
        tmp_path,
        sse_polling={
            "BURST": {"hold_seconds": 0.5, "linger_seconds": 0.1},
            "RETRY": {"base_ms": 100},
            "AUTH_CACHE_SECONDS": 0,
            # The example's own setting, which tests/test_clients_docs.py runs.
            "CHANNELS": [("build.*", {"AUTHORIZE": "sse_polling.access.signed"})],
        },
        django={"ROOT_URLCONF": "tests.servers.docs_page"},
    )
    started = AsgiServer(site).start()
    yield started
    started.kill()


async def publish(server: AsgiServer, channel: str, *data: str, **more: object) -> None:
    await asyncio.to_thread(server.publish, channel, *data, **more)


async def read(page: Page, server: AsgiServer, name: str) -> list[str]:
    """Open a page, and return what it is going to say on its console."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    await page.goto(f"{server.url}/page/{name}/")
    return said


async def test_the_browsers_own_event_source_fires_error_at_the_end_of_each_burst(server: AsgiServer) -> None:
    async with open_page() as page:
        await page.add_init_script(COUNT)
        said = await read(page, server, "news")
        items = page.locator("#news li")
        for count, data in enumerate(["<b>one</b>", "two"], 1):
            bursts = await page.evaluate("errors")
            await publish(server, "news", data)
            await expect(items).to_have_count(count)
            await expect(items.last).to_have_text(data)
            await page.wait_for_function("bursts => errors > bursts", arg=bursts)
            assert await page.evaluate("source.readyState") != 2
        assert await page.locator("text=No more news").count() == 0
        await publish(server, "news", finish=None)
        await page.wait_for_function("source.readyState === EventSource.CLOSED")
        assert [each for each in said if each.startswith("error")] == []


async def test_the_example_of_client_js_tells_events_bursts_and_the_end(server: AsgiServer) -> None:
    async with open_page() as page:
        said = await read(page, server, "client")
        await eventually(lambda: any(re.fullmatch(r"back in \d+ ms", each) for each in said))
        await publish(server, "news", "one", "two")
        await eventually(
            lambda: [each.split()[-1] for each in said if each.endswith(("one", "two"))] == ["one", "two"]
        )
        await publish(server, "news", finish={"because": "it is late"})
        await eventually(lambda: any(each.startswith("finished:") for each in said))
        aside = r"back in \d+ ms|Failed to load resource.*"  # a browser asks for an icon
        others = [each for each in said if not re.fullmatch(aside, each)]
        assert len(others) == 3, said


async def test_the_example_of_renew_goes_on_where_the_expired_address_stopped(server: AsgiServer) -> None:
    async with open_page() as page:
        answers: list[tuple[int, str]] = []
        page.on("response", lambda answer: answers.append((answer.status, answer.url)))
        said = await read(page, server, "signed")
        await eventually(lambda: any("/builds/42/address/" in url for _, url in answers))
        await eventually(lambda: "/events/build.42/" in answers[-1][1] and answers[-1][0] == 200)
        statuses = [status for status, url in answers if "/events/build.42/" in url]
        assert statuses[0] == 200
        assert statuses.count(403) == 1
        assert not [each for each in said if each.startswith("error:")], said
