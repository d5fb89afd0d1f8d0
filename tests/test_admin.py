"""The admin: what an operator sees of channels and events, sets, and erases."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from sse_polling import finish, history, pools, publish, publish_many
from sse_polling.admin import erasing, events
from sse_polling.conf import get_config
from sse_polling.hub import Hub
from sse_polling.models import Channel, Event
from sse_polling.publishing import Draft
from tests.test_query_plans import plans

pytestmark = pytest.mark.django_db

CHANNELS = "/admin/sse_polling/channel/"
EVENTS = "/admin/sse_polling/event/"


def text(response: Any) -> str:
    """Return the page as a reader sees it: no tags, single spaces."""
    assert response.status_code == 200
    page = re.sub(r"<(script|style).*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page).replace("&#x27;", "'"))


def page(channel: str, what: str = "change") -> str:
    return reverse(f"admin:sse_polling_channel_{what}", args=[Channel.objects.get(name=channel).pk])


def staff(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def save(client: Client, channel: str, **values: Any) -> Any:
    wishes = {"preset": "", "max_events": "", "max_age_seconds": ""} | values
    return client.post(page(channel), wishes)


# Channels, seen


def test_the_list_shows_where_each_channel_stands(admin_client: Client, settings: Any) -> None:
    settings.SSE_POLLING = {"CHANNELS": [("builds", {"PRESET": "live"})]}
    publish_many("builds", range(1234))
    Event.objects.filter(sequence__lt=235).delete()
    publish("one", "x")
    Channel.objects.create(name="empty", life="x", preset="reclaim")
    shown = text(admin_client.get(CHANNELS))
    assert "builds 1234 235 to 1,234: 1,000 events" in shown
    assert "live (SSE_POLLING CHANNELS[0])" in shown
    assert "one 1 1 to 1: 1 event" in shown
    assert "balanced (default)" in shown
    assert "empty 0 none" in shown
    assert "reclaim (this channel)" in shown


def test_the_list_costs_the_same_for_any_number_of_channels(admin_client: Client) -> None:
    for number in range(3):
        publish(f"first.{number}", "x")
    with CaptureQueriesContext(connection) as few:
        admin_client.get(CHANNELS)
    for number in range(60):
        publish_many(f"more.{number}", range(3))
    with CaptureQueriesContext(connection) as many:
        admin_client.get(CHANNELS)
    assert len(many) == len(few) <= 6


def test_the_page_of_a_channel_shows_every_setting_and_where_it_comes_from(
    admin_client: Client, settings: Any
) -> None:
    settings.SSE_POLLING = {
        "BURST": {"max_events": 7000},
        "CHANNELS": [
            ("x", {}),
            ("log", {"RETRY": {"base_ms": 5}, "AUTHORIZE": "sse_polling.access.staff"}),
        ],
    }
    publish("log", "x")
    Channel.objects.update(preset="live", max_events=70)
    shown = text(admin_client.get(page("log")))
    for line in (
        "PRESET live this channel",
        "BURST['max_events'] 7,000 settings",
        "BURST['hold_seconds'] 25 preset live",
        "RETRY['base_ms'] 5 SSE_POLLING CHANNELS[1]",
        "RETRY['jitter'] 0.3",
        "RETENTION['max_events'] 70 this channel",
        "RETENTION['max_age_seconds'] 86,400 default",
        "AUTHORIZE sse_polling.access.staff SSE_POLLING CHANNELS[1]",
    ):
        assert line in shown


def test_no_limit_and_a_callable_are_shown_in_words(admin_client: Client, settings: Any) -> None:
    settings.SSE_POLLING = {"RETENTION": {"max_events": None}, "AUTHORIZE": staff}
    publish("log", "x")
    shown = text(admin_client.get(page("log")))
    assert "RETENTION['max_events'] no limit settings" in shown
    assert "AUTHORIZE tests.test_admin.staff settings" in shown


# Channels, set


def test_preset_and_retention_can_be_set(admin_client: Client) -> None:
    publish("log", "x")
    assert save(admin_client, "log", preset="live", max_events=5, max_age_seconds=60).status_code == 302
    state = history.states(["log"])["log"]
    assert (state.preset, state.max_events, state.max_age_seconds) == ("live", 5, 60)
    assert LogEntry.objects.get().get_change_message().startswith("Changed")
    save(admin_client, "log")
    state = history.states(["log"])["log"]
    assert (state.preset, state.max_events, state.max_age_seconds) == ("", None, None)


@pytest.mark.parametrize(
    "values",
    [
        {"preset": "fast"},
        {"max_events": 0},
        {"max_events": "many"},
        {"max_events": 2**41},
        {"max_age_seconds": 0},
        {"max_age_seconds": 10**10},
        {"max_age_seconds": 10**30},
    ],
)
def test_what_cannot_be_set_is_refused(admin_client: Client, values: dict[str, Any]) -> None:
    publish("log", "x")
    response = save(admin_client, "log", **values)
    assert response.status_code == 200
    assert set(response.context["adminform"].form.errors) == set(values)
    state = history.states(["log"])["log"]
    assert (state.preset, state.max_events, state.max_age_seconds) == ("", None, None)


def test_the_longest_age_that_can_be_set_can_be_trimmed_by(admin_client: Client) -> None:
    from sse_polling.rules import MAX_RETENTION_SECONDS

    publish("log", "x")
    assert save(admin_client, "log", max_age_seconds=MAX_RETENTION_SECONDS).status_code == 302
    assert list(history.trim(get_config())) == []


def test_nothing_else_can_be_written(admin_client: Client) -> None:
    publish_many("log", range(3))
    before = Channel.objects.get(name="log")
    now = {"finished_0": "2020-01-01", "finished_1": "00:00:00"}
    save(admin_client, "log", name="other", head=99, life="x", head_tag="y", **now)
    after = Channel.objects.get()
    assert (after.name, after.head, after.life, after.head_tag, after.finished) == (
        *("log", 3, before.life, before.head_tag),
        None,
    )


def test_saving_does_not_undo_what_was_published_meanwhile(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_many("log", range(3))
    model_admin = type(admin.site._registry[Channel])
    saved = model_admin.save_model

    def publish_and_save(self: Any, *args: Any, **options: Any) -> None:
        publish("log", "while the form was handled")
        saved(self, *args, **options)

    monkeypatch.setattr(model_admin, "save_model", publish_and_save)
    save(admin_client, "log", preset="live")
    assert Channel.objects.get().head == 4
    assert publish("log", "next").sequence == 5


def test_a_channel_can_be_set_up_before_its_first_event(admin_client: Client) -> None:
    values = {"name": "future", "preset": "live", "max_events": "", "max_age_seconds": 60}
    assert admin_client.post(f"{CHANNELS}add/", values).status_code == 302
    channel = Channel.objects.get()
    assert re.fullmatch(r"[A-Za-z0-9]{12}", channel.life)
    event = publish("future", "x")
    assert (event.life, event.sequence) == (channel.life, 1)
    assert history.states(["future"])["future"].preset == "live"


@pytest.mark.parametrize("name", ["", "not a name", "poll", "...", "é", "x" * 201, "taken"])
def test_a_bad_name_is_refused(admin_client: Client, name: str) -> None:
    publish("taken", "x")
    response = admin_client.post(f"{CHANNELS}add/", {"name": name, "preset": "", "max_events": ""})
    assert "name" in response.context["adminform"].form.errors
    assert Channel.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("told", [True, False], ids=["told at once", "by comparing"])
async def test_what_is_set_holds_without_a_restart(
    settings: Any, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    settings.SSE_POLLING = {"SYNC_SECONDS": 60}
    if not told:
        monkeypatch.setattr("sse_polling.admin.channels.look_again", lambda names: None)
        monkeypatch.setattr("sse_polling.comparing.DATA_VERSION_SECONDS", 60)

    def log_in() -> Client:
        publish("log", "x")
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        return client

    client = await sync_to_async(log_in)()
    hub = Hub.current()
    try:
        (live,) = await hub.open(["log"])
        config = get_config()
        before = live.effective(config)
        assert (before.preset, before.retention.max_events) == ("balanced", 10_000)
        await sync_to_async(save)(client, "log", preset="live", max_events=5)
        if not told:
            await hub.comparison.compare()
        for _ in range(200):
            if live.effective(config).preset == "live":
                break
            await asyncio.sleep(0.01)
        assert (live.effective(config).preset, live.effective(config).burst.hold_seconds) == ("live", 25)
        assert live.effective(config).retention.max_events == 5
    finally:
        hub.stop()
        pools.shutdown()
        await sync_to_async(connections.close_all)()  # asgiref's thread outlives the test


# Channels, erased


def erase(client: Client, *names: str) -> Any:
    keys = list(Channel.objects.filter(name__in=names).values_list("pk", flat=True))
    return client.post(f"{CHANNELS}erase/", {"channel": keys}, follow=True)


def test_a_channel_is_erased_after_a_confirmation(admin_client: Client) -> None:
    publish_many("log", range(1500))
    publish("other", "x")
    assert page("log", "delete") in admin_client.get(page("log")).content.decode()
    asked = admin_client.get(page("log", "delete"))
    assert "log (1 to 1,500: 1,500 events)" in text(asked)
    assert Event.objects.count() == 1501
    form = re.search(
        r'<form method="post" action="(.*?erase/)">.*?name="channel" value="(\d+)"',
        asked.content.decode(),
        re.DOTALL,
    )
    assert form
    done = admin_client.post(form[1], {"channel": form[2]}, follow=True)
    assert "Erased: 1 channel, 1,500 events." in text(done)
    assert list(Channel.objects.values_list("name", flat=True)) == ["other"]
    assert Event.objects.count() == 1
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.is_deletion()) == ("log", True)


def test_several_are_erased_by_the_action(admin_client: Client) -> None:
    for name in ("a", "b", "c"):
        publish_many(name, range(3))
    keys = list(Channel.objects.filter(name__in=["a", "b"]).values_list("pk", flat=True))
    asked = admin_client.post(CHANNELS, {"action": "delete_selected", "_selected_action": keys})
    assert "a (1 to 3: 3 events) b (1 to 3: 3 events)" in text(asked)
    assert Channel.objects.count() == 3
    assert "Erased: 2 channels, 6 events." in text(erase(admin_client, "a", "b"))
    assert list(Channel.objects.values_list("name", flat=True)) == ["c"]
    assert LogEntry.objects.count() == 2


def test_too_many_at_once_are_refused(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_polling.admin.channels.MAX_ERASED", 2)
    for name in ("a", "b", "c"):
        publish(name, "x")
    keys = list(Channel.objects.values_list("pk", flat=True))
    answer = admin_client.post(CHANNELS, {"action": "delete_selected", "_selected_action": keys}, follow=True)
    assert "At most 2 channels can be erased at once." in text(answer)


def test_nothing_is_erased_by_a_get_or_a_forged_post(admin_client: Client) -> None:
    publish("log", "x")
    assert admin_client.get(f"{CHANNELS}erase/?channel={Channel.objects.get().pk}").status_code == 405
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(User.objects.get())
    assert erase(careful, "log").status_code == 403
    assert careful.post(page("log", "delete"), {"post": "yes"}).status_code == 403
    admin_client.post(page("log", "delete"), {"post": "yes"})
    assert Channel.objects.count() == 1


@pytest.mark.parametrize("keys", [[], ["x"], ["-1"], ["9" * 30], ["12345"], ["²"]])
def test_nonsense_erases_nothing(admin_client: Client, keys: list[str]) -> None:
    publish("log", "x")
    answer = admin_client.post(f"{CHANNELS}erase/", {"channel": keys}, follow=True)
    assert "Erased: 0 channels, 0 events." in text(answer)
    assert Channel.objects.count() == 1


def test_erasing_is_for_those_who_may_delete_channels(client: Client) -> None:
    publish("log", "x")
    staff(client, "view_channel", "change_channel", "view_event")
    shown = client.get(page("log"))
    assert "Erase" not in text(shown)
    assert "Delete" not in text(shown)
    assert "delete_selected" not in client.get(CHANNELS).content.decode()
    assert client.get(page("log", "delete")).status_code == 403
    assert erase(client, "log").status_code == 403
    assert Channel.objects.exists()


def test_django_s_own_deletion_is_not_offered(admin_client: Client) -> None:
    publish("log", "x")
    listed = admin_client.get(CHANNELS).content.decode()
    assert re.findall(r'value="delete_selected">(.*?)<', listed) == [
        "Erase selected channels and their events"
    ]
    assert "deletelink" not in admin_client.get(page("log")).content.decode()


def test_a_channel_that_is_gone_is_told_in_words(admin_client: Client) -> None:
    answer = admin_client.get(f"{CHANNELS}99/delete/", follow=True)
    assert "There is no such channel any more." in text(answer)


def test_a_large_channel_is_erased_in_bounded_steps(admin_client: Client) -> None:
    publish_many("log", range(1700))
    with CaptureQueriesContext(connection) as queries:
        erase(admin_client, "log")
    on_events = [query["sql"] for query in queries if '"sse_polling_event"' in query["sql"]]
    assert not [sql for sql in on_events if "data" in sql]  # no event is loaded
    assert sum(sql.startswith("DELETE") for sql in on_events) >= 4


@pytest.mark.django_db(transaction=True)
def test_erasing_is_no_one_transaction_even_where_requests_are(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    publish_many("log", range(1200))
    inside: list[bool] = []
    step = history.erase

    def watched(name: str) -> Iterator[history.Trimmed]:
        for each in step(name):
            inside.append(connection.in_atomic_block)
            yield each

    monkeypatch.setattr(history, "erase", watched)
    erase(admin_client, "log")
    assert inside == [False, False, False]


def test_when_time_is_up_it_says_so_and_can_go_on(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        publish_many(name, range(600))
    ticks = iter(range(100))
    keep_to = erasing.erase

    def hurried(channels: Any, **options: Any) -> Any:
        return keep_to(channels, **options, seconds=2, clock=lambda: next(ticks))

    monkeypatch.setattr("sse_polling.admin.channels.erase", hurried)
    # 500 of a at 1, a is gone, 500 of b at 2: over.
    shown = text(erase(admin_client, "a", "b"))
    assert "Time was up. Erased: 1 channel, 1,100 events; b is erased in part." in shown
    assert list(Event.objects.order_by("sequence").values_list("sequence", flat=True)) == [*range(501, 601)]
    monkeypatch.undo()
    assert "Erased: 1 channel, 100 events." in text(erase(admin_client, "b"))


def test_the_hooks_that_other_code_may_call_erase_too(rf: Any, admin_user: User) -> None:
    model_admin = admin.site._registry[Channel]
    request: HttpRequest = rf.post("/")
    request.user = admin_user
    for name in ("a", "b", "c"):
        publish_many(name, range(3))
    names, counts, forbidden, protected = model_admin.get_deleted_objects(Channel.objects.all(), request)
    assert (sorted(names), sum(counts.values()), forbidden, protected) == (["a", "b", "c"], 3, set(), [])
    model_admin.delete_model(request, Channel.objects.get(name="a"))
    model_admin.delete_queryset(request, Channel.objects.filter(name="b"))
    assert list(Channel.objects.values_list("name", flat=True)) == ["c"]
    assert Event.objects.count() == 3


# Events


@pytest.fixture
def history_of_two() -> None:
    publish_many("log", [Draft(f"line {number}", key=f"k {number}") for number in range(1, 8)])
    publish_many("other", [Draft("other", key="k 1"), Draft("numeric", key="5")])
    finish("other")


def listed(client: Client, **query: Any) -> list[tuple[str, int]]:
    response = client.get(EVENTS, query)
    assert response.status_code == 200, response.headers
    return [(event.channel.name, event.sequence) for event in response.context["cl"].result_list]


@pytest.mark.usefixtures("history_of_two")
def test_the_newest_event_is_listed_first(admin_client: Client) -> None:
    everything = [("other", 3), ("other", 2), ("other", 1), *(("log", number) for number in range(7, 0, -1))]
    assert listed(admin_client) == everything


@pytest.mark.usefixtures("history_of_two")
@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("other", [("other", 3), ("other", 2), ("other", 1)]),
        ("  other  ", [("other", 3), ("other", 2), ("other", 1)]),
        ("log 3", [("log", 3)]),
        ("other k 1", [("other", 1)]),
        ("other 5", [("other", 2)]),  # a key that looks like a number
        ("log 99", []),
        ("lo", []),
        ("LOG", []),
        ("nothing 3", []),
        ("line", []),  # data is not searched
        ("log " + "9" * 30, []),
        ("log ³", []),
        ("log '; --", []),
    ],
)
def test_events_are_found_by_channel_sequence_and_key(
    admin_client: Client, term: str, expected: list[tuple[str, int]]
) -> None:
    assert listed(admin_client, q=term) == expected


@pytest.mark.usefixtures("history_of_two")
def test_a_channels_page_links_to_its_events_where_the_search_is_within_it(admin_client: Client) -> None:
    link = re.search(
        r'href="(/admin/sse_polling/event/\?[^"]+)"', admin_client.get(page("log")).content.decode()
    )
    assert link
    key = Channel.objects.get(name="log").pk
    assert link[1] == f"{EVENTS}?channel__id__exact={key}"
    assert len(listed(admin_client, channel__id__exact=key)) == 7
    assert listed(admin_client, channel__id__exact=key, q="3") == [("log", 3)]
    assert listed(admin_client, channel__id__exact=key, q="k 4") == [("log", 4)]
    assert f'name="channel__id__exact" value="{key}"' in admin_client.get(link[1]).content.decode()


@pytest.mark.parametrize(
    "query", ["data__contains=x", "channel__name__contains=x", "key__icontains=x", "created__gt=2020-01-01"]
)
def test_no_other_filter_is_let_through(admin_client: Client, query: str) -> None:
    assert admin_client.get(f"{EVENTS}?{query}").status_code == 400


@pytest.mark.usefixtures("history_of_two")
@pytest.mark.parametrize("query", ["o=5", "channel__id__exact=x", "q=%00", "q=%20", "p=999", "all=1"])
def test_a_crafted_query_string_is_harmless(admin_client: Client, query: str) -> None:
    with plans() as found:
        assert admin_client.get(f"{EVENTS}?{query}").status_code in (200, 302)
    if connection.vendor == "sqlite":  # PostgreSQL sorts a handful of rows whatever there is
        assert not [plan for plan in found if "TEMP B-TREE" in plan]


def test_events_cannot_be_written(admin_client: Client) -> None:
    publish("log", "x")
    event = Event.objects.get()
    assert admin_client.get(f"{EVENTS}add/").status_code == 403
    assert admin_client.post(f"{EVENTS}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{EVENTS}{event.pk}/change/", {"event": "y"}).status_code == 403
    assert 'name="action"' not in admin_client.get(EVENTS).content.decode()
    assert Event.objects.get().event == "message"


def test_the_page_of_an_event_shows_all_of_it(admin_client: Client) -> None:
    sent = publish("log", '<b>\n"data"</b>', event="note", key="k")
    shown = admin_client.get(f"{EVENTS}{Event.objects.get().pk}/change/").content.decode()
    for part in (sent.id, "note", "&lt;b&gt;\n&quot;data&quot;&lt;/b&gt;"):
        assert part in shown


def test_long_data_is_cut_and_says_so(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("log", "é" * 100 + "y" * 5000)
    shown = text(admin_client.get(EVENTS))
    assert "é" * 100 + "…" in shown
    assert "y" not in shown.partition("é")[2].partition("…")[0]
    change = f"{EVENTS}{Event.objects.get().pk}/change/"
    assert "y" * 5000 in text(admin_client.get(change))
    monkeypatch.setattr(events, "MAX_SHOWN", 150)
    shown = text(admin_client.get(change))
    assert "The first 150 of 5,100 characters." in shown
    assert "y" * 50 in shown
    assert "y" * 51 not in shown


def test_the_list_reads_no_more_of_the_data_than_it_shows(admin_client: Client) -> None:
    publish_many("log", range(150))
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(EVENTS)
    assert len(queries) <= 5
    (rows,) = [query["sql"] for query in queries if query["sql"].endswith("LIMIT 100")]
    assert re.search(r'(SUBSTR|LEFT)\("sse_polling_event"\."data"', rows)
    assert rows.count('"sse_polling_event"."data"') == 1


def test_events_are_never_counted_without_a_bound(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_LISTED", 250)
    publish_many("log", range(300))
    key = Channel.objects.get().pk
    for query in ({}, {"p": "2"}, {"channel__id__exact": key}, {"q": "log"}, {"q": "log 5"}):
        with CaptureQueriesContext(connection) as queries:
            response = admin_client.get(EVENTS, query)
        counts = [each["sql"] for each in queries if "COUNT(" in each["sql"]]
        assert len(counts) == 1
        assert re.search(r"FROM \(SELECT .* LIMIT 250\)", counts[0])
        assert response.context["cl"].result_count == (1 if query.get("q") == "log 5" else 250)
    assert [number for _name, number in listed(admin_client, p=3)] == list(range(100, 50, -1))
    for address in (CHANNELS, page("log")):
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(address)
        assert not [
            each for each in queries if "COUNT(" in each["sql"] and "sse_polling_event" in each["sql"]
        ]


# On every page


@pytest.fixture
def every_page(admin_client: Client) -> dict[str, str]:
    publish_many("log", [Draft("x" * 500, key="k"), "<script>alert(1)</script>"])
    event = Event.objects.order_by("pk").last()
    assert event
    keys = [Channel.objects.get().pk]
    addresses = {
        "channels": CHANNELS,
        "channel": page("log"),
        "add": f"{CHANNELS}add/",
        "erase": page("log", "delete"),
        "events": EVENTS,
        "search": f"{EVENTS}?q=log",
        "event": f"{EVENTS}{event.pk}/change/",
        "index": "/admin/",
    }
    shown = {name: admin_client.get(address).content.decode() for name, address in addresses.items()}
    action = {"action": "delete_selected", "_selected_action": keys}
    return shown | {"erase several": admin_client.post(CHANNELS, action).content.decode()}


class Inline(HTMLParser):
    """Collects what a strict Content-Security-Policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        self.found += [f"{tag} {value}" for value in names.values() if value and "javascript:" in value]


def test_no_page_has_anything_inline(every_page: dict[str, str]) -> None:
    for name, content in every_page.items():
        parser = Inline()
        parser.feed(content)
        assert parser.found == [], name


def test_names_are_translated(admin_client: Client, every_page: dict[str, str]) -> None:
    # Django's own catalogue has "none" and "Home"; what is marked here is found by makemessages.
    assert "Polled SSE channels" in every_page["index"]
    assert "Channels" in every_page["index"]
    assert "Events" in every_page["index"]
    answer = admin_client.get(CHANNELS, headers={"accept-language": "de"})
    assert answer.status_code == 200


def test_a_viewer_sees_and_cannot_set(client: Client) -> None:
    publish("log", "x")
    staff(client, "view_channel")
    assert client.get(page("log")).status_code == 200
    assert save(client, "log", preset="live").status_code == 403
    assert client.get(EVENTS).status_code == 403
    assert "Events" not in text(client.get(page("log")))
