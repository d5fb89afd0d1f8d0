"""Read channels from a program that runs without Django: an agent, a script, a test.

::

    async for event in stream_events(url, last_event_id=saved, commit=save):
        await handle(event)

:func:`stream_events` is for asyncio, :func:`iter_events` for threads. Both need the extra ``client``. They
come back by themselves after each burst, exactly when the server says, and after every error, with a growing
random wait; always with the id that they saw last. They end when the channel is finished. Close the
generator, and the socket is closed; where you leave a loop early, have ``contextlib.aclosing`` do it, since
asyncio closes what is only left at a time of its own, and after ``asyncio.run`` not in order. Cancelling a
step does the same: after a timeout around ``anext`` nothing more comes, and who wants to go on begins again
with the id of the last event.

**What is promised.** Within one iteration an event is given once, whatever happens on the way. What a restart
repeats is up to where the cursor is kept:

* *commit* is called with an id once the consumer has come back for the next event, and so has processed all
  up to that id; also with the ids that a stream opens with, before there is any event. A cursor ahead of what
  was processed cannot be saved. Whoever dies between processing an event and its commit is given it again:
  **at least once**. An event whose processing leaves the loop is not committed.
* Without *commit*, store ``event.id`` in the same transaction as what the event does, and begin with the
  stored id: **exactly once**.

An exception of *commit* passes. A :class:`Gap` says what is gone for good; with *raise_on_gap* it is raised
as :exc:`EventsLost`. The other errors that end an iteration are :exc:`StreamRefused` (a 4xx but 429),
:exc:`NotAStream`, :exc:`OversizedEvent` and :exc:`GaveUp`, all of them :exc:`StreamError`; and what httpx
raises for a request that cannot be sent.

The address may name several channels (``?channel=a&channel=b``); then it ends when all of them have, and an
event has its ``channel``. *last_event_id* may be ``earliest``. Ids are opaque: an event with the id of
another is an event. An id that no header can carry (a control character in it) moves no cursor.

The knobs, with their defaults:

* ``client``: an httpx client to share by many streams, with its proxies, TLS and cookies; else each makes its
  own, and together these have 100 connections to a server at most, in an event loop or in all threads: who
  finds none free waits, up to a minute. ``headers``, ``auth``: as in httpx. A redirect to another host loses
  ``auth``, not your other ``headers``.
* ``ack=True``: name itself in the address (``client=``), and ack when the server drains.
* ``silence_seconds=65``: no byte for so long, and the connection is given up for another; keep it above the
  server's ``HEARTBEAT_SECONDS``. ``connect_seconds=10``.
* ``backoff_seconds=1``, ``max_backoff_seconds=60``: the wait after errors, random up to a limit that doubles.
  ``max_errors=None``: more in a row, without an event between them, raise :exc:`GaveUp`. ``on_error=None`` is
  called with each error and the seconds until the next attempt.
* ``max_wait_seconds=300``: bounds what a server's ``retry:`` and ``Retry-After`` may ask for. A refusal that
  says "at once" is believed the first time, and backed off after that.
* ``max_event_bytes=4_194_304``: bounds a line and an event.
* ``sleep``, ``clock``, ``rng``: for tests, and for other event loops.
"""

from __future__ import annotations

from .asynchronous import stream_events
from .event import Event, Gap
from .exceptions import EventsLost, GaveUp, NotAStream, OversizedEvent, StreamError, StreamRefused
from .synchronous import iter_events

__all__ = [
    "Event",
    "EventsLost",
    "Gap",
    "GaveUp",
    "NotAStream",
    "OversizedEvent",
    "StreamError",
    "StreamRefused",
    "iter_events",
    "stream_events",
]
