"""Stream writers: many small events, few transactions, nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from time import sleep
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from sse_polling import (
    astream_writer,
    database,
    finish,
    history,
    pools,
    publish,
    stream_writer,
    wake,
    writer,
)
from sse_polling.exceptions import (
    ChannelFinished,
    EventTooLarge,
    InvalidChannel,
    InvalidEvent,
    SSEPollingError,
)
from sse_polling.models import Event
from tests.timeless import Timeless, timeless

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def time() -> Iterator[Timeless]:
    with timeless() as machine:
        yield machine


@pytest.fixture
def pool() -> Iterator[None]:
    """The app's own threads, which the test must not leave behind."""
    yield
    pools.shutdown()
    loop = wake.sender.loop()
    loop.call_soon_threadsafe(loop.stop)
    while loop.is_running():
        sleep(0.001)
    loop.close()
    wake.sender.reset()


def stored(channel: str = "task") -> list[str]:
    return list(
        Event.objects.filter(channel__name=channel).order_by("sequence").values_list("data", flat=True)
    )


def rows(channel: str = "task") -> list[Any]:
    return list(Event.objects.filter(channel__name=channel).order_by("sequence"))


# Batching


def test_what_follows_within_the_flush_time_is_stored_together(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=50) as out:
            for number in range(5):
                await out.write(f"{number}")
                await asyncio.sleep(0.009)
            assert time.queries == 0
            await asyncio.sleep(0.05)
            assert time.queries == 1
            await out.write("later")

    time.run(write())
    assert stored() == ["0", "1", "2", "3", "4", "later"]
    assert time.queries == 2


def test_a_lone_event_waits_no_longer_than_the_flush_time(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=50) as out:
            await out.write("token")
            await asyncio.sleep(3600)

    task = time.start(write())
    time.advance(0.049)
    assert stored() == []
    time.advance(0.002)
    assert stored() == ["token"]
    task.cancel()
    time.settle()


def test_without_a_flush_time_each_event_is_stored_at_once(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            for number in range(3):
                await out.write(f"{number}")
                assert time.queries == number + 1

    time.run(write())
    assert stored() == ["0", "1", "2"]


def test_what_is_buffered_is_bounded(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=60_000) as out:
            for number in range(2 * writer.MAX_BUFFERED + 1):
                await out.write(f"{number}")
                assert len(out._buffer) < writer.MAX_BUFFERED
            assert time.queries == 2

    time.run(write())
    assert stored() == [f"{number}" for number in range(2 * writer.MAX_BUFFERED + 1)]


def test_what_is_buffered_is_bounded_in_bytes_too(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=60_000) as out:
            for _ in range(4):
                await out.write("x" * (writer.MAX_BUFFERED_BYTES // 4))
            assert time.queries == 1

    time.run(write())
    assert len(stored()) == 4


def test_many_tasks_may_write_to_one_writer(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=1) as out:

            async def one(number: int) -> None:
                for part in range(20):
                    await out.write(f"{number}.{part}")
                    await asyncio.sleep(0.0007)

            await asyncio.gather(*(one(number) for number in range(5)))

    time.run(write())
    found = stored()
    assert len(found) == 100
    for number in range(5):
        assert [text for text in found if text.startswith(f"{number}.")] == [
            f"{number}.{part}" for part in range(20)
        ]


def test_event_key_and_data_are_as_in_publish(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", event="token") as out:
            await out.write({"a": 1}, key="k")
            await out.write({"a": 2}, key="k")
            await out.write("b", event="log")

    time.run(write())
    assert [(row.event, row.data, row.key) for row in rows()] == [
        ("token", '{"a":1}', "k"),
        ("log", "b", None),
    ]


# Ends


def test_finish_sends_end_after_everything(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", finish=True) as out:
            await out.write("a")

    time.run(write())
    assert [(row.event, row.data) for row in rows()] == [("message", "a"), ("end", "{}")]


def test_after_an_exception_the_end_says_failed(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", finish=True) as out:
            await out.write("a")
            raise RuntimeError("as the task went")

    with pytest.raises(RuntimeError, match="as the task went"):
        time.run(write())
    assert [(row.event, row.data) for row in rows()] == [("message", "a"), ("end", '{"status":"failed"}')]


def test_without_finish_an_exception_still_stores_what_was_written(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task") as out:
            await out.write("a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        time.run(write())
    assert stored() == ["a"]


def test_a_cancelled_writer_stores_what_was_written_and_says_failed(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", finish=True) as out:
            await out.write("a")
            await asyncio.sleep(3600)

    task = time.start(write())
    task.cancel()
    time.settle()
    assert task.cancelled()
    assert [(row.event, row.data) for row in rows()] == [("message", "a"), ("end", '{"status":"failed"}')]


def test_leaving_while_a_flush_is_on_its_way_stores_nothing_twice(time: Timeless) -> None:
    """The timer's transaction may be in the database's hands when the block ends."""

    async def write() -> None:
        async with astream_writer("task", flush_ms=10) as out:
            await out.write("once")
            await asyncio.sleep(0.02)
            assert len(time.jobs) == 1

    time.slow = True
    task = time.start(write())
    time.advance(0.03)
    time.look()
    time.slow = False
    time.settle()
    task.result()
    assert stored() == ["once"]


def test_a_writer_cancelled_while_it_flushes_stores_nothing_twice(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=0, finish=True) as out:
            await out.write("once")

    time.slow = True
    task = time.start(write())
    time.look()
    task.cancel()
    time.slow = False
    time.settle()
    assert task.cancelled()
    assert [(row.event, row.data) for row in rows()] == [("message", "once"), ("end", '{"status":"failed"}')]


# Bursts


def test_end_burst_marks_the_last_event_of_what_is_buffered(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task") as out:
            await out.write("a")
            await out.write("b")
            await out.end_burst()
            await out.write("c")

    time.run(write())
    assert [(row.data, row.ends_burst) for row in rows()] == [("a", False), ("b", True), ("c", False)]


def test_end_burst_after_a_flush_marks_the_stored_event_and_wakes(
    time: Timeless, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(writer, "send", sent.extend)

    async def write() -> None:
        async with astream_writer("task") as out:
            await out.end_burst()  # nothing yet: nothing to do
            await out.write("a")
            await out.flush()
            await out.end_burst()

    time.run(write())
    (row,) = rows()
    assert row.ends_burst
    assert sent == [("task", row.channel.life, 1, row.tag, True)]


# Refusals and failures


@pytest.mark.parametrize("options", [{"event": "end"}, {"event": "a\nb"}, {"event": ""}])
def test_a_bad_event_name_is_refused_before_the_first_write(options: dict[str, str]) -> None:
    with pytest.raises(InvalidEvent):
        astream_writer("task", **options)
    with pytest.raises(InvalidChannel):
        stream_writer("no channel")


def test_a_bad_write_is_refused_and_the_rest_is_stored(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task") as out:
            await out.write("a")
            with pytest.raises(InvalidEvent):
                await out.write(object())
            with pytest.raises(InvalidEvent):
                await out.write("b", event="")
            with pytest.raises(EventTooLarge):
                await out.write("x" * 300_000)
            await out.write("c")

    time.run(write())
    assert stored() == ["a", "c"]


async def test_it_refuses_to_start_in_a_transaction_that_it_would_wait_for() -> None:
    def start() -> None:
        with transaction.atomic(), pytest.raises(SSEPollingError, match=r"outside atomic\(\)"):
            stream_writer("task").__enter__()

    await asyncio.to_thread(lambda: (start(), connections.close_all()))


def test_a_failed_flush_keeps_the_events_and_raises_at_the_next_call(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=10) as out:
            await out.write("a")
            time.fail = OperationalError("away")
            await asyncio.sleep(0.05)
            time.fail = None
            with pytest.raises(OperationalError, match="away"):
                await out.write("refused")
            await out.write("b")

    time.run(write())
    assert stored() == ["a", "b"]


def test_a_flush_that_failed_is_tried_again_when_the_block_ends(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=10, finish=True) as out:
            await out.write("a")
            time.fail = OperationalError("away")
            await asyncio.sleep(0.05)
            time.fail = None

    time.run(write())
    assert stored() == ["a", "{}"]


def test_writing_to_a_finished_channel_raises(time: Timeless) -> None:
    finish("task")

    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            await out.write("late")

    with pytest.raises(ChannelFinished):
        time.run(write())


# The sync twin, on the app's own threads


@pytest.mark.usefixtures("pool")
def test_sync_code_writes_the_same_way() -> None:
    with stream_writer("task", event="token", finish=True) as out:
        out.write("a")
        out.write("b")
        out.flush()
        out.end_burst()
    assert [(row.event, row.data, row.ends_burst) for row in rows()] == [
        ("token", "a", False),
        ("token", "b", True),
        ("end", "{}", False),
    ]


@pytest.mark.usefixtures("pool")
def test_sync_exceptions_reach_the_caller() -> None:
    def write() -> None:
        with stream_writer("task", finish=True) as out:
            with pytest.raises(InvalidEvent):
                out.write(object())
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        write()
    assert stored() == ['{"status":"failed"}']


@pytest.mark.usefixtures("pool")
def test_it_commits_on_a_connection_of_its_own_and_readers_are_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(wake, "send", sent.extend)
    with stream_writer("task") as out:
        out.write("a")
    assert [each[0] for each in sent] == ["task"]
    assert publish("task", "b").sequence == 2
    assert history.head("task").sequence == 2


@pytest.mark.usefixtures("pool")
def test_a_forked_worker_writes_on_a_loop_of_its_own() -> None:
    """Celery's workers are forks: of their parent's background loop only the memory is left."""
    assert writer._call(_answer()) == 42
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside threads, as a prefork worker does
        child = os.fork()
    if not child:
        try:
            signal.alarm(10)
            os._exit(writer._call(_answer()))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


async def _answer() -> int:
    return 42


# What is refused is not taken


def test_an_event_that_a_failing_flush_refused_is_not_stored_later(time: Timeless) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            time.fail = OperationalError("away")
            with pytest.raises(OperationalError):
                await out.write("refused")
            time.fail = None
            await out.write("taken")

    time.run(write())
    assert stored() == ["taken"]


def test_the_buffer_of_a_writer_that_cannot_store_is_bounded(
    time: Timeless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_BUFFERED", 3)

    async def write() -> None:
        async with astream_writer("task", flush_ms=3_600_000) as out:
            time.fail = OperationalError("away")
            for number in range(10):
                try:
                    await out.write(f"{number}")
                except OperationalError:
                    assert len(out._buffer) <= 3
            time.fail = None

    time.run(write())
    assert stored() == ["0", "1"]


def test_a_transaction_that_is_begun_inside_a_writer_is_refused_before_it_waits_for_itself(
    pool: None,
) -> None:
    with stream_writer("task") as out, transaction.atomic(), pytest.raises(SSEPollingError, match="atomic"):
        out.write("x")


# A commit that was not answered (over a real line: tests/publishers/test_unanswered.py)


@pytest.fixture
def lose(time: Timeless, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the next commit raise, done or not; the database is away then, until ``time.fail = None``."""
    commit = BaseDatabaseWrapper.commit

    def lose(*, done: bool) -> None:
        def fails(self: BaseDatabaseWrapper) -> None:
            monkeypatch.setattr(BaseDatabaseWrapper, "commit", commit)
            if done:
                commit(self)
            time.fail = OperationalError("away")
            raise OperationalError("cut off")

        monkeypatch.setattr(BaseDatabaseWrapper, "commit", fails)

    return lose


DONE_OR_NOT = pytest.mark.parametrize("done", [True, False], ids=["done", "not-done"])


@DONE_OR_NOT
def test_a_commit_in_doubt_is_looked_up_before_its_events_are_stored_again(
    time: Timeless, lose: Callable[..., None], done: bool
) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=10) as out:
            await out.write("a")
            lose(done=done)
            await asyncio.sleep(0.05)
            with pytest.raises(OperationalError, match="cut off"):
                await out.write("refused")
            await out.write("b")
            with pytest.raises(OperationalError, match="away"):
                await out.flush()  # still nobody can tell
            time.fail = None
            await out.write("c")

    time.run(write())
    assert stored() == ["a", "b", "c"]


@DONE_OR_NOT
def test_events_that_turn_out_to_be_stored_wake_their_readers(
    time: Timeless, lose: Callable[..., None], done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(wake, "send", sent.extend)

    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            lose(done=done)
            await out.write("a")
            assert not sent
            time.fail = None

    time.run(write())
    assert [(each.channel, each.sequence) for each in sent] == [("task", 1)]
    assert stored() == ["a"]


@DONE_OR_NOT
def test_the_end_of_a_burst_is_marked_on_the_event_that_was_in_doubt(
    time: Timeless, lose: Callable[..., None], done: bool
) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            lose(done=done)
            await out.write("a")
            time.fail = None
            with pytest.raises(OperationalError, match="cut off"):
                await out.flush()
            await out.end_burst()
            await out.write("b")

    time.run(write())
    assert [(row.data, row.ends_burst) for row in rows()] == [("a", True), ("b", False)]


@DONE_OR_NOT
def test_a_known_key_at_the_end_of_a_batch_does_not_hide_what_became_of_it(
    time: Timeless, lose: Callable[..., None], done: bool
) -> None:
    publish("task", "first", key="known")

    async def write() -> None:
        async with astream_writer("task", flush_ms=10) as out:
            await out.write("a")
            await out.write("again", key="known")
            lose(done=done)
            await asyncio.sleep(0.05)
            time.fail = None

    time.run(write())
    assert stored() == ["first", "a"]


@DONE_OR_NOT
def test_where_the_place_in_doubt_was_trimmed_the_events_are_stored_again(
    time: Timeless, lose: Callable[..., None], done: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can know any more. To repeat what is gone is the lesser evil: not to may lose it for all."""
    publish("task", "0")

    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            lose(done=done)
            await out.write("a")
            time.fail = None
            await database.run_writing(trimmed)

    def trimmed() -> None:
        publish("task", "other")
        publish("task", "another")
        Event.objects.filter(channel__name="task", data__in=["0", "a", "other"]).delete()

    time.run(write())
    assert stored() == ["another", "a"]
    assert "cannot know whether event 2 of channel task" in caplog.text


@DONE_OR_NOT
def test_in_another_life_of_the_channel_the_events_are_stored(
    time: Timeless, lose: Callable[..., None], done: bool
) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            lose(done=done)
            await out.write("a")
            time.fail = None
            await database.run_writing(made_anew)

    def made_anew() -> None:
        list(history.erase("task"))
        publish("task", "other")

    time.run(write())
    assert stored() == ["other", "a"]


# Several tasks, one writer


def test_a_write_that_is_refused_while_another_is_on_its_way_takes_nothing_of_the_other(
    time: Timeless,
) -> None:
    async def write() -> None:
        async with astream_writer("task", flush_ms=0) as out:
            time.fail, time.slow = OperationalError("away"), True
            refused = asyncio.ensure_future(out.write("refused"))
            await asyncio.sleep(0.01)
            time.fail = None
            taken = [asyncio.ensure_future(out.write(data)) for data in ("b", "c")]
            await asyncio.sleep(0.01)
            time.slow = False
            with pytest.raises(OperationalError, match="away"):
                await refused
            await asyncio.gather(*taken)

    time.run(write())
    assert stored() == ["b", "c"]
