"""What happens to the database."""

from __future__ import annotations

import contextlib
import signal

from project.programs.postgres import Postgres
from project.programs.process import ProcessFailed

from .trial import Trial

__all__ = ["connections_cut", "disconnected", "row_locked", "stopped"]


async def stopped(trial: Trial, seconds: float) -> None:
    """Stop PostgreSQL in the mode `immediate`, which is a crash, and start it after so many seconds."""
    postgres = _postgres(trial)
    postgres.signal(signal.SIGQUIT)
    await trial.call(postgres.wait, 20)
    await trial.pause(seconds)
    await trial.call(postgres.restart)


async def disconnected(trial: Trial, seconds: float) -> None:
    """Terminate every connection from inside, again and again, as a failover or an operator does."""
    postgres = _postgres(trial)
    for _ in range(4):
        await trial.call(postgres.disconnect_all)
        await trial.pause(seconds / 4)


async def row_locked(trial: Trial, seconds: float) -> None:
    """Hold the lock of a channel's row from outside: its publishers wait, all others and readers go on."""
    store, locked = trial.fleet.store, trial.channels[0]
    stack = contextlib.ExitStack()
    await trial.call(stack.enter_context, store.locked(locked))
    try:
        before = await trial.heads()
        await trial.pause(seconds)
        after = await trial.heads()
        assert after[locked] == before[locked], "the lock did not hold"
        if not store.on_sqlite:  # there it is the lock of everything
            others = set(trial.channels) - {locked}
            assert all(after[name] > before[name] for name in others), f"publishers waited: {before} {after}"
        await trial.caught_up()
    finally:
        await trial.call(stack.close)


async def connections_cut(trial: Trial, seconds: float) -> None:
    """Delay and cut at random what passes to and from PostgreSQL, then refuse it, then swallow it."""
    proxy = trial.fleet.postgres_proxy
    if proxy is None:
        raise ProcessFailed("the servers reach PostgreSQL directly")
    await trial.misbehave(proxy, seconds, mean_bytes=30_000, delay=0.02)


def _postgres(trial: Trial) -> Postgres:
    if trial.fleet.postgres is None:
        raise ProcessFailed("this fleet has no PostgreSQL")
    return trial.fleet.postgres
