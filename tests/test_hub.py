"""The hub: wakes, one reading for all, holes, and tasks that die."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from django.db import OperationalError
from django.test import override_settings

from sse_polling import comparing, finish, history, hub, publish, publish_many, supervisor
from sse_polling.comparing import Comparison
from sse_polling.conf import get_config
from sse_polling.history import looking
from sse_polling.hub import Hub
from sse_polling.layer import Wake, group_name
from sse_polling.live import LiveChannel, Waiter
from sse_polling.models import Channel, Event
from sse_polling.subscription import Subscription
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine


@pytest.fixture
def one(time: Timeless) -> Iterator[Hub]:
    """A hub without its side tasks: nothing happens but what the test asks for."""
    made = Hub(time.loop)
    yield made
    made.stop()
    time.settle()


def opened(time: Timeless, one: Hub, name: str = "a") -> LiveChannel:
    (live,) = time.run(one.open([name]))
    return live


def tail_of(live: LiveChannel) -> list[str]:
    assert live.tail is not None
    return [entry.event.data for entry in live.tail.after(live.tail.base, max_events=10**6, max_bytes=10**9)]


def wake(one: Hub, name: str = "a", *, sequence: int, ends_burst: bool = False) -> None:
    row = Channel.objects.get(name=name)
    one.wake(Wake(name, row.life, sequence, ends_burst=ends_burst))


# Loading


def test_a_cold_start_is_one_load_however_many_wait(
    time: Timeless, one: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who come while it is on its way cost one more look at the head, all together."""
    publish_many("a", range(5))
    loads: list[object] = []
    newest = looking.newest
    monkeypatch.setattr(
        looking, "newest", lambda *args, **options: loads.append(args) or newest(*args, **options)
    )
    time.slow = True
    waiting = [time.start(one.open(["a"])) for _ in range(1000)]
    assert len(time.jobs) == 1
    time.slow = False
    time.settle()
    assert all(task.done() for task in waiting)
    assert tail_of(waiting[0].result()[0]) == ["0", "1", "2", "3", "4"]
    assert len(loads) == 1
    assert time.queries <= 2


def test_a_warm_channel_is_opened_without_the_database(time: Timeless, one: Hub) -> None:
    publish("a", "0")
    opened(time, one)
    before = time.queries
    for _ in range(10):
        opened(time, one)
    assert time.queries == before


def test_a_load_is_bounded_by_the_tail_and_leaves_the_tag_before_it(time: Timeless, one: Hub) -> None:
    events = publish_many("a", range(30))
    with override_settings(SSE_POLLING={"TAIL": {"max_events": 10}}):
        live = opened(time, one)
    assert tail_of(live) == [str(number) for number in range(20, 30)]
    assert live.tail is not None
    assert live.tail.tag_at(20) == events[19].tag


def test_a_load_is_bounded_in_bytes_and_leaves_the_tag_before_it(time: Timeless, one: Hub) -> None:
    events = publish_many("a", ["x" * 4000, *"abc"])
    with override_settings(SSE_POLLING={"TAIL": {"max_bytes": 4000}}):
        live = opened(time, one)
    assert tail_of(live) == ["a", "b", "c"]
    assert live.tail is not None
    assert live.tail.tag_at(1) == events[0].tag


def test_a_failed_load_reaches_all_who_wait_and_the_next_tries_again(time: Timeless, one: Hub) -> None:
    publish("a", "0")
    time.slow, time.fail = True, OperationalError("away")
    waiting = [time.start(one.open(["a"])) for _ in range(3)]
    time.slow = False
    time.advance(6)
    assert all(isinstance(task.exception(), OperationalError) for task in waiting)
    assert all("away" in str(task.exception()) for task in waiting)
    time.fail = None
    time.advance(1)  # the pause before the next try
    assert tail_of(opened(time, one)) == ["0"]


def test_who_leaves_while_a_load_is_on_its_way_does_not_end_it_for_the_others(
    time: Timeless, one: Hub
) -> None:
    publish("a", "0")
    time.slow = True
    first, second = time.start(one.open(["a"])), time.start(one.open(["a"]))
    first.cancel()
    time.slow = False
    time.settle()
    assert first.cancelled()
    assert tail_of(second.result()[0]) == ["0"]


# Wakes


def test_a_wake_brings_what_was_published(time: Timeless, one: Hub) -> None:
    live = opened(time, one)
    waiter = Waiter()
    live.waiters.add(waiter)
    publish("a", "0")
    wake(one, sequence=1)
    time.settle()
    assert tail_of(live) == ["0"]
    assert waiter._set
    live.waiters.clear()


@pytest.mark.parametrize("order", [[5], [3, 1, 4, 2, 5], [5, 5, 1], [1, 5], [2, 4]])
def test_lost_repeated_and_reordered_wakes_leave_no_hole(time: Timeless, one: Hub, order: list[int]) -> None:
    """Wakes carry no data: whatever arrives, the tail is filled from the database, densely."""
    publish("a", "0")
    live = opened(time, one)
    publish_many("a", range(1, 6))
    for sequence in order:
        wake(one, sequence=sequence)
        time.settle()
    assert tail_of(live) == ["0", "1", "2", "3", "4", "5"]


def test_a_burst_of_wakes_is_one_reading(time: Timeless, one: Hub) -> None:
    live = opened(time, one)
    publish_many("a", range(200))
    before = time.queries
    for sequence in range(1, 201):
        wake(one, sequence=sequence)
    time.settle()
    assert time.queries == before + 1
    assert len(tail_of(live)) == 200


def test_a_wake_while_the_database_is_read_causes_another_reading(time: Timeless, one: Hub) -> None:
    """The reading may have looked before the commit: what it missed must not wait for the next wake."""
    publish("a", "0")
    live = opened(time, one)
    publish("a", "1")
    time.slow = True
    wake(one, sequence=2)
    time.settle()
    time.look()
    publish("a", "2")
    wake(one, sequence=3)
    time.slow = False
    time.settle()
    assert tail_of(live) == ["0", "1", "2"]


def test_a_wake_for_what_is_known_costs_nothing(time: Timeless, one: Hub) -> None:
    publish_many("a", range(3))
    opened(time, one)
    before = time.queries
    for sequence in (1, 2, 3, 3):
        wake(one, sequence=sequence)
    one.wake(Wake("b", "life", 1))
    time.settle()
    assert time.queries == before


def test_a_wake_of_another_life_reads_the_channel_anew(time: Timeless, one: Hub) -> None:
    publish_many("a", range(3))
    live = opened(time, one)
    list(history.erase("a"))
    publish("a", "new")
    wake(one, sequence=1)
    time.settle()
    assert tail_of(live) == ["new"]


def test_a_wake_with_another_tag_reads_the_channel_anew(time: Timeless, one: Hub) -> None:
    """A restored backup that went on has another event at a sequence that is known here."""
    publish_many("a", ["0", "1", "2"])
    live = opened(time, one)
    row = Channel.objects.get()
    Event.objects.filter(sequence=3).update(tag="other", data="2, again")
    Channel.objects.update(head_tag="other")
    one.wake(Wake("a", row.life, 3, row.head_tag))
    time.settle()
    assert tail_of(live) == ["0", "1", "2"]  # a repeated wake: nothing is asked
    one.wake(Wake("a", row.life, 3, "other"))
    time.settle()
    assert tail_of(live) == ["0", "1", "2, again"]


def test_a_wake_behind_the_tail_reads_the_channel_anew(time: Timeless, one: Hub) -> None:
    """It is late, and that costs a query, or a backup was restored, and then it matters."""
    publish_many("a", range(10))
    with override_settings(SSE_POLLING={"TAIL": {"max_events": 2}}):
        live = opened(time, one)
        row = Channel.objects.get()
        Event.objects.filter(sequence__gt=4).delete()
        Channel.objects.update(head=4, head_tag=Event.objects.get(sequence=4).tag)
        one.wake(Wake("a", row.life, 4, Event.objects.get(sequence=4).tag))
        time.settle()
        assert live.position.sequence == 4
        assert tail_of(live) == ["2", "3"]


def test_a_late_wish_to_end_the_burst_reaches_the_last_event(time: Timeless, one: Hub) -> None:
    publish("a", "0")
    live = opened(time, one)
    waiter = Waiter()
    live.waiters.add(waiter)
    wake(one, sequence=1, ends_burst=True)
    assert live.tail is not None
    last = live.tail.last()
    assert last is not None
    assert last.ends_burst
    assert waiter._set
    live.waiters.clear()


def test_more_than_a_tail_holds_starts_it_anew(time: Timeless, one: Hub) -> None:
    with override_settings(SSE_POLLING={"TAIL": {"max_events": 5}}):
        publish_many("a", range(3))
        live = opened(time, one)
        publish_many("a", range(3, 20))
        wake(one, sequence=20)
        time.settle()
    assert tail_of(live) == ["15", "16", "17", "18", "19"]


# Comparing heads


@pytest.mark.parametrize("known", [0, 1, 3])
def test_comparing_heads_brings_what_a_lost_wake_did_not(time: Timeless, one: Hub, known: int) -> None:
    """Also on a channel that nobody had published to, whose tail is empty."""
    if known:
        publish_many("a", range(known))
    live = opened(time, one)
    publish("a", "lost")
    time.run(one.comparison.compare())
    time.settle()
    assert tail_of(live)[-1] == "lost"


# Another history under a tail


def test_a_tail_does_not_follow_another_history(time: Timeless, one: Hub) -> None:
    """A backup was restored, and more was published than was lost: the sequences alone fit."""
    publish_many("a", range(3))
    live = opened(time, one)
    Event.objects.filter(sequence=3).delete()
    Channel.objects.update(head=2, head_tag=Event.objects.get(sequence=2).tag)
    publish_many("a", ["2'", "3'"])
    wake(one, sequence=4)
    time.settle()
    assert tail_of(live) == ["0", "1", "2'", "3'"]


def test_a_hole_in_the_table_never_becomes_a_hole_in_a_tail(time: Timeless, one: Hub) -> None:
    publish_many("a", range(2))
    live = opened(time, one)
    publish_many("a", range(2, 6))
    Event.objects.filter(sequence=4).delete()
    wake(one, sequence=6)
    time.settle()
    assert live.tail is not None
    assert (live.tail.base, live.tail.head) == (4, 6)
    assert tail_of(live) == ["4", "5"]


# Bounds


@pytest.mark.parametrize("published", [True, False])
def test_a_channel_let_go_while_it_was_read_leaves_nothing_behind(
    time: Timeless, one: Hub, published: bool
) -> None:
    if published:
        publish("a", "0")
    time.slow = True
    task = time.start(one.open(["a"]))
    task.cancel()
    time.advance(200)
    one.tails.tidy(now=time.time(), limits=get_config().tail)
    time.slow = False
    time.settle()
    assert one.tails.bytes == sum(each.tail.bytes for each in one.tails if each.tail is not None)
    time.advance(200)
    one.tails.tidy(now=time.time(), limits=get_config().tail)
    assert (one.tails.bytes, len(one.tails)) == (0, 0)


# Judging


def test_a_thousand_strange_cursors_cost_ten_readings_a_second(time: Timeless, one: Hub) -> None:
    publish("a", "0")
    live = opened(time, one)
    before = time.queries
    for _ in range(10):
        for _ in range(100):
            time.start(one.judge(live))
        time.advance(0.1)
    time.advance(1)
    assert time.queries - before <= 12


# Tasks


@pytest.fixture
def running(time: Timeless, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub as a server has it, with its side tasks."""
    monkeypatch.setattr(supervisor.random, "uniform", lambda low, high: high)
    with override_settings(SSE_POLLING={"SYNC_SECONDS": 5}):

        async def current() -> Hub:
            return Hub.current()

        made = time.run(current())
        time.settle()
        yield made
        made.stop()
        time.settle()


def test_it_is_live_once_it_listens(running: Hub) -> None:
    assert running.subscription.hears
    assert [task.get_name() for task in running._tasks] == [
        f"sse_polling-{name}" for name in ("layer", "sync", "data-version", "trim")
    ]


def test_a_message_of_the_layer_is_a_wake(time: Timeless, running: Hub) -> None:
    live = opened(time, running)
    event = publish("a", "0")
    time.settle()
    publish("a", "1")
    time.run(running.subscription.layer.group_send(group_name("a"), Wake("a", event.life, 2).message()))
    time.settle()
    assert tail_of(live) == ["0", "1"]


@pytest.mark.parametrize(
    "nonsense", [{}, {"channel": "a", "life": "x"}, {"channel": "a", "life": "x", "sequence": "?"}]
)
def test_a_strange_message_is_logged_and_the_listening_goes_on(
    time: Timeless, running: Hub, caplog: pytest.LogCaptureFixture, nonsense: dict[str, Any]
) -> None:
    opened(time, running)
    time.run(running.subscription.layer.group_send(group_name("a"), {"type": "strange", **nonsense}))
    time.settle()
    assert "is no wake" in caplog.text
    assert running.subscription.hears


def test_a_lost_wake_costs_seconds(time: Timeless, running: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "DATA_VERSION_SECONDS", 10**9)
    time.advance(1)  # the pause that had begun
    live = opened(time, running)
    before = time.time()
    monkeypatch.setattr("sse_polling.wake.send", lambda wakes: None)
    publish("a", "lost")
    while not tail_of(live):
        time.advance(0.5)
        assert time.time() - before <= 5.5
    assert time.time() - before > 3


@pytest.mark.parametrize("error", [RuntimeError("died"), asyncio.CancelledError("inside")])
def test_a_task_that_dies_is_noticed_logged_and_started_again(
    time: Timeless,
    running: Hub,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    """A library's CancelledError is a death as well: nobody has asked this task to end."""
    live = opened(time, running)
    receive = running.subscription.layer.receive

    async def dies(channel: str) -> Any:
        raise error

    monkeypatch.setattr(running.subscription.layer, "receive", dies)
    time.run(running.subscription.layer.group_send(group_name("a"), {"type": "strange"}))
    time.settle()
    assert not running.subscription.hears
    assert live.name not in running.subscription.joined
    assert "compares heads with the database meanwhile" in caplog.text or "task layer died" in caplog.text
    monkeypatch.setattr(running.subscription.layer, "receive", receive)
    monkeypatch.setattr("sse_polling.wake.send", lambda wakes: None)
    publish("a", "while it was deaf")
    time.advance(2)
    assert running.subscription.hears
    assert live.name in running.subscription.joined
    assert tail_of(live) == ["while it was deaf"]


def test_a_channel_that_loads_while_the_hub_goes_live_is_joined(
    time: Timeless, running: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began to load before there was an address to join with; its wakes must not go astray."""
    opened(time, running, "other")
    group_add, joining = running.subscription.layer.group_add, time.loop.create_future()

    async def slow(group: str, channel: str) -> None:
        await joining
        await group_add(group, channel)

    running._tasks[0].cancel()
    time.settle()
    monkeypatch.setattr(running.subscription.layer, "group_add", slow)
    running._tasks[0] = time.loop.create_task(running.subscription.listen())
    time.settle()
    time.slow = True
    task = time.start(running.open(["a"]))
    time.look()
    joining.set_result(None)
    time.settle()
    assert running.subscription.hears
    time.slow = False
    time.settle()
    (live,) = task.result()
    assert live.name in running.subscription.joined


def test_before_its_first_comparison_it_is_not_down(one: Hub) -> None:
    assert one.state == "polling"


def test_its_state_says_how_it_learns_of_events(
    time: Timeless, running: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(time, running)
    assert running.state == "live"

    async def deaf(group: str, message: Any) -> None:
        pass

    monkeypatch.setattr(running.subscription.layer, "group_send", deaf)
    time.advance(10)
    assert running.state == "polling"
    time.fail = OperationalError("away")
    time.advance(20)
    assert running.state == "down"
    time.fail = None
    time.advance(10)
    assert running.state == "polling"
    monkeypatch.undo()
    time.advance(15)
    assert running.state == "live"


def test_what_grew_while_nobody_told_is_found_by_one_comparison(time: Timeless, running: Hub) -> None:
    for number in range(30):
        publish(f"c.{number}", "0")
        opened(time, running, f"c.{number}")
    Event.objects.filter(channel__name="c.7").update(tag="other")
    Channel.objects.filter(name="c.7").update(head_tag="other")
    before = time.queries
    running._catch_up()
    time.settle()
    live = running.known("c.7")
    assert live is not None
    assert live.position.tag == "other"
    assert time.queries - before <= 3  # the comparison, one reading, and a look at data_version


def test_a_database_that_goes_away_ends_no_task(
    time: Timeless, running: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    live = opened(time, running)
    live.waiters.add(Waiter())
    time.fail = OperationalError("away")
    time.advance(70)
    time.fail = None
    publish("a", "0")
    time.advance(6)
    assert tail_of(live) == ["0"]
    assert "died" not in caplog.text
    live.waiters.clear()


def test_an_error_that_is_not_the_databases_is_logged(
    time: Timeless, one: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    time.fail = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"), caplog.at_level(logging.ERROR):
        opened(time, one)
    assert "could not read channel a" in caplog.text


def test_a_hub_that_nobody_uses_ends(time: Timeless, running: Hub) -> None:
    opened(time, running)
    time.advance(130)
    assert hub.hubs.get(time.loop) is running
    time.advance(130)
    assert time.loop not in hub.hubs
    time.settle()
    assert all(task.done() for task in running._tasks)


def test_the_tasks_run_in_a_context_of_their_own(time: Timeless, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task made inside a request would inherit that request's executor, and keep its thread."""
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    async def look(self: Any) -> None:
        seen.append(request.get())
        await asyncio.sleep(10**6)

    monkeypatch.setattr(Subscription, "listen", look)
    monkeypatch.setattr(hub, "keep_trimmed", lambda: look(None))
    monkeypatch.setattr(Hub, "_sync", look)
    monkeypatch.setattr(Comparison, "watch_data_version", look)

    async def serve() -> None:
        request.set("a request's own")
        made = Hub.current()
        await asyncio.sleep(1)
        made.stop()

    time.run(serve())
    assert seen == ["none"] * 4


def test_a_forgotten_group_is_joined_again(time: Timeless, running: Hub) -> None:
    live = opened(time, running)
    running.subscription.layer.groups.clear()
    time.advance(36)
    assert group_name("a") in running.subscription.layer.groups
    assert live.name in running.subscription.joined


def test_trimming_is_done_by_the_holder_of_the_lease(time: Timeless, running: Hub, settings: Any) -> None:
    publish_many("a", range(5))
    opened(time, running)
    with override_settings(SSE_POLLING={"SYNC_SECONDS": 5, "RETENTION": {"max_events": 2}}):
        time.advance(61)
    assert list(Event.objects.order_by("sequence").values_list("data", flat=True)) == ["3", "4"]
    finish("a")


def test_a_client_librarys_time_out_while_nothing_came_is_no_outage(
    time: Timeless, running: Hub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py 8 gives up a blocking read after 5 s; the hub must not be deaf until it has backed off."""
    receives: list[float] = []
    layer = running.subscription.layer
    receive = layer.receive

    async def gives_up(channel: str) -> Any:
        receives.append(time.time())
        async with asyncio.timeout(0.9):
            return await receive(channel)

    monkeypatch.setattr(layer, "receive", gives_up)
    opened(time, running)
    time.run(layer.send(running.subscription._address, {"type": "strange"}))
    time.advance(21)
    assert len(receives) >= 20
    assert running.subscription.hears
    assert "waits" not in caplog.text


def test_a_layer_that_is_mute_on_leaving_a_group_holds_no_comparison_up(
    time: Timeless, running: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        opened(time, running, f"idle.{number}")
    tries: list[str] = []

    async def mute(group: str, channel: str) -> None:
        tries.append(group)
        await asyncio.Event().wait()

    monkeypatch.setattr(running.subscription.layer, "group_discard", mute)
    compared = time.queries
    time.advance(125)
    time.advance(10)
    assert len([group for group in tries if "probe" not in group and "fleet" not in group]) == 1
    assert time.queries - compared > 20  # of which one each five seconds is a comparison


def test_a_stream_that_was_authorized_while_the_hub_ended_gets_a_living_one(
    time: Timeless, running: Hub
) -> None:
    running.stop()
    time.settle()

    async def current() -> Hub:
        return Hub.current()

    made = time.run(current())
    assert made is not running
    made.stop()
    time.settle()
