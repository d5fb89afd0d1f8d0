"""What happens to the site's own processes: servers and publishers."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import suppress

from project.programs.process import ProcessFailed
from tests.harness.server import AsgiServer

from .publishers import Publisher
from .trial import Trial

__all__ = [
    "all_servers_restarted",
    "publisher_killed",
    "publishers_roll_back",
    "server_frozen",
    "server_killed",
]

#: More than a response's head: events have come.
IN_MID_BURST_BYTES = 800
LATE_READERS = 8


async def server_killed(trial: Trial, seconds: float) -> None:
    """Kill a server that is sending bursts, and start it after so many seconds."""
    server = trial.rng.choice(trial.fleet.mortal)

    def readers() -> int:
        return sum(each.port == server.port and each.received > IN_MID_BURST_BYTES for each in trial.readers)

    await trial.until(lambda: readers() > 1, seconds=20, what=f"no stream is open at {server.name}")
    server.signal(signal.SIGKILL)
    await trial.call(server.wait, 10)
    await trial.pause(seconds)
    await trial.call(server.start)


async def server_frozen(trial: Trial, seconds: float) -> None:
    """Stop a server with SIGSTOP. Half of its clients wait with it, the others give up after a second."""
    server = trial.rng.choice(trial.fleet.servers)
    for reader in trial.readers[::2]:
        reader.silence_seconds = 1.0
    server.pause()
    try:
        await trial.pause(seconds)
    finally:
        server.resume()
        for reader in trial.readers:
            reader.silence_seconds = None


async def all_servers_restarted(trial: Trial, seconds: float) -> None:
    """Restart every server at once, killed or told to stop; who had not read all gets it from cold ones.

    Nothing is published until all have it.
    """
    behind = trial.readers[::3]
    for reader in behind:
        reader.slow_down("still")
    await trial.pause(0.7)
    await trial.stop_publishing()
    heads = await trial.heads()
    assert not all(reader.has_reached(heads) for reader in behind), "nobody is behind"
    kill = trial.rng.random() < 0.5
    await asyncio.gather(*(trial.call(_end, server, kill=kill) for server in trial.fleet.mortal))
    for reader in behind:
        reader.hurry()
    for index in range(LATE_READERS):
        trial.add_reader(f"late-{index}", trial.channels[index % 4 :][:2], delay=trial.rng.random())
    await trial.pause(seconds)
    for server in trial.fleet.mortal:
        server.start(wait=False)
    await asyncio.gather(*(trial.call(server.wait_ready) for server in trial.fleet.mortal))
    await trial.caught_up()


async def publisher_killed(trial: Trial, seconds: float) -> None:
    """Kill a publisher that holds a channel's row locked, its event stored and not committed."""
    doomed = Publisher(trial.fleet.site, name=f"doomed-{secrets.token_hex(3)}")
    channel = trial.channels[0]
    await trial.call(doomed.start)
    try:
        await trial.call(doomed.ask, "hold", channel=channel, number="doomed")
        trial.unseen.add((channel, "doomed"))
        before = (await trial.heads())[channel]
        await trial.pause(seconds)
        assert (await trial.heads())[channel] == before, "the lock did not hold"
    finally:
        await trial.call(doomed.kill)
    await trial.pause(1)
    assert (await trial.heads())[channel] > before, "the lock outlived its holder"


async def publishers_roll_back(trial: Trial, seconds: float) -> None:
    """Roll back every second transaction."""
    for publisher in trial.fleet.publishers:
        await trial.call(publisher.ask, "rollback", share=0.5)
    before = len(trial.known.rolled_back)
    await trial.pause(seconds)
    for publisher in trial.fleet.publishers:
        await trial.call(publisher.ask, "rollback", share=0.1)
    trial.learn()
    assert len(trial.known.rolled_back) > before + 5 * seconds, "few were rolled back"


def _end(server: AsgiServer, *, kill: bool) -> None:
    if not kill:
        with suppress(ProcessFailed):  # it was killed then
            server.stop(seconds=6)
    server.kill()
