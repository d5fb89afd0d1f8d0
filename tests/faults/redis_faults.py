"""What happens to Redis. The layer only wakes, so none of it may cost an event or a publisher's time."""

from __future__ import annotations

from project.programs.process import ProcessFailed
from project.programs.redis import Redis

from .trial import Trial

__all__ = ["connections_cut", "flushed", "frozen", "killed", "refusing", "subscribers_killed"]


async def killed(trial: Trial, seconds: float) -> None:
    """Kill Redis and start it, empty, after so many seconds."""
    redis = _redis(trial)
    await trial.call(redis.kill)
    await trial.pause(seconds)
    await trial.call(redis.start)


async def frozen(trial: Trial, seconds: float) -> None:
    """Stop Redis with SIGSTOP: its sockets stay open and mute."""
    redis = _redis(trial)
    redis.pause()
    try:
        await trial.pause(seconds)
    finally:
        redis.resume()


async def subscribers_killed(trial: Trial, seconds: float) -> None:
    """Cut the servers' subscriptions, and again when they are back; on the core layer all connections."""
    kinds = ("pubsub", "normal") if trial.fleet.site.layer == "core" else ("pubsub",)
    with trial.fleet.redis_line() as line:
        for _ in range(3):
            await trial.until(
                lambda: sum(line.client_kill_filter(_type=kind, skipme=True) for kind in kinds) > 0,
                seconds=30,
                what="nobody has subscribed again",
            )
            await trial.pause(seconds / 3)


async def flushed(trial: Trial, seconds: float) -> None:
    """Delete everything that is in Redis: the core layer's groups, say."""
    with trial.fleet.redis_line() as line:
        line.flushall()
    await trial.pause(seconds)


async def refusing(trial: Trial, seconds: float) -> None:
    """Let Redis refuse every new connection, after the present ones were cut."""
    with trial.fleet.redis_line() as line:
        most = line.config_get("maxclients")["maxclients"]
        line.config_set("maxclients", 1)
        try:
            for kind in ("normal", "pubsub"):
                line.client_kill_filter(_type=kind, skipme=True)
            await trial.pause(seconds)
            assert len(line.client_list()) == 1
        finally:
            line.config_set("maxclients", most)


async def connections_cut(trial: Trial, seconds: float) -> None:
    """Delay and cut at random what passes between servers and Redis, then refuse it, then swallow it."""
    proxy = trial.fleet.redis_proxy
    if proxy is None:
        raise ProcessFailed("the servers reach Redis directly")
    await trial.misbehave(proxy, seconds, mean_bytes=1500, delay=0.05)


def _redis(trial: Trial) -> Redis:
    if trial.fleet.redis is None:
        raise ProcessFailed("this fleet has no Redis")
    return trial.fleet.redis
