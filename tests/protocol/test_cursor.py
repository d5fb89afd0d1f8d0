"""Cursors as text, and back."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.exceptions import InvalidCursor
from sse_polling.protocol.cursor import (
    MAX_CHANNELS,
    NOWHERE,
    Position,
    format_cursor,
    new_end_tag,
    new_life,
    new_tag,
    parse_cursor,
)
from sse_polling.protocol.names import channel_hash

words = st.text("abcXYZ019", min_size=1, max_size=8)
positions = st.builds(
    Position, words, st.integers(0, 2**63 - 1), st.one_of(words, words.map("~{}".format), st.just("-"))
)


@given(positions)
def test_a_position_comes_back_from_its_text(position: Position) -> None:
    assert parse_cursor(str(position)).position("any") == position


@given(st.dictionaries(st.sampled_from("abcdefghij"), positions, min_size=1))
def test_the_cursor_of_several_names_each_channel(where: dict[str, Position]) -> None:
    cursor = parse_cursor(format_cursor(where.items()), several=True)
    assert {name: cursor.position(name) for name in where} == where
    assert cursor.position("another") is None  # it starts now


def test_ten_channels_fit() -> None:
    longest = Position("L" * 16, 2**63 - 1, "~" + "t" * 8)
    text = format_cursor((f"channel-{number}", longest) for number in range(MAX_CHANNELS))
    assert parse_cursor(text, several=True).position("channel-9") == longest


def test_nothing_and_earliest_are_cursors_too() -> None:
    assert parse_cursor("").position("a") is None
    assert not parse_cursor("").earliest
    assert parse_cursor("earliest").earliest
    assert parse_cursor(str(NOWHERE)).position("a") == NOWHERE


def test_a_stream_of_one_channel_takes_the_cursor_of_several() -> None:
    text = format_cursor([("a", Position("life", 3, "tag")), ("b", Position("life", 9, "tag"))])
    assert parse_cursor(text).position("a") == Position("life", 3, "tag")


def test_a_stream_of_several_refuses_the_cursor_of_one_in_words() -> None:
    with pytest.raises(InvalidCursor, match="cursor of a stream of one channel; send back"):
        parse_cursor("life.3.tag", several=True)


TWICE = f"{channel_hash('a')}.life.3.tag"
BAD = [
    "life.3",
    "life.3.",
    ".3.tag",
    "life..tag",
    "life.03.tag",
    "life.-1.tag",
    "life.+1.tag",
    "life.1e3.tag",
    "life.\u0663.tag",
    "life.3.tag\n",
    " life.3.tag",
    "li fe.3.tag",
    "life.3.~",
    "life.3.a~b",
    "l" * 17 + ".3.tag",
    f"life.{2**63}.tag",
    f"life.{10**400}.tag",
    "-.1.tag",
    "Earliest",
    "null",
    "0",
    "_",
    f"{TWICE}_",
    f"{TWICE}_{TWICE}",
    "ABCDEF012345.life.3.tag",
    "_".join(f"{channel_hash(str(number))}.life.3.tag" for number in range(11)),
    "x" * 1025,
    "\0",
    "\ud800",
    "💥",
]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("several", [False, True])
def test_anything_else_is_refused_in_words(text: str, several: bool) -> None:
    with pytest.raises(
        InvalidCursor, match=r"^(Not a cursor|This is the cursor of a stream of one)"
    ) as caught:
        parse_cursor(text, several=several)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@given(st.text(max_size=60))
def test_no_text_is_anything_but_a_cursor_or_a_refusal(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except InvalidCursor:
        return
    assert text in {"", "earliest"} or cursor.single is not None or cursor.many


def test_only_an_ends_tag_says_that_it_is_the_end() -> None:
    rng = Random(1)
    assert Position("life", 3, new_end_tag(rng)).at_end
    assert not Position("life", 3, new_tag(rng)).at_end
    assert not NOWHERE.at_end


def test_new_lives_and_tags_are_cursors_and_hardly_ever_alike() -> None:
    rng = Random(1)
    lives, tags = {new_life(rng) for _ in range(2000)}, {new_tag(rng) for _ in range(2000)}
    assert len(lives) == len(tags) == 2000
    for life, tag in zip(lives, tags, strict=True):
        position = Position(life, 1, tag)
        assert parse_cursor(str(position)).single == position
