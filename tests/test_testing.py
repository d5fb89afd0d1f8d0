"""A project's own check: a transcript tells what was lost, repeated or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from asgiref.sync import sync_to_async
from django.test import TestCase, override_settings

from sse_polling import Draft, acursor, apublish, apublish_many, finish, publish, publish_many, pytest_plugin
from sse_polling.models import Channel, Event
from sse_polling.testing import Transcript

Make = Callable[..., Transcript]


@pytest.mark.django_db
def test_what_the_test_has_published_is_read_within_its_transaction(transcript: Make) -> None:
    reader = transcript("builds.42")
    publish("builds.42", "one")
    assert [each.data for each in reader.read()] == ["one"]
    publish("builds.42", {"two": 2}, event="log")
    (event,) = reader.read_all()
    assert (event.event, event.json()) == ("log", {"two": 2})
    finish("builds.42")
    reader.read()
    assert reader.names == ["message", "log", "end"]
    assert reader.at_end


@pytest.mark.django_db(transaction=True)
def test_it_works_with_committed_data_too(transcript: Make) -> None:
    publish_many("a", ["1", "2"])
    reader = transcript("a", since="earliest")
    reader.read_all()
    assert reader.data == ["1", "2"]


@pytest.mark.django_db
def test_a_reader_begins_where_the_channel_stands(transcript: Make) -> None:
    publish("a", "before")
    reader = transcript("a")
    publish("a", "after")
    reader.read_all()
    assert reader.data == ["after"]


@pytest.mark.django_db
def test_a_cut_leaves_what_is_unfinished_to_the_next_burst(transcript: Make) -> None:
    reader = transcript("a")
    publish_many("a", ["first", "second", "third\nof two lines"])
    reader.cut_everywhere()
    assert reader.data == ["first", "second", "third\nof two lines"]


@pytest.mark.django_db
def test_a_cut_that_loses_something_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Transcript("a")
    publish_many("a", ["first", "second"])
    take = Transcript._take

    def forgetful(self: Transcript, blocks: list[dict[str, str]]) -> object:
        """Move the cursor at an event's id, before its data has come."""
        return take(self, [{"id": each["id"]} if each.get("data") == "second" else each for each in blocks])

    monkeypatch.setattr(Transcript, "_take", forgetful)
    with pytest.raises(AssertionError, match=r"Cut after \d+ bytes: Channel a: 1 lost"):
        reader.cut_everywhere()


@pytest.mark.django_db
@pytest.mark.parametrize("data", ["a colon:", "", ":", " a space", "two\n\nlines:\n", "\u2028é"])
def test_data_is_what_was_published(transcript: Make, data: str) -> None:
    reader = transcript("a")
    publish_many("a", [data, "next"])
    reader.cut_everywhere()
    assert reader.data == [data, "next"]


@pytest.mark.django_db
def test_several_channels_share_one_cursor(transcript: Make) -> None:
    reader = transcript("a", "b")
    publish_many("a", ["1", Draft("x", channel="b")])
    reader.cut_everywhere()
    publish("a", "2")
    reader.read()
    assert [each.data for each in reader.received if each.channel == "a"] == ["1", "2"]
    assert [each.data for each in reader.received if each.channel == "b"] == ["x"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("bug", "complaint"),
    [
        (lambda received: received.pop(1), "1 lost"),
        (lambda received: received.insert(1, received[0]), "1 repeated"),
        (lambda received: received.reverse(), "another order|lost"),
    ],
)
def test_what_is_wrong_is_told(bug: Callable[[list[object]], object], complaint: str) -> None:
    reader = Transcript("a")
    publish_many("a", ["1", "2", "3"])
    reader.read_all()
    reader.check()
    bug(reader.received)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=complaint):
        reader.check()


def trimmed(**options: bool) -> Transcript:
    """Return a client that had 1, lost 2, was told, and had 3 and 4."""
    reader = Transcript("a", **options)
    publish("a", "1")
    reader.read()
    publish_many("a", ["2", "3", "4"])
    Event.objects.filter(channel__name="a", sequence__lte=2).delete()
    reader.read_all()
    assert [(gap["from"], gap["to"]) for gap in reader.gaps] == [(2, 2)]
    return reader


@pytest.mark.django_db
def test_a_gap_is_a_loss_unless_it_is_expected() -> None:
    reader = trimmed()
    assert reader.data == ["1", "3", "4"]
    with pytest.raises(AssertionError, match=r"Lost: .*'trimmed'.* expect it: gaps=True"):
        reader.check()


@pytest.mark.django_db
def test_a_gap_excuses_nothing_but_what_it_tells() -> None:
    reader = trimmed(gaps=True)
    reader.check()
    three = reader.received.pop(1)
    with pytest.raises(AssertionError, match="1 lost"):
        reader.check()
    reader.received += [three, three]
    with pytest.raises(AssertionError, match="1 repeated"):
        reader.check()


@pytest.mark.django_db
def test_a_loss_that_a_gap_tells_fails_the_test_that_did_not_expect_it() -> None:
    """What the fixture does at the end."""
    fixture = pytest_plugin.transcript.__wrapped__()  # type: ignore[attr-defined]
    make = next(fixture)
    publish("a", "0")
    reader = make("a")
    publish_many("a", ["1", "2"])
    Event.objects.filter(channel__name="a", sequence__lte=2).delete()
    reader.read_all()
    with pytest.raises(AssertionError, match="Lost"):
        next(fixture)


@pytest.mark.django_db
def test_what_was_removed_after_it_was_received_is_no_loss(transcript: Make) -> None:
    reader = transcript("a", since="earliest")
    publish_many("a", ["1", "2", "3"])
    reader.read_all()
    rows = Event.objects.filter(channel__name="a")
    rows.filter(sequence__lte=2).delete()
    reader.check()
    rows.delete()
    reader.check()
    Channel.objects.filter(name="a").delete()
    reader.check()
    publish("a", "of another life")
    reader.check()


@pytest.mark.django_db
def test_another_life_of_a_channel_is_a_gap_and_then_read_from_its_begin(transcript: Make) -> None:
    publish_many("a", ["1", "2", "3"])
    reader = transcript("a", gaps=True)
    Channel.objects.filter(name="a").delete()
    publish_many("a", ["x", "y"])
    reader.read_all()
    assert reader.data == ["x", "y"]
    assert [gap["reason"] for gap in reader.gaps] == ["reset"]
    last = reader.received.pop()
    with pytest.raises(AssertionError, match="1 lost"):
        reader.check()
    reader.received.append(last)


@pytest.mark.django_db(transaction=True)
async def test_an_async_test_awaits_the_twins(transcript: Make) -> None:
    await apublish("a", "before")
    reader = transcript("a", since=await acursor("a"))
    await apublish("a", "1")
    await reader.acut_everywhere()
    await apublish("a", "2")
    assert [each.data for each in await reader.aread()] == ["2"]
    await reader.acheck()
    assert reader.data == ["1", "2"]


@pytest.mark.django_db(transaction=True)
async def test_the_plain_methods_may_be_called_in_a_thread_of_an_async_test(transcript: Make) -> None:
    reader = await sync_to_async(transcript)("a")
    await apublish("a", "1")
    assert [each.data for each in await sync_to_async(reader.read_all)()] == ["1"]


class TestInDjangosOwn(TestCase):
    def test_case(self) -> None:
        reader = Transcript("a")
        publish("a", "1")
        reader.read_all()
        assert reader.data == ["1"]
        reader.check()

    async def test_case_that_is_async(self) -> None:
        reader = Transcript("a", since=await acursor("a"))
        await apublish("a", "1")
        await reader.aread_all()
        assert reader.data == ["1"]
        await reader.acheck()
        await sync_to_async(reader.read)()

    @override_settings(SSE_POLLING={"TAIL": {"max_events": 1}})
    async def test_case_with_several_clients_at_once(self) -> None:
        """The one that reads longer still reads on the test's connection when the other is done."""
        await apublish("a", "1")
        await apublish_many("b", list("123"))
        short, long = Transcript("a", since="earliest"), Transcript("b", since="earliest")
        await asyncio.gather(short.aread(), long.aread())
        assert (short.data, long.data) == (["1"], ["1", "2", "3"])


def test_without_the_mark_it_says_so(transcript: Make) -> None:
    with pytest.raises(RuntimeError, match='use the "django_db" mark'):
        transcript("a")


async def test_the_plain_methods_say_so_in_an_async_test() -> None:
    with pytest.raises(RuntimeError, match="await the async function"):
        Transcript("a", since="earliest").read()


def test_a_transcript_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        Transcript()
