"""Plain EventSources of a real Chromium, each judged as a reader is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

from playwright.async_api import Page

from tests.harness.chromium import open_page
from tests.harness.eventsource import Message

from .readers import Reader
from .trial import Trial

__all__ = ["Tab", "browsing"]

LOOK_SECONDS = 0.25

#: One EventSource for each address; what it was given since the last look is in `news`.
_OPEN = """addresses => {
    window.sources = addresses.map(([address, channels]) => {
        const source = new EventSource(address);
        const seen = {source, news: [], opened: 0, closes: 0, ends: 0, deaths: 0};
        source.onopen = () => { seen.opened++; };
        source.onerror = () => { seen.deaths += source.readyState === 2 && seen.ends < channels; };
        for (const type of ["message", "log", "gap", "close", "end"])
            source.addEventListener(type, event => {
                seen.news.push([event.type, event.data, event.lastEventId]);
                seen.closes += type === "close";
                seen.ends += type === "end";
            });
        return seen;
    });
}"""
_LOOK = """() => sources.map(seen => ({
    news: seen.news.splice(0), opened: seen.opened, closes: seen.closes, deaths: seen.deaths,
    state: seen.source.readyState,
}))"""


class Tab(Reader):
    """One EventSource: what it was given comes to :meth:`take`, and :meth:`read` ends when it has ended."""

    def __init__(self, name: str, url: str, channels: Sequence[str], *, rng: Random) -> None:
        super().__init__(name, [url], channels, rng=rng, keep=False)
        #: How often it was asked to close.
        self.closes = 0
        self._done = asyncio.Event()

    async def read(self) -> None:
        await self._done.wait()

    @property
    def address_here(self) -> str:
        return self._path()

    @property
    def statuses(self) -> list[int]:
        """What ended it for good: nothing but a 204 does once it was sent the end."""
        return [204] if self._done.is_set() else []

    def take(self, look: dict[str, Any]) -> None:
        """Take what the page tells of it."""
        self.connections, self.closes = look["opened"], look["closes"]
        for kind, data, identifier in look["news"]:
            self.last_event_id = identifier
            self._keep(Message(kind, data, identifier))
        if look["deaths"]:
            self.complaints.append("the EventSource was in readyState 2 before the end")
        if look["state"] == 2:
            self._done.set()


@asynccontextmanager
async def browsing(trial: Trial, urls: Sequence[str], *, each: int) -> AsyncIterator[list[Tab]]:
    """Open a page of each origin with so many EventSources, which are readers of the trial."""
    tabs: list[Tab] = []
    pages: list[tuple[Page, list[Tab]]] = []
    watch: asyncio.Task[None] | None = None
    async with open_page(deadline=60) as page:
        try:
            for url in urls:
                here = page if not pages else await page.context.new_page()
                mine = [_tab(trial, url, len(tabs) + index) for index in range(each)]
                await here.goto(f"{url}/events/ready/")
                await here.evaluate(_OPEN, [[tab.address_here, len(tab.channels)] for tab in mine])
                pages.append((here, mine))
                tabs += mine
            watch = asyncio.create_task(_watch(pages))
            yield tabs
            if watch.done():
                watch.result()
        finally:
            if watch is not None:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch


def _tab(trial: Trial, url: str, index: int) -> Tab:
    channels = [trial.channels[index % 4]] if index % 3 else trial.channels[: 2 + index % 2]
    return trial.add(Tab(f"tab-{index}", url, channels, rng=Random(index)))


async def _watch(pages: Sequence[tuple[Page, Sequence[Tab]]]) -> None:
    try:
        while True:
            for page, tabs in pages:
                for tab, look in zip(tabs, await page.evaluate(_LOOK), strict=True):
                    tab.take(look)
            await asyncio.sleep(LOOK_SECONDS)
    except Exception as error:
        for _, tabs in pages:
            for tab in tabs:
                tab.complaints.append(f"the page does not tell any more: {error!r}")
        raise
