"""``sse_drain``: orders given, and a wait whose exit code a deploy script can trust."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from project.programs.process import ProcessFailed
from project.programs.redis import Redis
from sse_polling.management.commands import sse_drain
from sse_polling.models import Node, Order
from sse_polling.nodes import rows
from tests.fleets import drain_of, figures, row
from tests.harness.site import Site

pytestmark = [pytest.mark.django_db, pytest.mark.database]


class Time:
    """A clock that goes on when somebody sleeps; `at` says what happens meanwhile, by the second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.began = self.now
        self.at: dict[float, Callable[[], Any]] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in sorted(each for each in self.at if each <= self.passed):
            self.at.pop(due)()

    @property
    def passed(self) -> float:
        return self.now - self.began


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(sse_drain, "time", made)
    return made


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drain(*words: str, out: io.StringIO | None = None) -> list[str]:
    out = out or io.StringIO()
    call_command("sse_drain", *words, stdout=out, stderr=out)
    return out.getvalue().splitlines()


def fails(*words: str, code: int, out: io.StringIO | None = None) -> str:
    with pytest.raises(CommandError) as caught:
        drain(*words, out=out)
    assert caught.value.returncode == code
    return str(caught.value)


def orders() -> list[tuple[str, str, str]]:
    return list(Order.objects.order_by("pk").values_list("node__name", "kind", "by"))


def take_up(name: str, result: str = "begun", *, left: int | None = None) -> None:
    """Let the process take up its orders; *left*: and drain, down to so many sockets."""
    if left is not None:
        told = drain_of(left) if left else None
        row(name, state="draining" if left else "drained", sockets=left, figures=figures(drain=told))
    given = Order.objects.filter(node__name=name, done=None).values_list("pk", flat=True)
    rows.fulfil([(pk, result) for pk in given])


def test_one_way_to_say_which_is_asked_for() -> None:
    row()
    assert "either --all or --node NAME" in fails(code=2)
    assert "either --all or --node NAME" in fails("--all", "--node", "web", code=2)
    assert orders() == []


def test_a_name_that_fits_nothing_is_answered_with_those_known() -> None:
    row("web:1:aa")
    row("web:2:bb", stopped=True)
    assert fails("--node", "wbe", code=2) == "There is no process 'wbe'. Known: web:1."
    assert (
        fails("--node", "web:1", "--node", "web:1:", code=2) == "There is no process 'web:1:'. Known: web:1."
    )
    assert orders() == []


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["web:1:aa"], ["web:1:aa"]),
        (["web:2"], ["web:2:bb"]),
        (["web"], ["web:1:aa", "web:2:bb"]),
        (["api", "web:1"], ["api:1:cc", "web:1:aa"]),
        (["web", "web:1"], ["web:1:aa", "web:2:bb"]),
    ],
)
def test_a_process_is_named_in_three_ways(names: list[str], meant: list[str]) -> None:
    for name in ("web:1:aa", "web:2:bb", "api:1:cc", "w:1:dd"):
        row(name)
    words = [word for name in names for word in ("--node", name)]
    drain(*words, "--wait", "0")
    assert orders() == [(name, "drain", "sse_drain") for name in meant]


def test_it_waits_until_no_socket_is_left(clock: Time) -> None:
    row("web:1:aa", sockets=41)
    row("web:2:bb", sockets=3)
    clock.at = {
        1: lambda: take_up("web:1:aa", left=12),
        2: lambda: take_up("web:2:bb", left=0),
        7: lambda: take_up("web:1:aa", left=0),
    }
    assert drain("--all") == [
        "Asked to let their streams go: web:1, web:2.",
        "web:1: 12 sockets left, draining, web:2: has not taken up the order; about 4 s.",
        "No socket is left.",
    ]
    assert 7 <= clock.passed < 8
    assert len(orders()) == 2


def test_a_terminal_is_told_once_a_second_what_has_changed(clock: Time) -> None:
    row("web:1:aa", sockets=41)
    for second in range(1, 20):
        clock.at[second / 4] = lambda left=40 - second: take_up("web:1:aa", left=left)  # type: ignore[misc]
    clock.at[9] = lambda: take_up("web:1:aa", left=0)
    said = drain("--all", out=Terminal())
    assert said[1:3] == [
        "web:1: 36 sockets left, draining; about 4 s.",
        "web:1: 32 sockets left, draining; about 4 s.",
    ]
    assert len(said) == 1 + 5 + 1  # the last 4 s bring nothing new


def test_it_waits_for_the_process_to_take_up_the_order_even_without_a_socket(clock: Time) -> None:
    row("web:1:aa", sockets=0)
    clock.at[4] = lambda: take_up("web:1:aa", left=0)
    drain("--all")
    assert clock.passed >= 4


def test_time_that_runs_out_says_what_is_left_where(clock: Time) -> None:
    row("web:1:aa", sockets=41)
    row("web:2:bb", sockets=1)
    clock.at[1] = lambda: take_up("web:1:aa", left=12)
    assert fails("--all", "--wait", "5", code=1) == (
        "Time ran out after 5 s. web:1: 12 sockets left, draining, web:2: has not taken up the order."
    )
    assert clock.passed == pytest.approx(5, abs=0.1)


def test_it_waits_for_as_long_as_a_drain_may_take_and_some_more(clock: Time, settings: Any) -> None:
    settings.SSE_POLLING = {"DRAIN": {"seconds": 12}}
    row()
    fails("--all", code=1)
    assert clock.passed == pytest.approx(22, abs=0.1)


def test_a_process_that_ends_meanwhile_is_waited_for_no_more(clock: Time) -> None:
    row("web:1:aa", sockets=41)
    row("web:2:bb", sockets=41)
    clock.at = {1: lambda: rows.stop("web:1:aa"), 2: lambda: Node.objects.filter(name="web:2:bb").delete()}
    assert drain("--all")[-1] == "No socket is left."
    assert clock.passed < 3


def test_one_that_is_drained_already_is_done_at_once(clock: Time) -> None:
    row("web:1:aa", state="drained")
    assert drain("--all") == ["Nothing to ask of web:1.", "No socket is left."]
    assert (orders(), clock.passed) == ([], 0)


def test_one_that_is_drained_but_told_to_resume_is_asked_again(clock: Time) -> None:
    made = row("web:1:aa", state="drained")
    Order.objects.create(node=made, kind=Order.Kind.RESUME, created=made.seen)
    clock.at[2] = lambda: take_up("web:1:aa", left=0)
    drain("--all")
    assert [kind for _, kind, _ in orders()] == ["resume", "drain"]
    assert clock.passed >= 2


def test_without_a_process_nothing_is_left(clock: Time) -> None:
    row("web:1:aa", stopped=True)
    assert drain("--all") == ["No process is serving streams.", "No socket is left."]
    assert drain("--node", "web") == ["Nothing to ask of web:1.", "No socket is left."]


def test_without_a_wait_the_order_is_given_and_that_is_all(clock: Time) -> None:
    row("web:1:aa", sockets=41)
    row("web:2:bb", age=20)
    (said,) = drain("--all", "--wait", "0")
    assert said.startswith("Asked to let their streams go: web:1, web:2. web:2 has said nothing for 20 s")
    assert (len(orders()), clock.passed) == (2, 0)


def test_a_silent_process_cannot_be_waited_for_and_counts_as_not_drained(clock: Time) -> None:
    row("web:1:aa", age=40, sockets=7)
    told = fails("--all", code=1)
    assert told == "web:1 has said nothing for 40 s: nobody knows what it holds."
    assert clock.passed < 3


def test_others_are_waited_for_beside_a_silent_one_which_may_come_back(clock: Time) -> None:
    row("web:1:aa", age=40)
    row("web:2:bb", sockets=7)
    clock.at = {
        5: lambda: take_up("web:2:bb", left=1),
        6: lambda: take_up("web:1:aa", left=3),
        7: lambda: take_up("web:2:bb", left=0),
        8: lambda: take_up("web:1:aa", left=0),
    }
    assert drain("--all")[-1] == "No socket is left."
    assert clock.passed >= 8


def test_a_silent_process_whose_number_another_has_is_gone(clock: Time) -> None:
    """In a container every process is number 1, and one that was killed says no good-bye."""
    row("web:1:aa", age=400, sockets=7)
    row("web:1:bb", state="drained")
    assert drain("--node", "web:1") == ["Nothing to ask of web:1.", "No socket is left."]
    assert "web:1 has said nothing" in fails("--node", "web:1:aa", code=1)


def test_an_order_that_comes_to_nothing_is_a_failure(clock: Time) -> None:
    row("web:1:aa", sockets=7)
    clock.at[1] = lambda: take_up("web:1:aa", "late")
    assert fails("--all", code=1) == (
        "web:1: not carried out: the process did not take it up within a minute."
    )


def test_streams_are_taken_again(clock: Time) -> None:
    row("web:1:aa", state="drained")
    row("web:2:bb")
    clock.at = {1: lambda: take_up("web:1:aa"), 2: lambda: take_up("web:2:bb", "already")}
    assert drain("--all", "--resume")[-1] == "They take streams: web:1, web:2."
    assert [kind for _, kind, _ in orders()] == ["resume", "resume"]
    assert 2 <= clock.passed < 3


def test_who_waits_for_streams_to_be_taken_is_told_of_no_drain(clock: Time) -> None:
    row("web:1:aa", state="draining", sockets=12, figures=figures(drain=drain_of(12)))
    assert "about" not in fails("--all", "--resume", "--wait", "3", code=1, out=(out := io.StringIO()))
    assert out.getvalue().splitlines()[-1] == "web:1: has not taken up the order."


def test_settings_that_cannot_be_are_told_in_words(settings: Any) -> None:
    settings.SSE_POLLING = {"DRAIN": {"seconds": "long"}}
    assert "SSE_POLLING" in fails("--all", code=1)


def test_a_process_that_was_told_to_end_does_not_resume(clock: Time) -> None:
    row("web:1:aa", state="drained")
    clock.at[1] = lambda: take_up("web:1:aa", "ends")
    assert fails("--all", "--resume", code=1) == (
        "web:1: it was told to end, and does not take streams again."
    )
    rows.stop("web:1:aa")
    assert fails("--node", "web", "--resume", code=1) == "web:1 has stopped, and does not take streams again."


def test_the_wait_outlives_a_database_that_is_away(clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    row("web:1:aa", sockets=7)
    known = sse_drain.read_fleet

    def away() -> Any:
        raise OperationalError("could not connect.")

    def back() -> None:
        monkeypatch.setattr(sse_drain, "read_fleet", known)
        Node.objects.update(seen="2020-01-01 00:00:00+00:00")  # nobody could write in between

    clock.at = {
        1: lambda: monkeypatch.setattr(sse_drain, "read_fleet", away),
        20: back,
        21: lambda: take_up("web:1:aa", left=0),
    }
    said = drain("--all")
    assert any(line.startswith("The processes' rows cannot be read") for line in said)
    assert said[-1] == "No socket is left."


def test_a_database_that_is_away_from_the_start_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> Any:
        raise OperationalError("could not connect.")

    monkeypatch.setattr(sse_drain, "read_fleet", away)
    assert fails("--all", code=1).endswith("from the database: could not connect.")


def test_who_interrupts_the_wait_is_told_that_the_drain_goes_on(clock: Time) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    row()
    clock.at[1] = interrupt
    assert fails("--all", code=130) == "Interrupted. What was ordered goes on."


def test_a_wait_that_cannot_be_is_refused() -> None:
    assert "'soon' is not a number of seconds" in fails("--all", "--wait", "soon", code=1)


def test_hundreds_of_processes_are_not_all_named() -> None:
    for number in range(60):
        row(f"web:{number}:aa")
    (said,) = drain("--all", "--wait", "0")
    assert said.endswith(" and 40 more.")
    assert len(orders()) == 60


def test_the_word_has_left_when_the_command_ends_at_once(tmp_path: Path, redis: Redis) -> None:
    site = Site(tmp_path, redis=redis)
    site.python("from tests.fleets import row\nrow('web:1:aa')")
    with redis_client.Redis.from_url(redis.url) as client, client.pubsub() as heard:
        heard.psubscribe("*")
        heard.get_message(timeout=5)
        assert site.manage("sse_drain", "--all", "--wait", "0") == "Asked to let their streams go: web:1.\n"
        message = heard.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message is not None
    assert b"look" in message["data"]


def test_as_a_program_it_ends_with_what_scripts_read(tmp_path: Path) -> None:
    site = Site(tmp_path)
    # And prints nothing else: no checks.
    with pytest.raises(
        ProcessFailed, match=r"(?s)ended with 2\nCommandError: There is no process 'web'\. Known: none\."
    ):
        site.manage("sse_drain", "--node", "web")
