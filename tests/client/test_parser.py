"""The client's parser, against the harness's, which was written from the standard alone, and httpx-sse."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.client import OversizedEvent
from sse_polling.client.parser import LONGEST_RETRY_MS, Block, Parser
from tests.harness import eventsource


def blocks(*chunks: bytes, last_event_id: str = "", max_bytes: int | None = None) -> list[Block]:
    parser = Parser(last_event_id=last_event_id, max_bytes=max_bytes)
    return [block for chunk in chunks for block in parser.feed(chunk)]


def said(*chunks: bytes) -> list[tuple[str, str, str]]:
    """Return (event, data, id) of what is no silent block."""
    return [(each.event, each.data, each.id) for each in blocks(*chunks) if each.data is not None]


def by_httpx_sse(*chunks: bytes, kind: str = "text/event-stream") -> list[tuple[str, str, str]]:
    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from chunks

    response = httpx.Response(200, stream=Stream(), headers={"Content-Type": kind})
    return [(each.event, each.data, each.id) for each in EventSource(response).iter_sse()]


#: Chunks, what the standard makes of them, and what httpx-sse does.
FAULTS: dict[str, tuple[list[bytes], list[tuple[str, str, str]], list[tuple[str, str, str]]]] = {
    "a comment and a blank line repeat an id as an empty event": (
        [b"id: 1\ndata: a\n\n:\n\n"],
        [("message", "a", "1")],
        [("message", "a", "1"), ("message", "", "1")],
    ),
    "an id alone looks like an event with empty data": (
        [b"retry: 5\nid: 1\n\nid: 2\ndata:\n\n"],
        [("message", "", "2")],
        [("message", "", "1"), ("message", "", "2")],
    ),
    "a retry alone is an event": ([b"retry: 5\n\n"], [], [("message", "", "")]),
    "an event's name alone is an event": ([b"event: a\n\n"], [], [("a", "", "")]),
    "a byte order mark hides the first line": (
        [b"\xef\xbb\xbfdata: a\n\n"],
        [("message", "a", "")],
        [],
    ),
}

#: What is told of others, and right in the installed httpx-sse.
MENDED: dict[str, tuple[list[bytes], list[tuple[str, str, str]]]] = {
    "U+2028, NEL and VT are no line ends": (
        ["data: a\u2028b\x85c\x0bd\n\n".encode()],
        [("message", "a\u2028b\x85c\x0bd", "")],
    ),
    "a CR alone ends a line": (
        [b"data: a\rdata: b\r\r", b"data: c\r\r\n"],
        [("message", "a\nb", ""), ("message", "c", "")],
    ),
    "a CRLF in two chunks is one line end": (
        [b"data: a\r", b"\ndata: b\r\n\r", b"\n"],
        [("message", "a\nb", "")],
    ),
    "an id with NUL is none": (
        [b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n"],
        [("message", "a", "1"), ("message", "b", "1")],
    ),
    "a cut block is dropped": ([b"id: 1\ndata: a\n\nid: 2\ndata: b\n"], [("message", "a", "1")]),
    "a cut line is dropped": ([b"id: 1\ndata: a\n\nid: 2\ndata: b"], [("message", "a", "1")]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_httpx_sse_gets_wrong_is_right_here(name: str) -> None:
    chunks, right, theirs = FAULTS[name]
    assert said(*chunks) == right
    assert by_httpx_sse(*chunks) == theirs, "mended upstream: look at sse_polling/client/parser.py again"


@pytest.mark.parametrize("name", MENDED)
def test_what_others_got_wrong_is_right_here(name: str) -> None:
    chunks, right = MENDED[name]
    assert by_httpx_sse(*chunks) == right
    assert said(*chunks) == right


@pytest.mark.parametrize(
    ("text", "here", "theirs"),
    [
        ("1500", 1500, 1500),
        ("0", 0, 0),
        ("-5", None, -5),
        ("+5", None, 5),
        ("1_000", None, 1000),
        (" 7", None, 7),  # one space belongs to the colon, the other does not
        ("7 ", None, 7),
        ("\u0663", None, 3),
        ("1.5", None, None),
        ("", None, None),
        ("9" * 5000, LONGEST_RETRY_MS, None),
        ("0" * 5000 + "7", 7, None),
    ],
)
def test_a_retry_is_ascii_digits_alone(text: str, here: int | None, theirs: int | None) -> None:
    stream = f"retry: {text}\ndata: a\n\n".encode()
    (block,) = blocks(stream)
    assert block.retry_ms == here
    response = httpx.Response(200, content=stream, headers={"Content-Type": "text/event-stream"})
    (event,) = EventSource(response).iter_sse()
    assert event.retry == theirs


def test_a_stream_is_utf_8_whatever_its_charset_says() -> None:
    stream = "data: é\n\n".encode()
    assert said(stream) == [("message", "é", "")]
    assert by_httpx_sse(stream, kind="text/event-stream; charset=latin-1") == [("message", "Ã©", "")]


def test_broken_utf_8_is_replaced_and_nothing_else() -> None:
    assert said(b"data: a\xe2\x80\ndata: b\xff\n\n") == [("message", "a\ufffd\nb\ufffd", "")]


@pytest.mark.parametrize("id_", ["a\0b", "a\x0bb", "a\x1bb", "a\x7f"])
def test_an_id_that_no_header_can_carry_moves_no_cursor(id_: str) -> None:
    assert said(f"id: 1\n\nid: {id_}\ndata: a\n\n".encode()) == [("message", "a", "1")]


def test_silent_blocks_move_the_cursor() -> None:
    given_ = b"retry: 9\nid: 7\n\nid: 8\n\nevent: x\n\nid\ndata: a\n\n"
    assert [(each.id, each.data, each.retry_ms) for each in blocks(given_, last_event_id="6")] == [
        ("7", None, 9),
        ("8", None, None),
        ("8", None, None),
        ("", "a", None),
    ]
    assert blocks(b":\n\n\n\r\n\rjunk\nmore: junk\n\n", last_event_id="6") == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_an_event_split_anywhere_is_the_same(size: int) -> None:
    stream = "\ufeffid: ü\r\ndata: a\r\rdata: b\n\nretry: 3\rdata\r\n\r\n: c\n\n".encode()
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert blocks(*chunks) == blocks(stream)
    assert [each.data for each in blocks(stream)] == ["a", "b", ""]
    assert said(b"data: a\r", b"", b"\ndata: b\n\n") == [("message", "a\nb", "")]


LINES = ["id: 1", "id:2", "id", "id: \0", "data", "data:", "data: x", "data:  y", "event: e", "event", ":c"]
LINES += ["retry: 5", "retry: -5", "", "", "", "\ufeffdata: z", "other: 1", "\x85", "\u2028"]


@given(
    st.lists(
        st.sampled_from(LINES).flatmap(
            lambda line: st.sampled_from(["\n", "\r", "\r\n"]).map(lambda end: line + end)
        ),
        max_size=30,
    ),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_any_stream_is_read_as_the_standard_says(lines: list[str], sizes: list[int]) -> None:
    stream = "".join(lines).encode()
    chunks, at = [], 0
    while at < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[at : at + size])
        at += size
    other = eventsource.Parser()
    messages = [each for chunk in chunks for each in other.feed(chunk)]
    assert said(*chunks) == [(each.type, each.data, each.last_event_id) for each in messages]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 995],
        [b"data: ", *[b"x"] * 995],
        [b":" + b"x" * 1000],
        [b"data: " + b"x" * 500 + b"\n"] * 2,
        [b"data\n"] * 1001,
        [b"id: " + b"x" * 1000],
    ],
)
def test_a_line_or_an_event_over_the_limit_is_refused_before_it_ends(chunks: list[bytes]) -> None:
    with pytest.raises(OversizedEvent, match=r"max_event_bytes \(1,000 bytes\)"):
        blocks(*chunks, max_bytes=1000)


def test_many_events_and_comments_are_no_large_one() -> None:
    stream = (b":" + b"x" * 900 + b"\n") * 10 + (b"data: " + b"x" * 900 + b"\n\n") * 10
    assert len(blocks(stream, max_bytes=1000)) == 10
