"""An ASGI server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from project.programs.ports import HOST, accepts, free_port
from project.programs.process import Process

from .site import ROOT, Site

__all__ = ["AsgiServer", "Kind"]

Kind = Literal["daphne", "uvicorn", "hypercorn", "granian"]


class AsgiServer(Process):
    """Serve one application of a site, with one process, on a port that survives restarts.

    `app` is `tests.asgi:application` (the mount in front of Django) or
    `tests.asgi:plain_application` (Django alone).
    """

    def __init__(
        self,
        site: Site,
        *,
        kind: Kind = "daphne",
        app: str = "tests.asgi:application",
        arguments: Sequence[str] = (),
        name: str = "",
    ) -> None:
        self.port = free_port()
        super().__init__(name or f"{kind}-{self.port}", site.directory)
        self.site = site
        self.kind = kind
        self.app = app
        self.arguments = list(arguments)

    @property
    def url(self) -> str:
        """The address of the server, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process that serves, which for granian is a child of the one that was started."""
        started = super().pid
        if self.kind != "granian":
            return started
        children = Path(f"/proc/{started}/task/{started}/children").read_text().split()
        return int(children[0]) if children else started

    def kill(self) -> None:
        if self.kind == "granian" and self.running:
            # Its child outlives it; both are in a session that this process made for them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(super().pid, signal.SIGKILL)
        super().kill()

    def command(self) -> Sequence[str | Path]:
        port = str(self.port)
        options = {
            "daphne": ["-b", HOST, "-p", port],
            "uvicorn": ["--host", HOST, "--port", port],
            "hypercorn": ["--bind", f"{HOST}:{port}", "--workers", "0"],
            "granian": ["--interface", "asgi", "--host", HOST, "--port", port, "--workers", "1"],
        }[self.kind]
        return [sys.executable, "-m", self.kind, *options, *self.arguments, self.app]

    def environment(self) -> Mapping[str, str]:
        return self.site.environment()

    def working_directory(self) -> Path:
        return ROOT

    def is_ready(self) -> bool:
        return accepts(self.port)

    def start(self, *, wait: bool = True) -> AsgiServer:
        self.site.migrate()
        super().start(wait=wait)
        return self

    def counts(self) -> dict[str, Any]:
        """Return what the server's process has counted (`tests.counting`)."""
        with urllib.request.urlopen(f"{self.url}/counts/", timeout=30) as response:
            return dict(json.load(response))

    def publish(self, channel: str, *data: Any, **body: Any) -> list[int]:
        """Publish inside the server's process, in one transaction, and return the sequences.

        `events=` takes dictionaries of `publish` arguments, `finish=` data, `rollback=True` undoes it.
        """
        events = [{"data": one} for one in data] + list(body.pop("events", []))
        request = urllib.request.Request(
            f"{self.url}/publish/",
            data=json.dumps({"channel": channel, "events": events, **body}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return list(json.load(response)["sequences"])
