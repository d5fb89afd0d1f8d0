"""``sse_tail``: a channel in the terminal, from the database or from an address, to its end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

import sse_polling
from sse_polling.models import Channel, Event
from tests.client.scripted import Say, Scripted, answer, stream
from tests.harness.site import ROOT, Site

pytestmark = pytest.mark.django_db(transaction=True)


def tail(*words: str) -> tuple[str, str]:
    """Return what it printed to standard output and to standard error."""
    out, error = io.StringIO(), io.StringIO()
    call_command("sse_tail", *words, stdout=out, stderr=error)
    return out.getvalue(), error.getvalue()


# A channel


def test_a_finished_channel_is_printed_to_its_end() -> None:
    sse_polling.publish("log", "one\ntwo")
    sse_polling.publish("log", {"n": 1}, event="figure")
    sse_polling.publish("log", "")
    sse_polling.publish("log", "three\n")
    sse_polling.finish("log", {"status": "passed"})
    expected = 'one\ntwo\nfigure: {"n":1}\n\nthree\n\nend: {"status":"passed"}\n'
    assert tail("log", "--last-event-id", "earliest") == (expected, "")
    assert tail("log") == ('end: {"status":"passed"}\n', "")  # from now on: of a finished one its end


def test_json_is_one_object_on_each_line() -> None:
    first = sse_polling.publish("log", "é\n\u2028")
    sse_polling.finish("log")
    out, _ = tail("log", "--json", "--last-event-id", "earliest")
    lines = [json.loads(line) for line in out.removesuffix("\n").split("\n")]
    assert lines[0] == {"channel": "log", "id": first.id, "event": "message", "data": "é\n\u2028"}
    assert [line["event"] for line in lines] == ["message", "end"]


def test_it_goes_on_after_an_id_and_needs_no_more_bursts_than_one() -> None:
    events = sse_polling.publish_many("log", [str(number) for number in range(1200)])
    end = sse_polling.finish("log")
    out, _ = tail("log", "--last-event-id", events[9].id)
    assert out.splitlines() == [*[str(number) for number in range(10, 1200)], "end: {}"]
    assert tail("log", "--last-event-id", end.id) == ("", "")


def test_a_gap_is_printed() -> None:
    first, *_ = sse_polling.publish_many("log", ["a", "b", "c"])
    sse_polling.finish("log")
    Event.objects.filter(data="b").delete()
    out, _ = tail("log", "--last-event-id", first.id)
    assert out == 'gap: {"channel":"log","from":2,"to":2,"reason":"trimmed"}\nc\nend: {}\n'


def test_a_database_that_was_away_is_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from sse_polling.management.commands import sse_tail

    sse_polling.finish("log")
    look, failures = sse_tail.Hub.refresh, [OperationalError("the server closed the connection")]

    async def refresh(self: Any, live: Any) -> None:
        if failures:
            raise failures.pop()
        await look(self, live)

    monkeypatch.setattr(sse_tail.Hub, "refresh", refresh)
    monkeypatch.setattr(sse_tail, "AWAY_SECONDS", 0.01)
    out, error = tail("log")
    assert out == "end: {}\n"
    assert error == "the server closed the connection. Trying again in 0.0 s.\n"


def test_who_only_looks_writes_nothing() -> None:
    sse_polling.finish("log")
    before = Channel.objects.values().get()
    tail("log", "--last-event-id", "earliest")
    assert Channel.objects.values().get() == before
    assert sse_polling.models.Node.objects.count() == 0


# An address


def test_an_address_is_followed_with_its_cursor_and_headers_through_errors() -> None:
    says = [
        answer("503 Full", b"", "Retry-After: 0"),
        stream(b"retry: 1\n\nid: 5\ndata: a\n\n"),
        stream(b"id: 6\nevent: end\ndata: {}\n\n"),
    ]
    with Scripted(map(Say, says)) as server:
        out, error = tail(server.url, "--last-event-id", "4", "--header", "Authorization: Bearer x:y")
        assert server.cursors == ["4", "4", "5"]
        assert {each.headers["authorization"] for each in server.requests} == {"Bearer x:y"}
    assert out == "a\nend: {}\n"
    assert error == "503: Full. Trying again in 0.0 s.\n"


def test_an_address_as_json() -> None:
    with Scripted([Say(stream(b"id: 6\nevent: end\ndata: {}\n\n"))]) as server:
        out, _ = tail(server.url, "--json")
    assert json.loads(out) == {"channel": None, "id": "6", "event": "end", "data": "{}"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["not a name"], "Not a channel name"),
        (["log", "--last-event-id", "nonsense"], "Not a cursor: 'nonsense'"),
        (["log", "--header", "A: b"], "--header is for a URL"),
        (["log", "--header", "nonsense"], "'nonsense' is not a header; expected 'Name: value'"),
        (["ftp://127.0.0.1/"], r"cannot be asked: .*'ftp://'"),
        (["http://127.0.0.1:x/"], "cannot be asked: Invalid port"),
        (["http://127.0.0.1/", "--last-event-id", "a\nb"], "Not an id that a header can carry"),
    ],
)
def test_what_cannot_be_is_refused_in_words(words: list[str], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        tail(*words)


def test_a_refusal_is_told_in_the_servers_words() -> None:
    refused = answer("403 Forbidden", b"You may not read channel a.", "Content-Type: text/plain")
    with (
        Scripted([Say(refused)]) as server,
        pytest.raises(CommandError, match="403: You may not read channel a"),
    ):
        tail(server.url)


def test_without_httpx_an_address_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(CommandError, match=r"pip install \"django-sse-polling\[client\]\""):
        tail("http://127.0.0.1/")


# Live, with real processes: signals, pipes, a terminal


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def live_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("tail"))
    site.migrate()
    return site


@pytest.fixture
def start(live_site: Site) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-W", "error", "-m", "django", "sse_tail", "--skip-checks", *words]
        started.append(subprocess.Popen(command, cwd=ROOT, env=live_site.environment(), **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_new_events_come_while_it_runs_and_ctrl_c_is_quiet(live_site: Site, start: Start) -> None:
    process = start("log", "--last-event-id", "earliest")  # nobody has published to it yet
    assert process.stdout
    live_site.python("from sse_polling import publish\npublish('log', 'one')")
    assert process.stdout.readline() == b"one\n"
    since = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (0, b"", b"")
    assert time.monotonic() - since < 10


def test_a_reader_of_its_output_that_left_is_no_error_and_ctrl_c_on_an_address_is_quiet(start: Start) -> None:
    out, into = os.pipe()
    os.close(out)
    held = Say(stream(b"data: a\n\n"), end="hold")
    with Scripted([held, held]) as server:
        left = start(server.url, stdout=into)
        os.close(into)
        interrupted = start(server.url)
        assert interrupted.stdout
        assert interrupted.stdout.readline() == b"a\n"
        interrupted.send_signal(signal.SIGINT)
        for process in (left, interrupted):
            _, error = process.communicate(timeout=20)
            assert (process.returncode, error) == (0, b"")


def test_a_terminal_is_given_no_orders(start: Start) -> None:
    ours, theirs = pty.openpty()
    with Scripted([Say(stream(b"event: end\ndata: \x1b[2J\ttab\xc2\x9b\n\n"))] * 2) as server:
        process = start(server.url, stdout=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        process.communicate(timeout=20)
        assert shown == b"end: \\x1b[2J\ttab\\x9b\r\n"
        assert tail(server.url)[0] == "end: \x1b[2J\ttab\x9b\n"
