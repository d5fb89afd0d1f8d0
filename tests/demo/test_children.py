"""What the supervisor starts, it ends; what crashes again and again, it gives up."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from project.children import Child, RestartBudget, end_all
from project.keep import kept_secret, read_pid, write_pid


@pytest.fixture(autouse=True)
def _base_directory(settings: object, tmp_path: Path) -> None:
    settings.BASE_DIR = tmp_path  # type: ignore[attr-defined]


def test_a_crash_loop_runs_out_of_restarts_and_patience_gives_them_back() -> None:
    budget = RestartBudget(restarts=2, seconds=10)
    assert [budget.take(0), budget.take(1), budget.take(2)] == [True, True, False]
    assert budget.take(10.5)


def test_a_child_that_does_not_listen_is_killed() -> None:
    stubborn = Child(
        "stubborn",
        ["-c", "import signal, time; signal.signal(15, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"],
        {},
    )
    polite = Child("polite", ["-c", "import time; time.sleep(60)"], {})
    pids = [stubborn.start(), polite.start()]
    _wait_for("up")
    started = time.monotonic()
    end_all([stubborn, polite], seconds=0.5)
    assert time.monotonic() - started < 5
    assert (stubborn.status, polite.status) == (-signal.SIGKILL, -signal.SIGTERM)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "var" / "secret"
    first = kept_secret(file)
    assert len(first) >= 50
    assert kept_secret(file) == first
    assert file.stat().st_mode & 0o077 == 0


def test_a_process_id_is_read_back_or_is_none(tmp_path: Path) -> None:
    file = tmp_path / "server.pid"
    assert read_pid(file) is None
    write_pid(file, 42)
    assert read_pid(file) == 42
    file.write_text("nonsense")
    assert read_pid(file) is None


def _wait_for(name: str) -> None:
    from django.conf import settings

    deadline = time.monotonic() + 10
    while not (Path(settings.BASE_DIR) / name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
