"""The beat: when a process writes its row, and how it comes to know what it is asked."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now

from sse_polling import database, pools
from sse_polling import hub as hubs
from sse_polling.connections import Connection, Registry
from sse_polling.draining import ORDER, SIGNAL, Draining
from sse_polling.hub import Hub
from sse_polling.lifecycle import Node as Admission
from sse_polling.live import Waiter
from sse_polling.models import Event, Lease, Node, Order
from sse_polling.nodes import beat as beats
from sse_polling.nodes import figures, giving, rows
from sse_polling.nodes.beat import LIVE_CHANNEL, Beat, _server
from sse_polling.nodes.reading import read_fleet
from sse_polling.wake import sender
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Process:
    """A server's process as its beat sees it, whose time is advanced."""

    def __init__(self, time: Timeless, patch: pytest.MonkeyPatch) -> None:
        self.time, self.patch = time, patch
        self.admission = Admission(Registry(), clock=time.time)
        self.draining = Draining(self.admission)
        self.written: list[float] = []
        self.posts: list[dict[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.beat = Beat()
        patch.setattr(beats, "node", self.admission)
        patch.setattr(beats, "draining", self.draining)
        patch.setattr(figures, "draining", self.draining)
        patch.setattr(beats, "listen", lambda: None)
        patch.setattr(beats, "time", SimpleNamespace(monotonic=time.time))
        patch.setattr(beats, "beat", self.beat)
        patch.setattr(sender, "post", self.posts.append)
        patch.setattr(hubs, "on_fleet", list(hubs.on_fleet))
        write = rows.write
        patch.setattr(rows, "write", lambda *args, **named: self._write(write, args, named))

    def _write(self, write: Callable[..., None], args: Any, named: Any) -> None:
        write(*args, **named)
        if args[0]["name"] == self.beat.name:
            self.written.append(self.time.time())

    def start(self, beat: Beat | None = None) -> Process:
        async def start() -> None:
            (beat or self.beat).start()

        self.time.start(start()).result()
        self.time.settle()
        task = (beat or self.beat)._task
        if task is not None:
            self._tasks.append(task)
        return self

    def end(self) -> None:
        """End as a server does, which cancels what its loop has."""
        for task in self._tasks:
            task.cancel()
        self.time.settle()

    @property
    def row(self) -> Node:
        return Node.objects.get(name=self.beat.name)

    def hear(self, **message: Any) -> None:
        """Hear a message to all processes, in the loop of a hub."""

        async def heard() -> None:
            hubs._heard({"type": "sse_polling.fleet", **message})

        self.time.start(heard()).result()
        self.time.settle()

    def beats_in(self, seconds: float) -> int:
        before = len(self.written)
        self.time.advance(seconds)
        return len(self.written) - before


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine


@pytest.fixture
def process(time: Timeless, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    made = Process(time, monkeypatch)
    yield made
    time.fail, time.slow = None, False
    made.end()


@pytest.fixture
def hub(time: Timeless, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The loop's hub, without its side tasks."""
    made = Hub(time.loop)
    monkeypatch.setitem(hubs.hubs, time.loop, made)
    yield made
    made.stop()
    time.settle()


def watch(time: Timeless, hub: Hub) -> Waiter:
    """Read the live channel, as a page does, until the hub is told to leave."""
    waiter = Waiter()
    time.run(hub.open([LIVE_CHANNEL], waiter))
    return waiter


def told() -> list[str]:
    return list(
        Event.objects.filter(channel__name=LIVE_CHANNEL).order_by("pk").values_list("data", flat=True)
    )


# When it beats


def test_it_beats_at_once_and_then_every_five_seconds(process: Process) -> None:
    process.start()
    assert (process.row.state, process.row.stopped) == ("serving", None)
    began = process.time.time()
    process.time.advance(16)
    assert [at - began for at in process.written] == pytest.approx([0, 5, 10, 15])


def test_started_again_it_is_the_same_beat(process: Process) -> None:
    process.start().start()
    assert process.beats_in(20) == 4
    assert Node.objects.count() == 1


def test_switched_off_it_writes_nothing(process: Process) -> None:
    process.beat.enabled = False
    process.start()
    process.time.advance(20)
    assert Node.objects.count() == 0


def test_it_beats_every_second_while_it_drains_and_once_it_is_drained_no_more(process: Process) -> None:
    process.start()
    held = Connection(channels=("a",), door="test")
    process.admission.registry.take(held)
    process.draining.begin(ORDER)
    process.time.settle()
    assert (process.row.state, process.row.figures["drain"]["left"]) == ("draining", 1)  # at once
    assert process.beats_in(5.5) == 5
    process.admission.registry.release(held)
    process.time.advance(0.1)
    assert process.row.state == "drained"  # at once, too
    assert process.beats_in(20) == 4


def test_a_look_message_has_it_beat_at_once(process: Process) -> None:
    process.start()
    process.time.advance(1)
    before = len(process.written)
    process.hear(look=True)
    assert len(process.written) == before + 1
    process.hear(ack={"client": "x" * 16})
    process.hear()
    assert len(process.written) == before + 1


def test_what_comes_while_it_writes_is_looked_at_after(process: Process) -> None:
    process.start()
    process.time.slow = True
    process.hear(look=True)
    assert len(process.time.jobs) == 1
    for _ in range(10):
        process.hear(look=True)
    before = len(process.written)
    process.time.slow = False
    process.time.settle()
    assert len(process.written) == before + 2


def test_it_survives_a_database_that_is_away_and_goes_on(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    process.start()
    process.time.fail = OperationalError("gone")
    with caplog.at_level(logging.INFO, "sse_polling"):
        assert process.beats_in(60) == 0
    assert caplog.text == ""  # those who need the database have said so
    process.time.fail = None
    assert process.beats_in(6) >= 1


async def test_it_beats_though_all_who_write_wait_for_a_lock() -> None:
    """As stream writers do, behind a transaction that takes its time."""
    free = threading.Event()
    waiting = [asyncio.ensure_future(database.run_writing(free.wait, 10)) for _ in range(5)]
    await asyncio.sleep(0)  # they are first
    try:
        async with asyncio.timeout(5):
            assert await database.run_aside(Node.objects.count) == 0
        assert not any(each.done() for each in waiting)
    finally:
        free.set()
        await asyncio.gather(*waiting)
        await asyncio.to_thread(pools.shutdown)


async def test_it_does_not_wait_for_ever_for_a_mute_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "ANSWER_SECONDS", 0.1)
    free = threading.Event()
    try:
        with pytest.raises(OperationalError, match="did not answer within"):
            await database.run_aside(free.wait, 10)
    finally:
        free.set()
        await asyncio.to_thread(pools.shutdown)


def test_an_error_of_its_own_does_not_end_it(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    process.start()
    gather = beats.gather
    process.patch.setattr(beats, "gather", lambda *args: 1 / 0)
    process.time.advance(20)
    assert "task node died" in caplog.text
    process.patch.setattr(beats, "gather", gather)
    assert process.beats_in(35) >= 1


def test_its_row_is_made_again_when_others_have_taken_it_for_dead(process: Process) -> None:
    process.start()
    Node.objects.all().delete()
    process.time.advance(5)
    assert process.row.state == "serving"


def test_it_says_that_it_ends_once_a_drain_by_signal_is_over(process: Process) -> None:
    process.start()
    held = Connection(channels=("a",), door="test")
    process.admission.registry.take(held)
    process.draining.begin(SIGNAL)
    process.time.advance(2)
    assert (process.row.state, process.row.stopped) == ("draining", None)
    process.admission.registry.release(held)
    process.time.advance(0.1)
    assert (process.row.state, process.row.stopped is not None) == ("drained", True)


def test_a_drained_process_that_may_resume_has_not_stopped(process: Process) -> None:
    process.start()
    process.draining.begin(ORDER)
    process.time.advance(5)
    assert (process.row.state, process.row.stopped) == ("drained", None)
    process.draining.resume()
    process.time.settle()
    assert process.row.state == "serving"


def test_its_loops_end_is_its_own_and_the_next_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with timeless() as first:
        process = Process(first, monkeypatch).start()
        name = process.beat.name
        first.advance(6)
        process.end()
        assert process.row.stopped is not None
    before = len(process.written)
    with timeless() as second:
        process.time = second
        monkeypatch.setattr(beats, "time", SimpleNamespace(monotonic=second.time))
        process.start()
        second.advance(11)
        assert len(process.written) == before + 3
        process.end()
        assert process.row.stopped is not None
        process.start()
        assert (process.beat.name, process.row.stopped, Node.objects.count()) == (name, None, 1)
        process.end()


def test_a_process_has_a_name_of_its_own_and_its_forks_another(process: Process) -> None:
    process.start()
    first = process.row
    assert first.name.startswith(f"{first.host}:{first.pid}:")
    process.beat.__init__()  # type: ignore[misc]  # as os.register_at_fork does in a child
    process.start()
    assert process.beat.name != first.name
    assert Node.objects.count() == 2


# What it writes


def test_it_writes_its_points_and_its_sockets(process: Process) -> None:
    process.start()
    for number in range(3):
        process.admission.registry.take(Connection(channels=(f"c{number}",), door="test"))
    process.admission.counts.admitted += 7
    process.time.advance(30)
    (view,) = read_fleet(sockets=True).nodes
    assert [point.polls for point in view.points] == [7, 0, 0, 0, 0, 0]
    assert [point.sockets for point in view.points] == [3] * 6
    assert (view.sockets, view.listed_total) == (3, 3)
    assert {socket.channels for socket in view.listed} == {("c0",), ("c1",), ("c2",)}


def test_it_lists_its_sockets_less_often_than_it_beats(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists: list[float] = []
    write = rows.write_sockets
    monkeypatch.setattr(
        rows, "write_sockets", lambda *args: (lists.append(process.time.time()), write(*args))
    )
    process.start()
    process.time.advance(30.5)
    assert len(lists) == 4
    held = Connection(channels=("a",), door="test")
    process.admission.registry.take(held)
    process.draining.begin(ORDER)
    process.time.advance(10)
    assert 9 <= len(lists) <= 10  # every two seconds, now that somebody may be looking


def test_it_tidies_the_dead_away_now_and_then(process: Process) -> None:
    process.start()
    process.time.advance(2)
    Node.objects.create(name="dead:1:aa", host="dead", pid=1, started=Now(), seen=Now(), state="serving")
    Node.objects.filter(name="dead:1:aa").update(seen=F("seen") - rows.timedelta(seconds=700))
    process.time.advance(30)
    assert Node.objects.count() == 2
    process.time.advance(40)
    assert Node.objects.count() == 1


def test_what_no_task_serves_any_more_is_not_counted(process: Process) -> None:
    reaped: list[int] = []
    process.patch.setattr(beats.registry, "reap", lambda: reaped.append(1))
    process.start()
    assert reaped


# Orders


def give(process: Process, kind: str, target: str = "") -> Order:
    giving.give(kind, [process.row.pk], target=target)
    return Order.objects.latest("pk")


def test_an_order_is_taken_up_at_once_and_its_result_told(process: Process) -> None:
    process.start()
    order = give(process, Order.Kind.DRAIN)
    process.time.settle()
    order.refresh_from_db()
    assert (order.result, process.draining.why) == ("begun", ORDER)
    assert process.posts == [{"look": True}]
    process.time.advance(1)
    assert process.row.state == "drained"
    order = give(process, Order.Kind.RESUME)
    process.time.settle()
    order.refresh_from_db()
    assert (order.result, process.row.state) == ("begun", "serving")


def test_without_a_word_an_order_is_found_at_the_next_beat(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving, "give_word", lambda: None)
    process.start()
    give(process, Order.Kind.DRAIN)
    process.time.advance(4.9)
    assert not process.admission.draining
    process.time.advance(0.2)
    assert process.admission.draining


def test_an_order_that_comes_late_is_not_carried_out(process: Process) -> None:
    process.start()
    process.patch.setattr(giving, "give_word", lambda: None)
    order = give(process, Order.Kind.DRAIN)
    Order.objects.update(created=F("created") - rows.timedelta(seconds=61))
    process.time.advance(5)
    order.refresh_from_db()
    assert (order.result, process.admission.draining) == ("late", False)


def test_an_order_is_carried_out_once_though_its_result_could_not_be_written(process: Process) -> None:
    process.start()
    obeyed: list[int] = []
    obey = beats.obey
    process.patch.setattr(
        beats, "obey", lambda order, *args, **named: (obeyed.append(order.pk), obey(order, *args, **named))[1]
    )
    fulfil = rows.fulfil
    fails = [OperationalError("gone")] * 3

    def flaky(results: Any) -> None:
        if fails:
            raise fails.pop()
        fulfil(results)

    process.patch.setattr(rows, "fulfil", flaky)
    order = give(process, Order.Kind.DRAIN)
    process.time.advance(30)
    order.refresh_from_db()
    assert (obeyed, order.result, fails) == ([order.pk], "begun", [])
    assert process.beat._results == {}


def test_orders_of_another_process_are_left_to_it(process: Process) -> None:
    process.start()
    other = Node.objects.create(
        name="web:1:aa", host="web", pid=1, started=Now(), seen=Now(), state="serving"
    )
    giving.give(Order.Kind.DRAIN, [other.pk])
    process.time.advance(10)
    assert (process.admission.draining, Order.objects.get().done) == (False, None)


def test_it_knows_before_a_drain_whether_others_serve(process: Process) -> None:
    process.start()
    process.time.advance(1)
    assert not process.admission.elsewhere
    other = Node.objects.create(
        name="web:1:aa", host="web", pid=1, started=Now(), seen=Now(), state="serving"
    )
    process.time.advance(5)
    assert process.admission.elsewhere
    process.draining.begin(ORDER)
    Node.objects.filter(pk=other.pk).update(state="draining")
    process.time.advance(5)
    assert not process.admission.elsewhere


# Who looks


def test_while_nobody_looks_nothing_is_published(process: Process, hub: Hub) -> None:
    process.start()
    process.time.advance(60)
    assert (told(), Lease.objects.filter(name=rows.WATCH).count()) == ([], 0)


def test_while_somebody_looks_it_beats_every_second_and_says_so(process: Process, hub: Hub) -> None:
    process.start()
    watch(process.time, hub)
    process.beat.show()
    process.time.settle()
    assert len(told()) == 1
    assert process.beats_in(5.5) == 5
    assert 5 <= len(told()) <= 7
    assert process.beat.name in told()[0]
    assert rows.is_watched()


def test_the_others_are_told_that_somebody_looks_once_they_can_find_it(process: Process, hub: Hub) -> None:
    """Told sooner they would look, find nobody who watches, and sleep for another five seconds."""
    happened: list[str] = []
    lease = beats.history.lease
    process.patch.setattr(sender, "post", lambda message: happened.append("told"))
    process.patch.setattr(beats.history, "lease", lambda *args: (happened.append("leased"), lease(*args))[1])
    process.start()
    watch(process.time, hub)
    process.beat.show()
    process.time.settle()
    assert happened == ["leased", "told"]
    process.time.advance(3)
    process.beat.show()  # another who looks
    process.time.advance(3)
    assert happened.count("told") == 1


def test_one_who_is_not_watched_itself_beats_quickly_with_the_others(process: Process) -> None:
    process.start()
    Lease.objects.create(name=rows.WATCH, holder="another", until=Now() + rows.timedelta(seconds=3600))
    process.hear(look=True)
    assert process.beats_in(10.5) == 10
    assert told() == []  # whoever holds the lease tells


def test_of_two_that_are_watched_one_tells(process: Process, hub: Hub) -> None:
    other = Beat()
    process.start()
    process.start(other)
    watch(process.time, hub)
    process.time.advance(12)
    assert len(set(told())) == 1
    assert 6 <= len(told()) <= 13


def test_when_the_last_has_gone_it_is_quiet_again(process: Process, hub: Hub) -> None:
    process.start()
    waiter = watch(process.time, hub)
    process.time.advance(6)
    hub.leave([LIVE_CHANNEL], waiter)
    process.time.advance(9)
    count = len(told())
    assert count > 5  # a page's stream comes and goes: it is not gone at once
    process.time.advance(5)
    Lease.objects.update(until=Now() - rows.timedelta(seconds=1))  # which is the database's time
    process.time.advance(6)
    count = len(told())
    assert process.beats_in(20.5) == 4
    assert len(told()) == count


def test_a_live_channel_that_cannot_be_written_costs_no_order(process: Process, hub: Hub) -> None:
    process.start()
    watch(process.time, hub)

    def fail(*args: Any) -> None:
        raise OperationalError("locked")

    process.patch.setattr(beats, "store", fail)
    give(process, Order.Kind.DRAIN)
    process.time.advance(10)
    assert process.admission.draining


# Which server it is


@pytest.mark.parametrize(
    ("words", "server"),
    [
        (["/site/bin/daphne", "-p", "8000", "site.asgi:application"], "daphne"),
        (["/site/lib/python3.13/site-packages/daphne/__main__.py", "site.asgi:application"], "daphne"),
        (["/site/lib/uvicorn/__main__.py", "site.asgi:application"], "uvicorn"),
        (["/site/bin/hypercorn", "site.asgi:application"], "hypercorn"),
        (["/site/bin/granian", "--interface", "asgi"], "granian"),
        (["/site/bin/gunicorn", "-k", "uvicorn.workers.UvicornWorker"], "gunicorn"),
        (["manage.py", "runserver"], "runserver"),
        (["/site/serve.py"], "asgi"),
        ([""], "asgi"),
    ],
)
def test_the_server_is_known_by_the_program_that_was_started(
    monkeypatch: pytest.MonkeyPatch, words: list[str], server: str
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    assert _server() == server
