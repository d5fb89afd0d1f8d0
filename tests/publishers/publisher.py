"""A publisher's process that a test tells what to do, also while it waits for a lock."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.harness.shell import Shell
from tests.harness.site import Site

__all__ = ["Publisher"]

_NAMES = "from tests.publishers.transactions import *\n"


class Publisher(Shell):
    """Run code in one process, with the functions of ``transactions`` as names."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")

    def do(self, code: str, **values: Any) -> Any:
        """Run *code* and return its ``result``."""
        return self.run(_NAMES + code, **values)

    def attempt(self, code: str, **values: Any) -> Any:
        """Run the expression *code*; return None, or the names of its exception and of the cause."""
        return self.do(f"result = attempt(lambda: {code})", **values)

    def later(self, code: str, **values: Any) -> Future[Any]:
        """Begin to attempt the expression *code*, which may wait for a lock."""
        return self._thread.submit(self.attempt, code, **values)

    def close(self) -> None:
        super().close()
        self._thread.shutdown()
