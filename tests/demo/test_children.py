"""What the supervisor starts, it ends; what crashes again and again, it gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from project.children import Child, end_all
from project.keep import kept_secret, read_pid, write_pid
from project.supervisor import GivenUp, RestartBudget, Supervisor
from tests.demo.conftest import alive
from tests.harness.site import ROOT


@pytest.fixture(autouse=True)
def _base_directory(settings: Any, tmp_path: Path) -> None:
    settings.BASE_DIR = settings.VAR = tmp_path


def test_a_crash_loop_runs_out_of_restarts_and_patience_gives_them_back() -> None:
    budget = RestartBudget(restarts=2, seconds=10)
    assert [budget.take(0), budget.take(1), budget.take(2)] == [True, True, False]
    assert budget.take(10.5)


def test_each_restart_is_waited_for_longer_than_the_one_before() -> None:
    budget = RestartBudget()
    pauses = [budget.pause for now in range(5) if budget.take(now)]
    assert pauses == [0.5, 1, 2, 4, 4]


def test_a_child_that_does_not_listen_or_is_frozen_is_ended(tmp_path: Path) -> None:
    stubborn = Child(
        "stubborn",
        ["-c", "import signal, time; signal.signal(15, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"],
        {},
    )
    polite = Child("polite", ["-c", "import time; time.sleep(60)"], {})
    children = [stubborn.start(), polite.start()]
    pids = [child.pid for child in children]
    stubborn.wait_for((tmp_path / "up").exists, seconds=10, what="to be up")
    polite.pause()
    started = time.monotonic()
    end_all(children, seconds=0.5)
    assert time.monotonic() - started < 5
    assert (stubborn.returncode, polite.returncode) == (-signal.SIGKILL, -signal.SIGTERM)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_crashes_is_started_again_until_the_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RestartBudget, "pause", 0.0)
    said: list[str] = []
    supervisor = Supervisor(say=said.append, complain=said.append)
    child = Child("crashing", ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], {})
    monkeypatch.setattr(child, "is_ready", lambda: True)
    try:
        assert supervisor.start(child)
        with pytest.raises(GivenUp, match="crashing ended 5 times within 30 seconds; giving up"):
            supervisor.watch(restart=lambda: None)
    finally:
        end_all([child], 1)
    assert said[0] == "crashing was ended by SIGKILL; starting it again."
    assert len([line for line in said if "runs again, as process" in line]) == 5


def test_nothing_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from project.programs.process import Process\n"
        "class Sleeper(Process):\n"
        "    leashed = True\n"
        "    def command(self): return ['sleep', '60']\n"
        f"print(Sleeper('sleeper', pathlib.Path({str(tmp_path)!r})).start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        child = int(owner.stdout.readline())
    # Before that the leash is not on yet.
    _eventually(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
    owner.kill()
    owner.wait(10)
    _eventually(lambda: not alive(child))


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


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
