"""A process of a site's own that runs what a test tells it, without a start for each time."""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Any, Self

from project.programs.process import ProcessFailed

from .site import Site

__all__ = ["Shell"]

_LOOP = """
import json, sys, traceback
import sse_polling
for line in sys.stdin:
    asked = json.loads(line)
    names = {"sse_polling": sse_polling, **asked["values"]}
    try:
        exec(asked["code"], names)
        answer = {"result": names.get("result")}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class Shell:
    """Run code in one process beside a site's servers: a publisher, a trimmer, an operator.

    What it publishes reaches a server as another process' events do. Also a context manager.
    """

    def __init__(self, site: Site) -> None:
        self._process = site.spawn(_LOOP)

    def run(self, code: str, *, deadline: float = 30, **values: Any) -> Any:
        """Run *code*, where *values* and `sse_polling` are names; return its `result`, through JSON."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ProcessFailed("the shell has no pipes")
        limit = threading.Timer(deadline, self._process.kill)
        limit.start()
        try:
            stdin.write(json.dumps({"code": code, "values": values}) + "\n")
            stdin.flush()
            line = stdout.readline()
        finally:
            limit.cancel()
        if not line:
            raise ProcessFailed(f"the shell ended, or did not answer for {deadline} s: {code}")
        answer = json.loads(line)
        if "error" in answer:
            raise ProcessFailed(answer["error"])
        return answer["result"]

    def publish(self, channel: str, *data: Any, **options: Any) -> list[str]:
        """Publish in one transaction and return the ids."""
        return list(
            self.run(
                "drafts = [sse_polling.Draft(each, **options) for each in data]\n"
                "result = [event.id for event in sse_polling.publish_many(channel, drafts)]",
                channel=channel,
                data=data,
                options=options,
            )
        )

    def close(self) -> None:
        """End the process."""
        process = self._process
        process.kill()
        process.communicate(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
