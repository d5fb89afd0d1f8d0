"""A project's own check: a transcript tells what was lost, repeated or out of order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sse_polling import Draft, finish, publish, publish_many
from sse_polling.models import Event
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


@pytest.mark.django_db
def test_a_gap_is_a_loss_unless_it_is_allowed() -> None:
    publish_many("a", ["1", "2", "3"])
    reader = Transcript("a", since="earliest")
    reader.read(cut=100)
    assert reader.data == ["1"]
    Event.objects.filter(channel__name="a", sequence=2).delete()
    reader.read_all()
    assert [(gap["from"], gap["to"]) for gap in reader.gaps] == [(2, 2)]
    with pytest.raises(AssertionError, match="Lost"):
        reader.check()
    reader.check(gaps=True)


def test_a_transcript_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        Transcript()
