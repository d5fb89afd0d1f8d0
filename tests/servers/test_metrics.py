"""``metrics/`` of two real processes on one database: whichever answers tells of both."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.server import AsgiServer
from tests.harness.site import Site

from .served import eventually

Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]

TOKEN = "a token for Prometheus"
POLLS = 6


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        return str(response.read().decode())


def scrape(server: AsgiServer) -> tuple[dict[str, str], Scrape]:
    """Return the families' types by name, and the samples."""
    text = get(f"{server.url}/events/metrics/", Authorization=f"Bearer {TOKEN}")
    found = list(text_string_to_metric_families(text))
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in found
        for sample in family.samples
    }
    return {family.name: family.type for family in found}, samples


def total(samples: Scrape, name: str, **labels: str) -> float:
    """Return the sum over all nodes."""
    return sum(
        value
        for (known, given), value in samples.items()
        if known == f"sse_polling_{name}" and labels.items() <= dict(given).items()
    )


def counts(samples: Scrape) -> Scrape:
    ends = ("_total", "_bucket", "_sum", "_count")
    return {key: value for key, value in samples.items() if key[0].endswith(ends)}


async def test_two_processes_tell_the_same_and_their_counts_only_grow(
    site: Site, serve: Callable[..., AsgiServer]
) -> None:
    site.sse_polling = {"METRICS_TOKEN": TOKEN, "PRESET": "reclaim"}
    # As if somebody looked at the pages: rows are written every second.
    site.python("from sse_polling import history\nassert history.lease('sse_polling.live', 'test', 120)")
    daphne = serve(site, kind="daphne")
    uvicorn = serve(site, kind="uvicorn", app="tests.asgi:plain_application")
    both = (daphne, uvicorn)
    daphne.publish("builds", *range(10))
    scrapes: list[Scrape] = []

    def look() -> bool:
        (one_types, one), (other_types, other) = scrape(daphne), scrape(uvicorn)
        assert one_types == other_types
        scrapes.extend((one, other))
        if total(one, "node_up") < 2:
            return False
        assert {dict(labels)["node"] for _, labels in one} == {dict(labels)["node"] for _, labels in other}
        return total(other, "bursts_total") >= POLLS * 2

    for _ in range(POLLS):
        for server in both:
            assert get(f"{server.url}/events/builds/?last_event_id=earliest").count("\ndata:") == 10
        look()
    await eventually(look, deadline=60)
    before: Scrape = {}
    for each in scrapes:
        known = counts(each)
        assert all(known[key] >= value for key, value in before.items() if key in known)
        before |= known
    last = scrapes[-1]
    assert {dict(labels)["server"] for name, labels in last if name == "sse_polling_node_up"} == {
        "daphne",
        "uvicorn",
    }
    assert total(last, "events_published_total") == 10
    assert total(last, "events_delivered_total") == POLLS * 2 * 10
    assert total(last, "bursts_total") == total(last, "admissions_total") == POLLS * 2
    assert total(last, "connection_age_seconds_count") == POLLS * 2
    assert total(last, "layer_state", state="live") == 2
    assert total(last, "refusals_total") == total(last, "gaps_total") == 0
