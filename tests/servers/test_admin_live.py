"""The admin's live pages in a real browser, on a real server, under a strict policy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Page, expect

from tests.harness.chromium import open_page
from tests.harness.connection import Address, Connection
from tests.harness.programs import require
from tests.harness.server import AsgiServer
from tests.harness.shell import Shell
from tests.harness.site import Site

# A browser, a server and a shell share two cores with other tests.
expect.set_options(timeout=20_000)

LIVE = "/admin/sse_polling/node/"
WORDS = {"drain": "Yes, drain it", "resume": "Yes, let it serve"}


FOCUSED = "() => document.activeElement.closest('[id]').id"


class Fleet:
    """A demo server, a shell beside it, and the cookies of two people."""

    def __init__(self, directory: Path) -> None:
        self.site = Site(directory, settings="project.settings", env={"DJANGO_VAR": str(directory / "var")})
        self.server = AsgiServer(self.site, app="project.asgi:application")
        self.server.start()
        self.shell = Shell(self.site)
        self.operator = self.site.session("operator", superuser=True)
        self.viewer = self.site.session("viewer", staff=True)
        self.run(
            "from django.contrib.auth.models import Permission, User\n"
            "User.objects.get(username='viewer').user_permissions.set(\n"
            "    Permission.objects.filter(codename='view_node'))\n"
            "from sse_polling.models import Channel\n"
            "sse_polling.publish('held', 'x')\n"
            "Channel.objects.filter(name='held').update(preset='live')"
        )

    def run(self, code: str, **values: Any) -> Any:
        return self.shell.run(code, **values)

    def stop(self) -> None:
        self.shell.close()
        self.server.kill()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    require("chromium")
    made = Fleet(tmp_path_factory.mktemp("live"))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: SSE_POLLING_SCREENSHOTS, else the test's own folder."""
    folder = Path(os.environ.get("SSE_POLLING_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.asynccontextmanager
async def held(fleet: Fleet, count: int) -> AsyncIterator[list[Connection]]:
    """Hold streams of the channel `held`, as clients do that wait for an event."""
    address = Address(f"{fleet.server.url}/events/held/")
    found = []
    try:
        for _ in range(count):
            connection = await Connection.open(address)
            found.append(connection)
            await connection.send(address.head({}))
        for connection in found:
            async with asyncio.timeout(20):
                assert b"200 OK" in await connection.receive()
        yield found
    finally:
        for connection in found:
            connection.close()


async def sign_in(context: BrowserContext, fleet: Fleet, cookies: dict[str, str]) -> None:
    await context.add_cookies(
        [{"name": name, "value": value, "url": fleet.server.url} for name, value in cookies.items()]
    )


def listen(page: Page) -> list[str]:
    """Return a list that takes what goes wrong in the page; a policy's violations are among it."""
    problems: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    return problems


@contextlib.asynccontextmanager
async def signed_in(
    fleet: Fleet, *, size: tuple[int, int] = (1280, 900)
) -> AsyncIterator[tuple[Page, list[str]]]:
    async with open_page(size=size) as page:
        await sign_in(page.context, fleet, fleet.operator)
        yield page, listen(page)


async def until(condition: Callable[[], bool], *, deadline: float = 20) -> None:
    ends = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.05)


async def picture(page: Page, folder: Path, name: str) -> None:
    # All of a page takes its time, and only people look at it.
    await page.screenshot(path=folder / f"{name}.png", full_page="SSE_POLLING_SCREENSHOTS" in os.environ)


async def fits(page: Page) -> None:
    """Check that nothing is wider than the page, nor a table than what it stands in."""
    width, inner = await page.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]")
    assert width <= inner
    wide = await page.evaluate(
        "() => [...document.querySelectorAll('.sse-table, .sse-counts')]"
        ".filter(table => table.offsetWidth > table.parentElement.clientWidth + 1)"
        ".map(table => table.className)"
    )
    assert wide == []


def row(page: Page, state: str) -> Any:
    return page.locator(f".sse-nodes tr.sse-is-{state}")


async def order(page: Page, kind: str) -> None:
    await page.locator(f".sse-nodes a[href*='kind={kind}&']").click()
    await page.get_by_role("button", name=WORDS[kind]).click()


async def test_figures_move_and_a_drain_empties_the_node_before_one_s_eyes(
    fleet: Fleet, pictures: Path
) -> None:
    async with signed_in(fleet) as (page, problems):
        await page.goto(f"{fleet.server.url}{LIVE}")
        loads: list[str] = []
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        await page.fill("#sse-q", "typed, not sent")
        await page.locator("#sse-plot-details summary").click()
        async with held(fleet, 40) as connections:
            await expect(page.locator(".sse-sentence")).to_have_text(
                re.compile(r"^4\d readers? on 4\d sockets?")
            )
            await expect(page.locator("#sse-sockets tbody tr").nth(39)).to_be_visible()
            kept = page.locator("#sse-sockets tbody tr", has_text="held").last.locator("th a")
            await kept.focus()
            focused = await page.evaluate(FOCUSED)
            assert focused
            for connection in connections[20:]:
                connection.close()
            await expect(page.locator(".sse-sentence")).to_have_text(re.compile(r" on 2\d sockets?"))
            assert await page.input_value("#sse-q") == "typed, not sent"
            assert await page.locator("#sse-plot-details").get_attribute("open") is not None
            assert await page.evaluate(FOCUSED) in (focused, "sse-sockets")
            assert loads == []
            await picture(page, pictures, "busy")
            await order(page, "drain")
            await expect(page.locator(".messagelist")).to_contain_text("was asked to drain")
            await expect(row(page, "draining").locator("progress")).to_be_visible()
            await picture(page, pictures, "draining")
            await expect(row(page, "drained")).to_contain_text("0 of")
            await expect(page.locator(".sse-sentence")).to_contain_text("is drained")
            await expect(page.locator("#sse-orders")).to_contain_text("it drains")
            await expect(page.locator("#sse-farewells tr", has_text="not asked")).to_contain_text("20")
        await order(page, "resume")
        await expect(row(page, "serving")).to_be_visible()
        await expect(page.locator("#sse-orders")).to_contain_text("it takes streams again")
        assert problems == []


async def test_one_socket_is_closed_and_is_gone(fleet: Fleet) -> None:
    async with signed_in(fleet) as (page, problems), held(fleet, 2) as connections:
        await page.goto(f"{fleet.server.url}{LIVE}?channel=held")
        await expect(page.locator("#sse-sockets tbody tr")).to_have_count(2)
        first = page.locator("#sse-sockets tbody tr").first
        key = await first.get_attribute("id")
        await first.get_by_role("link", name="Close").click()
        await expect(page.locator(".sse-effects")).to_contain_text("It reads held")
        await page.get_by_role("button", name="Yes, close it").click()
        await expect(page.locator(f"#{key}")).to_have_count(0)
        await expect(page.locator("#sse-orders")).to_contain_text("1 stream was asked to leave")
        assert len(connections) == 2
        assert problems == []


async def test_two_tabs_have_one_stream_and_the_second_takes_over(fleet: Fleet) -> None:
    async with signed_in(fleet) as (first, problems):
        second = await first.context.new_page()
        streams: dict[str, int] = {"first": 0, "second": 0}
        fetches: dict[str, int] = {"first": 0, "second": 0}

        def count(name: str) -> Any:
            def listener(request: Any) -> None:
                streams[name] += "/sse_polling.live/" in request.url
                fetches[name] += LIVE in request.url and request.resource_type == "fetch"

            return listener

        first.on("request", count("first"))
        second.on("request", count("second"))
        await first.goto(f"{fleet.server.url}{LIVE}")
        await until(lambda: streams["first"] > 0)
        await second.goto(f"{fleet.server.url}{LIVE}")
        before = fetches["second"]
        most = 0
        async with asyncio.timeout(20):
            while fetches["second"] < before + 3:
                most = max(most, fleet.run(_COUNT_STREAMS))
                await asyncio.sleep(0.3)
        assert streams["second"] == 0
        assert most <= 1
        await first.close()
        await until(lambda: streams["second"] > 0)
        assert problems == []


_COUNT_STREAMS = """
from sse_polling.nodes.reading import read_fleet
result = sum(
    "sse_polling.live" in socket.channels
    for node in read_fleet(sockets=True).live for socket in node.listed
)
"""


async def test_it_says_when_the_server_is_away_and_goes_on_when_it_is_back(fleet: Fleet) -> None:
    async with signed_in(fleet) as (page, _problems):
        await page.goto(f"{fleet.server.url}{LIVE}")
        await expect(row(page, "serving")).to_have_count(1)
        await page.context.set_offline(True)
        await expect(page.locator("#sse-still")).to_contain_text("stand still since")
        await page.context.set_offline(False)
        await expect(page.locator("#sse-still")).to_be_hidden()
        await page.context.clear_cookies()
        await expect(page.locator("#sse-still")).to_contain_text("you are logged out")


async def test_without_javascript_all_of_it_works(fleet: Fleet) -> None:
    async with signed_in(fleet) as (page, _problems), held(fleet, 3):
        browser = page.context.browser
        assert browser
        context = await browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
        await sign_in(context, fleet, fleet.viewer)
        plain = await context.new_page()
        await plain.goto(f"{fleet.server.url}{LIVE}")
        for _ in range(100):
            if await plain.locator("#sse-sockets tbody tr").count() >= 3:
                break
            await asyncio.sleep(0.1)
            await plain.get_by_role("link", name="Refresh").click()
        await plain.fill("#sse-channel", "held")
        await plain.get_by_role("button", name="Show", exact=True).click()
        assert await plain.locator("#sse-sockets tbody tr").count() == 3
        assert await plain.locator("a[href*='confirm/']").count() == 0, "a viewer has no buttons"
        await plain.locator(".sse-nodes th a").first.click()
        await expect(plain.locator("h1")).to_contain_text(":")
        await context.close()


_ROWS = """
from tests.harness.rows import figures, history, make_node, socket
from django.contrib.auth.models import User
from sse_polling.models import Channel, Node
Node.objects.all().delete()
ada = str(User.objects.get(username="operator").pk)
names = ["builds", "log", "task.7"]
crowd = [
    socket(
        n, behind=max(0, 40 - n) ** 2, channels=names[: n % 3 + 1], of=n % 3 + n % 7 + 1,
        user=ada if n % 4 == 0 else None, door="view" if n % 5 == 0 else "mount",
    )
    for n in range(1, 13)
]
long = "the.longest.name.of.a.channel." * 6
crowd.append(socket(77, channels=[long], client="<b>bold</b>", address="2001:db8:85a3::8a2e:370:7334"))
make_node(
    "web-1:4242:ab12", sockets=crowd, total=512, readers=8412, history=history(400, 8000),
    figures=figures(budget={"budget": 500, "places": 500, "wait_ms": 2300}),
)
make_node(
    "a-host-with-a-very-long-name.eu-central-1.compute.internal.example:91234:ff00",
    sockets=crowd[:3], capacity=3, state="full",
    figures=figures(breaker={"open": True}, refused={"capacity": 1203}),
)
drain = {"why": "order", "total": 412, "left": 112, "seconds": 3.0, "estimate": 4.2}
farewells = {"acked": 280, "cut": 2, "not_asked": 18}
make_node(
    "web-2:77:ab", state="draining", sockets=crowd[3:6], history=history(300, 4000, refused=2),
    figures=figures(drain=drain, layer="polling", farewells=farewells),
)
make_node("web-3:78:ab", silent=70, sockets=crowd[6:8], history=history(20, 100, points=20))
make_node("web-4:79:ab", stopped=True)
sse_polling.publish("builds", "x")
keys = dict(Node.objects.values_list("name", "pk"))
result = [keys[name] for name in ("web-1:4242:ab12", "web-2:77:ab", "web-3:78:ab")]
result.append(Channel.objects.get(name="builds").pk)
"""
_TOUCH = """
from django.db.models.functions import Now
from sse_polling.models import Node, NodeSockets
rows = Node.objects.exclude(name__in=["web-3:78:ab", "web-4:79:ab"])
rows.update(seen=Now())
NodeSockets.objects.filter(node__in=rows).update(taken=Now())
"""
CHECKED = {"fleet-light", "node-light", "channel-light", "confirm-light", "fleet-dark", "draining-phone"}
LOOKS: list[tuple[str, Any, int, tuple[str, ...]]] = [
    ("light", "light", 1280, ("fleet", "node", "silent", "channel", "confirm")),
    ("dark", "dark", 1280, ("fleet",)),
    ("phone", "dark", 390, ("fleet", "draining", "channel")),
    ("middle", "light", 1040, ("fleet",)),
]


@pytest.mark.faults
async def test_pages_are_accessible_and_nothing_overflows(fleet: Fleet, pictures: Path) -> None:
    busy, draining, silent, channel = fleet.run(_ROWS)
    addresses = {
        "fleet": LIVE,
        "node": f"{LIVE}{busy}/change/",
        "draining": f"{LIVE}{draining}/change/",
        "silent": f"{LIVE}{silent}/change/",
        "channel": f"/admin/sse_polling/channel/{channel}/change/",
        "confirm": f"{LIVE}confirm/?kind=drain&node={busy}",
    }
    found: dict[str, Any] = {}
    async with signed_in(fleet) as (page, problems):
        for look, scheme, width, names in LOOKS:
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": 900})
            for name in names:
                fleet.run(_TOUCH)
                await page.goto(f"{fleet.server.url}{addresses[name]}")
                await picture(page, pictures, f"{name}-{look}")
                await fits(page)
                if problems:  # before axe brings some of its own
                    found[f"{name}-{look} console"] = list(problems)
                if f"{name}-{look}" in CHECKED:
                    results = await Axe().run(page, context="#content-start")
                    if results.violations_count:
                        found[f"{name}-{look}"] = results.generate_report()
                problems.clear()
    assert found == {}


async def test_an_empty_fleet_says_what_to_do(fleet: Fleet, pictures: Path) -> None:
    async with open_page() as page:
        await sign_in(page.context, fleet, fleet.operator)
        await page.route("**/live.js", lambda route: route.abort())
        for _ in range(20):  # the server of this test writes its own row again and again
            fleet.run("from sse_polling.models import Node\nNode.objects.all().delete()")
            await page.goto(f"{fleet.server.url}{LIVE}")
            if await page.locator(".sse-empty").count():
                break
        await expect(page.locator(".sse-empty")).to_contain_text("Start a server")
        await picture(page, pictures, "empty")
        assert (await Axe().run(page, context="#content-start")).violations_count == 0
