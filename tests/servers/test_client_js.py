"""The JavaScript client in a real Chromium, against a real server over HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.harness.connection import Address, Connection
from tests.harness.programs import require
from tests.harness.server import AsgiServer
from tests.harness.site import Site

from .served import fresh

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60.0
PLACES = 14

SETTINGS: dict[str, Any] = {
    "BURST": {"max_events": 40, "hold_seconds": 0.4, "linger_seconds": 0.1},
    "RETRY": {"base_ms": 100, "behind_ms": 10},
    "MAX_SOCKETS": PLACES,
    "BREAKER": {"threshold": 1, "retry_after_seconds": 1},
    "DRAIN": {"seconds": 15, "ack_seconds": 10, "spread_seconds": 0},
    "CHANNELS": [
        ("held.*", {"BURST": {"hold_seconds": 300, "max_seconds": 300}}),
        ("live.*", {"BURST": {"hold_seconds": 30, "linger_seconds": 30}}),
        ("signed.*", {"AUTHORIZE": "sse_polling.access.signed"}),
    ],
}

#: Reads into `window.seen` whatever the client is given.
READ = """async ([url, options, renewed]) => {
    const {PolledEventSource} = await import("/client.js");
    const seen = window.seen = {
        lines: [], ids: [], bursts: [], errors: [], gaps: [], ends: [], transports: [],
        opened: 0, renewals: 0, ordered: true,
    };
    if (renewed) {
        options.renew = async () => { seen.renewals += 1; return (await fetch(renewed)).text(); };
    }
    const source = window.source = new PolledEventSource(url, options);
    source.onopen = () => { seen.opened += 1; };
    source.onerror = event => { seen.errors.push(event.detail); };
    source.onmessage = event => {
        const said = JSON.parse(event.data);
        seen.lines.push(typeof said === "object" ? [said.channel, Number(said.data)] : said);
        seen.ids.push(event.lastEventId);
        seen.ordered &&= source.lastEventId === event.lastEventId && event.origin === location.origin;
        if (seen.transports.at(-1) !== source.transport) seen.transports.push(source.transport);
    };
    source.addEventListener("burst", event => seen.bursts.push(event.detail));
    source.addEventListener("gap", event => seen.gaps.push(event.detail));
    source.addEventListener("end", event => seen.ends.push(event.detail));
}"""
STATE = """() => ({
    ...seen, state: source.readyState, role: source.role, transport: source.transport,
    last: source.lastEventId,
})"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiServer]:
    site = Site(
        tmp_path_factory.mktemp("client"),
        sse_polling=SETTINGS,
        django={"ROOT_URLCONF": "tests.servers.client_page"},
    )
    started = AsgiServer(site).start()
    yield started
    started.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests here, with the back-forward cache that Playwright turns off."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=require("chromium"),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
            ],
            ignore_default_args=["--disable-back-forward-cache"],
            chromium_sandbox=False,
        )
        try:
            yield launched
        finally:
            await launched.close()


@contextlib.asynccontextmanager
async def opened(browser: Browser) -> AsyncIterator[Page]:
    """Give a page of a profile that no other test has."""
    context = await browser.new_context()
    try:
        yield await context.new_page()
    finally:
        await context.close()


async def read(
    page: Page, server: AsgiServer, address: str, *, renewed: str | None = None, **options: Any
) -> None:
    """Begin to read an address of the server from a page of the same site."""
    await page.goto(f"{server.url}/page/")
    await page.evaluate(READ, [address, options, renewed])


async def until(
    page: Page, condition: Callable[[dict[str, Any]], bool], *, deadline: float = PATIENCE
) -> dict[str, Any]:
    """Wait for what the page has seen; return it."""
    ends = time.monotonic() + deadline
    while True:
        found: dict[str, Any] = await page.evaluate(STATE)
        if condition(found):
            return found
        assert time.monotonic() < ends, f"after {deadline} s: {found}"
        await asyncio.sleep(0.05)


def get(server: AsgiServer, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=30) as response:
        return str(response.read().decode())


async def eventually(condition: Callable[[], Any], *, deadline: float = PATIENCE) -> None:
    ends = time.monotonic() + deadline
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < ends, f"not within {deadline} s"
        await asyncio.sleep(0.05)


class Numbers:
    """Publishes 0, 1, 2, … on a channel, all the time."""

    def __init__(self, server: AsgiServer, channel: str) -> None:
        self.server, self.channel = server, channel
        self.count = 0

    @property
    def all(self) -> list[int]:
        return list(range(self.count))

    async def publish(self, count: int = 1) -> None:
        await asyncio.to_thread(
            self.server.publish, self.channel, *map(str, range(self.count, self.count + count))
        )
        self.count += count

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def flow() -> None:
            while not over.is_set():
                await self.publish()
                await asyncio.sleep(0.03)

        task = asyncio.create_task(flow())
        try:
            yield
        finally:
            over.set()
            await task


async def roles(pages: list[Page]) -> list[str]:
    return [await page.evaluate("() => source.role") for page in pages]


async def one_owner(pages: list[Page], *, deadline: float = PATIENCE) -> Page:
    """Wait until one page owns the connection and all others follow it; return that one."""
    ends = time.monotonic() + deadline
    while sorted(set(found := await roles(pages))) != ["following", "owning"] or found.count("owning") != 1:
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.05)
    return pages[found.index("owning")]


async def one_owner_of(page: Page) -> None:
    await until(page, lambda seen: seen["role"] == "owning")


async def crash(page: Page) -> None:
    """Kill the renderer of a page, as the kernel does that has no memory left."""
    crashed = asyncio.Event()
    page.on("crash", lambda _: crashed.set())
    session = await page.context.new_cdp_session(page)
    task = asyncio.create_task(session.send("Page.crash"))
    async with asyncio.timeout(PATIENCE):
        await crashed.wait()
    task.cancel()
    await asyncio.wait([task])


async def freeze(page: Page) -> None:
    """Tell a page that it is frozen. One that is seen cannot really be, and no page here is hidden."""
    await page.evaluate("() => document.dispatchEvent(new Event('freeze'))")


async def thaw(page: Page) -> None:
    await page.evaluate("() => document.dispatchEvent(new Event('resume'))")


async def test_ten_tabs_share_one_socket_and_lose_nothing_when_its_owner_goes(
    server: AsgiServer, browser: Browser
) -> None:
    numbers = Numbers(server, fresh("live"))
    address = f"/events/{numbers.channel}/?last_event_id=earliest"
    crashes: list[Page] = []

    def note(page: Page) -> None:
        crashes.append(page)

    async with opened(browser) as first:
        async with numbers.flowing():
            pages = [first, *[await first.context.new_page() for _ in range(9)]]
            for page in pages:
                page.on("crash", note)
                await read(page, server, address)
            for leave in (None, Page.close, crash, freeze, Page.close):
                owner = await one_owner(pages)
                if leave is not None:
                    pages.remove(owner)
                    await leave(owner)
                    await one_owner(pages)
                await eventually(lambda: server.counts()["open"] == 1)
                count = numbers.count
                for page in pages:
                    await until(page, lambda seen, count=count: len(seen["lines"]) >= count)
                assert server.counts()["open"] <= 1
                if leave is freeze:
                    await thaw(owner)
                    pages.append(owner)
            late = await pages[0].context.new_page()
            await read(late, server, address)
            pages.append(late)
        await one_owner(pages)
        for page in pages:
            seen = await until(page, lambda seen: len(seen["lines"]) >= numbers.count)
            assert seen["lines"] == numbers.all
            assert len(set(seen["ids"])) == numbers.count
            assert (seen["errors"], seen["gaps"], seen["ordered"]) == ([], [], True)
    assert len(pages) == 8
    assert len(crashes) == 1


async def test_a_tab_comes_back_from_the_back_forward_cache_and_lacks_nothing(
    server: AsgiServer, browser: Browser
) -> None:
    numbers = Numbers(server, fresh("live"))
    async with opened(browser) as first:
        pages = [first, await first.context.new_page()]
        for page in pages:
            await read(page, server, f"/events/{numbers.channel}/?last_event_id=earliest")
        owner = await one_owner(pages)
        (other,) = [page for page in pages if page is not owner]
        await owner.evaluate("() => addEventListener('pageshow', event => { seen.back = event.persisted; })")
        async with numbers.flowing():
            await owner.goto(f"{server.url}/counts/")
            await one_owner_of(other)
            count = numbers.count + 5
            await until(other, lambda seen: len(seen["lines"]) >= count)
            await owner.go_back(wait_until="commit")
            # Where the browser kept no such page there is nothing to be tested: it is loaded anew.
            async with asyncio.timeout(PATIENCE):
                await owner.wait_for_function("() => document.readyState === 'complete'")
            if not await owner.evaluate("() => Boolean(window.seen?.back)"):
                pytest.skip("this Chromium did not keep the page")
            assert await one_owner(pages) is other
        for page in pages:
            seen = await until(page, lambda seen: len(seen["lines"]) >= numbers.count)
            assert seen["lines"] == numbers.all


@pytest.mark.faults
@pytest.mark.parametrize("how", ["hangs", "is offline"])
async def test_an_owner_that_does_not_answer_is_exact_when_it_does_again(
    server: AsgiServer, browser: Browser, how: str
) -> None:
    numbers = Numbers(server, fresh("live"))
    async with opened(browser) as first:
        pages = [first, await first.context.new_page(), await first.context.new_page()]
        async with numbers.flowing():
            for page in pages:
                await read(page, server, f"/events/{numbers.channel}/?last_event_id=earliest", silenceMs=1500)
            owner = await one_owner(pages)
            if how == "hangs":
                others = [page for page in pages if page is not owner]
                # Until the others have waited long enough to steal its lock: silence, at most 10 s, and 1 s.
                wait = "() => { for (const until = Date.now() + 15000; Date.now() < until; ); }"
                hanging = asyncio.create_task(owner.evaluate(wait))
                await one_owner(others)
                count = numbers.count
                for page in others:
                    await until(page, lambda seen, count=count: len(seen["lines"]) >= count)
                assert not hanging.done()
                await hanging
            else:
                for seconds in (1, 3, 1):
                    await owner.context.set_offline(True)
                    await asyncio.sleep(seconds)
                    await owner.context.set_offline(False)
                    await asyncio.sleep(0.5)
                    seen = await until(owner, lambda seen: seen["state"] == 1)
                    assert seen["transport"] == "stream"
            await one_owner(pages)
        for page in pages:
            seen = await until(page, lambda seen: len(seen["lines"]) >= numbers.count)
            assert seen["lines"] == numbers.all
            assert {each["reason"] for each in seen["errors"]} <= {"network"}
            assert bool(seen["errors"]) is (how == "is offline")


async def test_tabs_of_several_channels_share_them(server: AsgiServer, browser: Browser) -> None:
    both = [Numbers(server, fresh("live")) for _ in range(2)]
    names = "&".join(f"channel={numbers.channel}" for numbers in both)
    async with opened(browser) as first:
        pages = [first, await first.context.new_page(), await first.context.new_page()]
        async with both[0].flowing(), both[1].flowing():
            for page in pages:
                await read(page, server, f"/events/?{names}&last_event_id=earliest")
            owner = await one_owner(pages)
            pages.remove(owner)
            await owner.close()
            await one_owner(pages)
        total = sum(numbers.count for numbers in both)
        for page in pages:
            seen = await until(page, lambda seen: len(seen["lines"]) >= total)
            for numbers in both:
                assert [each[1] for each in seen["lines"] if each[0] == numbers.channel] == numbers.all
            assert len(seen["lines"]) == total


async def test_the_documented_pages_do_what_they_say(server: AsgiServer, browser: Browser) -> None:
    async with opened(browser) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(f"{server.url}/news/")
        other = await page.context.new_page()
        other.on("console", lambda message: said.append(message.text))
        await other.goto(f"{server.url}/news/?script=polled.js")
        # It for what comes now.
        await eventually(lambda: any(text.startswith("back in ") for text in said))
        for text in ("first", "second"):
            await asyncio.to_thread(server.publish, "news", text)
            await page.get_by_text(text).wait_for(timeout=PATIENCE * 1000)
            await eventually(lambda text=text: any(line.endswith(f" {text}") for line in said))
        await asyncio.to_thread(server.publish, "news", finish={"all": True})
        await eventually(lambda: "finished: {all: true}" in said)
        assert await page.locator("li").all_inner_texts() == ["first", "second"]
        counted = [line for line in said if not line.startswith("back in ")]
        assert [line.split(" ")[-1] for line in counted] == ["first", "second", "true}"], said
        assert await page.locator("body").inner_text() == "first\nsecond"


async def test_a_plain_event_source_fires_an_error_at_the_end_of_each_burst(
    server: AsgiServer, browser: Browser
) -> None:
    numbers = Numbers(server, fresh())
    async with opened(browser) as page:
        await page.goto(f"{server.url}/page/")
        await page.evaluate(
            """url => {
                const seen = window.seen = {lines: [], errors: []};
                const source = window.source = new EventSource(url);
                source.onmessage = event => seen.lines.push(Number(event.data));
                source.onerror = () => seen.errors.push(source.readyState);
            }""",
            f"/events/{numbers.channel}/?busy=stream&last_event_id=earliest",
        )
        for _ in range(3):
            await numbers.publish(3)
            await until(page, lambda seen: seen["lines"] == numbers.all)
            ended = len((await until(page, bool))["errors"])
            await until(page, lambda seen, ended=ended: len(seen["errors"]) > ended)
        seen = await until(page, bool)
    assert set(seen["errors"]) == {0}, "it is connecting again"
    assert seen["lines"] == numbers.all


async def test_a_burst_ends_in_a_burst_and_never_in_an_error(server: AsgiServer, browser: Browser) -> None:
    numbers = Numbers(server, fresh())
    await numbers.publish(100)
    async with opened(browser) as page:
        await read(page, server, f"/events/{numbers.channel}/?last_event_id=earliest")
        await until(page, lambda seen: len(seen["bursts"]) >= 4)
        await numbers.publish(5)
        seen = await until(page, lambda seen: len(seen["lines"]) == 105 and len(seen["bursts"]) >= 5)
        await asyncio.to_thread(server.publish, numbers.channel, finish={"all": True})
        seen = await until(page, lambda seen: seen["state"] == 2)
    assert seen["lines"] == numbers.all
    assert [each["events"] for each in seen["bursts"]][:2] == [40, 40]
    assert seen["bursts"][0]["transport"] == "stream"
    assert (seen["errors"], seen["gaps"], seen["opened"]) == ([], [], 1)
    assert seen["ends"] == [{"all": True}]
    assert len(set(seen["ids"])) == 105
    assert seen["ordered"]


async def test_a_full_server_is_read_by_long_polls_until_it_has_a_place(
    server: AsgiServer, browser: Browser
) -> None:
    numbers = Numbers(server, fresh())
    held: list[Connection] = []
    address = Address(f"{server.url}/events/{fresh('held')}/")
    for _ in range(PLACES):
        connection = await Connection.open(address)
        await connection.send(address.head({}))
        async with asyncio.timeout(PATIENCE):
            assert b"200 OK" in await connection.receive()
        held.append(connection)
    async with opened(browser) as page, numbers.flowing():
        await read(page, server, f"/events/{numbers.channel}/?last_event_id=earliest")
        await until(page, lambda seen: seen["transport"] == "poll" and len(seen["lines"]) > 20)
        for connection in held:
            connection.close()
        seen = await until(page, lambda seen: seen["transports"][-1] == "stream")
        count = len(seen["lines"])
        await until(page, lambda seen: len(seen["lines"]) > count + 20)
    assert seen["transports"] == ["poll", "stream"]
    assert seen["errors"] == []


async def test_a_drain_is_acked_and_nothing_is_lost(server: AsgiServer, browser: Browser) -> None:
    numbers = Numbers(server, fresh("live"))
    async with opened(browser) as page:
        async with numbers.flowing():
            await read(page, server, f"/events/{numbers.channel}/?last_event_id=earliest")
            await until(page, lambda seen: len(seen["lines"]) > 5)
            await asyncio.to_thread(get, server, "/drain/?begin=1")
            try:
                drained = await until(page, lambda seen: any(each["draining"] for each in seen["bursts"]))
                await eventually(lambda: get(server, "/drain/") == '{"acked": 1}')
            finally:
                await asyncio.to_thread(get, server, "/drain/?end=1")
            await until(page, lambda seen: len(seen["lines"]) > len(drained["lines"]) + 10)
        seen = await until(page, lambda seen: len(seen["lines"]) >= numbers.count)
    assert seen["lines"] == numbers.all
    assert seen["errors"] == []


async def test_a_signed_address_that_has_expired_is_renewed(server: AsgiServer, browser: Browser) -> None:
    numbers = Numbers(server, fresh("signed"))
    await numbers.publish(3)
    ask = f"/signed/?channel={numbers.channel}&seconds="
    expired = await asyncio.to_thread(get, server, f"{ask}0.001")
    async with opened(browser) as page:
        await read(page, server, f"{expired}&last_event_id=earliest", renewed=f"{ask}600")
        seen = await until(page, lambda seen: len(seen["lines"]) == 3)
        assert (seen["renewals"], seen["errors"], seen["lines"]) == (1, [], numbers.all)
        await read(page, server, f"{expired}&last_event_id=earliest")
        seen = await until(page, lambda seen: seen["state"] == 2)
    assert [(each["status"], each["closed"]) for each in seen["errors"]] == [(403, True)]
