"""``sse_status``: a sentence, a table that fits, one stable JSON object, and a watch that ends quietly."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from sse_polling.management.commands import sse_status
from sse_polling.nodes.points import Point
from tests.fleets import drain_of, figures, row
from tests.harness.site import ROOT, Site

pytestmark = [pytest.mark.django_db, pytest.mark.database]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def status(*words: str, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    call_command("sse_status", *words, stdout=out, stderr=out)
    return out.getvalue()


def cells(text: str) -> list[dict[str, str]]:
    """Return the table's lines by the names of its columns."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("node"))
    names = lines[start].split()
    found = []
    for line in lines[start + 1 :]:
        if not line or line.startswith("Not shown"):
            break
        values = re.sub(r"(\d) (s|min|h)$", r"\1_\2", line).split()
        found.append(dict(zip(names, values, strict=True)))
    return found


def history(**given: Any) -> dict[str, Any]:
    counts = ("sockets", "readers", "polls", "reconnects", "refused", "gaps", "delivered", "bytes")
    point = Point(**{**dict.fromkeys(counts, 0), "seconds": 5.0, "latency": (), **given})
    return {"age": 1.0, "points": [point.packed()]}


def test_without_a_process_it_says_so() -> None:
    assert status() == "No process has served a stream yet.\n"
    assert json.loads(status("--json"))["nodes"] == []


def test_the_sentence_and_a_line_for_each_process() -> None:
    row("web:1:aa", sockets=41, readers=1612, history=history(polls=100, delivered=6000))
    row("web:2:bb", state="full", figures=figures(layer="polling", descriptors=[1300, 65536]))
    text = status()
    assert text.startswith("1,612 readers on 41 sockets, nothing lost; node web:2 is full; ")
    one, two = cells(text)
    assert one["node"] == "web:1"
    assert (one["server"], one["state"], one["layer"]) == ("uvicorn", "serving", "-")
    assert (one["sockets"], one["readers"], one["breaker"]) == ("41/1,000", "1,612", "closed")
    assert (one["polls/s"], one["events/s"]) == ("20.0", "1,200.0")
    assert one["age"].endswith("_s")
    assert (two["state"], two["layer"], two["files"]) == ("full", "polling", "1,300/65k")


def test_a_budget_shows_its_places_and_an_open_breaker_itself() -> None:
    budget = {"budget": 20_000, "places": 480, "wait_ms": 1000}
    row("web:1:aa", figures=figures(budget=budget))
    row("web:2:bb", figures=figures(budget=budget, breaker={"open": True, "threshold": 0.9}))
    assert [each["breaker"] for each in cells(status())] == ["480/20k", "open"]


def test_drains_refusals_and_gaps_have_lines_of_their_own() -> None:
    row("web:1:aa", state="draining", figures=figures(drain=drain_of(12)))
    row("web:2:bb", figures=figures(refused={"client": 2, "capacity": 1200}, gaps={"trimmed": 3}))
    row("web:3:cc", figures=figures(refused={"client": 1}))
    assert status().splitlines()[-3:] == [
        "web:1 drains: 12 of 80 left after 2 s, about 4 s more.",
        "Refused since the processes began: over capacity 1,200, too many of one client 3.",
        "Gaps since the processes began: trimmed 3.",
    ]


def test_silent_and_stopped_processes_are_shown_as_such() -> None:
    row("web:1:aa", age=40, sockets=5, history=history(polls=100))
    row("web:2:bb", stopped=True)
    one, two = cells(status())
    assert (one["state"], one["polls/s"], two["state"]) == ("silent", "0.0", "stopped")


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_line_of_the_table_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "a-shop-in-a-cluster-7d9f8b6c5d-x2x4z"
    busy = figures(descriptors=[9999, 1_048_576], budget={"budget": 9999, "places": 9999, "wait_ms": 1})
    row(f"{name}:12345:aa", sockets=9999, readers=123_456, capacity=9999, figures=busy, state="draining")
    text = status("--no-color", out=Terminal())
    table = text.split("\n\n")[1].splitlines()
    assert max(map(len, table[:2])) <= columns
    assert "x2x4z:12345" in table[1]  # what tells it apart
    assert "draining" in table[1]
    assert table[2].startswith("Not shown, for lack of width: server")


def test_a_usual_fleet_fits_a_hundred_columns_with_every_column() -> None:
    busy = figures(descriptors=[1300, 65536], layer="live")
    row("web-1.example:12345:aa", sockets=1234, readers=9876, capacity=9000, figures=busy)
    text = status()
    assert "Not shown" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(cells(text)[0]) == 11


def test_colours_are_for_terminals() -> None:
    row()
    assert "\033[" in status("--force-color")
    assert "\033[" not in status()
    assert "\033[" not in status("--no-color", out=Terminal())


def test_rows_of_another_version_break_nothing() -> None:
    for number, garbage in enumerate(GARBAGE):
        row(f"web:{number}:aa", figures=garbage, history={"points": [["x"]]})
    assert len(cells(status())) == len(GARBAGE)
    assert len(json.loads(status("--json"))["nodes"]) == len(GARBAGE)


GARBAGE: list[Any] = [
    {},
    [],
    "text",
    {
        "descriptors": None,
        "breaker": [],
        "budget": 5,
        "refused": [],
        "gaps": {"a": "b"},
        "drain": {"left": 1},
    },
    {"descriptors": ["a"], "breaker": {"open": "x"}, "layer": {}, "drain": drain_of(1) | {"left": "x"}},
    {
        "refused": {"a": [1], "b": -5, "c": 10**30},
        "admitted": {"x": 1},
        "budget": {"budget": "x", "places": 1},
    },
]


def test_json_is_one_object_with_the_documented_keys() -> None:
    reference = (ROOT / "docs/reference.md").read_text()
    row(
        "web:1:aa",
        state="draining",
        sockets=7,
        readers=9,
        figures=figures(drain=drain_of(12), gaps={"reset": 1}),
    )
    told = json.loads(status("--json"))
    (node,) = told["nodes"]
    for key in {*told, *node, *node["drain"]}:
        assert f"`{key}`" in reference, key
    assert told["sentence"].startswith("9 readers on 7 sockets, nothing lost; node web:1 is draining")
    assert (told["sockets"], told["readers"], told["capacity_sockets"]) == (7, 9, 1000)
    assert (node["name"], node["label"], node["pid"], node["state"]) == ("web:1:aa", "web:1", 1, "draining")
    assert node["gaps_total"] == {"reset": 1}
    assert node["drain"] == {
        "why": "order",
        "total": 80,
        "left": 12,
        "elapsed_seconds": 2.0,
        "estimate_seconds": 4.0,
    }


def test_it_costs_one_query_however_many_processes_there_are() -> None:
    for number in range(20):
        row(f"web:{number}:aa")
    with CaptureQueriesContext(connection) as queries:
        status()
    assert len(queries) == 1


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], Any]]]:
    """Run these between the looks of a watch instead of waiting; after the last one the user interrupts."""
    between: list[Callable[[], Any]] = []
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if not between:
            raise KeyboardInterrupt
        between.pop(0)()

    monkeypatch.setattr(sse_status.time, "sleep", sleep)
    yield between
    assert set(waited) == {2.0}


def test_a_watch_prints_block_after_block_and_ends_quietly(rounds: list[Callable[[], Any]]) -> None:
    rounds.append(lambda: row("web:1:aa", sockets=3, readers=4))
    text = status("--watch")
    first, second = text.split("\n\n", 1)
    assert first == "No process has served a stream yet."
    assert second.startswith("4 readers on 3 sockets")
    assert "\033" not in text


def test_a_watch_redraws_a_terminal(rounds: list[Callable[[], Any]]) -> None:
    rounds.append(row)
    text = status("--watch", "--no-color", out=Terminal())
    assert text.count("\033[H\033[2J") == 2
    assert text.rpartition("\033[2J")[2].startswith("0 readers on 0 sockets")


def test_a_watch_in_json_is_an_object_a_line(rounds: list[Callable[[], Any]]) -> None:
    rounds.append(row)
    assert [len(json.loads(line)["nodes"]) for line in status("--watch", "--json").splitlines()] == [0, 1]


def away(*args: Any, **kwargs: Any) -> Any:
    raise OperationalError("could not connect to server.")


def test_a_database_that_is_away_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_status, "read_fleet", away)
    with pytest.raises(
        CommandError, match=r"rows cannot be read from the database: could not connect to server\.$"
    ):
        status()


def test_a_watch_outlives_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch, rounds: list[Callable[[], Any]]
) -> None:
    known = sse_status.read_fleet
    monkeypatch.setattr(sse_status, "read_fleet", away)
    rounds.append(lambda: monkeypatch.setattr(sse_status, "read_fleet", known))
    assert status("--watch").split("\n\n") == [
        "The processes' rows cannot be read from the database: could not connect to server. Trying again.",
        "No process has served a stream yet.\n",
    ]


def test_an_interval_that_cannot_be_is_refused() -> None:
    with pytest.raises(CommandError, match=r"'0' is not a number of seconds from 0\.1 to 3600"):
        status("--watch", "--interval", "0")


def test_as_a_program_it_takes_a_database_without_tables_in_words(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site._migrated = True  # it is not
    with pytest.raises(Exception, match="rows cannot be read from the database: no such table"):
        site.manage("sse_status")
    site._migrated = False
    assert site.manage("sse_status") == "No process has served a stream yet.\n"
