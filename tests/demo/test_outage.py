"""A database that is away for a moment, and the logs that tell of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import OperationalError

from project import outage
from project.logs import MAX_BYTES, GrowingLog
from project.outage import outlast


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves; its readings are those of each pause."""
    pauses: list[float] = []
    monkeypatch.setattr(outage.time, "monotonic", lambda: sum(pauses))
    monkeypatch.setattr(outage.time, "sleep", pauses.append)
    return pauses


def test_what_can_be_repeated_is_repeated_until_the_database_is_back(clock: list[float]) -> None:
    answers = iter([OperationalError("away"), OperationalError("away"), "stored"])

    def act() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert outlast(act) == "stored"
    assert clock == [0.5, 0.5]


def test_a_database_that_stays_away_is_told_in_the_end(clock: list[float]) -> None:
    def act() -> None:
        raise OperationalError("away")

    with pytest.raises(OperationalError):
        outlast(act, seconds=20)
    assert sum(clock) <= 20


def test_a_mistake_is_not_repeated(clock: list[float]) -> None:
    def act() -> None:
        raise ValueError("no outage")

    with pytest.raises(ValueError, match="no outage"):
        outlast(act)
    assert clock == []


def test_a_growing_log_is_read_in_whole_lines_and_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = GrowingLog(path)
    assert list(log.lines()) == []
    with path.open("a") as file:
        for text, lines in [("one\ntw", ["one"]), ("", []), ("o\nthree\nf", ["two", "three"])]:
            file.write(text)
            file.flush()
            assert list(log.lines()) == lines


def test_of_a_flood_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(MAX_BYTES)))
    lines = list(GrowingLog(path).lines())
    assert lines[-1] == f"line {MAX_BYTES - 1}"
    assert sum(map(len, lines)) < MAX_BYTES
