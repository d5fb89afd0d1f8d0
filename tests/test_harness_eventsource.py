"""The tests' own parser, against the examples and the rules of WHATWG HTML 9.2.5 and 9.2.6."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.eventsource import Message, Parser, parse

# stream, events as (type, data, last event id), cursor afterwards, retry
EXAMPLES = {
    "the standard's stock ticker": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [("message", "YHOO\n+2\n10", "")],
        "",
        None,
    ),
    "the standard's four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
        "",
        None,
    ),
    "the standard's empty data": (
        b"data\n\ndata\ndata\n\ndata:\n",
        [("message", "", ""), ("message", "\n", "")],
        "",
        None,
    ),
    "the standard's optional space": (
        b"data:test\n\ndata: test\n\n",
        [("message", "test", ""), ("message", "test", "")],
        "",
        None,
    ),
    "a named event, all fields": (
        b"retry: 250\nid: a\nevent: add\ndata: 1\n\ndata: 2\n\n",
        [("add", "1", "a"), ("message", "2", "a")],
        "a",
        250,
    ),
    "an id alone moves the cursor in silence": (b"retry: 1\nid: x.1\n\n", [], "x.1", 1),
    "an event name without data is forgotten": (b"event: a\n\ndata: 1\n\n", [("message", "1", "")], "", None),
    "an id with NUL is ignored": (b"id: a\nid: b\0c\ndata: 1\n\n", [("message", "1", "a")], "a", None),
    "an empty id resets": (
        b"id: a\ndata: 1\n\nid:\ndata: 2\n\n",
        [("message", "1", "a"), ("message", "2", "")],
        "",
        None,
    ),
    "retry takes digits only": (b"retry: 10\nretry: 1e3\nretry: -1\nretry:\nretry: 2 \n\n", [], "", 10),
    "retry takes ASCII digits only": ("retry: 7\nretry: ٣\n\n".encode(), [], "", 7),
    "three line ends": (
        b"data: a\rdata: b\r\ndata: c\n\r\n\rdata: d\r\r",
        [("message", "a\nb\nc", ""), ("message", "d", "")],
        "",
        None,
    ),
    "one byte order mark": (
        b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n",
        [("message", "a", "")],
        "",
        None,
    ),
    "two byte order marks": (
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        [("message", "b", "")],
        "",
        None,
    ),
    "an unfinished block is discarded": (
        b"id: 1\ndata: a\n\nid: 2\ndata: b\n",
        [("message", "a", "1")],
        "1",
        None,
    ),
    "unknown fields and case": (b"foo: 1\nData: 2\ndata : 3\ndata: 4\n\n", [("message", "4", "")], "", None),
    "only the first space goes": (b"data:  a \nevent:  e\n\n", [(" e", " a ", "")], "", None),
    "text beyond ASCII": (
        "data: žluťoučký 🐎\nid: ü\n\n".encode(),
        [("message", "žluťoučký 🐎", "ü")],
        "ü",
        None,
    ),
    "bytes that are not UTF-8": (b"data: \xff\xe2\x82\n\n", [("message", "\ufffd\ufffd", "")], "", None),
    "a comment with a colon inside a block": (
        b"data: a\n: data: no\ndata: b\n\n",
        [("message", "a\nb", "")],
        "",
        None,
    ),
}


def check(parser: Parser, pieces: list[bytes], example: str) -> None:
    _, events, cursor, retry = EXAMPLES[example]
    seen = [message for piece in pieces for message in parser.feed(piece)]
    assert seen == [Message(*event) for event in events]
    assert parser.last_event_id == cursor
    assert parser.retry_ms == retry


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_split_at_every_byte_reads_the_same(example: str) -> None:
    stream = EXAMPLES[example][0]
    check(Parser(), [stream], example)
    check(Parser(), [stream[i : i + 1] for i in range(len(stream))], example)
    for at in range(len(stream) + 1):
        check(Parser(), [stream[:at], stream[at:]], example)
    for first, second in itertools.combinations(range(min(len(stream), 40)), 2):
        check(Parser(), [stream[:first], b"", stream[first:second], stream[second:]], example)


@given(
    st.lists(
        st.sampled_from(
            [
                b"data",
                b"id",
                b"event",
                b"retry",
                b":",
                b": ",
                b"\r",
                b"\n",
                b"\r\n",
                b"1",
                b"\0",
                b"\xc3",
                b"\xbc",
            ]
        )
    ).map(b"".join),
    st.data(),
)
def test_any_stream_reads_the_same_however_it_is_split(stream: bytes, data: st.DataObject) -> None:
    whole, split = Parser(), Parser()
    expected = whole.feed(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    pieces = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]
    assert [message for piece in pieces for message in split.feed(piece)] == expected
    assert (split.last_event_id, split.retry_ms, split.comments) == (
        whole.last_event_id,
        whole.retry_ms,
        whole.comments,
    )


def test_browsers_remember_the_cursor_over_a_reconnect_and_the_standard_does_not() -> None:
    stream = b"retry: 5\n\ndata: a\n\n"
    assert parse(stream, last_event_id="7") == [Message("message", "a", "7")]
    strict = Parser(last_event_id="7", strict=True)
    strict.feed(b"retry: 5\n")
    assert strict.last_event_id == "7"
    strict.feed(b"\n")
    assert strict.last_event_id == ""


def test_clean_means_between_two_blocks() -> None:
    parser = Parser()
    states = []
    for piece in [b": c\n", b"id: 1\n", b"\n", b"data: 1", b"\n", b"\n"]:
        parser.feed(piece)
        states.append(parser.is_clean)
    assert states == [True, False, True, False, False, True]


def test_a_long_line_in_small_pieces_is_not_quadratic() -> None:
    parser = Parser()
    for _ in range(20_000):
        parser.feed(b"x" * 100 if parser._pieces else b"data: ")
    assert len(parser.feed(b"\n\n")[0].data) == 19_999 * 100
