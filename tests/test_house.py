"""The tree's own promises: what is installed is what is written down, and the package carries its files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def ranges(lines: list[str]) -> set[str]:
    """Return requirements in one spelling, the package's own name left out."""
    read = [Requirement(line) for line in lines]
    return {str(requirement).lower() for requirement in read if requirement.name != PROJECT["name"]}


def test_requirements_are_the_dependencies_and_all_extras() -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    assert ranges([line for line in lines if line]) == ranges(PROJECT["dependencies"] + extras)


def test_the_package_alone_needs_little() -> None:
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == {"Django", "channels", "asgiref"}


def test_the_version_is_written_once_for_each_reader() -> None:
    import sse_polling

    assert sse_polling.__version__ == PROJECT["version"]
    assert PROJECT["requires-python"] == ">=3.11"


def test_every_test_that_asks_for_a_program_is_in_ci() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    for package in ("chromium", "redis-server", "nginx", "gettext", "postgresql"):
        assert package in text
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_make_refuses_an_old_or_missing_interpreter_in_words(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    # Stands in for an old Python: says its version, and finds itself too old.
    old.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.9;; *) exit 1;; esac\n')
    old.chmod(0o755)
    for python, complaint in [
        (str(old), "is Python 3.9"),
        ("no-such-python", "is not a Python that runs here"),
    ]:
        done = subprocess.run(
            ["make", "-C", str(ROOT), "test", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode != 0
        assert "sse_polling needs Python 3.11 or newer" in done.stderr
        assert complaint in done.stderr
        assert not (tmp_path / "venv").exists()


def test_the_wheel_carries_every_file_of_the_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert re.match(r"django_sse_polling-[\d.]+-py3-none-any\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sse_polling").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert {"sse_polling/py.typed", "sse_polling/locale/de/LC_MESSAGES/django.mo"} <= packed


@pytest.mark.parametrize("folder", ["sse_polling", "project", "tests"])
def test_no_module_is_called_after_nothing(folder: str) -> None:
    """A name that fits anything tells nothing (STYLE: one noun per module)."""
    vague = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "base"}
    assert [path for path in (ROOT / folder).rglob("*.py") if path.stem in vague] == []


def test_the_package_works_without_djangos_accounts(tmp_path: Path) -> None:
    """A project that has no users at all: AUTHORIZE decides by something else."""
    code = """
import asyncio, django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["sse_polling"], ROOT_URLCONF="sse_polling.urls", USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "<file>"}},
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    SSE_POLLING={"AUTHORIZE": "sse_polling.access.public", "PRESET": "reclaim"},
)
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from sse_polling import publish
publish("a", "hello")
from sse_polling.asgi import SSEPolling
sent = []
async def main():
    query = b"last_event_id=earliest"
    scope = {"type": "http", "method": "GET", "path": "/events/a/", "headers": [], "query_string": query}
    async def receive():
        await asyncio.sleep(60)
    async def send(message):
        sent.append(message)
    await SSEPolling(None, path="/events/")(scope, receive, send)
asyncio.run(main())
print(sent[0]["status"], b"data: hello" in b"".join(each.get("body", b"") for each in sent))
""".replace("<file>", str(tmp_path / "db.sqlite3"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["200", "True"], done.stderr
