"""``metrics/``: what the rows say, as Prometheus' own parsers take it, for those who may read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import util
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sse_polling.connections import Connection, Registry
from sse_polling.lifecycle import Farewell, Node, Refusal
from sse_polling.measures import Measures
from sse_polling.metrics import families, view
from sse_polling.nodes.reading import STATES, read_fleet
from sse_polling.protocol.burst import Cause
from sse_polling.protocol.histogram import AGES, DELAYS
from tests.fleets import drain_of, figures, row
from tests.harness.site import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

TOKEN = "a token for Prometheus"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
WEB = {"node": "web:1:aa", "server": "uvicorn"}


@pytest.fixture(autouse=True)
def _token(settings: Any) -> None:
    settings.SSE_POLLING = {"METRICS_TOKEN": TOKEN}


def scrape(client: Client, accept: str = "", **headers: str) -> Any:
    return client.get(
        "/events/metrics/", headers={"Authorization": f"Bearer {TOKEN}", "Accept": accept, **headers}
    )


def parsed(response: Any) -> dict[str, Any]:
    """Return the families by name; Prometheus' parser raises for what is not in its format."""
    assert response.status_code == 200, response.content
    text = response.content.decode()
    strict = "openmetrics" in response["Content-Type"]
    parse = openmetrics.text_string_to_metric_families if strict else text_string_to_metric_families
    found = list(parse(text))
    names = [family.name for family in found]
    assert len(names) == len(set(names))
    samples = [
        (sample.name, tuple(sorted(sample.labels.items()))) for family in found for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    return {family.name.removeprefix("sse_polling_"): family for family in found}


def value(families: dict[str, Any], name: str, **labels: str) -> float | None:
    """Return one sample of the process `web:1:aa`, None if it is not there."""
    family = families.get(re.sub(r"_(total|bucket|sum|count)$", "", name))
    if family is None:
        return None
    wanted = WEB | labels
    found = [s.value for s in family.samples if s.labels == wanted and s.name == f"sse_polling_{name}"]
    assert len(found) <= 1
    return found[0] if found else None


def worked() -> dict[str, Any]:
    """Return the figures of a process that has worked."""
    admission, measures = Node(Registry()), Measures()
    for _ in range(3):
        admission.registry.take(Connection(channels=("a",), door="test"))
    admission.counts.admitted, admission.counts.most = 12, 5
    admission.refuse(Refusal.CAPACITY)
    admission.ended(Cause.LINGER, retry_ms=1000)
    admission.ended(Cause.DRAIN, retry_ms=1000, farewell=Farewell.ACKED)
    measures.published, measures.delivered, measures.bytes, measures.reconnects = 4, 40, 4000, 7
    measures.gaps["trimmed"] += 2
    measures.replays["tail"] += 6
    for seconds in (0.004, 0.2, 100.0):
        measures.latency.observe(seconds)
    budget = {"budget": 100, "places": 80, "wait_ms": 1500}
    return figures(admission, measures, layer="live", budget=budget, pause_seconds=0.25, wakes_missed=9)


EVERYTHING = {
    ("node_up", ()): 1,
    ("node_state", (("state", "serving"),)): 1,
    ("node_state", (("state", "full"),)): 0,
    ("readers", ()): 30,
    ("sockets", (("state", "open"),)): 3,
    ("sockets", (("state", "asked"),)): 0,
    ("sockets_capacity", ()): 1000,
    ("sockets_most", ()): 5,
    ("breaker_open", ()): 0,
    ("breaker_threshold_ratio", ()): 0.9,
    ("budget_sockets", ()): 100,
    ("budget_places", ()): 80,
    ("budget_wait_seconds", ()): 1.5,
    ("layer_state", (("state", "live"),)): 1,
    ("layer_state", (("state", "polling"),)): 0,
    ("drain_streams", ()): 0,
    ("drain_left", ()): 0,
    ("drain_estimate_seconds", ()): 0,
    ("admissions_total", ()): 12,
    ("refusals_total", (("reason", "capacity"),)): 1,
    ("refusals_total", (("reason", "draining"),)): 0,
    ("bursts_total", (("cause", "linger"),)): 1,
    ("bursts_total", (("cause", "gone"),)): 0,
    ("reconnects_total", ()): 7,
    ("events_published_total", ()): 4,
    ("events_delivered_total", ()): 40,
    ("sent_bytes_total", ()): 4000,
    ("replays_total", (("source", "tail"),)): 6,
    ("replays_total", (("source", "database"),)): 0,
    ("gaps_total", (("reason", "trimmed"),)): 2,
    ("gaps_total", (("reason", "reset"),)): 0,
    ("wakes_missed_total", ()): 9,
    ("farewells_total", (("kind", "acked"),)): 1,
    ("farewells_total", (("kind", "cut"),)): 0,
    ("pause_seconds_total", ()): 0.25,
    ("delivery_latency_seconds_bucket", (("le", "0.005"),)): 1,
    ("delivery_latency_seconds_bucket", (("le", "0.25"),)): 2,
    ("delivery_latency_seconds_bucket", (("le", "60.0"),)): 2,
    ("delivery_latency_seconds_bucket", (("le", "+Inf"),)): 3,
    ("delivery_latency_seconds_count", ()): 3,
    ("delivery_latency_seconds_sum", ()): pytest.approx(100.204),
    ("connection_age_seconds_count", ()): 0,
    ("first_event_seconds_count", ()): 0,
}


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_everything_that_a_process_tells_is_there(client: Client, accept: str) -> None:
    row("web:1:aa", sockets=3, readers=30, figures=worked())
    found = parsed(scrape(client, accept))
    by_sample = {
        (
            sample.name.removeprefix("sse_polling_"),
            tuple(sorted(set(sample.labels.items()) - set(WEB.items()))),
        ): sample.value
        for family in found.values()
        for sample in family.samples
    }
    assert {key: by_sample.get(key) for key in EVERYTHING} == EVERYTHING
    used, limit = value(found, "descriptors_open"), value(found, "descriptors_limit")
    assert used is not None
    assert limit is None or 0 < used < limit
    age, start = value(found, "node_age_seconds"), value(found, "node_start_time_seconds")
    assert age is not None
    assert 0 <= age < 5
    assert start == pytest.approx(read_fleet().nodes[0].started.timestamp())


def test_every_family_has_help_and_a_type_and_no_other_name(client: Client) -> None:
    row()
    text = scrape(client).content.decode()
    names = set(re.findall(r"^(\w+)\{", text, re.MULTILINE))
    helped = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    typed = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert helped.keys() == typed.keys()
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert bare <= typed.keys()
    assert all(name.startswith("sse_polling_") for name in typed)
    for name, kind in typed.items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert len(helped[name]) > 10


def test_the_document_lists_every_family_and_no_other(client: Client) -> None:
    row()
    typed = dict(re.findall(r"^# TYPE (\w+) (\w+)$", scrape(client).content.decode(), re.MULTILINE))
    document = (ROOT / "docs/metrics.md").read_text()
    listed = dict(re.findall(r"^\| `(sse_polling_\w+)` \| (\w+) \|", document, re.MULTILINE))
    assert listed == typed
    queries = re.findall(r"```promql\n(.*?)```", document, re.DOTALL) + re.findall(r"expr: (.*)", document)
    asked = {name for query in queries for name in re.findall(r"sse_polling_\w+", query)}
    assert len(queries) >= 5
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= typed.keys()


def test_every_reason_is_there_from_the_start(client: Client) -> None:
    row()
    found = parsed(scrape(client))
    for name, label, known in [
        ("refusals", "reason", {str(each) for each in Refusal}),
        ("bursts", "cause", {str(each) for each in Cause}),
        ("farewells", "kind", {str(each) for each in Farewell}),
        ("gaps", "reason", {"trimmed", "reset"}),
        ("replays", "source", {"tail", "database"}),
        ("node_state", "state", set(STATES)),
    ]:
        assert {sample.labels[label] for sample in found[name].samples} == known, name
    for name, bounds in [("connection_age_seconds", AGES), ("delivery_latency_seconds", DELAYS)]:
        ends = [s.labels["le"] for s in found[name].samples if s.name.endswith("_bucket")]
        assert ends == [*(str(float(bound)) for bound in bounds), "+Inf"]


def test_a_reason_of_a_newer_version_is_counted_too(client: Client) -> None:
    row("web:1:aa", figures=figures(refused={"moon": 3}))
    found = parsed(scrape(client))
    assert value(found, "refusals_total", reason="moon") == 3
    assert value(found, "refusals_total", reason="client") == 0


def test_a_drain_shows_how_far_it_is(client: Client) -> None:
    row("web:1:aa", state="draining", figures=figures(drain=drain_of(12)))
    found = parsed(scrape(client))
    assert value(found, "node_state", state="draining") == 1
    assert value(found, "drain_streams") == 80
    assert value(found, "drain_left") == 12
    assert value(found, "drain_estimate_seconds") == 4


@pytest.mark.parametrize(("given", "state"), [({"age": 40.0}, "silent"), ({"stopped": True}, "stopped")])
def test_a_dead_process_keeps_its_counts_and_holds_nothing(client: Client, given: Any, state: str) -> None:
    row("web:1:aa", sockets=3, readers=30, figures=worked(), **given)
    found = parsed(scrape(client))
    assert value(found, "node_up") == 0
    assert value(found, "node_state", state=state) == 1
    assert value(found, "admissions_total") == 12
    assert value(found, "delivery_latency_seconds_count") == 3
    for name in ("readers", "sockets", "sockets_capacity", "layer_state", "descriptors_open", "drain_left"):
        assert found[name].samples == [], name


GARBAGE: list[Any] = [
    {},
    [],
    "text",
    {
        "refused": [],
        "ended": 3,
        "sockets": None,
        "age": [],
        "drain": {"left": 1},
        "layer": 5,
        "admitted": "x",
    },
    {"refused": {"a": "b"}, "breaker": {"open": "x"}, "budget": [], "descriptors": {}, "bytes": -1},
    {
        "age": {"counts": [1], "total": 1},
        "latency": {"counts": ["x"] * 14, "total": 0},
        "first": {"total": 1},
    },
    {
        "layer": 'by\n"post"\\',
        "admitted": True,
        "bytes": 10**400,
        "pause_seconds": 1e300,
        "drain": drain_of(1) | {"left": None},
    },
]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_rows_of_another_version_break_no_scrape(client: Client, accept: str) -> None:
    for number, garbage in enumerate(GARBAGE):
        row(f"web:{number}:aa", server='"\\\n', figures=garbage, history={"points": 1})
    row("web:1:bb", figures=worked())
    found = parsed(scrape(client, accept))
    assert len(found["node_up"].samples) == len(GARBAGE) + 1
    assert [s.labels["node"] for s in found["admissions"].samples] == ["web:1:bb"]
    assert {s.labels["node"] for s in found["refusals"].samples} == {"web:1:bb", "web:4:aa"}
    assert {s.labels["node"] for s in found["connection_age_seconds"].samples} == {"web:1:bb"}


def test_it_costs_one_query_however_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        row(f"web:{number}:aa", figures=worked())
    with CaptureQueriesContext(connection) as queries:
        body, _ = view._page("")
    assert len(queries) == 1
    assert body.count(b"sse_polling_node_up{") == 30


def test_before_the_first_process_there_are_families_and_no_samples(client: Client) -> None:
    assert all(family.samples == [] for family in parsed(scrape(client)).values())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        (f"text/html, {OPENMETRICS};q=0.5, text/plain;version=0.0.4", "application/openmetrics-text"),
        ("application/openmetrics-text; version=abc", "text/plain"),
        ("text/plain; version=1.x; escaping=y", "text/plain"),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(client: Client, accept: str, kind: str) -> None:
    row()
    response = scrape(client, accept)
    assert response["Content-Type"].startswith(kind)
    assert response["Cache-Control"] == "no-store"
    assert response.content.endswith(b"# EOF\n") == kind.endswith("openmetrics-text")
    assert parsed(response)


# Who may


@pytest.fixture
def people(client: Client) -> Iterator[Any]:
    users = get_user_model().objects

    def log_in(**given: Any) -> Client:
        client.force_login(users.create_user(username=f"user{users.count()}", **given))
        return client

    return log_in  # type: ignore[return-value]


def test_staff_may(people: Any) -> None:
    assert people(is_staff=True).get(reverse("sse_polling:metrics")).status_code == 200


@pytest.mark.parametrize("given", [{}, {"is_staff": True, "is_active": False}])
def test_others_may_not(people: Any, given: Any, settings: Any) -> None:
    # The usual backend knows nobody who is not active.
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    response = people(**given).get("/events/metrics/")
    assert response.status_code == 403
    assert b"METRICS_TOKEN" in response.content


def test_nobody_may_not(client: Client) -> None:
    assert client.get("/events/metrics/").status_code == 403


@pytest.mark.parametrize("given", ["Bearer wrong", "Bearer", "Bearer ", f"Bearer {TOKEN}x", "bearer \xe9"])
def test_a_wrong_token_is_told_so(client: Client, given: str) -> None:
    response = client.get("/events/metrics/", headers={"Authorization": given})
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN.encode() not in response.content


def test_another_scheme_is_no_token(client: Client) -> None:
    assert client.get("/events/metrics/", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 403


@pytest.mark.parametrize("given", ["Bearer", "Bearer None", "Bearer "])
def test_without_a_token_in_the_settings_none_is_right(client: Client, settings: Any, given: str) -> None:
    settings.SSE_POLLING = {}
    assert client.get("/events/metrics/", headers={"Authorization": given}).status_code == 401


def test_staff_with_a_token_for_something_else_may(people: Any) -> None:
    response = people(is_staff=True).get(
        "/events/metrics/", headers={"Authorization": "Bearer of another app"}
    )
    assert response.status_code == 200


async def test_it_answers_under_asgi_and_behind_a_login_wall(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    response = await AsyncClient().get("/events/metrics/", headers=headers)
    assert response.status_code == 200
    assert b"# TYPE sse_polling_node_up gauge" in response.content
    response = await AsyncClient().get("/events/metrics/")
    assert response.status_code == 403


def test_no_transaction_is_around_it(client: Client, settings: Any) -> None:
    assert "default" in view.metrics._non_atomic_requests  # type: ignore[attr-defined]


def test_it_is_a_page_to_get(client: Client) -> None:
    response = client.post("/events/metrics/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert client.head("/events/metrics/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_without_the_library_it_says_what_to_install(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    known = util.find_spec
    monkeypatch.setattr(view, "find_spec", lambda name: None if name == "prometheus_client" else known(name))
    response = scrape(client)
    assert response.status_code == 501
    assert b"pip install 'django-sse-polling[metrics]'" in response.content
    assert client.get("/events/metrics/").status_code == 403  # and tells nobody else


def test_the_library_is_imported_by_the_first_scrape_alone() -> None:
    for module in (view, families):
        assert not any(
            getattr(each, "__name__", "").startswith("prometheus") for each in vars(module).values()
        )


def test_a_database_that_is_away_is_told_in_words(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(view, "run", away)
    response = scrape(client)
    assert response.status_code == 503
    assert b"cannot be read" in response.content
