"""Lines out of bytes, and a file that grows, is truncated and is replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sse_polling.following import BLOCK, LineError, Lines, follow, read


def cut(*blocks: bytes, max_bytes: int = 1000) -> list[str]:
    lines = Lines(max_bytes=max_bytes)
    found = [line.text for block in blocks for line in lines.cut(block)]
    return found + [line.text for line in lines.end()]


TRICKY = (
    "plain\n\n\r\n  spaces \t\r\ncr\rin the middle\n\r\r\nébène 🐘\n\ufeffbom\n"
    "\u2028\u2029\x0b\x0c\x1c\x85 are no ends\nlast\r"
)
TRICKY_LINES = [
    *("plain", "", "", "  spaces \t", "cr\rin the middle", "\r", "ébène 🐘", "\ufeffbom"),
    *("\u2028\u2029\x0b\x0c\x1c\x85 are no ends", "last\r"),
]


def test_every_byte_but_the_lines_end_is_kept() -> None:
    assert cut(TRICKY.encode()) == TRICKY_LINES


def test_it_does_not_matter_where_the_blocks_are_cut() -> None:
    data = TRICKY.encode()
    for at in range(len(data) + 1):
        assert cut(data[:at], data[at:]) == TRICKY_LINES
    assert cut(*(data[at : at + 1] for at in range(len(data)))) == TRICKY_LINES


def test_a_file_that_ends_on_a_lines_end_has_no_line_after_it() -> None:
    assert cut(b"a\n") == ["a"]
    assert cut(b"") == []
    assert cut(b"\n") == [""]


def test_lines_are_numbered_and_placed_and_start_anew_after_the_end() -> None:
    lines = Lines(max_bytes=100)
    found = [*lines.cut("é\r\nb\n\nunfinished".encode()), *lines.end()]
    assert [(line.number, line.offset) for line in found] == [(1, 0), (2, 4), (3, 6), (4, 7)]
    assert not lines
    assert [(line.number, line.offset) for line in lines.cut(b"next file\n")] == [(1, 0)]


def test_what_is_not_utf8_is_told_with_its_line_and_byte() -> None:
    lines = Lines(max_bytes=100)
    with pytest.raises(LineError, match=r"Line 2 is not UTF-8: .*0xff at byte 6 of the input \(byte 2 of"):
        list(lines.cut(b"abc\nde\xfff\n"))


def test_utf8_that_the_end_cuts_off_is_told() -> None:
    lines = Lines(max_bytes=100)
    assert list(lines.cut("é".encode()[:1])) == []
    with pytest.raises(LineError, match=r"Line 1 is not UTF-8: unexpected end of data, 0xc3 at byte 0"):
        list(lines.end())


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_may_be_exactly_as_long_as_allowed(end: bytes) -> None:
    assert cut(b"x" * 10 + end, max_bytes=10) == ["x" * 10]
    with pytest.raises(LineError, match=r"Line 1, which begins at byte 0 .* longer than 10 bytes"):
        cut(b"x" * 11 + end, max_bytes=10)


def test_a_line_without_end_is_refused_before_more_is_read() -> None:
    lines = Lines(max_bytes=1000)
    assert [line.text for line in lines.cut(b"ab\n")] == ["ab"]
    for _ in range(10):
        assert list(lines.cut(b"x" * 100)) == []
    with pytest.raises(LineError, match=r"Line 2, which begins at byte 3 of the input, is longer than 1,000"):
        list(lines.cut(b"xx"))


def test_a_silent_pipe_is_told_from_its_end() -> None:
    out, into = os.pipe()
    blocks = read(out)
    try:
        assert next(blocks) == b""
        os.write(into, b"now")
        assert next(blocks) == b"now"
        assert next(blocks) == b""
        os.close(into)
        assert list(blocks) == [None]
    finally:
        os.close(out)


class Follower:
    """Follows a file step by step: each look for more is preceded by what the test does to the file."""

    def __init__(self, path: Path) -> None:
        self._steps: list[Callable[[], object]] = []
        self.blocks = follow(path, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._steps:
            self._steps.pop(0)()

    def after(self, *steps: Callable[[], object]) -> list[bytes | None]:
        """Return what is found up to the second empty look after the last of *steps*."""
        self._steps = list(steps)
        found: list[bytes | None] = []
        idle = 0
        for block in self.blocks:
            if block == b"":
                idle = idle + 1 if not self._steps else 0
                if idle == 3:
                    return found
            else:
                found.append(block)
        raise AssertionError("following ended")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "growing.log"
    file.write_bytes(b"old\n")
    return file


@pytest.fixture
def follower(path: Path) -> Iterator[Follower]:
    made = Follower(path)
    yield made
    made.blocks.close()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_following_begins_at_the_first_byte_and_goes_on_with_what_is_appended(
    path: Path, follower: Follower
) -> None:
    assert follower.after() == [b"old\n"]
    assert follower.after(lambda: append(path, b"more\n"), lambda: append(path, b"and")) == [
        b"more\n",
        b"and",
    ]


def test_a_truncated_file_is_read_from_its_start(path: Path, follower: Follower) -> None:
    follower.after()
    assert follower.after(lambda: path.write_bytes(b""), lambda: append(path, b"new\n")) == [None, b"new\n"]
    assert follower.after(lambda: path.write_bytes(b"n\n")) == [None, b"n\n"]


def test_a_replaced_file_is_read_to_its_end_and_then_its_successor(path: Path, follower: Follower) -> None:
    follower.after()
    away = path.with_suffix(".1")

    def rotate() -> None:
        append(path, b"last of the old\n")
        path.rename(away)
        path.write_bytes(b"first of the new\n")

    assert follower.after(rotate) == [b"last of the old\n", None, b"first of the new\n"]
    assert follower.after(lambda: append(path, b"second\n")) == [b"second\n"]


def test_the_old_file_is_read_until_its_writer_opens_the_new_one(path: Path, follower: Follower) -> None:
    follower.after()
    away = path.with_suffix(".1")
    found = follower.after(
        lambda: path.rename(away),
        lambda: append(away, b"while there is none\n"),
        path.touch,  # as logrotate's `create` does, before the writer is told
        lambda: append(away, b"late\n"),
        lambda: append(path, b"new\n"),
    )
    assert found == [b"while there is none\n", b"late\n", None, b"new\n"]


def test_a_large_file_comes_in_blocks(path: Path, follower: Follower) -> None:
    path.write_bytes(b"x" * (BLOCK * 3 + 1))
    assert [len(block or b"") for block in follower.after()] == [BLOCK, BLOCK, BLOCK, 1]


def test_a_file_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(follow(tmp_path / "nothing"))


def test_every_file_is_closed(path: Path) -> None:
    def ours() -> int:
        links = [os.path.realpath(number) for number in Path("/proc/self/fd").iterdir()]
        return sum(link.startswith(str(path.parent)) for link in links)

    follower = Follower(path)
    follower.after()
    follower.after(lambda: path.rename(path.with_suffix(".1")), lambda: path.write_bytes(b"new"))
    assert ours() == 1
    follower.blocks.close()
    assert ours() == 0
