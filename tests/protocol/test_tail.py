"""The tail: a ring that is always dense, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_polling.protocol.event import StoredEvent
from sse_polling.protocol.tail import Tail


def event(sequence: int, *, data: str = "", ends_burst: bool = False) -> StoredEvent:
    return StoredEvent(
        channel="a",
        life="L",
        sequence=sequence,
        tag=f"t{sequence}",
        event="message",
        data=data,
        ends_burst=ends_burst,
    )


def tail(count: int, *, base: int = 0, max_events: int = 1000, max_bytes: int = 10**6) -> Tail:
    made = Tail(max_events=max_events, max_bytes=max_bytes, base=base, base_tag="b")
    for sequence in range(base + 1, base + count + 1):
        made.append(event(sequence))
    return made


def after(tail: Tail, sequence: int, *, max_events: int = 1000, max_bytes: int = 10**6) -> list[int]:
    return [each.event.sequence for each in tail.after(sequence, max_events=max_events, max_bytes=max_bytes)]


def test_an_empty_tail_covers_its_base_alone() -> None:
    empty = tail(0, base=7)
    assert (empty.head, empty.head_tag, len(empty)) == (7, "b", 0)
    assert [sequence for sequence in range(20) if empty.covers(sequence)] == [7]
    assert after(empty, 7) == []
    assert empty.last() is None


@pytest.mark.parametrize("sequence", [0, 1, 3, 5])
def test_only_the_next_event_is_taken(sequence: int) -> None:
    dense = tail(3)
    if sequence == 4:
        dense.append(event(4))
    else:
        with pytest.raises(ValueError, match="expected sequence 4"):
            dense.append(event(sequence))


@given(st.integers(0, 30), st.integers(0, 50), st.integers(1, 12))
def test_after_a_position_comes_exactly_what_follows_it(base: int, count: int, most: int) -> None:
    ring = tail(count, base=base, max_events=most)
    assert ring.head == base + count
    assert len(ring) == min(count, most)
    for sequence in range(base + count + 5):
        assert ring.covers(sequence) == (base + count - len(ring) <= sequence <= base + count)
        if ring.covers(sequence):
            assert after(ring, sequence) == list(range(sequence + 1, base + count + 1))
            assert after(ring, sequence, max_events=2) == list(range(sequence + 1, base + count + 1))[:2]
            assert ring.tag_at(sequence) == (f"t{sequence}" if sequence > base else "b")


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60), st.integers(500, 9000))
def test_its_bytes_are_counted_and_bounded_whatever_comes_and_goes(sizes: list[int], most: int) -> None:
    ring = Tail(max_events=20, max_bytes=most)
    for sequence, size in enumerate(sizes, 1):
        ring.append(event(sequence, data="x" * size))
        kept = ring.after(ring.base, max_events=1000, max_bytes=10**9)
        assert ring.bytes == sum(entry.size for entry in kept)
        assert len(kept) == len(ring) <= 20
        assert ring.bytes <= most or len(ring) == 1
        last = ring.last()
        assert last is not None
        assert last.event.sequence == ring.head == sequence


def test_reading_never_makes_a_tail_outgrow_what_was_charged() -> None:
    ring = Tail(max_events=10, max_bytes=10**6)
    entry = ring.append(event(1, data='"\n' * 500))  # the worst case for JSON
    assert len(entry.frame) + len(entry.envelope) <= entry.size


def test_a_batch_keeps_to_its_bytes_but_holds_one_event_at_least() -> None:
    ring = Tail(max_events=10, max_bytes=10**6)
    for sequence, size in enumerate([900, 10, 10], 1):
        ring.append(event(sequence, data="x" * size))
    assert after(ring, 0, max_bytes=1) == [1]
    assert after(ring, 0, max_bytes=960) == [1, 2]
    assert after(ring, 1, max_bytes=60) == [2, 3]


def test_a_batch_ends_after_an_event_that_ends_the_burst() -> None:
    ring = Tail(max_events=10, max_bytes=10**6)
    for sequence in range(1, 6):
        ring.append(event(sequence, ends_burst=sequence == 3))
    assert after(ring, 0) == [1, 2, 3]
    assert after(ring, 3) == [4, 5]


def test_cleared_it_still_knows_its_head() -> None:
    ring = tail(5)
    ring.clear()
    assert (ring.base, ring.head, ring.head_tag, ring.bytes, len(ring)) == (5, 5, "t5", 0, 0)
    assert not ring.covers(4)
    ring.append(event(6))
    assert after(ring, 5) == [6]


def test_an_event_is_encoded_once() -> None:
    ring = tail(1)
    (one,) = ring.after(0, max_events=1, max_bytes=1)
    (other,) = ring.after(0, max_events=9, max_bytes=9)
    assert one.frame is other.frame
    assert one.envelope is other.envelope


def test_dropping_does_not_cost_more_with_a_longer_ring() -> None:
    """The dead half of the list is cut at once: no more than twice the events are ever kept."""
    ring = tail(10_000, max_events=100)
    assert len(ring._entries) <= 201
