"""Channel names."""

from __future__ import annotations

import pytest

from sse_polling.exceptions import InvalidChannel
from sse_polling.protocol.names import channel_hash, check_channel, is_own


@pytest.mark.parametrize(
    "name", ["a", "A", "builds.42", "a:b~c-d_e", "0", "..a", "a..", "x" * 200, "wsx", "Poll"]
)
def test_a_name_of_the_allowed_characters_is_taken(name: str) -> None:
    assert check_channel(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "." * 200,
        "x" * 201,
        "a b",
        "a/b",
        "ä",
        "a\n",
        "a\r",
        "a\0",
        "a?b",
        "a%b",
        "a_\u0661",
        "\ud800",
    ],
)
def test_anything_else_is_refused_with_what_came_and_what_was_expected(name: str) -> None:
    with pytest.raises(InvalidChannel, match="Expected 1 to 200 ASCII letters") as caught:
        check_channel(name)
    assert ascii(name[:60])[1:-1] in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["ack", "metrics", "poll", "ready", "ws"])
def test_the_words_of_addresses_are_taken(name: str) -> None:
    with pytest.raises(InvalidChannel, match="taken by an address"):
        check_channel(name)


@pytest.mark.parametrize("name", [None, 1, b"a", ["a"]])
def test_a_name_is_a_str(name: object) -> None:
    with pytest.raises(InvalidChannel, match=f"got {type(name).__name__}"):
        check_channel(name)


def test_the_apps_own_channels_are_told_by_their_prefix() -> None:
    assert is_own("sse_polling.nodes")
    assert not is_own("sse_polling")
    assert not is_own("sse_pollingx")
    assert not is_own("a.sse_polling.b")


def test_case_counts() -> None:
    assert channel_hash("a") != channel_hash("A")


def test_a_hash_is_the_same_in_every_process_and_version() -> None:
    assert channel_hash("builds.42") == "f37df5edf92a"
