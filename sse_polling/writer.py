"""Stream writers: many small events in few transactions, for tokens and steps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from django.db import connections, transaction

from . import history
from .database import alias, run_writing
from .exceptions import SSEPollingError
from .history import NewEvent
from .layer import Wake
from .protocol.event import StoredEvent
from .publishing import Draft, prepare, prepare_end, store
from .wake import send, sender, wake

__all__ = ["AsyncStreamWriter", "StreamWriter", "astream_writer", "stream_writer"]

T = TypeVar("T")

MAX_BUFFERED = 500  # events; a write beyond it waits for the flush
MAX_BUFFERED_BYTES = 1_048_576


class AsyncStreamWriter:
    """Writes events to one channel, together with what follows within ``flush_ms``.

    Use :func:`astream_writer`. A failed flush raises, at the latest at the next call, and keeps the
    events for the one after it. What :meth:`write` raised for was not taken. Where a commit was not
    answered, whether its events are stored is found out before they are stored again.
    """

    def __init__(self, channel: str, *, event: str, flush_ms: float, finish: bool) -> None:
        self.channel = channel
        self._event = event
        self._delay = flush_ms / 1000
        self._finish = finish
        self._buffer: list[NewEvent] = []
        self._bytes = 0
        self._lock = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self._last: StoredEvent | None = None
        self._doubt: _Attempt | None = None
        prepare(channel, Draft("", event=event))  # bad names are refused here, not at the first write

    async def __aenter__(self) -> Self:
        _refuse_atomic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._failed = None  # what failed before is tried again here
        data = {"status": "failed"} if error is not None else None
        await _whole(self._drain([prepare_end(self.channel, data)] if self._finish else []))

    async def write(self, data: Any, *, event: str | None = None, key: str | None = None) -> None:
        """Take one event. Raises as :func:`publish` does, and what a flush failed with.

        An event that it raised for was not taken.
        """
        self._raise_failed()
        if self._is_full():
            await self.flush()
        prepared = prepare(self.channel, Draft(data, event=self._event if event is None else event, key=key))
        self._buffer.append(prepared)
        self._bytes += len(prepared.data)
        if self._is_full() or not self._delay:
            await _whole(self._take(prepared))
        elif self._timer is None or self._timer.done():
            self._timer = asyncio.get_running_loop().create_task(
                self._flush_later(), name="sse_polling-flush"
            )

    def _is_full(self) -> bool:
        return len(self._buffer) >= MAX_BUFFERED or self._bytes >= MAX_BUFFERED_BYTES

    async def _take(self, event: NewEvent) -> None:
        """Flush, and give back *event*, the caller's own, if that fails and did not store it."""
        async with (
            self._lock
        ):  # an event leaves the buffer under it alone: others count what is before theirs
            try:
                await self._store()
            except Exception as error:
                if self._doubt is not None:
                    self._failed = error  # perhaps it is stored: it stays, and the next call raises
                    return
                self._buffer = [each for each in self._buffer if each is not event]
                self._bytes = sum(len(each.data) for each in self._buffer)
                raise

    async def end_burst(self) -> None:
        """Store what is buffered and let the streams that send its last event close right after it."""
        await _whole(self._end_burst())

    async def flush(self) -> None:
        """Store what is buffered, in one transaction."""
        self._raise_failed()
        await _whole(self._drain())

    async def _end_burst(self) -> None:
        async with self._lock:
            await self._settle()
            last = self._last
            if self._buffer:
                self._buffer[-1] = replace(self._buffer[-1], ends_burst=True)
                await self._store()
            elif last is not None and await run_writing(
                history.mark_burst_end, self.channel, last.life, last.sequence, using=alias()
            ):
                send([Wake(self.channel, last.life, last.sequence, last.tag, ends_burst=True)])

    async def _drain(self, more: Sequence[NewEvent] = ()) -> None:
        async with self._lock:
            await self._store(more)

    async def _store(self, more: Sequence[NewEvent] = ()) -> None:
        await self._settle()
        batch = [*self._buffer, *more]
        if not batch:
            return
        attempt = _Attempt(len(self._buffer))
        try:
            await run_writing(attempt.store, batch)
        except Exception:
            self._doubt = attempt if attempt.placed else None
            settled = False
            with suppress(Exception):
                settled = await self._settle()
            if not settled:
                raise
        else:
            self._leave(attempt)

    async def _settle(self) -> bool:
        """Find out whether the attempt in doubt, if any, was stored; then its events leave the buffer."""
        attempt = self._doubt
        if attempt is None:
            return False
        position = max(attempt.placed, key=lambda event: event.sequence).position
        state = await run_writing(history.settle, self.channel, position, using=alias())
        self._doubt = None
        if state is None:
            return False
        self._leave(attempt)
        wake([state])
        return True

    def _leave(self, attempt: _Attempt) -> None:
        self._last = attempt.placed[-1]
        del self._buffer[: attempt.count]
        self._bytes = sum(len(each.data) for each in self._buffer)

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._delay)
        try:
            await _whole(self._drain())
        except Exception as error:  # noqa: BLE001 - raised at the writer's next call
            self._failed = error

    def _raise_failed(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed


@dataclass(slots=True)
class _Attempt:
    """One try to store a batch: the first *count* of the buffer, and what may follow at the end."""

    count: int
    placed: Sequence[StoredEvent] = ()  # known before the commit: a commit may fail after it was done

    def store(self, batch: list[NewEvent]) -> None:
        with transaction.atomic(using=alias()):
            self.placed = store(batch)


class StreamWriter:
    """The same for sync code: every call runs on the app's background loop. See :func:`stream_writer`."""

    def __init__(self, writer: AsyncStreamWriter) -> None:
        self._writer = writer

    def __enter__(self) -> Self:
        _refuse_atomic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _call(self._writer.__aexit__(kind, error, trace))

    def write(self, data: Any, *, event: str | None = None, key: str | None = None) -> None:
        _refuse_atomic()
        _call(self._writer.write(data, event=event, key=key))

    def end_burst(self) -> None:
        _refuse_atomic()
        _call(self._writer.end_burst())

    def flush(self) -> None:
        _refuse_atomic()
        _call(self._writer.flush())


async def _whole(step: Coroutine[Any, Any, None]) -> None:
    """Let *step* come to its end even if its caller is cancelled: what is stored must leave the buffer."""
    await asyncio.shield(asyncio.ensure_future(step))


def _refuse_atomic() -> None:
    if connections[alias()].in_atomic_block:
        raise SSEPollingError(
            "A stream writer commits on a connection of its own and would wait for this transaction "
            "for ever: open it outside atomic(), or use publish()."
        )


def _call(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, sender.loop()).result()


def astream_writer(
    channel: str, *, event: str = "message", flush_ms: float = 50, finish: bool = False
) -> AsyncStreamWriter:
    """Return an async context manager that writes many small events in few transactions.

    *finish*: at its end the channel is finished, with ``{"status": "failed"}`` after an exception.
    It commits on the app's own connections, so it refuses to start inside ``atomic()``.
    """
    return AsyncStreamWriter(channel, event=event, flush_ms=flush_ms, finish=finish)


def stream_writer(
    channel: str, *, event: str = "message", flush_ms: float = 50, finish: bool = False
) -> StreamWriter:
    """Return the sync twin of :func:`astream_writer`, for a Celery or Django task."""
    return StreamWriter(astream_writer(channel, event=event, flush_ms=flush_ms, finish=finish))
