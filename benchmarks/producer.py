"""A process that publishes numbered events at a steady rate, as the load client checks them.

Each channel's events are numbered from 1 and stamped with `time.monotonic()`; the channels take turns, so
that what is published is spread over time. Run inside the site's settings, by :class:`Producer`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from tests.harness.site import Site

__all__ = ["Producer", "produce"]


class Producer:
    """Publish to *channels* channels (``<prefix>.0`` and on), *rate* events a second to each.

    A context manager; it stops by itself after *seconds*. *size* pads an event's data to so many bytes. With
    a *batch* above 1 so many events to one channel share a transaction; with a *rate* of 0 nothing waits.
    """

    def __init__(
        self,
        site: Site,
        *,
        prefix: str,
        channels: int,
        rate: float,
        seconds: float,
        size: int = 0,
        batch: int = 1,
    ) -> None:
        self._popen: subprocess.Popen[str] = site.spawn(
            "import sys\nfrom benchmarks.producer import produce\n"
            "produce(sys.argv[1], *map(float, sys.argv[2:]))\n",
            prefix,
            *map(str, (channels, rate, seconds, size, batch)),
        )

    def stop(self) -> dict[str, float]:
        """End it; return the `last` number of every channel, how `late` it was, and its `seconds`."""
        printed, said = self._popen.communicate("\n", timeout=60)
        if self._popen.returncode:
            raise RuntimeError(f"the producer ended with {self._popen.returncode}\n{said}")
        found: dict[str, float] = json.loads(printed)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()


def produce(prefix: str, channels: float, rate: float, seconds: float, size: float, batch: float) -> None:
    """Publish until a line comes on stdin or *seconds* have passed; each channel gets as many."""
    import select

    from sse_polling import publish_many

    names = [f"{prefix}.{each}" for each in range(int(channels))]
    began, number, late = time.monotonic(), 0, 0.0
    pause = batch / rate / len(names) if rate else 0.0
    turn = 0
    while time.monotonic() < began + seconds and not select.select([sys.stdin], [], [], 0)[0]:
        for name in names:
            due = began + turn * pause
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            late = max(late, now - due) if rate else 0.0
            publish_many(name, [text(number + 1 + each, now, int(size)) for each in range(int(batch))])
            turn += 1
        number += int(batch)
    print(json.dumps({"last": number, "late": late, "seconds": time.monotonic() - began}))


def text(number: int, at: float, size: int) -> str:
    begin = f'{{"n":{number},"at":{at:.6f}'
    return begin + (f',"pad":"{"x" * max(0, size - len(begin) - 9)}"' if size else "") + "}"
