"""Each process's row: what it says of itself, what it is ordered, and the fleet that is read of all rows."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.draining import ORDER, SIGNAL, Draining
from sse_polling.lifecycle import Farewell, Refusal
from sse_polling.lifecycle import Node as Admission
from sse_polling.measures import Measures
from sse_polling.models import Node, NodeSockets, Order
from sse_polling.nodes import figures, giving, reading, rows
from sse_polling.nodes.listing import CLIENT_CHARACTERS, MOST_LISTED, list_sockets, unpack
from sse_polling.nodes.obeying import obey
from sse_polling.nodes.points import KEPT_POINTS, POINT_SECONDS, Point, Points
from sse_polling.nodes.reading import Drain, Fleet, NodeView, read_fleet
from sse_polling.protocol.burst import Cause
from sse_polling.protocol.histogram import DELAYS

stored = [pytest.mark.django_db(transaction=True), pytest.mark.database]
KINDS = Order.Kind


def on_the_database(test: Any) -> Any:
    for mark in stored:
        test = mark(test)
    return test


def write(name: str = "web:1:aa", *, ends: bool = False, **values: Any) -> Node:
    """Write the row of the process *name*, and return it."""
    host, pid, _ = name.rsplit(":", 2)
    identity = {"name": name, "host": host, "pid": int(pid), "server": "daphne"}
    told = {"state": "serving", "sockets": 3, "readers": 5, "capacity": 100, "figures": {}, "history": {}}
    rows.write(identity, {**told, **values}, ends=ends)
    return Node.objects.get(name=name)


def back(row: Node, seconds: float, *fields: str) -> None:
    """Let *fields* of a row, ``seen`` if none is named, be so many seconds older."""
    moved = {field: F(field) - timedelta(seconds=seconds) for field in fields or ("seen",)}
    Node.objects.filter(pk=row.pk).update(**moved)


def order(row: Node, kind: str = KINDS.DRAIN, target: str = "") -> Order:
    (key,) = giving.give(kind, [row.pk], target=target)
    return Order.objects.get(pk=key)


# Rows


@on_the_database
def test_a_process_has_one_row_whose_start_stays() -> None:
    first = write(sockets=1)
    back(first, 60, "seen", "started")
    again = write(sockets=2, state="full")
    assert Node.objects.count() == 1
    assert (again.sockets, again.state, again.stopped) == (2, "full", None)
    assert again.seen - again.started >= timedelta(seconds=60)


@on_the_database
def test_a_process_that_says_that_it_ends_has_stopped_and_one_that_goes_on_has_not() -> None:
    assert write(ends=True).stopped is not None
    assert write().stopped is None
    rows.write_sockets("web:1:aa", 3, b"packed")
    rows.stop("web:1:aa")
    row = Node.objects.get()
    assert (row.stopped is not None, row.state, row.sockets, row.readers) == (True, "drained", 0, 0)
    assert NodeSockets.objects.count() == 0


@on_the_database
def test_the_rows_of_the_dead_are_tidied_and_all_that_is_theirs() -> None:
    living, silent, dead = (write(f"web:{number}:aa") for number in range(3))
    stopping, stopped = (write(f"web:{number}:aa", ends=True) for number in (3, 4))
    back(silent, 500)
    back(dead, 700)
    back(stopping, 350, "seen", "stopped")  # what it told of the last five minutes counts
    back(stopped, 370, "seen", "stopped")
    for row in (living, dead):
        order(row)
        rows.write_sockets(row.name, 1, b"packed")
    assert rows.tidy() == 2
    assert set(Node.objects.values_list("pk", flat=True)) == {living.pk, silent.pk, stopping.pk}
    assert list(Order.objects.values_list("node", flat=True)) == [living.pk]
    assert list(NodeSockets.objects.values_list("node", flat=True)) == [living.pk]
    assert rows.tidy() == 0


@on_the_database
def test_many_dead_are_tidied_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "TIDIED", 2)
    for number in range(5):
        back(write(f"web:{number}:aa"), 700)
    assert [rows.tidy() for _ in range(4)] == [2, 2, 1, 0]


@on_the_database
def test_another_that_serves_is_one_that_was_seen_lately_and_takes_streams() -> None:
    me = write("web:0:aa")
    assert not rows.others(me.name)
    other = write("web:1:aa")
    assert rows.others(me.name)
    for state in ("full", "draining", "drained"):
        write("web:1:aa", state=state)
        assert not rows.others(me.name)
    write("web:1:aa")
    back(other, 20)
    assert not rows.others(me.name)
    write("web:1:aa", ends=True)
    assert not rows.others(me.name)


@on_the_database
def test_the_sockets_of_a_process_are_listed_once_it_has_a_row() -> None:
    rows.write_sockets("web:1:aa", 7, b"lost")
    assert NodeSockets.objects.count() == 0
    write()
    for total in (7, 8):
        rows.write_sockets("web:1:aa", total, b"packed")
    listing = NodeSockets.objects.get()
    assert (listing.total, bytes(listing.packed)) == (8, b"packed")


# Orders


@on_the_database
def test_orders_come_in_their_order_and_each_to_its_process_until_it_is_done() -> None:
    one, other = write("web:0:aa"), write("web:1:aa")
    first, second, third = order(one), order(one, KINDS.RESUME), order(other)
    assert rows.orders(one.name) == [(first, False), (second, False)]
    rows.fulfil([(first.pk, "begun")])
    assert rows.orders(one.name) == [(second, False)]
    assert rows.orders(other.name) == [(third, False)]
    first.refresh_from_db()
    assert (first.result, first.done is not None) == ("begun", True)
    rows.fulfil([(first.pk, "again")])
    first.refresh_from_db()
    assert first.result == "begun"


@on_the_database
def test_an_order_that_nobody_took_up_within_a_minute_comes_too_late() -> None:
    row = write()
    one, other = order(row), order(row)
    for each, seconds in ((one, 61), (other, 55)):
        Order.objects.filter(pk=each.pk).update(created=F("created") - timedelta(seconds=seconds))
    assert [late for _, late in rows.orders(row.name)] == [True, False]


@on_the_database
def test_an_order_is_given_to_each_and_told_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(giving, "give_word", lambda: told.append(Order.objects.count()))
    nodes = [write(f"web:{number}:aa") for number in range(3)]
    with transaction.atomic():
        keys = giving.give(KINDS.CHANNEL, [each.pk for each in nodes], target="a", by="x" * 200)
        assert told == []
    assert told == [3]
    made = list(Order.objects.order_by("pk"))
    assert [each.pk for each in made] == keys
    assert {(each.kind, each.target, each.by, each.done) for each in made} == {
        (KINDS.CHANNEL, "a", "x" * 150, None)
    }
    with transaction.atomic():
        giving.give(KINDS.DRAIN, [nodes[0].pk])
        transaction.set_rollback(True)
    assert told == [3]


class Obedient:
    """A process that is ordered about."""

    def __init__(self) -> None:
        self.node = Admission(Registry())
        self.draining = Draining(self.node)  # without a loop it is over at once
        self.closed: list[list[Connection]] = []
        self.full = False
        self.draining.close = self._close  # type: ignore[method-assign]

    def _close(self, connections: Any) -> None:
        if self.full:
            raise RuntimeError("too many")
        self.closed.append(list(connections))

    def take(self, *channels: str) -> Connection:
        taken = Connection(channels=channels, door="test")
        self.node.registry.take(taken)
        return taken

    def __call__(self, kind: str, target: str = "", *, late: bool = False) -> str:
        return obey(Order(kind=kind, target=target), self.node, self.draining, late=late)


def test_it_drains_and_resumes_and_says_when_it_did_already() -> None:
    told = Obedient()
    assert told(KINDS.RESUME) == "already"
    assert [told(KINDS.DRAIN), told(KINDS.DRAIN), told.draining.why] == ["begun", "already", ORDER]
    assert [told(KINDS.RESUME), told(KINDS.RESUME), told.node.draining] == ["begun", "already", False]


def test_a_process_that_was_told_to_end_does_not_resume() -> None:
    told = Obedient()
    told.draining.begin(SIGNAL)
    assert (told(KINDS.DRAIN), told(KINDS.RESUME), told.node.draining) == ("already", "ends", True)


def test_it_closes_one_socket_by_its_number() -> None:
    told = Obedient()
    wanted, _ = told.take("a"), told.take("a")
    assert told(KINDS.CLOSE, str(wanted.number)) == "closing 1"
    assert told.closed == [[wanted]]
    for target in ("", "0", "-1", "x", "²", "9" * 200):
        assert told(KINDS.CLOSE, target) == "gone"
    assert not told.node.draining


def test_it_closes_all_streams_of_a_channel() -> None:
    told = Obedient()
    wanted = [told.take("a"), told.take("b", "a")]
    told.take("aa")
    assert told(KINDS.CHANNEL, "a") == "closing 2"
    assert told.closed == [wanted]
    assert told(KINDS.CHANNEL, "c") == "gone"


def test_it_says_what_it_cannot_do() -> None:
    told = Obedient()
    told.take("a")
    told.full = True
    assert told(KINDS.CHANNEL, "a") == "busy"
    assert told("a newer version's", "a") == "unknown"
    assert told(KINDS.DRAIN, late=True) == "late"
    assert not told.node.draining


# What is listed of sockets


def listed(admission: Admission, *, now: float = 1000.0) -> Any:
    total, packed = list_sockets(admission, now=now)
    return total, unpack(packed)


def test_a_socket_is_listed_as_operators_see_it() -> None:
    admission = Admission(Registry())
    one = Connection(
        channels=tuple("abcde"),
        door="mount",
        client="a-secret-name-of-a-client",
        user="7",
        address="10.0.0.1",
        opened=990.04,
        cursor="x" * 1000,
        events=3,
        bytes=300,
        burst=2,
        behind=lambda: 4,
    )
    admission.registry.take(one)
    total, (view,) = listed(admission)
    assert (total, view.number, view.channels, view.of) == (1, one.number, ("a", "b", "c"), 5)
    assert (view.client, view.user, view.address, view.door) == ("a-secret", "7", "10.0.0.1", "mount")
    assert len(view.client) == CLIENT_CHARACTERS < 16  # with all of it anybody could ack for it
    assert (view.age, view.behind, view.events, view.bytes, view.bursts) == (10.0, 4, 3, 300, 2)
    assert len(view.cursor) == 80


def test_of_many_the_five_hundred_furthest_behind_are_listed_those_first() -> None:
    admission = Admission(Registry())
    for number in range(1200):
        admission.registry.take(
            Connection(channels=("a",), door="test", behind=lambda number=number: number)  # type: ignore[misc]
        )
    total, views = listed(admission)
    assert total == 1200
    assert [view.behind for view in views] == list(range(1199, 1199 - MOST_LISTED, -1))


def test_of_those_as_far_the_oldest_are_first() -> None:
    admission = Admission(Registry())
    for opened in (30, 10, 20):
        admission.registry.take(Connection(channels=("a",), door="test", opened=float(opened)))
    _, views = listed(admission, now=100)
    assert [view.age for view in views] == [90, 80, 70]


def test_how_a_socket_is_about_to_go_is_listed() -> None:
    admission = Admission(Registry())
    held = [Connection(channels=("a",), door="test", opened=float(number)) for number in range(5)]
    for each in held[:4]:
        admission.registry.take(each)
    for each in held[1:3]:
        each.leave("drain")
    admission.registry.ask(held[2])
    for each in held[3:]:
        admission.flushing.add(each)  # the fourth waits for the client in mid-burst
    total, views = listed(admission)
    assert [view.state for view in views] == ["open", "leaving", "asked", "open", "flushing"]
    assert total == admission.sockets - 1  # which counts the fourth twice


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"nonsense",
        zlib.compress(b"not json"),
        zlib.compress(b"7"),
        zlib.compress(b"null"),
        zlib.compress(b'{"a": 1}'),
        zlib.compress(b"[[1, 2]]"),
        zlib.compress(
            json.dumps([[1, ["a"], 1, None, None, None, "d", "s", 1, "c", 0, 0, 0, 0, 0]]).encode()
        ),
        zlib.compress(json.dumps([["x", ["a"], 1, None, None, None, "d", "s", 1, "c", 0, 0, 0, 0]]).encode()),
        zlib.compress(b'[[Infinity, ["a"], 1, null, null, null, "d", "s", 1, "c", 0, 0, 0, 0]]'),
        zlib.compress(b"[" * 500_000),
        zlib.compress(b"[]")[:-4] + b"xxxx",
        zlib.compress(b" " * 100 * 2**20),
    ],
)
def test_sockets_that_another_version_has_packed_are_none(packed: bytes) -> None:
    assert unpack(packed) == []


# Points


def point(**given: Any) -> Point:
    values = dict.fromkeys(
        ("sockets", "readers", "polls", "reconnects", "refused", "gaps", "delivered", "bytes"), 0
    )
    return Point(**{**values, "seconds": POINT_SECONDS, "latency": (0,) * (len(DELAYS) + 1), **given})


def test_a_point_is_what_happened_since_the_one_before() -> None:
    admission, measures = Admission(Registry()), Measures()
    points = Points(now=100)
    assert not points.is_due(104.9)
    for taken, (polls, delivered) in enumerate([(3, 30), (0, 0), (2, 7)], 1):
        admission.counts.admitted += polls
        admission.counts.refused[Refusal.CLIENT] += polls
        measures.reconnects += polls
        measures.gaps["trimmed"] += 1
        measures.delivered += delivered
        measures.bytes += delivered * 10
        measures.latency.observe(0.02, delivered)
        now = 100 + 6.0 * taken
        assert points.is_due(now)
        points.take(admission, measures, now=now)
        assert not points.is_due(now)
    unpacked = [Point.unpacked(each) for each in points.packed(120)["points"]]
    assert points.packed(120)["age"] == 2
    assert [(each.polls, each.reconnects, each.refused) for each in unpacked] == [
        (3, 3, 3),
        (0, 0, 0),
        (2, 2, 2),
    ]
    assert [each.gaps for each in unpacked] == [1, 1, 1]
    assert [(each.delivered, each.bytes) for each in unpacked] == [(30, 300), (0, 0), (7, 70)]
    assert [sum(each.latency) for each in unpacked] == [30, 0, 7]
    assert {each.seconds for each in unpacked} == {6.0}
    assert unpacked[0].delay(1) == 0.025


def test_it_keeps_five_minutes_of_them() -> None:
    points = Points(now=0)
    for number in range(1, 200):
        points.take(Admission(Registry()), Measures(), now=5.0 * number)
    assert len(points.packed(1000)["points"]) == KEPT_POINTS == 60
    assert KEPT_POINTS * POINT_SECONDS == 300


counts = st.integers(0, 10**9)


@given(
    st.builds(
        point,
        seconds=st.floats(0.1, 1000).map(lambda each: round(each, 2)),
        sockets=counts,
        polls=counts,
        bytes=counts,
        latency=st.tuples(*[counts] * (len(DELAYS) + 1)),
    )
)
def test_a_point_is_read_as_it_was_written(one: Point) -> None:
    assert Point.unpacked(json.loads(json.dumps(one.packed()))) == one


@pytest.mark.parametrize(
    "packed",
    [
        [],
        [5, 1, 2],
        ["x"] * 9,
        [0] * 9,
        [-5, *[0] * 8],
        [float("nan"), *[0] * 8],
        [float("inf"), *[0] * 8],
        [5, *[0] * 8, *[1] * (len(DELAYS) + 2)],  # of a version with more buckets
        7,
        None,
    ],
)
def test_a_point_that_is_none_is_refused(packed: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Point.unpacked(packed)


# The fleet, as it is read


@on_the_database
def test_the_fleet_is_read_with_one_query_and_one_more_for_the_sockets() -> None:
    for number in range(5):
        write(f"web:{number}:aa")
        rows.write_sockets(f"web:{number}:aa", 1, zlib.compress(b"[]"))
    with CaptureQueriesContext(
        connection,
    ) as asked:
        fleet = read_fleet()
    assert (len(asked), len(fleet.nodes), fleet.sockets, fleet.readers, fleet.capacity) == (1, 5, 15, 25, 500)
    with CaptureQueriesContext(connection) as asked:
        (one,) = read_fleet(node=fleet.nodes[2].pk, sockets=True).nodes
    assert (len(asked), one.name, one.listed_total) == (2, "web:2:aa", 1)


@on_the_database
def test_the_gaps_of_a_process_that_has_stopped_count_for_five_minutes_and_it_is_shown_for_one() -> None:
    write("web:1:aa")
    # A loss of the time before: the point that tells of it is the older one.
    points = [point(gaps=gaps).packed() for gaps in (7, 0)]
    gone = write("web:2:bb", ends=True, history={"age": 0.0, "points": points})
    seen: list[tuple[int, list[str]]] = []
    for older in (50, 20, 180, 70):  # 50, 70, 250, 320 seconds ago
        back(gone, older, "seen", "stopped")
        rows.tidy()
        fleet = read_fleet()
        seen.append((fleet.lost, [each.host for each in fleet.shown if each.state == "stopped"]))
        assert len(fleet.nodes) == 2
    assert seen == [(7, ["web"]), (7, []), (7, []), (0, [])]


@on_the_database
def test_of_many_rows_those_that_spoke_last_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash loop leaves one each time."""
    monkeypatch.setattr(reading, "MOST_NODES", 3)
    for number in range(5):
        back(write(f"web:{number}:aa"), 100 - 10 * number if number else 0)
    assert [each.pid for each in read_fleet().nodes] == [0, 3, 4]  # by name, as ever


@on_the_database
def test_without_a_row_there_is_no_fleet() -> None:
    fleet = read_fleet(sockets=True)
    assert (fleet.nodes, fleet.live, fleet.sockets, fleet.age) == ([], [], 0, None)
    assert {moment.sockets for moment in fleet.moments} == {None}


@on_the_database
def test_a_process_is_silent_by_the_databases_clock_and_no_other() -> None:
    told, silent, stopped = write("web:0:aa"), write("web:1:aa"), write("web:2:aa", ends=True)
    back(told, 14)
    back(silent, 16)
    back(stopped, 30)
    wrong = datetime.now(UTC) + timedelta(hours=3)
    with mock.patch("django.utils.timezone.now", return_value=wrong):
        fleet = read_fleet()
    assert [node.state for node in fleet.nodes] == ["serving", "silent", "stopped"]
    assert [node.is_live for node in fleet.nodes] == [True, False, False]
    assert fleet.age == pytest.approx(14, abs=1)
    assert (fleet.sockets, len(fleet.in_state("silent"))) == (3, 1)


@on_the_database
def test_what_a_process_says_is_what_is_read() -> None:
    admission, measures = Admission(Registry()), Measures()
    admission.registry.take(Connection(channels=("a",), door="test"))
    asked = Connection(channels=("a",), door="test")
    admission.registry.take(asked)
    asked.leave("drain")
    admission.registry.ask(asked)
    admission.refuse(Refusal.CLIENT)
    admission.ended(Cause.HOLD, retry_ms=60_000, farewell=Farewell.ACKED)
    measures.gaps["trimmed"] += 2
    told = figures.gather(admission, measures, get_config())
    write(figures=json.loads(json.dumps(told)))
    (node,) = read_fleet().nodes
    assert dict(node.figures) == json.loads(json.dumps(told))
    assert node.figures["sockets"] == {"open": 1, "leaving": 0, "asked": 1, "flushing": 0, "kept": 0}
    assert [
        node.count(name) for name in ("refused", "ended", "farewells", "gaps", "admitted", "nothing")
    ] == [*[1, 1, 1, 2, 0, 0]]
    assert node.drain is None
    assert set(NodeView.__doc__.split("``")) >= set(told) - {"capacity"}  # type: ignore[union-attr]


@on_the_database
@pytest.mark.parametrize("garbage", ["text", 7, [], {}, {"drain": "x", "refused": "x", "sockets": 3}, None])
def test_a_row_of_another_version_is_read_as_far_as_it_goes(garbage: Any) -> None:
    row = write(figures=garbage if garbage is not None else [None], history=garbage or [None])
    NodeSockets.objects.create(node=row, taken=row.seen, total=3, packed=b"garbage")
    fleet = read_fleet(sockets=True)
    (node,) = fleet.nodes
    assert (node.sockets, node.drain, list(node.points), list(node.listed)) == (3, None, [], [])
    assert (node.listed_total, node.count("refused"), node.rate("polls")) == (3, 0, 0)
    assert len(fleet.moments) == KEPT_POINTS
    assert (fleet.lost, fleet.refused) == (0, 0)


@pytest.mark.parametrize(
    "told",
    [
        {"why": "order", "total": 5, "left": 2, "seconds": 1.5},
        {"why": "order", "total": "x", "left": 2, "seconds": 1.5, "estimate": 2},
        {"why": "order", "total": 5, "left": None, "seconds": 1.5, "estimate": 2},
    ],
)
def test_a_drain_that_cannot_be_read_is_none(told: dict[str, Any]) -> None:
    assert view(figures={"drain": told}).drain is None


def test_a_drain_is_read_of_those_that_live() -> None:
    told = {"why": "order", "total": 5, "left": 2, "seconds": 1.5, "estimate": 2, "newer": True}
    expected = Drain(why="order", total=5, left=2, seconds=1.5, estimate=2)
    assert view(figures={"drain": told}).drain == expected
    assert view(figures={"drain": told}, state="silent").drain is None


@on_the_database
@pytest.mark.parametrize("history", [{"age": "x", "points": []}, {"age": 1}, {"age": 1, "points": 3}])
def test_points_that_another_version_has_written_are_none(history: Any) -> None:
    write(history=history)
    (node,) = read_fleet().nodes
    assert (list(node.points), node.points_age) == ([], 0)


def view(**given: Any) -> NodeView:
    began = datetime.now(UTC)
    values: dict[str, Any] = {
        "pk": 1,
        "name": "web:1:aa",
        "host": "web",
        "pid": 1,
        "server": "daphne",
        "state": "serving",
        "started": began,
        "age": 0.0,
        "up_seconds": 9.0,
        "sockets": 1,
        "readers": 1,
        "capacity": 9,
        "figures": {},
        "points": [],
        "points_age": 0.0,
    }
    return NodeView(**{**values, **given})


def moments(*nodes: NodeView) -> list[Any]:
    """Return the fleet's moments, the newest first."""
    return Fleet(nodes=nodes, now=datetime.now(UTC)).moments[::-1]


def test_a_moment_is_the_sum_of_all_processes_at_that_time() -> None:
    one = view(points=[point(sockets=number, polls=10 * number, gaps=1) for number in (3, 2, 1)])
    other = view(age=3.0, points_age=2.5, points=[point(sockets=10, refused=4), point(sockets=20)])
    found = moments(one, other)
    assert [each.sockets for each in found[:4]] == [1 + 20, 2 + 20, 3 + 10, None]  # the other is 5.5 s old
    assert [each.polls for each in found[:4]] == [2, 4, 6, 0]
    assert [each.gaps for each in found[:4]] == [1, 1, 1, 0]
    assert [each.refused for each in found[:4]] == [0, 0, 4, 0]
    assert [each.ago for each in found[:3]] == [0, 5, 10]
    assert len(found) == KEPT_POINTS


def test_a_process_that_has_gone_is_in_no_moment_after() -> None:
    gone = view(state="silent", age=20.0, points=[point(sockets=7)])
    assert [each.sockets for each in moments(gone)[:6]] == [None, None, None, None, 7, None]


def test_beats_that_come_a_little_late_leave_no_moment_out() -> None:
    """A process of 10 sockets would else seem to have none, now and then."""
    slow = view(points_age=0.3, points=[point(seconds=5.3, sockets=10, polls=53, gaps=1) for _ in range(60)])
    found = moments(slow)
    assert {each.sockets for each in found} == {10}
    assert {round(each.polls, 6) for each in found} == {10}
    assert sum(each.gaps for each in found) == 57  # those of five minutes, each once


def test_what_stood_still_for_a_while_is_one_point_over_all_of_it() -> None:
    still = view(
        points=[point(sockets=3), point(seconds=20, sockets=4, refused=8, polls=40), point(sockets=5)]
    )
    found = moments(still)
    assert [each.sockets for each in found[:7]] == [5, 4, 4, 4, 4, 3, None]
    assert [each.refused for each in found[:7]] == [0, 8, 0, 0, 0, 0, 0]
    assert [each.polls for each in found[:7]] == [0, 2, 2, 2, 2, 0, 0]


def test_a_moments_latency_is_that_of_all_processes() -> None:
    fast, slow = ([0] * (len(DELAYS) + 1) for _ in range(2))
    fast[0], slow[DELAYS.index(1.0)] = 90, 10
    found = moments(view(points=[point(latency=tuple(fast))]), view(points=[point(latency=tuple(slow))]))
    assert found[0].delay(0.5) == pytest.approx(0.0028, abs=0.001)
    assert found[0].delay(0.99) > 0.5
    assert found[1].delay(0.5) is None


@given(
    st.lists(
        st.builds(
            view,
            state=st.sampled_from(["serving", "silent"]),
            age=st.floats(0, 1e6),
            points_age=st.floats(0, 1e6),
            points=st.lists(
                st.builds(point, seconds=st.floats(0.01, 1e6), sockets=counts, gaps=st.just(1)), max_size=60
            ),
        ),
        max_size=3,
    )
)
def test_whatever_rows_say_there_are_sixty_moments_and_nothing_is_counted_twice(
    nodes: list[NodeView],
) -> None:
    found = moments(*nodes)
    assert len(found) == KEPT_POINTS
    assert sum(each.gaps for each in found) <= sum(len(node.points) for node in nodes)
    most = sum(max((each.sockets for each in node.points), default=0) for node in nodes)
    spans = sum(any(each.seconds < POINT_SECONDS for each in node.points) for node in nodes)
    assert spans or all((each.sockets or 0) <= most for each in found)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    quiet, busy = point(polls=0), point(polls=50)
    assert view(points=[busy, busy, quiet, quiet, quiet]).rate("polls") == 0
    assert view(points=[quiet, busy, busy, busy]).rate("polls") == 10
    assert view(points=[quiet, quiet, busy]).rate("polls") == pytest.approx(10 / 3)
    assert view(points=[]).rate("delivered") == 0
