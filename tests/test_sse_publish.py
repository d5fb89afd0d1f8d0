"""``sse_publish``: every line of the input becomes an event, exactly, in order, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext

import sse_polling
from sse_polling.management.commands import sse_publish
from sse_polling.models import Channel, Event
from tests.harness.site import ROOT, Site
from tests.test_following import TRICKY, TRICKY_LINES

pytestmark = pytest.mark.django_db


def publish(*words: str) -> str:
    out = io.StringIO()
    call_command("sse_publish", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def stored(channel: str = "log") -> list[str]:
    return list(
        Event.objects.filter(channel__name=channel).order_by("sequence").values_list("data", flat=True)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "input.txt"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give the command a pipe as standard input; the test writes into the other end."""
    out, into = os.pipe()
    with os.fdopen(out) as replaced:
        monkeypatch.setattr(sys, "stdin", replaced)
        yield into
    with contextlib.suppress(OSError):
        os.close(into)


def test_each_line_is_one_event_exactly_as_it_came(file: Path) -> None:
    file.write_bytes(TRICKY.encode())
    said = publish("log", str(file))
    assert stored() == TRICKY_LINES
    assert said.startswith(f"Published {len(TRICKY_LINES)} lines to log in ")


def test_standard_input_is_read_to_its_end(stdin: int) -> None:
    os.write(stdin, b"one\r\n\ntwo")
    os.close(stdin)
    publish("log", "-")
    assert stored() == ["one", "", "two"]


def test_standard_input_is_the_default(stdin: int) -> None:
    os.write(stdin, b"one\n")
    os.close(stdin)
    assert publish("log").startswith("Published 1 line to log")
    assert stored() == ["one"]


def test_the_events_are_named(file: Path) -> None:
    file.write_text("one\ntwo\n")
    publish("log", str(file), "--event", "line")
    assert set(Event.objects.values_list("event", flat=True)) == {"line"}


def test_lines_go_in_batches_a_transaction_each(file: Path) -> None:
    file.write_text("".join(f"{number}\n" for number in range(25)))
    with CaptureQueriesContext(connection) as queries:
        publish("log", str(file), "--batch", "10")
    inserts = [query for query in queries if query["sql"].startswith('INSERT INTO "sse_polling_event"')]
    assert len(inserts) == 3
    assert stored() == [str(number) for number in range(25)]


def test_a_batch_is_bounded_in_bytes_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_publish, "BATCH_BYTES", 1000)
    file.write_text(("x" * 600 + "\n") * 6)
    with CaptureQueriesContext(connection) as queries:
        publish("log", str(file), "--batch", "500")
    assert sum('INSERT INTO "sse_polling_event"' in query["sql"] for query in queries) == 3


def test_queries_are_not_kept_with_debug(file: Path, settings: Any) -> None:
    settings.DEBUG = True
    file.write_text("x\n" * 100)
    publish("log", str(file), "--batch", "5")
    assert len(connection.queries_log) < 10


def test_finish_ends_the_channel_after_the_last_line(file: Path) -> None:
    file.write_text("one\n")
    assert "is finished" in publish("log", str(file), "--finish")
    assert list(Event.objects.order_by("sequence").values_list("event", flat=True)) == ["message", "end"]
    assert Channel.objects.get(name="log").finished


def test_nothing_is_finished_when_a_line_was_refused(file: Path) -> None:
    file.write_bytes(b"one\n\xff\n")
    with pytest.raises(CommandError):
        publish("log", str(file), "--finish")
    assert Channel.objects.get(name="log").finished is None


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"one\ntwo\nbad \xff\nfour\n", r"Line 3 is not UTF-8: .* 0xff at byte 12 of the input"),
        (b"one\ntwo\n\0\n", r"Line 3, which begins at byte 8 of the input, cannot be published\. .*NUL"),
        (b"one\ntwo\n" + b"x" * 101, r"Line 3, which begins at byte 8 .* longer than 100 bytes"),
    ],
)
def test_a_bad_line_stops_it_and_those_before_are_published(
    file: Path, settings: Any, data: bytes, complaint: str
) -> None:
    settings.SSE_POLLING = {"MAX_EVENT_BYTES": 100}
    file.write_bytes(data)
    with pytest.raises(CommandError, match=complaint + r".*\. Published 2 lines to log in "):
        publish("log", str(file))
    assert stored() == ["one", "two"]


def test_a_line_of_gigabytes_is_refused_after_a_few_blocks(stdin: int) -> None:
    written = 0

    def write() -> None:
        nonlocal written
        with contextlib.suppress(OSError):
            while written < 2**30:
                written += os.write(stdin, b"x" * 65_536)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with pytest.raises(CommandError, match=r"Line 1, which begins at byte 0 .* longer than 262,144 bytes"):
        publish("log")
    sys.stdin.close()
    thread.join(10)
    assert written < 2**20


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["not a name"], "Not a channel name"),
        (["sse_polling.own"], "app's own"),
        (["log", "--event", "gap"], "event name"),
        (["log", "--batch", "0"], "not a whole number from 1 to 10,000"),
        (["log", "--batch", "many"], "not a whole number from 1 to 10,000"),
        (["log", "/nothing/there"], "No such file"),
        (["log", "/"], "directory"),
        (["log", "--follow"], "--follow needs a FILE"),
        (["log", "/dev/null", "--follow"], "--follow needs a FILE"),
        (["log", "/nothing/there", "--follow"], "No such file"),
    ],
)
def test_what_cannot_be_is_refused_in_words(words: list[str], complaint: str, stdin: int) -> None:
    os.close(stdin)
    with pytest.raises(CommandError, match=complaint):
        publish(*words)
    assert not Channel.objects.exists()


def test_a_finished_channel_is_told_with_what_was_published(file: Path) -> None:
    sse_polling.finish("log")
    file.write_text("one\n")
    with pytest.raises(CommandError, match=r"'log' is finished.* Published 0 lines"):
        publish("log", str(file))


# Live input, with real processes: signals, pipes, a terminal


@pytest.fixture
def live_site(site: Site) -> Site:
    site.migrate()
    return site


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(live_site: Site) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-W", "error", "-m", "django", "sse_publish", *words]
        started.append(subprocess.Popen(command, cwd=ROOT, env=live_site.environment(), **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def seen(site: Site) -> list[str]:
    import sqlite3

    with contextlib.closing(sqlite3.connect(site.database.removeprefix("sqlite:///"))) as database:
        return [row[0] for row in database.execute("SELECT data FROM sse_polling_event ORDER BY id")]


def wait_for(site: Site, lines: list[str], seconds: float = 15) -> float:
    """Wait until exactly *lines* are stored and return how long it took."""
    since = time.monotonic()
    while (now := seen(site)) != lines:
        assert time.monotonic() - since < seconds, now
        time.sleep(0.01)
    return time.monotonic() - since


def test_a_line_of_a_slow_pipe_is_published_while_the_pipe_is_open(live_site: Site, start: Start) -> None:
    process = start("log")
    assert process.stdin
    process.stdin.write(b"one\n")
    process.stdin.flush()
    wait_for(live_site, ["one"])
    process.stdin.write(b"two\nunfin")
    process.stdin.flush()
    assert wait_for(live_site, ["one", "two"], 5) < 2  # 0.2 s, on a busy machine
    out, _ = process.communicate(b"ished")
    wait_for(live_site, ["one", "two", "unfinished"])
    assert out.startswith(b"Published 3 lines to log in ")
    assert process.returncode == 0


def test_an_interrupted_pipe_publishes_what_it_read_and_says_so(live_site: Site, start: Start) -> None:
    process = start("log", "--finish")
    assert process.stdin
    process.stdin.write(b"one\ntwo\n")
    process.stdin.flush()
    wait_for(live_site, ["one", "two"])
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=15)
    assert process.returncode == 130
    assert b"Interrupted. Published 2 lines to log in " in error
    assert b"Traceback" not in error
    assert out == b""
    assert seen(live_site) == ["one", "two"]  # and no end: the input was not over


def test_following_goes_on_through_rotation_until_it_is_told_to_stop(
    live_site: Site, start: Start, file: Path
) -> None:
    file.write_bytes(b"one\ntwo\npar")
    process = start("log", str(file), "--follow", "--finish")
    wait_for(live_site, ["one", "two"])
    with file.open("ab") as writer:
        writer.write(b"tial\n")
        writer.flush()
        wait_for(live_site, ["one", "two", "partial"])
        file.rename(file.with_suffix(".1"))
        writer.write(b"after the rename")
        writer.flush()
    file.write_bytes(b"new\n")
    wait_for(live_site, ["one", "two", "partial", "after the rename", "new"])
    file.write_bytes(b"")
    time.sleep(0.3)
    file.write_bytes(b"truncated\nopen")
    wait_for(live_site, ["one", "two", "partial", "after the rename", "new", "truncated"])
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=15)
    assert process.returncode == 0, error
    assert b"The unfinished last line was not published." in out
    assert b"Published 6 lines to log" in out
    assert seen(live_site)[-1] == "{}"  # the end


def test_a_reader_of_its_output_that_left_is_no_error(live_site: Site, start: Start, file: Path) -> None:
    file.write_bytes(b"one\n")
    out, into = os.pipe()
    os.close(out)
    process = start("log", str(file), stdout=into)
    os.close(into)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert b"Traceback" not in error
    assert b"BrokenPipe" not in error
    assert b"Published 1 line" in error
    assert seen(live_site) == ["one"]


def test_progress_is_shown_on_a_terminal_only(live_site: Site, start: Start, file: Path) -> None:
    file.write_bytes(b"a line of text\n" * 12_000)
    quiet = start("log", str(file))
    _, error = quiet.communicate(timeout=60)
    assert b"lines/s" not in error
    ours, theirs = pty.openpty()
    process = start("log", str(file), stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while block := os.read(ours, 4096):
            shown += block
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert re.search(rb"\r\x1b\[K[\d,]+ lines to log in [\d.]+ s, [\d,]+ lines/s", shown)
    assert out.startswith(b"Published 12,000 lines")


def test_fifty_thousand_lines_take_seconds_and_little_memory(
    live_site: Site, start: Start, file: Path
) -> None:
    lines = [f"{number}: {'text ' * (number % 20)}" for number in range(50_000)]
    file.write_text("\n".join(lines))
    since = time.monotonic()
    process = start("log", str(file))
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.05)
    assert process.returncode == 0
    assert time.monotonic() - since < 45  # 4 s when nobody else is at work
    assert peak < 150_000
    assert seen(live_site) == lines
