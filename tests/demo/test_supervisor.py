"""`make run`: what it prints, what it restarts, and that nothing is left when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from project.programs.ports import accepts, free_port
from tests.demo.conftest import Demo, alive
from tests.harness.site import ROOT, Site


def test_the_demo_says_where_it_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = Demo(tmp_path).start()
    children = demo.children()
    password = (demo.var / "admin-password").read_text().strip()
    assert len(children) == 4  # the server, the machine's figures, and two workers
    assert demo.server_pid() in children
    assert f"{demo.url}/\n" in demo.log()
    assert f"admin / {password}" in demo.log()

    # A server that dies is started again, with the readers' address unchanged.
    dead = demo.server_pid()
    os.kill(dead, signal.SIGKILL)
    demo.wait_for(lambda: demo.server_pid() != dead and accepts(demo.port), seconds=20, what="to revive it")
    # And one that a visitor wants restarted goes through the same door as ctrl-C.
    old = demo.server_pid()
    demo.signal(signal.SIGUSR1)
    demo.wait_for(lambda: "The server is back" in demo.log(), seconds=30, what="to restart the server")
    assert demo.server_pid() != old
    assert not alive(old)

    children = demo.children()
    demo.signal(signal.SIGINT)
    assert demo.wait(40) == 0
    assert not [pid for pid in children if alive(pid)]
    assert not accepts(demo.port)
    assert not (demo.var / "server.pid").exists()

    # The password is the same the next time.
    with demo:
        assert demo.log().count(f"admin / {password}") == 2


def test_a_port_in_use_is_said_in_one_sentence(demo: Demo) -> None:
    done = subprocess.run(
        demo.command(),
        env=demo.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"CommandError: Port {demo.port} on 127.0.0.1 is already in use: "
        "choose another, as in make run PORT=8001."
    )


def test_a_server_that_cannot_start_is_not_tried_for_ever(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    # Stands before the real one on the path, and ends at once.
    broken = tmp_path / "broken" / "daphne"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "__main__.py").write_text("raise SystemExit(3)\n")
    environment = {**demo.environment(), "PYTHONPATH": f"{broken.parent}:{ROOT}"}
    started = time.monotonic()
    done = subprocess.run(
        demo.command(), env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "CommandError: The server ended at once, with status 3." in done.stderr
    assert time.monotonic() - started < 30


def test_the_settings_are_fit_for_the_open_network(tmp_path: Path) -> None:
    site = Site(
        tmp_path,
        settings="project.settings",
        env={
            "DJANGO_VAR": str(tmp_path),
            "DJANGO_DEBUG": "0",
            "DJANGO_SECRET_KEY": "".join(chr(33 + n * 7 % 90) for n in range(60)),
            "DJANGO_ALLOWED_HOSTS": "example.org",
        },
    )
    site.python(
        "from django.core.management import call_command\n"
        "call_command('check', deploy=True, fail_level='WARNING')\n"
    )


def test_a_site_without_a_key_does_not_start(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SECRET_KEY"}
    environment |= {
        "DJANGO_DEBUG": "0",
        "DJANGO_VAR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "set DJANGO_SECRET_KEY" in done.stderr


@pytest.mark.faults
def test_the_crowd_loses_nothing_through_a_restart(demo: Demo) -> None:
    crowd = subprocess.Popen(
        [sys.executable, "manage.py", "crowd", "--url", demo.url, "--clients", "40", "--seconds", "14"],
        env=demo.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(5)
    demo.signal(signal.SIGUSR1)
    out, err = crowd.communicate(timeout=60)
    assert crowd.returncode == 0, err
    last = out.strip().splitlines()[-1]
    assert last.endswith("nothing lost, nothing repeated, 0 gaps."), out
    assert int(last.split()[0]) > 40 * 4, out + demo.log_tail()


def test_a_crowd_that_nobody_answers_says_so(demo: Demo) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "manage.py",
            "crowd",
            "--url",
            f"http://127.0.0.1:{free_port()}",
            "--clients",
            "2",
            "--seconds",
            "1",
        ],
        env=demo.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "Is the demo running there" in done.stderr
