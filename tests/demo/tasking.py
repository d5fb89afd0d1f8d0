"""The tasks of a running demo, as a client of its API has them, and what its database really holds."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.demo.conftest import Demo
from tests.harness.client import EventSourceClient

QUESTION = "What does transaction.on_commit do with robust?"
OVER = {"done", "failed", "cancelled"}


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Tasks:
    """Submits, reads and cancels; kills workers and servers."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.file = demo.directory / "site.sqlite3"

    def send(self, path: str, body: bytes | Sequence[bytes] | None = None, **headers: str) -> Answer:
        """Ask; several pieces of a body are sent in chunks, which do not say how many there are."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.demo.url + path, data=body, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return Answer(response.status, json.loads(response.read()), response.headers)
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read()), error.headers)

    def post(self, fields: object) -> Answer:
        return self.send("/tasks/", json.dumps(fields).encode(), Content_Type="application/json")

    def submit(self, question: str = QUESTION, **fields: object) -> dict[str, Any]:
        status, body, _ = self.post({"question": question, **fields})
        assert status == 201, body
        task: dict[str, Any] = body
        return task

    def task(self, key: str) -> dict[str, Any]:
        status, body, _ = self.send(f"/tasks/{key}/")
        assert status == 200, body
        task: dict[str, Any] = body
        return task

    def cancel(self, key: str) -> Answer:
        return self.send(f"/tasks/{key}/cancel/", b"")

    def wait(
        self, key: str, condition: Callable[[dict[str, Any]], bool], seconds: float = 30
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while not condition(task := self.task(key)):
            assert time.monotonic() < deadline, f"{task}\n{self.demo.log_tail()}"
            time.sleep(0.03)
        return task

    def wait_over(self, key: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until nobody works on it any more, either."""
        return self.wait(key, lambda task: task["state"] in OVER and task["released"], seconds)

    def reader(self, key: str) -> EventSourceClient:
        return EventSourceClient(f"{self.demo.url}/events/task.{key}/", last_event_id="earliest")

    def query(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file, timeout=20)) as connection, connection:
            return connection.execute(text, values).fetchall()

    def stored(self, key: str) -> list[tuple[str, str]]:
        """Return the events of a task's channel, `end` too, from the table itself."""
        return self.query(
            "SELECT e.event, e.data FROM sse_polling_event e"
            " JOIN sse_polling_channel c ON c.id = e.channel_id WHERE c.name = ? ORDER BY e.sequence",
            f"task.{key}",
        )

    def workers(self, queue: str = "agents") -> list[int]:
        """Return the process ids of the demo's own workers of a queue."""
        found = []
        for pid in self.demo.children():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just been killed
                words = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
                if b"worker" in words and queue.encode() in words:
                    found.append(pid)
        return found

    def kill_worker(self, queue: str = "agents") -> None:
        for pid in self.workers(queue):
            os.kill(pid, signal.SIGKILL)

    def kill_server(self) -> None:
        os.kill(self.demo.server_pid(), signal.SIGKILL)


def steps(events: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [json.loads(data) for event, data in events if event != "end"]


def transcript(client: EventSourceClient) -> list[tuple[str, str]]:
    return [(entry.type, entry.data) for entry in client.transcript]


def demo_for_tasks(directory: Path, *, pace: float) -> Demo:
    demo = Demo(directory)
    demo.site.env |= {"TASK_PACE": str(pace), "TASK_LEASE": "2"}
    demo.site._migrated = True  # the demo does it itself
    return demo
