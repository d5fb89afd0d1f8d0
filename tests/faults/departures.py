"""The end of one server's process, as its log, its row and its exit tell it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field

from tests.harness.server import AsgiServer

from .store import Store

__all__ = ["Departure"]

_BEGUN = re.compile(r"sse_polling drains (\d+) streams \((\w+)\)")
_OVER = re.compile(r"sse_polling is drained: (.*)")
#: As each server leaves when it is told to and holds nothing: uvicorn tells its parent of the signal.
_STATUS = {"daphne": 0, "uvicorn": -signal.SIGTERM}


@dataclass(slots=True)
class Departure:
    """One process. *drained*: the streams that were open when its drain began."""

    name: str
    #: The name of its row.
    node: str
    port: int
    pid: int
    #: From SIGTERM to the exit.
    seconds: float
    #: From the order to leave to the exit.
    draining_seconds: float
    why: str = ""
    drained: int = 0
    farewells: dict[str, int] = field(default_factory=dict)

    def read(self, server: AsgiServer, status: int, log: str) -> None:
        """Learn from its exit and from what it has printed. Raises AssertionError if it did not end well."""
        assert status == _STATUS[server.kind], f"{self.name} ended with {status}\n{server.log_tail()}"
        begun, over = _BEGUN.findall(log), _OVER.findall(log)
        assert (len(begun), len(over)) == (1, 1), f"{self.name} was not drained once\n{server.log_tail()}"
        self.drained, self.why = int(begun[0][0]), begun[0][1]
        self.farewells = {how: int(count) for count, how in re.findall(r"(\d+) (\w+)", over[0])}
        for wrong in ("cuts", "Traceback", "could not drain", "Cancel "):
            assert wrong not in log, f"{self.name} printed {wrong!r}\n{server.log_tail()}"
        assert "cut" not in self.farewells, f"{self.name}: {self.farewells}"

    def check_row(self, store: Store) -> None:
        """Assert that its row says good-bye."""
        name, state, stopped, sockets, _ = store.node(self.pid)
        assert (state, stopped, sockets) == ("drained", True, 0), f"{self.name}: the row of {name} {state}"
