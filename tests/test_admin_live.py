"""The admin's live pages: what an operator sees of processes and sockets, and the orders they give."""

from __future__ import annotations

import json
import re
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from sse_polling import publish
from sse_polling.admin import NodeAdmin
from sse_polling.admin.live import LIVE_HEADER
from sse_polling.admin.plots import HEIGHT, WIDTH
from sse_polling.models import Channel, Node, NodeSockets, Order
from tests.harness.rows import figures, history, make_node, socket
from tests.test_admin import Inline, text

pytestmark = pytest.mark.django_db

LIVE = "/admin/sse_polling/node/"
CONFIRM = f"{LIVE}confirm/"
ORDER = f"{LIVE}order/"
PARTS = {LIVE_HEADER: "1"}
ALL = ("view_node", "drain_node", "resume_node", "drain_all", "drain_channel", "close_socket")


def page(node: Node) -> str:
    return f"{LIVE}{node.pk}/change/"


def staff(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def rows(response: Any) -> list[tuple[int, int]]:
    """Return (node, socket) of the rows that a page shows."""
    found = re.findall(r'id="sse-socket-(\d+)-(\d+)"', response.content.decode())
    return [(int(node), int(number)) for node, number in found]


def shown(client: Client, **query: Any) -> list[int]:
    return [number for _node, number in rows(client.get(LIVE, query, headers=PARTS))]


def told(response: Any) -> str:
    """Return the messages of the page that a redirect leads to."""
    return " ".join(
        re.findall(r"<li class=\"(?:success|warning|error)\">(.*?)</li>", response.content.decode())
    )


# The fleet's page


def test_it_opens_with_one_sentence(admin_client: Client) -> None:
    make_node("a:1:x", sockets=[socket(number) for number in range(41)], readers=612)
    page = admin_client.get(LIVE).content.decode()
    assert re.search(r"<h1>Live sockets</h1>", page)
    assert "612 readers on 41 sockets, nothing lost." in page
    assert page.count('role="status"') == 1
    assert "aria-live" not in page


def test_a_row_tells_how_a_node_is(admin_client: Client) -> None:
    make_node(
        "a:1:x", sockets=[socket(1)], readers=1234, figures=figures(budget={"budget": 50, "wait_ms": 2300})
    )
    seen = text(admin_client.get(LIVE))
    assert "a:1 uvicorn, for 3 h serving told just now" in seen
    assert "1 of 872 1,234" in seen
    assert "140 of 1,024" in seen
    assert "Breaker closed Layer live Budget 50 sockets, clients away for 2.3 s" in seen


def test_a_drain_is_seen_with_what_is_left_and_for_how_long(admin_client: Client) -> None:
    drain = {"why": "order", "total": 412, "left": 12, "seconds": 3.0, "estimate": 4.2}
    make_node("b:2:x", state="draining", sockets=[socket(n) for n in range(12)], figures=figures(drain=drain))
    response = admin_client.get(LIVE)
    assert "12 left of 412, about 4 s" in text(response)
    assert '<progress max="412" value="400" aria-label="Drain of b:2">' in response.content.decode()
    assert 'data-every="1"' in response.content.decode()


def test_a_silent_and_a_stopped_node_are_told_apart(admin_client: Client) -> None:
    silent = make_node("a:1:x", silent=40, sockets=[socket(1)])
    make_node("b:2:x", stopped=True, sockets=[socket(2)])
    seen = text(admin_client.get(LIVE))
    assert "a:1 uvicorn, for 3 h silent told 40 s ago" in seen
    assert "b:2 uvicorn, for 3 h stopped told just now" in seen
    assert "1 of them is of a silent node, and may be gone." in seen
    assert shown(admin_client) == [1]
    assert "Node a:1 has said nothing for 40 s: it was killed" in text(admin_client.get(page(silent)))
    stopped = Node.objects.get(name="b:2:x")
    assert "Node b:2 has stopped. This is what it said last." in text(admin_client.get(page(stopped)))


def test_without_a_node_it_says_what_that_means(admin_client: Client) -> None:
    seen = text(admin_client.get(LIVE))
    assert "No process has served a stream yet." in seen
    assert "Start a server, with daphne or uvicorn." in seen
    assert "<svg" not in admin_client.get(LIVE, headers={LIVE_HEADER: "1"}).content.decode()


def test_every_refusal_and_every_farewell_has_its_reason_and_count(admin_client: Client) -> None:
    make_node("a:1:x", figures=figures(refused={"capacity": 1500, "strange": 2}, farewells={"acked": 7}))
    make_node("b:2:x", figures=figures(refused={"capacity": 500, "draining": 1}, farewells={"cut": 1}))
    seen = text(admin_client.get(LIVE))
    for words in ("over capacity 2,000", "over the budget 0", "too many of one client 0", "draining 1"):
        assert words in seen
    assert "strange 2" in seen
    for words in (
        "said goodbye 7",
        "closed by itself 0",
        "asked, and did not answer 0",
        "cut, the time was up 1",
    ):
        assert words in seen


def test_fifty_nodes_with_twenty_thousand_sockets_are_quick_and_small(admin_client: Client) -> None:
    publish("log", "x")
    for number in range(50):
        users = {"user": str(number + 1), "channels": [f"channel.{number}", "log", "x.y"], "of": 4}
        listed = [socket(400 * number + each, behind=each, **users) for each in range(400)]
        make_node(f"web-{number}:42:ab", sockets=listed, total=700)
        User.objects.create(username=f"user{number}")
    began = time.process_time()
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(LIVE)
    seconds = time.process_time() - began
    assert len(queries) <= 10
    assert len(response.content) < 1_000_000
    assert "100 of 35,000 shown, 20,000 match." in text(response)
    assert "Nodes list 20,000 of their 35,000 sockets" in text(response)
    assert seconds < 3  # about 0.6 s alone on two cores
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(LIVE, {"q": "user7"}, headers={LIVE_HEADER: "1"})
    assert len(queries) <= 10
    assert 0 < len(rows(response)) <= 100


# Plots


def test_plots_are_lines_with_words(admin_client: Client) -> None:
    make_node(history=history(sockets=40, readers=600))
    page = admin_client.get(LIVE).content.decode()
    assert [int(count) for count in re.findall(r'<path class="line \w+" d="M0\.0 (\d+)', page)]
    assert re.search(
        r'<desc id="sse-d-readers">At first \d+, now \d+, at most \d+ in the last 5 minutes\.', page
    )
    assert "median: At first" in page
    for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", page):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT
    table = page[page.index("sse-plot-table") :]
    assert table.count('<th scope="row">') >= 60


def test_a_line_breaks_where_nobody_told(admin_client: Client) -> None:
    make_node("a:1:x", history=history(points=10))
    make_node("b:2:x", silent=200, history=history(points=10))
    page = admin_client.get(LIVE).content.decode()
    line = re.search(r'<path class="line readers" d="([^"]*)"', page)
    assert line
    assert line[1].count("M") == 2


def test_without_figures_a_plot_says_so(admin_client: Client) -> None:
    make_node(silent=100, history={})
    assert "No figures in the last 5 minutes." in admin_client.get(LIVE).content.decode()


# Sockets


@pytest.fixture
def crowd(admin_client: Client) -> Client:
    ada = User.objects.create(username="ada")
    make_node(
        "a:1:x",
        sockets=[
            socket(1, behind=5, channels=["log"], client="abcdefgh", address="10.1.1.1", age=9),
            socket(2, behind=50, channels=["log", "news"], user=str(ada.pk), door="view", events=900),
            socket(3, behind=0, channels=["news"], user="999999", state="asked", bytes=5_000_000),
        ],
    )
    make_node("b:2:x", sockets=[socket(4, behind=7, channels=["task.1", "x", "y"], of=9, bursts=None)])
    return admin_client


def test_sockets_are_listed_the_furthest_behind_first(crowd: Client) -> None:
    assert shown(crowd) == [2, 4, 1, 3]
    seen = text(crowd.get(LIVE))
    assert "4 of 4 shown, 4 match." in seen
    assert "ada" in seen
    assert "user 999999" in seen
    assert "and 6 more" in seen
    assert "its goodbye is waited for" in seen


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"channel": "news"}, [2, 3]),
        ({"channel": "nobody"}, []),
        ({"state": "asked"}, [3]),
        ({"door": "view"}, [2]),
        ({"q": "ADA"}, [2]),
        ({"q": "999999"}, [3]),
        ({"q": "10.1.1.1"}, [1]),
        ({"q": "abcd"}, [1]),
        ({"q": "abcdefgh-and-the-rest-of-it"}, [1]),
        ({"q": "CCCC.4."}, [4]),
        ({"q": "task"}, [4]),
        ({"q": "%"}, []),
        ({"channel": "news", "state": "open"}, [2]),
        ({"o": "behind"}, [3, 1, 4, 2]),
        ({"o": "-age"}, [1, 2, 3, 4]),
        ({"o": "-events"}, [2, 1, 3, 4]),
        ({"o": "-bytes"}, [3, 1, 2, 4]),
        ({"o": "-node"}, [4, 1, 2, 3]),
        ({"o": "bursts"}, [4, 1, 2, 3]),
        ({"o": "nonsense"}, [2, 4, 1, 3]),
        ({"node": "x"}, [2, 4, 1, 3]),
        ({"p": "99"}, [2, 4, 1, 3]),
        ({"p": "-1"}, [2, 4, 1, 3]),
    ],
)
def test_they_are_filtered_searched_and_sorted(
    crowd: Client, query: dict[str, str], found: list[int]
) -> None:
    assert shown(crowd, **query) == found


def test_one_node_s_are_listed(crowd: Client) -> None:
    node = Node.objects.get(name="b:2:x")
    assert shown(crowd, node=node.pk) == [4]
    assert [number for _node, number in rows(crowd.get(page(node)))] == [4]


def test_nothing_found_is_said(crowd: Client) -> None:
    seen = text(crowd.get(LIVE, {"q": "nothing like it"}))
    assert "None of the listed sockets match." in seen
    assert "Show all" in seen


def test_a_hundred_stand_on_a_page(admin_client: Client) -> None:
    make_node(sockets=[socket(number, behind=number) for number in range(250)])
    assert shown(admin_client) == list(range(249, 149, -1))
    assert shown(admin_client, p=3) == list(range(49, -1, -1))
    last = text(admin_client.get(LIVE, {"p": 3, "channel": "log"}))
    assert "Page 3 of 3" in last
    assert "Next" not in last
    assert (
        'href="?channel=log&amp;p=2"' in admin_client.get(LIVE, {"p": 3, "channel": "log"}).content.decode()
    )


def test_a_heading_sorts_and_turns_around(crowd: Client) -> None:
    page = crowd.get(LIVE, {"channel": "log"}).content.decode()
    assert re.search(r'aria-sort="descending"[^>]*><a href="\?channel=log&amp;o=behind">', page)
    assert 'href="?channel=log&amp;o=-age"' in page
    assert 'href="?channel=log&amp;o=node"' in page


# Rows that somebody else has written

NONSENSE: list[Any] = [
    {},
    [],
    "x",
    7,
    {"drain": 1, "breaker": 2, "budget": "x", "layer": [], "descriptors": {}, "refused": [], "latency": 3},
    {
        "drain": {"why": 1, "total": "x", "left": None, "seconds": [], "estimate": {}},
        "refused": {"capacity": "x"},
    },
    {"drain": {"why": "order", "total": 0, "left": 10**30, "seconds": 0, "estimate": 1e300}, "most": 10**400},
    {"budget": {"budget": "x", "wait_ms": []}, "descriptors": ["x", "y"], "gaps": {"a": []}, "replays": 4},
    {"latency": {"counts": ["x"]}, "age": {"counts": {}}, "first": [], "ended": {"x": None}, "sockets": 3},
    {"refused": {"<script>": 5}, "farewells": {"acked": True}, "gaps": {"<b>": 3}, "pause_seconds": "x"},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
@pytest.mark.parametrize("state", ["serving", "draining", "?"])
def test_what_another_version_says_is_no_error(admin_client: Client, nonsense: Any, state: str) -> None:
    node = make_node(figures=nonsense, state=state, sockets=[socket(1)])
    for address in (LIVE, page(node)):
        response = admin_client.get(address, headers=PARTS)
        assert response.status_code == 200
        assert "<script>" not in response.content.decode()


@pytest.mark.parametrize(
    "nonsense",
    [
        [],
        {"points": 3, "age": 1},
        {"points": [[]], "age": 1},
        {"points": [["x"] * 9], "age": "y"},
        {"points": [[1, 2]], "age": None},
        {"points": [[5.0] + [1] * 60], "age": 1},
        {"points": [[5.0] + [1] * 9], "age": -1e9},
        {"points": [[-5e9] + [1] * 9] * 9, "age": 1e300},
        {"points": [[5.0] + [10**25] * 9] * 9, "age": 1},
    ],
    ids=str,
)
def test_nor_are_its_last_minutes(admin_client: Client, nonsense: Any) -> None:
    node = make_node(history=nonsense)
    assert admin_client.get(LIVE).status_code == 200
    assert admin_client.get(page(node)).status_code == 200


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"nonsense",
        zlib.compress(b"{}"),
        zlib.compress(b"[[1, 2]]"),
        zlib.compress(b'{"a": [[1]]}'),
        zlib.compress(json.dumps([[None] * 14]).encode()),
        zlib.compress(json.dumps([socket(1, user={}, client=[], address=5, bursts="x")]).encode()),
    ],
)
def test_nor_are_its_sockets(admin_client: Client, packed: bytes) -> None:
    node = make_node(sockets=[])
    NodeSockets.objects.update(packed=packed, total=3)
    for address in (LIVE, page(node), f"{LIVE}?q=x&o=bursts"):
        assert admin_client.get(address).status_code == 200


HOSTILE = '"><img src=x onerror=alert(1)>'


def test_hostile_names_are_text(admin_client: Client) -> None:
    user = User.objects.create(username=f"u{HOSTILE}")
    told = {
        "user": str(user.pk),
        "client": HOSTILE,
        "address": HOSTILE,
        "channels": [HOSTILE],
        "cursor": HOSTILE,
    }
    node = make_node(
        HOSTILE, host=HOSTILE, server=HOSTILE, state=HOSTILE, sockets=[socket(1, **told, state=HOSTILE)]
    )
    Order.objects.create(
        node=node, kind="channel", target=HOSTILE, by=HOSTILE, created=node.started, result=HOSTILE
    )
    for address in (LIVE, page(node), f"{CONFIRM}?kind=close&node={node.pk}&target=1"):
        content = admin_client.get(address, {"q": HOSTILE} if address == LIVE else {}).content.decode()
        assert "<img src=x" not in content
        parser = Inline()
        parser.feed(content)
        assert parser.found == []


# A node's page


def test_a_node_s_page_shows_it_in_full(admin_client: Client) -> None:
    node = make_node("a:1:x", sockets=[socket(1)])
    seen = text(admin_client.get(page(node)))
    for words in (
        "Node a:1:x",
        "Streams opened 54,321",
        "Bytes sent 11.8",
        "nothing came 50,000",
        "1 of 1 shown",
    ):
        assert words in seen
    assert f"{LIVE}{node.pk}/history/" in admin_client.get(page(node)).content.decode()


@pytest.mark.parametrize("key", ["99", "x", "-1", "9" * 30, "%C2%B2", "_"])
def test_a_node_that_is_gone_is_said_so(admin_client: Client, key: str) -> None:
    response = admin_client.get(f"{LIVE}{key}/change/")
    assert response.status_code == 404
    assert "This node is gone" in response.content.decode()
    assert f'href="{LIVE}"' in response.content.decode()


def test_orders_are_shown_with_what_came_of_them(admin_client: Client) -> None:
    node = make_node()
    now = Node.objects.get().seen
    for kind, result in (("drain", "begun"), ("close", "gone"), ("channel", "closing 3"), ("resume", "")):
        Order.objects.create(
            node=node,
            kind=kind,
            target="7",
            by="ada",
            created=now,
            done=now if result else None,
            result=result,
        )
    seen = text(admin_client.get(page(node)))
    for words in (
        "drain 7 web-1:4242 ada just now it drains",
        "the socket was gone already",
        "3 streams were asked to leave",
        "waiting for the process",
    ):
        assert words in seen
    assert seen in text(admin_client.get(LIVE)) or "it drains" in text(admin_client.get(LIVE))


# A channel's page


def test_a_channel_s_page_shows_who_reads_it(crowd: Client) -> None:
    publish("news", "x")
    address = f"/admin/sse_polling/channel/{Channel.objects.get().pk}/change/"
    response = crowd.get(address)
    assert [number for _node, number in rows(response)] == [2, 3]
    assert "2 sockets read it; the last is 50 events behind." in text(response)
    assert "kind=channel&amp;target=news&amp;back=channel" in response.content.decode()
    part = crowd.get(address, headers={LIVE_HEADER: "1"})
    assert rows(part) == rows(response)
    assert len(part.content) < len(response.content) / 2
    assert crowd.post(address, {"max_events": "x", "max_age_seconds": ""}).status_code == 200


def test_who_reads_a_channel_is_for_those_who_may_see_nodes(client: Client) -> None:
    publish("log", "x")
    make_node(sockets=[socket(1)])
    address = f"/admin/sse_polling/channel/{Channel.objects.get().pk}/change/"
    staff(client, "view_channel")
    assert "Who reads it now" not in text(client.get(address))
    client.logout()
    assert client.get(address, headers={LIVE_HEADER: "1"}).status_code == 302


# Orders


def ask(client: Client, kind: str, **data: Any) -> Any:
    return client.post(ORDER, {"kind": kind, **data}, follow=True)


@pytest.mark.parametrize(
    ("kind", "state", "done"),
    [
        ("drain", "serving", "Node a:1 was asked to drain."),
        ("drain", "full", "Node a:1 was asked to drain."),
        ("resume", "drained", "Node a:1 was asked to take streams again."),
        ("close", "serving", "Node a:1 was asked to close socket 7."),
        ("channel", "serving", "1 node was asked to drain channel 7."),
        ("drain_all", "serving", "1 node was asked to drain."),
        ("resume_all", "draining", "1 node was asked to take streams again."),
    ],
)
def test_an_order_is_confirmed_given_logged_and_told(
    admin_client: Client, kind: str, state: str, done: str
) -> None:
    node = make_node("a:1:x", state=state, sockets=[socket(7)])
    data = {
        "kind": kind,
        "node": node.pk,
        "target": "7" if kind in ("close", "channel") else "",
        "back": "node",
    }
    asked = admin_client.get(CONFIRM, data)
    assert asked.status_code == 200
    assert not Order.objects.exists()
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asked.content.decode()))
    form.pop("csrfmiddlewaretoken", None)
    response = admin_client.post(ORDER, form, follow=True)
    assert response.redirect_chain[-1][0] == page(node)
    assert told(response) == done
    order = Order.objects.get()
    assert (order.node_id, order.kind, order.by) == (node.pk, kind.removesuffix("_all"), "admin")
    assert order.target == data["target"]
    assert order.done is None
    entry = LogEntry.objects.get()
    assert entry.is_change()
    assert entry.object_repr == ("7" if kind == "channel" else "a:1:x")
    assert "sked to" in entry.get_change_message()


def test_confirming_tells_what_will_happen(admin_client: Client) -> None:
    node = make_node("a:1:x", sockets=[socket(number) for number in range(412)])
    alone = text(admin_client.get(CONFIRM, {"kind": "drain", "node": node.pk}))
    assert "Drain node a:1?" in alone
    assert (
        "412 streams are asked to leave, one after the other within 3 s. Whoever is still there after 20"
        in alone
    )
    assert "No other node takes streams" in alone
    make_node("b:2:x")
    assert "come back elsewhere" in text(admin_client.get(CONFIRM, {"kind": "drain", "node": node.pk}))


@pytest.mark.parametrize(
    ("kind", "node", "words"),
    [
        ("drain", {"stopped": True}, "Node a:1 has stopped."),
        ("drain", {"state": "draining"}, "Node a:1 drains already."),
        ("drain", {"state": "drained"}, "Node a:1 drains already."),
        ("resume", {}, "Node a:1 takes streams already."),
        (
            "resume",
            {
                "state": "draining",
                "figures": figures(
                    drain={"why": "signal", "total": 1, "left": 1, "seconds": 1.0, "estimate": 1.0}
                ),
            },
            "Node a:1 was told to end: it cannot serve again. Start another.",
        ),
        ("close", {"sockets": [socket(1)]}, "Socket 7 of node a:1 is gone."),
        ("drain_all", {"state": "drained"}, "No node is there to drain, or all of them drain already."),
        ("resume_all", {}, "No node drains that could serve again."),
        ("channel", {"stopped": True}, "No node is there that could have readers."),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    admin_client: Client, kind: str, node: dict[str, Any], words: str
) -> None:
    made = make_node("a:1:x", **node)
    data = {"node": made.pk, "target": "7"}
    assert told(ask(admin_client, kind, **data)) == words
    assert told(admin_client.get(CONFIRM, {"kind": kind, **data}, follow=True)) == words
    assert not Order.objects.exists()
    assert not LogEntry.objects.exists()


def test_nonsense_is_answered_in_words(admin_client: Client) -> None:
    node = make_node("a:1:x")
    for data in (
        {},
        {"kind": "erase"},
        {"kind": "drain"},
        {"kind": "drain", "node": "x"},
        {"kind": "drain", "node": "-1"},
        {"kind": "drain", "node": "9" * 40},
        {"kind": "close", "node": node.pk, "target": "²"},
        {"kind": "close", "node": node.pk, "target": ""},
        {"kind": "channel"},
        {"kind": "channel", "target": "x" * 201},
        {"kind": "channel", "target": "x\0y"},
    ):
        for response in (admin_client.post(ORDER, data), admin_client.get(CONFIRM, data)):
            assert (response.status_code, response.headers["Location"]) == (302, LIVE), data
    messages = told(admin_client.get(LIVE))
    assert messages.count(".") == 22
    for words in ("There is no such button.", "There is no such node any more.", "No socket was named."):
        assert words in messages
    assert not Order.objects.exists()


def test_a_silent_node_is_given_the_order_and_that_is_said(admin_client: Client) -> None:
    node = make_node("a:1:x", silent=40)
    warning = "Node a:1 is silent: it does this only if it is back within a minute."
    assert warning in text(admin_client.get(CONFIRM, {"kind": "drain", "node": node.pk}))
    assert warning in told(ask(admin_client, "drain", node=node.pk))
    assert Order.objects.count() == 1


def test_a_socket_that_the_list_has_no_room_for_may_be_closed(admin_client: Client) -> None:
    node = make_node("a:1:x", sockets=[socket(1)], total=501)
    assert (
        told(ask(admin_client, "close", node=node.pk, target="7")) == "Node a:1 was asked to close socket 7."
    )


def test_all_are_drained_that_do_not_yet(admin_client: Client) -> None:
    for number, state in enumerate(("serving", "full", "draining", "drained")):
        make_node(f"a:{number}:x", state=state)
    make_node("gone:1:x", stopped=True)
    assert "2 nodes were asked to drain." in told(ask(admin_client, "drain_all"))
    assert Order.objects.count() == LogEntry.objects.count() == 2
    assert "2 nodes were asked to take streams again." in told(ask(admin_client, "resume_all"))


def test_nothing_is_ordered_by_a_get_or_a_forged_post(admin_client: Client) -> None:
    node = make_node()
    assert admin_client.get(ORDER, {"kind": "drain", "node": node.pk}).status_code == 405
    assert admin_client.post(CONFIRM, {"kind": "drain", "node": node.pk}).status_code == 405
    assert admin_client.post(LIVE, {"kind": "drain", "node": node.pk}).status_code == 405
    assert admin_client.post(page(node), {"state": "drained"}).status_code == 405
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(User.objects.get())
    assert careful.post(ORDER, {"kind": "drain", "node": node.pk}).status_code == 403
    assert not Order.objects.exists()
    assert Client().post(ORDER, {"kind": "drain", "node": node.pk}).status_code == 302


KINDS = {
    "drain": "drain_node",
    "resume": "resume_node",
    "drain_all": "drain_all",
    "resume_all": "resume_node",
    "channel": "drain_channel",
    "close": "close_socket",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_button_is_a_permission_of_its_own(client: Client, kind: str) -> None:
    node = make_node("a:1:x", sockets=[socket(1)], state="drained" if "resume" in kind else "serving")
    if "all" in kind:
        make_node("b:2:x", state="drained" if "resume" in kind else "serving")
    publish("log", "x")
    channel = f"/admin/sse_polling/channel/{Channel.objects.get().pk}/change/"
    data = {"kind": kind, "node": node.pk, "target": "1"}
    staff(client, "view_channel", *(name for name in ALL if name != KINDS[kind]))
    seen = "".join(client.get(each, headers=PARTS).content.decode() for each in (LIVE, page(node), channel))
    assert f"kind={kind}&" not in seen
    assert f'kind={kind}"' not in seen
    assert client.post(ORDER, data).status_code == 403
    assert client.get(CONFIRM, data).status_code == 403
    assert not Order.objects.exists()
    User.objects.get().user_permissions.add(Permission.objects.get(codename=KINDS[kind]))
    seen = "".join(client.get(each, headers=PARTS).content.decode() for each in (LIVE, page(node), channel))
    assert f"kind={kind}" in seen
    assert client.post(ORDER, data).status_code == 302
    assert Order.objects.exists()


def test_who_may_close_a_socket_learns_whose_it_is_only_if_they_may_look(client: Client) -> None:
    node = make_node("a:1:x", sockets=[socket(7, channels=["orders.19"], address="10.9.8.7")])
    staff(client, "close_socket")
    data = {"kind": "close", "node": node.pk, "target": "7"}
    asked = text(client.get(CONFIRM, data))
    assert "Close socket 7 of node a:1?" in asked
    assert "orders.19" not in asked
    assert "10.9.8.7" not in asked
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_node"))
    assert "It reads orders.19, from 10.9.8.7." in text(client.get(CONFIRM, data))


def test_a_node_that_has_stopped_leaves_the_page_after_a_minute(admin_client: Client) -> None:
    make_node("a:1:x", sockets=[socket(1)])
    for name, silent in (("b:2:x", 50), ("c:3:x", 70)):
        make_node(name, stopped=True, silent=silent, history=history(gaps=1))
    page = admin_client.get(LIVE)
    assert "b:2 uvicorn" in text(page)
    assert "c:3" not in page.content.decode()
    assert "gaps in the last 5 minutes" in text(page)


def test_a_viewer_sees_and_has_no_buttons(client: Client) -> None:
    node = make_node(sockets=[socket(1)])
    make_node("b:2:x", state="drained")
    staff(client, "view_node")
    for address in (LIVE, page(node)):
        response = client.get(address)
        assert response.status_code == 200
        assert "confirm/" not in response.content.decode()
    assert client.get(f"{LIVE}add/").status_code == 403
    assert client.get(f"{LIVE}{node.pk}/delete/").status_code == 403
    assert client.get(f"{LIVE}{node.pk}/history/").status_code == 200


def test_who_may_not_see_sees_nothing(client: Client) -> None:
    node = make_node()
    assert client.get(LIVE).status_code == 302
    staff(client, "drain_node")
    assert client.get(LIVE).status_code == 403
    assert client.get(page(node)).status_code == 403
    assert client.get(f"{LIVE}99/change/").status_code == 403
    assert ask(client, "drain", node=node.pk).redirect_chain[-1][0] == "/admin/"
    assert Order.objects.exists()


# The page by itself


def test_what_the_script_fetches_is_small_and_takes_no_message(admin_client: Client) -> None:
    node = make_node(sockets=[socket(1)])
    admin_client.post(ORDER, {"kind": "drain", "node": node.pk})
    part = admin_client.get(LIVE, headers={LIVE_HEADER: "1"})
    assert "was asked to drain" not in part.content.decode()
    assert "was asked to drain" in told(admin_client.get(LIVE))
    whole = admin_client.get(LIVE).content.decode()
    marked = re.findall(r"<\w+ [^>]*id=\"([\w-]+)\"[^>]*data-live|<\w+ [^>]*data-live[^>]*", whole)
    assert marked
    assert set(re.findall(r'id="(sse-(?:lead|fleet|sockets|plots|orders))"', part.content.decode())) == {
        "sse-lead",
        "sse-fleet",
        "sse-sockets",
        "sse-plots",
        "sse-orders",
    }


def test_it_hears_of_news_on_the_app_s_own_channel(admin_client: Client) -> None:
    make_node()
    assert 'data-stream="/events/sse_polling.live/?busy=stream"' in admin_client.get(LIVE).content.decode()


class OtherSite(admin.AdminSite):
    pass


other_site = OtherSite(name="other")
other_site.register(Node, NodeAdmin)


class OtherUrls:
    urlpatterns = [path("other/", other_site.urls), path("admin/", admin.site.urls)]  # noqa: RUF012


def test_it_works_in_another_admin_and_without_the_streams_addresses(
    admin_client: Client, settings: Any
) -> None:
    settings.ROOT_URLCONF = OtherUrls
    node = make_node("a:1:x", sockets=[socket(1)])
    seen = admin_client.get("/other/sse_polling/node/").content.decode()
    assert 'data-stream=""' in seen
    assert 'href="/admin/' not in seen
    assert f"/other/sse_polling/node/{node.pk}/change/" in seen
    response = admin_client.post(
        "/other/sse_polling/node/order/", {"kind": "drain", "node": node.pk, "back": "node"}
    )
    assert response.headers["Location"] == f"/other/sse_polling/node/{node.pk}/change/"


def test_no_page_has_anything_inline(admin_client: Client) -> None:
    node = make_node(sockets=[socket(1)])
    for address in (LIVE, page(node), f"{LIVE}99/change/", f"{CONFIRM}?kind=drain&node={node.pk}"):
        parser = Inline()
        parser.feed(admin_client.get(address).content.decode())
        assert parser.found == []


def test_another_language_renders(admin_client: Client, settings: Any) -> None:
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True
    node = make_node("a:1:x", pk=123456, sockets=[socket(1234, behind=5678)], readers=1234)
    seen = admin_client.get(LIVE).content.decode()
    assert "1.234" in seen
    assert f"{LIVE}{node.pk}/change/" in seen
    assert f'id="sse-socket-{node.pk}-1234"' in seen
    assert not re.search(r'(?: d| points|width|viewBox)="[^"]*\d,\d', seen)
    asked = admin_client.get(CONFIRM, {"kind": "drain", "node": node.pk}).content.decode()
    assert f'name="node" value="{node.pk}"' in asked


def test_the_script_is_told_what_to_import_and_has_no_markup_and_addresses_of_its_own() -> None:
    """A site may serve hashed names only (WhiteNoise can), which an import by name would not know."""
    folder = Path(__file__).parents[1] / "sse_polling" / "static" / "sse_polling"
    assert {path.name for path in folder.iterdir()} >= {"admin.css", "live.js"}
    code = re.sub(r"//.*", "", (folder / "live.js").read_text())
    assert re.findall(r"\bimport\b.*", code) == ["import(lead().dataset.client);"]
    for word in ("innerHTML", "http", "/admin/"):
        assert word not in code


def test_an_answer_is_never_cached(admin_client: Client) -> None:
    response: HttpResponse = admin_client.get(LIVE)
    assert "no-store" in response.headers["Cache-Control"]
