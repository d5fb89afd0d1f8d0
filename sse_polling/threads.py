"""Let a held stream keep no thread and no database connection.

Django runs the sync parts of a request in a thread of that request's own, and keeps it until the
body has ended: 900 streams, 900 threads. This gives the thread back and lets what sync work is
left run in one small executor of the process. It reaches into asgiref, so it looks first.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections

__all__ = ["give_thread_back"]

THREADS = 4


class _Shared(ThreadPoolExecutor):
    """An executor that outlives the requests that think it theirs."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


_shared = _Shared(THREADS, thread_name_prefix="sse_polling-request")


async def give_thread_back() -> bool:
    """Close the request's connections and end its thread; False where asgiref is another than known."""
    context: Any = getattr(SyncToAsync, "thread_sensitive_context", None)
    executors: Any = getattr(SyncToAsync, "context_to_thread_executor", None)
    if context is None or executors is None:
        return False
    current = context.get(None)
    if current is None:
        return False  # no request of its own: a test client, or a loop made for this call
    own = executors.get(current)
    if own is _shared:
        return True
    if own is not None:
        await sync_to_async(_close_connections)()
    executors[current] = _shared
    if isinstance(own, Executor):
        own.shutdown(wait=False)
    return True


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
