"""The same burst in each format: nothing lost in translation, and no line end where a line ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_polling.protocol.cursor import Position
from sse_polling.protocol.encoding import Encoder, JsonAnswer, JsonLines, ServerSentEvents
from sse_polling.protocol.event import Gap, StoredEvent
from sse_polling.protocol.tail import Entry
from tests.harness.eventsource import parse

LINE_ENDS = ("\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e")

# What publishing lets in: UTF-8 without NUL; names are one line.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
texts = st.lists(
    st.one_of(
        st.text(characters, max_size=12),
        st.sampled_from(
            [*LINE_ENDS, "data: ", "\ndata: ", "event: end", "\n\n", '"', "\\", "}", "]", "\ufeff"]
        ),
    ),
    max_size=6,
).map("".join)
names = st.one_of(
    st.just("message"),
    st.sampled_from(["data: ", "data: x\u2028data: ", "a\u2028b", '"', "a: b", "end", "\ufeff", " x "]),
    st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1, max_size=20),
)
channels = st.sampled_from(["a", "builds.42", "a_b:c~d-e", "x" * 200])
events = st.builds(
    StoredEvent,
    channel=channels,
    life=st.sampled_from(["a1", "Zz9Zz9Zz9Zz9"]),
    sequence=st.integers(1, 2**63 - 1),
    tag=st.sampled_from(["abcde", "~end12"]),
    event=names,
    data=texts,
)
gaps = st.builds(
    Gap,
    channel=channels,
    first=st.integers(1, 9),
    last=st.one_of(st.none(), st.integers(9, 2**63 - 1)),
    reason=st.sampled_from(["trimmed", "reset"]),
    after=st.just(Position("a1", 9, "-")),
)
items = st.lists(st.one_of(events, gaps), max_size=5)
CURSOR = "0123456789ab.a1.9.-"


def said(encoder: Encoder, burst: list[StoredEvent | Gap], **closing: Any) -> bytes:
    parts = [encoder.opening(retry_ms=1000, identifier=CURSOR), encoder.heartbeat]
    parts += [
        encoder.gap(item, CURSOR) if isinstance(item, Gap) else encoder.entry(Entry.of(item), CURSOR)
        for item in burst
    ]
    ends = {"retry_ms": 50, "identifier": CURSOR, "ended": False, "drains": False, **closing}
    return b"".join([*parts, encoder.closing(**ends)])


def as_json(item: StoredEvent | Gap) -> dict[str, Any]:
    if isinstance(item, Gap):
        told = {"channel": item.channel, "from": item.first, "to": item.last, "reason": item.reason}
        data = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        return {"channel": item.channel, "id": str(item.after), "event": "gap", "data": data}
    return {"channel": item.channel, "id": item.id, "event": item.event, "data": item.data}


@given(event=events)
@settings(max_examples=200, deadline=None)
def test_an_events_json_is_what_a_stream_of_several_channels_sends(event: StoredEvent) -> None:
    entry = Entry.of(event)
    assert b"\n" not in entry.json
    assert b"\r" not in entry.json
    assert json.loads(entry.json) == as_json(event)
    block = ServerSentEvents(several=True).entry(entry, CURSOR)
    (message,) = parse(block)
    assert message.data.encode() == entry.json
    assert (message.type, message.last_event_id) == (event.event, CURSOR)


@given(burst=items, several=st.booleans(), ended=st.booleans(), drains=st.booleans())
@settings(max_examples=80, deadline=None)
def test_each_line_is_one_object_and_holds_no_line_end(
    burst: list[StoredEvent | Gap], several: bool, ended: bool, drains: bool
) -> None:
    lines = said(JsonLines(several=several), burst, ended=ended, drains=drains).split(b"\n")
    assert lines.pop() == b""
    assert not any(b"\r" in line for line in lines)
    opening, heartbeat, *told = map(json.loads, lines)
    assert opening == {"retry": 1000, "last_event_id": CURSOR}
    assert heartbeat == {"heartbeat": True}
    assert told.pop() == {"retry": 50, "last_event_id": CURSOR, "end": ended}
    if drains:
        assert told.pop() == {"event": "close", "data": "pool_draining"}
    more = {"last_event_id": CURSOR} if several else {}
    assert told == [{**as_json(item), **more} for item in burst]
    for line in told:
        assert list(line) == ["channel", "id", "event", "data", *more]


@given(burst=items, ended=st.booleans(), drains=st.booleans(), identifier=st.sampled_from([None, CURSOR]))
@settings(max_examples=80, deadline=None)
def test_an_answer_is_always_json_of_exactly_the_documented_fields(
    burst: list[StoredEvent | Gap], ended: bool, drains: bool, identifier: str | None
) -> None:
    body = said(JsonAnswer(), burst, ended=ended, drains=drains, identifier=identifier)
    answer = json.loads(body)
    assert list(answer) == ["events", "last_event_id", "retry", "end"]
    assert answer["events"] == [as_json(item) for item in burst]
    for event in answer["events"]:
        assert list(event) == ["channel", "id", "event", "data"]
    assert (answer["last_event_id"], answer["retry"], answer["end"]) == (identifier, 50, ended)


@given(lost=gaps, several=st.booleans())
@settings(deadline=None)
def test_a_gaps_data_is_the_same_text_in_each_format(lost: Gap, several: bool) -> None:
    (message,) = parse(ServerSentEvents(several=several).gap(lost, CURSOR))
    line = json.loads(JsonLines(several=several).gap(lost, CURSOR))
    (answered,) = json.loads(said(JsonAnswer(), [lost]))["events"]
    assert message.data == line["data"] == answered["data"]
    assert line["id"] == answered["id"] == str(lost.after)
    assert (message.type, line["event"], answered["event"]) == ("gap", "gap", "gap")


@pytest.mark.parametrize("priming", [False, True])
def test_an_event_stream_primes_and_says_close(priming: bool) -> None:
    encoder = ServerSentEvents(several=False, priming=priming)
    opening = encoder.opening(retry_ms=1, identifier="a.1.b")
    assert opening == b"retry: 1\nid: a.1.b\n" + b"data:\n" * priming + b"\n"
    last = encoder.closing(retry_ms=2, identifier="a.1.b", ended=False, drains=True)
    assert last == b"event: close\ndata: pool_draining\n\nretry: 2\n\n"
