"""What may be published, checked once."""

from __future__ import annotations

import pytest

from sse_polling.exceptions import EventTooLarge, InvalidEvent
from sse_polling.protocol.event import StoredEvent, check_data, check_event, check_key


@pytest.mark.parametrize("name", ["message", "log", "x" * 100, "ends", "a b", "ä", ":", " x"])
def test_an_event_name_is_one_line(name: str) -> None:
    assert check_event(name) == name


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "a\rb", "a\0b", "\n", "\ud800", None, 1, b"log"])
def test_a_bad_event_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidEvent, match="event name"):
        check_event(name)


@pytest.mark.parametrize("name", ["gap", "end", "close"])
def test_the_apps_own_event_names_are_reserved(name: str) -> None:
    with pytest.raises(InvalidEvent, match=r"app's own.*finish\(\)"):
        check_event(name)


@pytest.mark.parametrize("key", [None, "k", "x" * 200, "ä", "a\nb"])
def test_a_key_is_none_or_text(key: str | None) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0", "\ud800", 1, b"k"])
def test_a_bad_key_is_refused(key: object) -> None:
    with pytest.raises(InvalidEvent, match="key"):
        check_key(key)


def test_the_size_of_data_is_counted_in_bytes() -> None:
    assert check_data("é" * 5, max_bytes=10) == "é" * 5
    with pytest.raises(EventTooLarge, match=r"at most 10 bytes \(MAX_EVENT_BYTES\); got 12"):
        check_data("é" * 6, max_bytes=10)


def test_data_without_nul_and_lone_surrogates() -> None:
    with pytest.raises(InvalidEvent, match="base64"):
        check_data("a\0b", max_bytes=10)
    with pytest.raises(InvalidEvent, match="UTF-8"):
        check_data("\ud800", max_bytes=10)


def test_an_id_is_life_sequence_tag() -> None:
    event = StoredEvent(channel="a", life="L", sequence=7, tag="t", event="log", data="")
    assert event.id == "L.7.t" == str(event.position)
