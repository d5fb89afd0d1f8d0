"""A Prometheus that scrapes the fleet through nginx, read with prometheus_client's own parser."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.connection import request

__all__ = ["Scrapes", "scraping"]

EVERY_SECONDS = 0.25


class Scrapes:
    """What was seen in any scrape. By node: a fleet's processes come and go."""

    def __init__(self) -> None:
        self.count = 0
        #: Of each node that a scrape saw draining, how many streams were open when that began.
        self.drains: dict[str, set[int]] = defaultdict(set)
        #: Streams that a draining node has sent away, as of the last scrape that told of it.
        self.refusals: dict[str, int] = {}
        #: The same of those that it has asked to leave.
        self.farewells: dict[str, int] = {}

    def take(self, text: str) -> None:
        """Take one scrape."""
        values: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                label = "".join(sample.labels.get(each, "") for each in ("state", "reason"))
                values[f"{sample.name} {label}".rstrip()][sample.labels["node"]] += sample.value
        for node, is_draining in values["sse_polling_node_state draining"].items():
            if is_draining:
                self.drains[node].add(int(values["sse_polling_drain_streams"][node]))
        for seen, name in (
            (self.refusals, "sse_polling_refusals_total draining"),
            (self.farewells, "sse_polling_farewells_total"),
        ):
            seen |= {node: int(value) for node, value in values[name].items() if value}
        self.count += 1


@asynccontextmanager
async def scraping(front: str, token: str) -> AsyncIterator[Scrapes]:
    """Scrape again and again until the block ends."""
    scrapes = Scrapes()
    task = asyncio.create_task(_scrape(scrapes, front, token))
    try:
        yield scrapes
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _scrape(scrapes: Scrapes, front: str, token: str) -> None:
    while True:
        answer = await request(
            f"{front}/events/metrics/", headers={"Authorization": f"Bearer {token}"}, deadline=60
        )
        assert answer.status == 200, f"a scrape was answered with {answer.status}: {answer.body[:200]!r}"
        assert answer.complete
        scrapes.take(answer.text)
        await asyncio.sleep(EVERY_SECONDS)
