"""The promise of the README, kept against everything that the rules of ``machine.py`` can do to it.

Publishers that commit, roll back, roll back to a savepoint and repeat keys, on one and on several
channels; `finish`; a trimmer that stops half-way; erasing; backups restored and failovers that lose
commits; wakes that are lost, late, repeated and reordered; hubs that start anew, two at a time as two
processes have them; a database that is slow (it looks at one moment and answers at another) and one
that goes away; clients that are cut off at any byte, held and finite, of one and of several channels,
from now, from the earliest and from `cursor()`. Tails and bursts hold three events, pages two.

Every message that a client's parser dispatches is checked against what was committed, when it is
dispatched (``committed.py``). At the end all is well again and each client must stand at the head.

    SSE_POLLING_EXAMPLES=2000 SSE_POLLING_RANDOM=1 .venv/bin/python -m pytest tests/property

runs more of it, from another seed each time. These bugs were planted (``planted.py``; with
SSE_POLLING_PLANTED=1 they all are, again), and this is what was reported:

- wakes as data: "a reset for a:4, which was there all the time" (the tail no longer held together)
- judge without reading the primary: "after a reset the client stands at 22, behind what was retained"
- a cursor beyond the head is up to date: at the end "a: 7, and not 3"
- a gap is swallowed: "from 6 to 9: lost, repeated or reordered"
- a trimmed cursor is answered with a reset: "a reset for a:6, which was there all the time"
- a reset skips what is retained: "after a reset the client stands at 12, behind what was retained"
- the tag is not compared: "a:4 is not of the history of a:3"
- the tag before the tail is not known: "a:5 is not of the history of a:4"
- a tail follows another history: "a reset for a:3, which was there all the time"
- heads are compared by sequence alone: at the end "a: 6, and not another 6"
- heads are compared where a tail holds something: at the end "a: nowhere, and not 1"
- a stale tail is believed: "a gap from 4 to 5, but not all of that was trimmed"
- the page is read again from the cursor itself: "a gap 9 to 8"
- off by one in the tail: "from 0 to 2: lost, repeated or reordered"
- a reader behind the ring is served from it: IndexError
- a ring that was emptied forgets its head: at the end "a: 3, and not 4", or a reading that never ends
- streams are not registered with the hub: "a held stream of ('a',) slept through a wake"
- woken before the commit: "woken before the commit"
- nobody is woken: "nobody was woken for a"
- a key is ignored: "published with keys ['k', None]", and other keys came back
- a finished channel takes more: "b:9 after b:6"
- the opening's id is the head: "the opening moves the client on a from 2 to 3 without sending anything"
- a stream opens without an id: "the opening block has no id: a client cut off now has no cursor"
- a chunk is cut in a frame: "a chunk ends within a frame"
- what does not fit any more is skipped: "from 10 to 12: lost, repeated or reordered"
- an event is one more than its id in a stream of several: "the envelope's id is another"

What it found before anybody planted anything has a test of its own in ``test_replay.py``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sse_polling import pools, publish
from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.hub import Hub
from sse_polling.lifecycle import Node
from sse_polling.models import Event
from sse_polling.protocol.cursor import parse_cursor
from sse_polling.stream import open_stream
from tests.harness.eventsource import Parser
from tests.property.machine import Promise
from tests.property.planted import PLANTED, plant

EXAMPLES = int(os.environ.get("SSE_POLLING_EXAMPLES", "80"))
# All of them take minutes; these few show that a bug would be seen, in seconds.
ALWAYS = ("off by one in the tail", "a stream opens without an id", "a chunk is cut in a frame")

pytestmark = [pytest.mark.django_db(transaction=True)]


def check(*, examples: int, shrink: bool) -> None:
    run_state_machine_as_test(
        Promise,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize="SSE_POLLING_RANDOM" not in os.environ,
            database=None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(3600)
def test_the_promise_holds() -> None:
    check(examples=EXAMPLES, shrink="NOSHRINK" not in os.environ)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLANTED if "SSE_POLLING_PLANTED" in os.environ else ALWAYS)
def test_a_planted_bug_is_found(name: str) -> None:
    with plant(name), pytest.raises(Exception) as caught:  # noqa: PT011 - each breaks in its own way
        check(examples=1500, shrink=False)
    assert "no longer says" not in str(caught.value)


# With nothing simulated but the sockets: the app's own threads, the hub's own tasks, a real clock


@pytest.fixture
def pool() -> Iterator[None]:
    yield
    pools.shutdown()


class RolledBackError(Exception):
    pass


def publisher(number: int) -> None:
    try:
        for part in range(40):
            try:
                with transaction.atomic():
                    publish("a", f"{number}.{part}")
                    if part % 5 == 4:
                        raise RolledBackError
            except RolledBackError:
                pass
    finally:
        connections.close_all()


async def reader(hub: Hub, seed: int, most: int) -> list[str]:
    """Read *most* events over many streams, cut off at random bytes."""
    rng, got, at = Random(seed), [], "-.0.-"
    while len(got) < most:
        connection = Connection(channels=("a",), door="test")
        stream: Any = await open_stream(
            hub,
            connection,
            parse_cursor(at),
            several=False,
            finite=rng.random() < 0.3,
            config=get_config(),
            node=Node(Registry()),
            rng=rng,
            clock=asyncio.get_running_loop().time,
        )
        parser, left = Parser(last_event_id=at), rng.randrange(1500)
        chunks = stream.run()
        try:
            async for chunk in chunks:
                got += [message.data for message in parser.feed(chunk[:left])]
                left -= len(chunk)
                if left <= 0 or len(got) >= most:
                    break
        finally:
            await chunks.aclose()
            stream.close()
        at = parser.last_event_id
    return got


@pytest.mark.database
@pytest.mark.usefixtures("pool")
async def test_it_holds_with_real_threads_and_a_real_clock() -> None:
    burst = {"max_events": 7, "hold_seconds": 0.2, "linger_seconds": 0.05}
    with override_settings(SSE_POLLING={"BURST": burst, "TAIL": {"max_events": 5}, "SYNC_SECONDS": 0.2}):
        threads = [threading.Thread(target=publisher, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        hub = Hub.current()
        try:
            async with asyncio.timeout(60):
                transcripts = await asyncio.gather(*(reader(hub, seed, 96) for seed in range(8)))
            await asyncio.to_thread(lambda: [thread.join(60) for thread in threads])
        finally:
            hub.stop()
            await asyncio.sleep(0)

    def stored() -> list[str]:
        try:
            return list(Event.objects.order_by("sequence").values_list("data", flat=True))
        finally:
            connections.close_all()

    committed = await asyncio.to_thread(stored)
    assert len(committed) == 96
    for transcript in transcripts:
        assert transcript == committed
