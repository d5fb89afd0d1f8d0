"""Writing to clients that do not read, and to those that are gone.

What the app has written and the kernel has not taken is memory of this process, and daphne takes any
amount of it. So a stream writes only while little of its own is waiting, and a socket that takes
nothing for ``SEND["stall_seconds"]`` is cut; so is one that is blocked so long after its burst should
have been over, or not flushed so long after it was, however much it takes. A client with nothing
waiting costs no timer and no task.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .conf import Config
from .protocol.wire import HEARTBEAT
from .transport import Socket

__all__ = ["Outlet", "Stalled", "Watch"]

logger = logging.getLogger(__name__)

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

SWEEP_SECONDS = 0.25
WAIT_SECONDS = 0.02  # between two looks at sockets that somebody waits for
PAUSES = (0.0, 0.001, 0.002, 0.004)  # before a wait joins the others': most clients only need a moment
PRESSED_SECONDS = 1.0  # without progress, while all sockets together have more than their share
SMALL_SHARE = 1 / 8  # of `buffer_bytes`: a kernel takes that much whatever its client does
CLOSER_SECONDS = 1.0  # without progress, before the kernel is asked what the peer has had


class Stalled(Exception):
    """The client takes nothing: its socket was cut, or is left to the server where it cannot be reached."""


class Outlet:
    """What one stream writes to: the server's ``send``, behind a bound on what waits below it.

    Make it in the task that writes. Call :meth:`close` at the end: what is still waiting then stays
    watched until the kernel has it. *heartbeat* is the chunk that says nothing; an empty one is not sent.
    *is_over* tells that the burst should have ended by now. *on_flush* is called with True when something
    waits after the end, and with False once nothing does.
    """

    def __init__(
        self,
        send: Send,
        socket: Socket,
        config: Config,
        *,
        heartbeat: bytes = HEARTBEAT,
        on_stalled: Callable[[], Any] | None = None,
        is_over: Callable[[], bool] | None = None,
        on_flush: Callable[[bool], Any] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.level = 0  # bytes that waited at the last look
        self.reserved = 0  # bytes about to be sent, or being sent and not seen to wait yet
        self.still = 0.0  # seconds without progress, as far as they were watched
        self.late = 0.0  # seconds that something waited after the burst should have been over
        self.stalled = False
        self.sending = False
        self.room: asyncio.Future[None] | None = None
        self.waits = False  # `room` is for its own bytes, not for a turn
        self.limits = config.send
        self.owner = socket.owner
        self._send = send
        self._on_stalled = on_stalled
        self._is_over = is_over
        self._on_flush = on_flush
        self._flushes = False
        self._cancels = False  # its own task, where the socket cannot be reached
        self._socket = socket
        self._heartbeat = heartbeat
        self._heartbeat_seconds = config.heartbeat_seconds
        self._watch = watch if watch is not None else Watch.current()
        self._probe_at = self._watch.loop.time() + config.heartbeat_seconds
        self._task = asyncio.current_task()
        self._written = 0
        self._moves = 0  # how often bytes were seen to go
        self._moves_written = 0  # that count at the last write
        self._acked: int | None = None
        self._watch.supersede(self)
        # Options cost more than a small burst does: they are set for those that are large, or held.
        self._closed = self._bounded = self._probed = False

    async def write(self, chunk: bytes, *, last: bool = False) -> None:
        """Send *chunk*, and wait until there is room for another. Raises :class:`Stalled`."""
        if self.level:
            self.look()
        if not self._probed and (chunk == self._heartbeat or self._watch.loop.time() >= self._probe_at):
            # Events may come more often than heartbeats, which then never do.
            self._probed = True
            self._socket.probe(self._heartbeat_seconds)
        if chunk == self._heartbeat:
            if self.level:
                if self._moves == self._moves_written:
                    self._watch.evict(self)
                    raise Stalled
                return  # bytes are on their way, which says as much
            if not chunk:
                return
        else:
            if self.level and self.level + len(chunk) > self.limits.buffer_bytes:
                await self._wait(lambda: not self.level)
            await self._reserve(len(chunk))
        self._written += len(chunk)
        if not self._bounded and self._written > self.limits.buffer_bytes // 2:
            self._bounded = True
            self._socket.bound(self.limits.buffer_bytes)
        await self.send({"type": "http.response.body", "body": chunk, "more_body": not last})
        if last:
            return
        if self.level > self.limits.buffer_bytes // 2 or self._watch.pressed(self.limits.total_bytes):
            # Before the stream makes the next chunk, which would wait here in its turn.
            await self._wait(self.has_room)

    async def send(self, message: Mapping[str, Any]) -> None:
        """Hand *message* to the server, watched while that takes its time. Raises :class:`Stalled`."""
        self.sending = True
        self._watch.add(self)
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if self._cancels and self._task is not None and self._task.uncancel() == 0:
                raise Stalled from None
            raise
        finally:
            self.sending = False
            self._moves_written = self._moves
            before = self.level
            self.hold(self._socket.pending() or 0)
            if not before:
                self.still = 0.0
        if self.stalled:
            raise Stalled
        if not self.level:
            self._watch.discard(self)

    def has_room(self) -> bool:
        """Tell whether another chunk may be written."""
        if self._watch.pressed(self.limits.total_bytes):
            return not self.level
        return self.level <= self.limits.buffer_bytes // 2

    def close(self) -> None:
        """Say that nothing more will be written. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.sending = False
        self.late = 0.0
        # Where nothing shows, a small burst is in the kernel's hands by now, and no look is worth it.
        if self.level or (self._socket.costly and self._written > self.limits.buffer_bytes):
            self.still = 0.0 if not self.level else self.still
            large = self.level > self.limits.buffer_bytes * SMALL_SHARE
            self._watch.flush(self, soon=large)
            if large:
                self._flush(waits=True)
        else:
            self._watch.discard(self)

    def look(self, seconds: float = 0.0) -> None:
        """Notice what went since the last look, *seconds* ago."""
        pending = self._socket.pending()
        moved = pending is not None and pending < self.level
        if not moved and self.still >= CLOSER_SECONDS:
            moved = self._has_acked()
        seen = self.sending and pending is not None  # the server has it, and shows it
        self.hold(pending or 0, reserved=0 if seen else self.reserved)
        self._moves += moved
        self.still = 0.0 if moved or not self.is_busy else self.still + seconds
        if self.is_busy and (self._closed or (self._is_over is not None and self._is_over())):
            self.late += seconds
        if self._closed and self.level:
            # A small burst not before the first look: daphne writes nothing before its reactor's next turn.
            self._flush(waits=True)

    def hold(self, level: int, *, reserved: int = 0) -> None:
        """Have so many bytes waiting, and so many reserved."""
        self._watch.total += level + reserved - self.level - self.reserved
        self.level, self.reserved = level, reserved

    @property
    def is_busy(self) -> bool:
        """True while something of this stream has not reached the kernel."""
        return self.sending or self.level > 0 or (self._closed and self._socket.costly)

    def left(self) -> None:
        """Learn that this outlet is not watched any more."""
        self._flush(waits=False)

    def cut(self) -> None:
        """Cut the socket and end the stream: whoever writes is told. Use :meth:`Watch.evict`."""
        self.stalled = True
        if self._on_stalled is not None:
            self._on_stalled()
        reached = self._socket.abort()
        if self.room is not None and not self.room.done():
            self.room.set_exception(Stalled())
        elif self.sending and not reached and self._task is not None:
            self._cancels = True
            self._task.cancel()

    def _has_acked(self) -> bool:
        before, self._acked = self._acked, self._socket.acked()
        if self._closed and self._socket.costly:
            if self._acked is None:
                self._watch.discard(self)  # flushed, or gone
            else:
                self._flush(waits=True)
        return self._acked is not None and before is not None and self._acked > before

    def _flush(self, *, waits: bool) -> None:
        if waits != self._flushes:
            self._flushes = waits
            if self._on_flush is not None:
                self._on_flush(waits)

    async def _reserve(self, size: int) -> None:
        """Wait for this stream's turn to have *size* bytes more in the process."""
        limit = self.limits.total_bytes
        if self._watch.fits(size, limit):
            self.hold(self.level, reserved=size)
            return
        self.room = self._watch.queue(self, size)
        try:
            await self.room
            if self.stalled:
                raise Stalled
        except BaseException:
            self.hold(self.level)
            raise
        finally:
            self.room = None

    async def _wait(self, enough: Callable[[], bool]) -> None:
        for pause in PAUSES:
            await asyncio.sleep(pause)
            self.look()
            if self.stalled:
                raise Stalled
            if enough():
                return
        while not enough():
            self.room = self._watch.loop.create_future()
            self.waits = True
            self._watch.add(self, soon=True)
            try:
                await self.room
            finally:
                self.room = None
                self.waits = False
        if self.stalled:
            raise Stalled


class Watch:
    """One event loop's outlets that have something waiting, looked at by one timer while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.total = 0  # bytes waiting or reserved, as far as was looked
        self.stalled = 0  # sockets cut so far
        self._outlets: set[Outlet] = set()
        self._queue: deque[tuple[Outlet, int, asyncio.Future[None]]] = deque()  # for room in the process
        self._flushing: dict[Any, Outlet] = {}  # those that are closed, by their connection
        self._timer: asyncio.TimerHandle | None = None
        self._swept = loop.time()
        self._waited = False

    @classmethod
    def current(cls) -> Watch:
        """Return the running loop's."""
        loop = asyncio.get_running_loop()
        watch = _watches.get(loop)
        if watch is None:
            for closed in [each for each in list(_watches) if each.is_closed()]:
                gone = _watches.pop(closed, None)
                for outlet in list(gone._outlets) if gone is not None else ():
                    outlet.left()
            watch = _watches[loop] = cls(loop)
        return watch

    def __len__(self) -> int:
        return len(self._outlets)

    def pressed(self, limit: int) -> bool:
        """Tell whether more than *limit* bytes wait in the whole process, or would if nobody waited."""
        return bool(self._queue) or self._everywhere() > limit

    def fits(self, size: int, limit: int) -> bool:
        """Tell whether *size* bytes more may be written now. One chunk may always, whatever its size."""
        return not self._queue and self._has_place(size, limit)

    def queue(self, outlet: Outlet, size: int) -> asyncio.Future[None]:
        """Return what is done when it is the turn of *outlet*, which then has *size* bytes reserved."""
        turn: asyncio.Future[None] = self.loop.create_future()
        self._queue.append((outlet, size, turn))
        self.add(outlet, soon=True)
        return turn

    def _has_place(self, size: int, limit: int) -> bool:
        return not self.total or self._everywhere() + size <= limit

    def _everywhere(self) -> int:
        if len(_watches) < 2:
            return self.total
        return sum(each.total for each in list(_watches.values()) if not each.loop.is_closed())

    def add(self, outlet: Outlet, *, soon: bool = False) -> None:
        self._outlets.add(outlet)
        if self._timer is None:
            self._swept = self.loop.time()
            self._arm(soon=soon)
        elif soon and not self._waited:
            self._timer.cancel()
            self._arm(soon=True)

    def discard(self, outlet: Outlet) -> None:
        self._outlets.discard(outlet)
        if self._flushing and self._flushing.get(outlet.owner) is outlet:
            del self._flushing[outlet.owner]
        outlet.left()

    def flush(self, outlet: Outlet, *, soon: bool) -> None:
        """Watch *outlet*, which is closed, until its bytes are gone; *soon*: look at once at it."""
        self.add(outlet, soon=soon)
        if outlet.owner is not None:
            self._flushing[outlet.owner] = outlet

    def supersede(self, outlet: Outlet) -> None:
        """End the flush of the socket that *outlet* writes to from now on: its client asks again."""
        before = self._flushing.pop(outlet.owner, None) if self._flushing else None
        if before is not None:
            outlet.level, before.level = before.level, 0
            self.discard(before)
            if outlet.level:
                self.add(outlet)

    def evict(self, outlet: Outlet) -> None:
        """Cut the socket of *outlet*."""
        self.discard(outlet)
        outlet.hold(0)
        self.stalled += 1
        logger.info("sse_polling cuts a socket that takes too little (%s so far)", self.stalled)
        outlet.cut()

    def _arm(self, *, soon: bool) -> None:
        self._waited = soon
        self._timer = self.loop.call_later(WAIT_SECONDS if soon else SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        # A loop that stood still for a while has seen nothing: that is not the clients' doing.
        now = self.loop.time()
        step, self._swept = min(now - self._swept, 2 * SWEEP_SECONDS), now
        try:
            outlets = list(self._outlets)
            for outlet in outlets:
                outlet.look(step)
            self.total = sum(outlet.level + outlet.reserved for outlet in outlets)
            for outlet in outlets:
                if max(outlet.still, outlet.late) >= outlet.limits.stall_seconds:
                    self.evict(outlet)
            self._relieve(outlets)
            for outlet in outlets:
                if outlet.waits and outlet.room is not None and not outlet.room.done() and outlet.has_room():
                    outlet.room.set_result(None)
                elif outlet.room is None and not outlet.is_busy:
                    self.discard(outlet)
        finally:
            self._timer = None
            if self._outlets:
                self._arm(soon=any(outlet.room is not None for outlet in self._outlets))

    def _relieve(self, outlets: list[Outlet]) -> None:
        """Let in who waits, and cut those that have stood still the longest while somebody does.

        A server frees what was cut a turn of the loop later: its room is the next look's.
        """
        self._let_in()
        standing = [each for each in outlets if each.level and each.still >= PRESSED_SECONDS]
        if not standing:
            return
        wanted = self._everywhere() + sum(size for _, size, turn in self._queue if not turn.done())
        for outlet in sorted(standing, key=lambda each: -each.still):
            if wanted <= outlet.limits.total_bytes:
                break
            wanted -= outlet.level
            self.evict(outlet)

    def _let_in(self) -> None:
        while self._queue:
            outlet, size, turn = self._queue[0]
            if not turn.done():
                if not self._has_place(size, outlet.limits.total_bytes):
                    return
                outlet.hold(outlet.level, reserved=size)
                turn.set_result(None)
            self._queue.popleft()


_watches: dict[asyncio.AbstractEventLoop, Watch] = {}
os.register_at_fork(after_in_child=_watches.clear)
