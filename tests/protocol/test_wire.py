"""The wire format, read back with a parser that was written from the standard alone."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol import wire
from sse_polling.protocol.cursor import Position
from sse_polling.protocol.event import RESERVED_EVENTS, Gap, StoredEvent
from tests.harness.eventsource import Message, Parser, parse


def stored(data: str, *, event: str = "message", sequence: int = 3) -> StoredEvent:
    return StoredEvent(channel="a.b", life="L", sequence=sequence, tag="t", event=event, data=data)


def received(data: str) -> str:
    """Return *data* as it arrives: the standard knows one line end."""
    return re.sub("\r\n|\r", "\n", data)


DATA = [
    "",
    " ",
    "x",
    " x",
    "\n",
    "\n\n",
    "a\nb",
    "a\rb",
    "a\r\nb",
    "\r\n\r",
    ":",
    "id: 9",
    "event: gap",
    "retry: 1",
]
DATA += [
    "data:",
    "\ufeff",
    "\ufeffx",
    "é💥",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "a\n",
    "\n a",
    '{"a":1}',
    "x" * 70_000,
]
BLOCKS = [
    *(wire.frame(stored(data, event=event)) for data in DATA[:-1] for event in ("message", "log ", "ä")),
    wire.opening(retry_ms=1000, identifier="L.3.t"),
    wire.opening(retry_ms=1000, identifier=None),
    wire.opening(retry_ms=1000, identifier="L.3.t", data=True),
    wire.closing(retry_ms=50),
    wire.close("pool_draining"),
    wire.HEARTBEAT,
    wire.gap(Gap(channel="a", first=1, last=None, reason="reset", after=Position("L", 0, "-")), "L.0.-"),
    wire.with_id("x", wire.envelope(stored("a\r\nb"))),
]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("event", ["message", "log", " a: b "])
def test_an_event_arrives_as_it_was_published(data: str, event: str) -> None:
    assert parse(wire.frame(stored(data, event=event))) == [Message(event, received(data), "L.3.t")]


names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1).filter(
    lambda name: name not in RESERVED_EVENTS
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.tuples(names, texts), max_size=5), st.randoms(use_true_random=False))
def test_any_events_arrive_in_order_however_they_are_split(
    events: list[tuple[str, str]], random: Random
) -> None:
    stream = wire.opening(retry_ms=5, identifier="L.0.-") + b"".join(
        wire.frame(stored(data, event=event, sequence=number))
        for number, (event, data) in enumerate(events, 1)
    )
    expected = [
        Message(event, received(data), f"L.{number}.t") for number, (event, data) in enumerate(events, 1)
    ]
    parser, messages = Parser(), []
    while stream:
        size = random.randint(1, 12)
        messages += parser.feed(stream[:size])
        stream = stream[size:]
    assert messages == expected
    assert parser.is_clean


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_cut_at_any_byte_is_seen_wholly_or_not_at_all(number: int) -> None:
    block, before = BLOCKS[number], wire.frame(stored("before", sequence=2))
    whole = Parser()
    expected = whole.feed(before + block)
    for at in range(len(block) + 1):
        parser = Parser()
        messages = parser.feed(before + block[:at])
        assert messages in ([expected[0]], expected)
        # A client that is cut off comes back with the id of what it has seen, never with a later one.
        assert parser.last_event_id == (
            "L.2.t" if at < len(block) and b"id:" in block else whole.last_event_id
        )
        assert messages + parser.feed(block[at:]) == expected
        assert parser.last_event_id == whole.last_event_id


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_ends_on_a_blank_line_or_is_one_comment(block: bytes) -> None:
    assert block.endswith(b"\n\n") or re.fullmatch(rb":[^\r\n]*\n", block)
    parser = Parser()
    parser.feed(block)
    assert parser.is_clean
    assert b"\r" not in block
    assert b"\0" not in block


def test_the_opening_moves_the_cursor_in_silence() -> None:
    parser = Parser(last_event_id="old")
    assert parser.feed(wire.opening(retry_ms=1234, identifier="L.3.t")) == []
    assert (parser.last_event_id, parser.retry_ms) == ("L.3.t", 1234)


def test_primed_with_data_it_is_an_empty_message() -> None:
    block = wire.opening(retry_ms=1234, identifier="L.3.t", data=True)
    assert parse(block) == [Message("message", "", "L.3.t")]


def test_an_opening_without_a_position_leaves_the_clients_cursor() -> None:
    parser = Parser(last_event_id="old")
    parser.feed(wire.opening(retry_ms=30_000, identifier=None))
    assert parser.last_event_id == "old"


def test_the_closing_and_a_heartbeat_move_nothing() -> None:
    parser = Parser(last_event_id="old")
    assert parser.feed(wire.HEARTBEAT + wire.closing(retry_ms=50) + wire.HEARTBEAT) == []
    assert (parser.last_event_id, parser.retry_ms) == ("old", 50)
    assert len(parser.comments) == 2


@pytest.mark.parametrize(("last", "reason"), [(8, "trimmed"), (None, "reset")])
def test_a_gap_says_what_is_missing_and_where_the_client_stands_now(last: int | None, reason: str) -> None:
    gap = Gap(channel="a", first=3, last=last, reason=reason, after=Position("L", 8, "-"))
    (message,) = parse(wire.gap(gap, "L.8.-"))
    assert (message.type, message.last_event_id) == ("gap", "L.8.-")
    assert json.loads(message.data) == {"channel": "a", "from": 3, "to": last, "reason": reason}


def test_a_close_names_its_reason() -> None:
    assert parse(wire.close("pool_draining")) == [Message("close", "pool_draining", "")]


@given(texts)
def test_in_a_stream_of_several_an_event_carries_its_channel_and_its_exact_data(data: str) -> None:
    (message,) = parse(wire.with_id("cursor-of-all", wire.envelope(stored(data, event="log"))))
    assert (message.type, message.last_event_id) == ("log", "cursor-of-all")
    assert json.loads(message.data) == {"channel": "a.b", "id": "L.3.t", "event": "log", "data": data}
