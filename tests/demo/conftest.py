"""The whole demo, as `make run` starts it."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Self

import pytest

from project.programs.ports import HOST, free_port
from project.programs.process import Process
from tests.harness.site import ROOT, Site


class Demo(Process):
    """`manage.py demo`, or another of the demo's supervisors, with a `var/` of its own."""

    start_seconds = 60
    stop_seconds = 40

    def __init__(self, directory: Path, name: str = "demo", *arguments: str) -> None:
        super().__init__(name, directory)
        self.arguments = arguments
        self.port = free_port()
        self._starts = 0
        self.var = directory / "var"
        self.site = Site(
            directory,
            settings="project.settings",
            env={"DJANGO_VAR": str(self.var), "DJANGO_DEBUG": "1", "TASK_PACE": "0.15"},
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "manage.py", self.name, "--port", str(self.port), *self.arguments]

    def environment(self) -> Mapping[str, str]:
        return self.site.environment()

    def working_directory(self) -> Path:
        return ROOT

    def is_ready(self) -> bool:
        return self.log().count("Ctrl-C stops it") == self._starts

    def start(self, *, wait: bool = True) -> Self:
        self._starts += 1
        return super().start(wait=wait)

    def server_pid(self) -> int:
        return int((self.var / "server.pid").read_text())

    def children(self) -> list[int]:
        """Return the process ids of what the supervisor started."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.pid:
                found.append(int(entry.name))
        return found

    def get(self, path: str) -> tuple[int, str, Mapping[str, str]]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as response:
                return response.status, response.read().decode(), response.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers


def alive(pid: int) -> bool:
    """Tell whether a process still runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def form_of(demo: Demo, page: str) -> Callable[..., tuple[int, str]]:
    """Return what posts a form of that page, with its CSRF token and without a script."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    body = opener.open(demo.url + page, timeout=20).read().decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', body)
    assert found

    def send(path: str, **fields: str) -> tuple[int, str]:
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": found[1], **fields}).encode()
        try:
            response = opener.open(demo.url + path, data=data, timeout=20)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        return response.status, response.read().decode()

    return send


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    process = Demo(tmp_path_factory.mktemp("demo"))
    with process:
        yield process
