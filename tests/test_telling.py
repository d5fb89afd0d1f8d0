"""The words of the fleet: one sentence that a tired operator understands, and a word for everything."""

from __future__ import annotations

import ast
import inspect
from datetime import UTC, datetime
from typing import Any

import pytest
from django.utils import translation

from sse_polling.lifecycle import Farewell, Refusal
from sse_polling.models import Order
from sse_polling.nodes import obeying, telling
from sse_polling.nodes.points import Point
from sse_polling.nodes.reading import STATES, Fleet, NodeView
from sse_polling.nodes.telling import sentence
from sse_polling.protocol.burst import Cause

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_node(name: str = "web:1:aa", **given: Any) -> NodeView:
    host, pid, _ = name.rsplit(":", 2)
    values: dict[str, Any] = {
        "pk": abs(hash(name)),
        "name": name,
        "host": host,
        "pid": int(pid),
        "server": "uvicorn",
        "state": "serving",
        "started": NOW,
        "age": 1.0,
        "up_seconds": 60.0,
        "sockets": 41,
        "readers": 612,
        "capacity": 1000,
        "figures": {},
        "points": (),
        "points_age": 0.0,
    }
    return NodeView(**{**values, **given})


def a_point(**given: Any) -> Point:
    counts = ("sockets", "readers", "polls", "reconnects", "refused", "gaps", "delivered", "bytes")
    return Point(**{**dict.fromkeys(counts, 0), "seconds": 5.0, "latency": (0,) * 14, **given})


def told(*nodes: NodeView) -> str:
    return sentence(Fleet(nodes=nodes, now=NOW))


def draining(name: str, left: int, estimate: float, **given: Any) -> NodeView:
    drain = {"why": "order", "total": 80, "left": left, "seconds": 2.0, "estimate": estimate}
    return a_node(name, state="draining", figures={"drain": drain}, **given)


def test_before_the_first_process() -> None:
    assert told() == "No process has served a stream yet."


def test_all_is_well() -> None:
    assert told(a_node()) == "612 readers on 41 sockets, nothing lost."
    assert told(a_node(readers=1, sockets=1)) == "1 reader on 1 socket, nothing lost."
    assert told(a_node(readers=12345, sockets=0)) == "12,345 readers on 0 sockets, nothing lost."


def test_processes_are_summed_and_those_that_stopped_are_not_worth_a_word() -> None:
    gone = a_node("web:3:cc", state="stopped", sockets=5, readers=5)
    assert told(a_node(), a_node("web:2:bb"), gone) == "1,224 readers on 82 sockets, nothing lost."
    assert told(gone) == "No process is serving streams."


def test_drains_say_who_what_is_left_and_how_long() -> None:
    assert told(a_node(), draining("b:2:bb", 12, 3.6, sockets=12, readers=30)) == (
        "642 readers on 53 sockets, nothing lost; node b:2 is draining, 12 left, about 4 s."
    )
    both = told(draining("b:2:bb", 12, 3.6), draining("c:3:cc", 1000, 7.0))
    assert both.endswith("; nodes b:2 and c:3 are draining, 1,012 left, about 7 s.")
    assert told(draining("b:2:bb", 1, 0.0)).endswith("1 left, about 1 s.")
    assert told(a_node(state="drained")).endswith("; node web:1 is drained.")


def test_a_drain_that_another_version_tells_is_told_without_its_numbers() -> None:
    for drain in ({"left": 3}, [], {"why": "", "total": 1, "left": "x", "seconds": 0, "estimate": None}):
        assert told(a_node(state="draining", figures={"drain": drain})).endswith("; node web:1 is draining.")


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ({"trimmed": 3}, "retention had removed events that readers still needed"),
        ({"reset": 9}, "channels were made anew, or an older copy of the database was restored"),
        ({"reset": 1, "trimmed": 2}, "events that readers still needed were gone"),
        ("garbage", "events that readers still needed were gone"),
    ],
)
def test_gaps_come_first_and_say_why(reasons: object, why: str) -> None:
    node = a_node(points=[a_point(gaps=1), a_point(gaps=2, refused=4)], figures={"gaps": reasons})
    assert told(node) == (
        f"612 readers on 41 sockets; 3 gaps in the last 5 minutes: {why}; "
        "4 streams refused in the last 5 minutes."
    )


def test_what_a_process_lost_is_told_though_it_has_stopped() -> None:
    gone = {"state": "stopped", "figures": {"gaps": {"trimmed": 7}}, "points": [a_point(gaps=7)]}
    words = "612 readers on 41 sockets; 7 gaps in the last 5 minutes: retention had removed events that "
    assert told(a_node(), a_node("b:2:bb", age=280.0, **gone)).startswith(words)
    assert told(a_node(), a_node("b:2:bb", age=320.0, **gone)) == "612 readers on 41 sockets, nothing lost."


def test_what_hurts_most_is_told_first() -> None:
    words = told(
        draining("a:1:aa", 2, 2.0),
        a_node("b:1:bb", state="full", points=[a_point(refused=1)]),
        a_node("c:1:cc", figures={"layer": "polling"}),
        a_node("d:1:dd", state="silent", age=125.0),
        a_node("e:1:ee", figures={"layer": "down"}),
    )
    assert words.split("; ")[1:] == [
        "node e:1 hears neither from the channel layer nor from the database",
        "node d:1 has said nothing for 2 min",
        "node b:1 is full",
        "1 stream refused in the last 5 minutes",
        "node c:1 does not hear the channel layer and asks the database for events",
        "node a:1 is draining, 2 left, about 2 s.",
    ]


def test_a_fleet_that_fell_silent_is_not_called_well() -> None:
    assert told(a_node(state="silent", age=40.0)) == (
        "No process is serving streams; node web:1 has said nothing for 40 s."
    )


def test_the_sentence_stays_short_however_many_there_are() -> None:
    silent = [a_node(f"web:{pid}:aa", state="silent", age=20.0) for pid in range(50)]
    full = [a_node(f"api:{pid}:aa", state="full") for pid in range(50)]
    words = told(*silent, *full)
    assert "47 more are silent" in words
    assert "nodes api:0, api:1, api:2 and 47 more are full" in words
    assert len(words) < 400


def test_a_label_is_short_and_unique_in_its_fleet() -> None:
    one, other, third = a_node("web:1:aa"), a_node("web:1:bb"), a_node("web:2:aa")
    fleet = Fleet(nodes=[one, other, third], now=NOW)
    assert [telling.node_label(each, fleet) for each in fleet.nodes] == ["web:1:aa", "web:1:bb", "web:2"]
    assert telling.node_label(one) == "web:1"


@pytest.mark.parametrize(
    ("words", "members"),
    [
        (telling.refusal_reason, Refusal),
        (telling.cause, Cause),
        (telling.farewell, Farewell),
        (telling.state_label, STATES),
    ],
)
def test_everything_has_a_word_of_its_own(words: Any, members: Any) -> None:
    table = {
        telling.refusal_reason: telling._REFUSALS,
        telling.cause: telling._CAUSES,
        telling.farewell: telling._FAREWELLS,
        telling.state_label: telling._STATES,
    }[words]
    assert {str(each) for each in table} == {str(each) for each in members}
    found = {words(str(each)) for each in members}
    assert len(found) >= len(list(members)) - 1  # the database may be away at two occasions
    assert all(type(each) is str for each in found)
    assert words("of a later version") == "of a later version"


def results() -> set[str]:
    """Return the results that :mod:`.obeying` can give, read from its source."""
    returned = [
        each for each in ast.walk(ast.parse(inspect.getsource(obeying))) if isinstance(each, ast.Return)
    ]
    return {
        each.value.value
        for each in returned
        if isinstance(each.value, ast.Constant) and isinstance(each.value.value, str)
    }


def test_every_result_of_an_order_has_words() -> None:
    assert {"begun", "already", "ends", "gone", "busy", "late", "unknown"} <= results()
    known = {result for _, result in telling._RESULTS} | set(telling._ANY_RESULT)
    assert results() <= known
    for kind, result in telling._RESULTS:
        assert telling.order_result(kind, result) != result
    assert telling.order_result(Order.Kind.DRAIN, "") == "waiting for the process"
    assert telling.order_result("drain", "begun") == "it drains"
    assert telling.order_result("close", "closing 1") == "1 stream was asked to leave"
    assert telling.order_result("channel", "closing 1200") == "1,200 streams were asked to leave"
    assert telling.order_result("close", "closing soon") == "closing soon"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "just now"),
        (0.4, "just now"),
        (4.2, "4 s ago"),
        (89, "89 s ago"),
        (90, "2 min ago"),
        (5000, "83 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 days ago"),
    ],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    assert telling.ago(seconds) == words


def test_numbers_are_grouped_as_the_language_does() -> None:
    with translation.override("de"):
        assert "12.345" in told(a_node(readers=12345))
