"""This process as a server of streams: how many it takes, which make room, and what it has counted."""

from __future__ import annotations

import enum
import resource
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from .conf import Config
from .connections import Connection, Registry, registry
from .flushing import Flushing
from .identity import Bursts
from .kept import Kept
from .protocol.absence import Absence
from .protocol.breaker import Breaker, limit_for
from .protocol.budget import HELD_SECONDS, SocketBudget
from .protocol.burst import Cause
from .protocol.retry import RetryLimits

__all__ = ["RESERVE", "Counts", "Crowded", "Farewell", "Node", "Refusal", "capacity", "descriptors", "node"]

RESERVE = 128  # descriptors kept for the database, the layer, logs and the server itself
SPARE = RESERVE // 2  # of them for answers that are given at once, beyond what is refused to others
MOST = 10_000
KEPT_SHARE = 0.75  # of what the breaker lets in: below the fifth earlier of the least important streams
ARRIVING = 1_000  # are asked at a time who they are, or as many as may have a stream

_limit_for = lru_cache(maxsize=256)(limit_for)  # asked twice for each stream, and the same again


_limit: tuple[float, int | None] = (0.0, None)


class Refusal(enum.StrEnum):
    """Why a stream is not admitted."""

    CAPACITY = "capacity"
    PRIORITY = "priority"
    BUDGET = "budget"
    CLIENT = "client"
    ARRIVING = "arriving"
    DATABASE = "database"
    DRAINING = "draining"


class Farewell(enum.StrEnum):
    """How a client that was asked to leave went."""

    ACKED = "acked"
    CLOSED = "closed"
    NOT_ASKED = "not_asked"
    NOT_ACKED = "not_acked"
    CUT = "cut"


class Crowded(Exception):
    """Too many are being asked who they are."""


@dataclass(slots=True)
class Counts:
    """What happened since the process began.

    *most*: how many streams were open at once. *states*: how often it became each of them. *farewells*: of
    the streams that a drain has ended; a plain EventSource cannot ack and is not asked to.
    """

    admitted: int = 0
    most: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)
    ended: Counter[Cause] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    farewells: Counter[Farewell] = field(default_factory=Counter)


def descriptors() -> int | None:
    """Return how many descriptors this process may have, as of the last second; None without a limit."""
    global _limit  # noqa: PLW0603 - the kernel's own, of the whole process
    now = time.monotonic()
    if now > _limit[0]:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        _limit = now + 1, None if soft == resource.RLIM_INFINITY else soft
    return _limit[1]


def capacity(config: Config) -> int:
    """Return how many streams this process may hold: ``MAX_SOCKETS``, or what descriptors allow."""
    if config.max_sockets is not None:
        return config.max_sockets
    limit = descriptors()
    return MOST if limit is None else max(1, min(MOST, limit - RESERVE))


class Node:
    """The admission of one process.

    A request is admitted in two steps, with its authorization between them: :meth:`refuses` costs nothing
    and keeps a crowd from the database, :meth:`admit` asks again and takes the place. Those between the two
    (:meth:`arrival`) have a limit of their own, so that whoever has no right to anything keeps no reader out.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self.registry = registry
        self.flushing = Flushing()
        self.kept = Kept(clock)
        self.arriving = 0
        self.counts = Counts()
        self._clock = clock
        self._cpu = cpu
        # By priority, of which there are 101.
        self._breakers: defaultdict[int, Breaker] = defaultdict(Breaker)
        self._budget: SocketBudget | None = None
        self._state = "serving"
        self._lock = threading.Lock()
        self._ended: deque[tuple[Cause, Farewell | None]] = deque()
        self._left: deque[tuple[int, bool | None]] = deque()
        self._stale = False  # somebody came whom the budget has not seen
        self.absence = Absence()
        self.bursts = Bursts()
        self.draining = False
        self.elsewhere = False  # other processes are known to take streams
        self.ends = False  # the process was told to end: another takes its place, or nobody listens

    def state(self, config: Config) -> str:
        """Return ``serving``, or ``full`` while the most important streams would be refused as well.

        While it drains: ``draining``, and ``drained`` once no stream holds a socket.
        """
        if self.draining:
            state = "draining" if self.sockets else "drained"
        else:
            state = "serving" if self._admits(max(config.priorities), config) else "full"
        if state != self._state:
            self._state = state
            self.counts.states[state] += 1
        return state

    def budget(self, config: Config) -> SocketBudget | None:
        """Return the controller of ``BUDGET`` sockets, None without one."""
        if config.budget is None:
            self._budget = None
        elif self._budget is None or self._budget.budget != config.budget:
            limits = RetryLimits(**config.retry)
            longest = limits.max_ms / 1000 / (1 + limits.jitter)
            self._budget = SocketBudget(config.budget, longest_wait=longest, absence=self.absence)
        return self._budget

    def refuses(self, priority: int, config: Config, *, finite: bool = False) -> Refusal | None:
        """Return why one more stream of that priority is not taken now, None if it is.

        *finite*: it will not wait for anything. That is answered where no other is, but not in any number:
        it has a socket until its client has read it.
        """
        if self.draining:
            return self.refuse(Refusal.DRAINING)
        refusal: Refusal | None = None
        if finite:
            if self.sockets >= capacity(config) + SPARE:
                refusal = Refusal.CAPACITY
        elif not self._admits(priority, config):
            refusal = Refusal.CAPACITY if self.state(config) == "full" else Refusal.PRIORITY
        elif (budget := self.budget(config)) is not None and not budget.admits(self._count):
            refusal = Refusal.BUDGET
        else:
            self.state(config)
        return self.refuse(refusal) if refusal is not None else None

    @property
    def is_replaced(self) -> bool:
        """True if whoever is refused for a drain need not wait long: someone else takes streams, or will."""
        return self.elsewhere or self.ends

    def refuse(self, why: Refusal) -> Refusal:
        """Count a refusal, and return it."""
        self.counts.refused[why] += 1
        return why

    @contextmanager
    def arrival(self, config: Config) -> Iterator[None]:
        """Be one of those who are being asked who they are. Raises :exc:`Crowded`."""
        if self.arriving >= max(ARRIVING, capacity(config)):
            raise Crowded
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    def admit(
        self, connection: Connection, priority: int, config: Config, *, finite: bool = False
    ) -> Refusal | None:
        """Take *connection*, or return why not; with a budget, let others make room for it.

        *finite* as in :meth:`refuses`: it makes nobody go, and a client may have as many again of them.
        """
        connection.priority = priority
        key, most = connection.key, config.per_client.max_sockets
        refusal = self.refuses(priority, config, finite=finite)
        if refusal is not None:
            return refusal
        if key is not None:
            held = self.registry.count(key=key) + self.flushing.count(key=key)
            if held >= (2 * most if finite else most):
                return self.refuse(Refusal.CLIENT)
        self.registry.take(connection)
        if connection.client is not None:
            connection.burst = self.bursts.next(connection.client)
        self.counts.admitted += 1
        self.counts.most = max(self.counts.most, len(self.registry))
        self._stale = True
        budget = self.budget(config)
        if budget is not None and not finite:
            before = self._clock() - HELD_SECONDS
            for _ in range(budget.excess(self.registry.places)):
                picked = self.registry.pick(connection, many=max(1, most // 2), before=before)
                if picked is connection:
                    connection.passing = True
                elif picked is not None:
                    picked.leave(Cause.BUDGET)
        self._settle()
        return None

    def sent_away(self, wait_ms: int) -> None:
        """Learn that a client that got no stream was told to come back after *wait_ms*."""
        self._left.append((wait_ms, None))
        self._settle()

    def ended(
        self, cause: Cause, *, retry_ms: int, fresh: bool = False, farewell: Farewell | None = None
    ) -> None:
        """Learn why a stream has ended, whose client was told to come back after *retry_ms*.

        *fresh*: it had events. *farewell*: how it went if it was asked to leave.

        From any thread, and from a finalizer in the middle of anything.
        """
        self._ended.append((cause, farewell))
        self._left.append((retry_ms, fresh))
        self._settle()

    def wait_ms(self, *, fresh: bool) -> int:
        """Return how long the budget wishes a client to be away, 0 without a budget."""
        budget = self._budget
        return round(budget.wait(fresh=fresh) * 1000) if budget is not None else 0

    def _settle(self) -> None:
        """Take in what has ended. What comes meanwhile finds the lock taken, and is taken in here."""
        while (self._ended or self._left or self._stale) and self._lock.acquire(blocking=False):
            try:
                self._stale = False
                while self._ended:
                    cause, farewell = self._ended.popleft()
                    self.counts.ended[cause] += 1
                    if farewell is not None:
                        self.counts.farewells[farewell] += 1
                now, budget = self._clock(), self._budget
                while self._left:
                    wait_ms, fresh = self._left.popleft()
                    if budget is not None:
                        budget.sent_away(now, wait_ms / 1000, fresh=fresh)
                    else:
                        self.absence.add(now, wait_ms / 1000)
                if budget is not None:
                    budget.observe(now, count=len(self.registry))
                    if budget.is_due(now):
                        budget.learn(now, cpu=self._cpu())
            finally:
                self._lock.release()

    @property
    def sockets(self) -> int:
        """How many sockets streams hold: the open ones, and those that are over and not flushed."""
        return len(self.registry) + len(self.flushing)

    @property
    def readers(self) -> int:
        """How many clients there are: those with a stream, and those that are to come back soon."""
        with self._lock:
            self.absence.settle(self._clock())
        self._settle()
        return len(self.registry) + self.absence.count

    @property
    def _count(self) -> int:
        return self.sockets + len(self.kept)

    def keeps(self, config: Config) -> bool:
        """Tell whether an open stream's socket may stay for the client's next poll.

        With a budget while all sockets fit its places, without one in three quarters of what the breaker
        lets in: else idle ones would have the least important streams refused.
        """
        budget = self.budget(config)
        if budget is not None:
            most = budget.places
        else:
            most = int(KEPT_SHARE * config.breaker.threshold * capacity(config))
        return self._count + self.kept.guessed + self.arriving <= most

    def _admits(self, priority: int, config: Config) -> bool:
        limit = _limit_for(
            priority, config.priorities, capacity=capacity(config), threshold=config.breaker.threshold
        )
        return self._breakers[priority].admits(self._count, limit=limit)


node = Node(registry)
