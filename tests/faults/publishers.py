"""The publishing processes as the suite sees them: told what to do, asked what they know."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from project.programs.ports import HOST, accepts, free_port
from project.programs.process import Process, ProcessFailed
from tests.harness.site import ROOT, Site

__all__ = ["Known", "Publisher"]


@dataclass(slots=True)
class Known:
    """What publishers know of the events that they published, read from their logs."""

    #: (channel, number) to the id that the commit was acknowledged with.
    acknowledged: dict[tuple[str, str], str] = field(default_factory=dict)
    rolled_back: set[tuple[str, str]] = field(default_factory=set)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    transactions: int = 0
    retried: int = 0
    #: Seconds of the longest transaction that committed, the app's part of on_commit within it.
    longest: float = 0.0
    longest_waking: float = 0.0
    died: list[str] = field(default_factory=list)

    def take(self, line: Mapping[str, Any]) -> None:
        outcome = line["outcome"]
        if outcome == "died":
            self.died.append(line["error"])
            return
        self.transactions += 1
        if outcome == "acknowledged":
            for channel, number, identifier in line["events"]:
                self.acknowledged[channel, number] = identifier
            self.retried += line["attempts"] > 1
            self.longest = max(self.longest, line["seconds"])
            self.longest_waking = max(self.longest_waking, line["waking"])
        elif outcome == "rolled back":
            self.rolled_back |= {(channel, number) for channel, number in line["events"]}
        else:
            self.unknown |= {(channel, number) for channel, number in line["events"]}


class Publisher(Process):
    """One process of ``tests.faults.publisher``."""

    def __init__(self, site: Site, *, name: str) -> None:
        super().__init__(name, site.directory)
        self.site = site
        self.port = free_port()
        self.knowledge = site.directory / f"{name}.jsonl"
        self._read = 0

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "tests.faults.publisher", str(self.port), self.knowledge]

    def environment(self) -> Mapping[str, str]:
        return self.site.environment()

    def working_directory(self) -> Path:
        return ROOT

    def is_ready(self) -> bool:
        return accepts(self.port)

    def ask(self, do: str, *, deadline: float = 90, **options: Any) -> dict[str, Any]:
        """Tell the process to do something and return its answer."""
        with socket.create_connection((HOST, self.port), timeout=deadline) as connection:
            connection.sendall((json.dumps({"do": do, **options}) + "\n").encode())
            with connection.makefile() as lines:
                line = lines.readline()
        if not line:
            raise ProcessFailed(f"{self.name} did not answer {do!r}\n{self.log_tail()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ProcessFailed(f"{self.name}, told to {do}: {answer['error']}\n{self.log_tail()}")
        return answer

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines that were logged since the last call."""
        if not self.knowledge.exists():
            return
        with self.knowledge.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                with suppress(ValueError):
                    yield json.loads(line)
