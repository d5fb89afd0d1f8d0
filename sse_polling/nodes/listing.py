"""Up to 500 of a process's sockets, as its row lists them."""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..connections import Connection
from ..lifecycle import Node

__all__ = ["MOST_LISTED", "SocketView", "list_sockets", "unpack"]

MOST_LISTED = 500
CLIENT_CHARACTERS = 8  # of a client's name: with all of it anybody could ack for it
MOST_CHANNELS = 3
MOST_UNPACKED = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketView:
    """One socket as its process last told. *age* in seconds as of then; *behind* in events.

    *channels* are at most three, of *of* that it reads. *client* is the beginning of the name that it gave
    itself, *user* a primary key as text, *bursts* None where nothing tells one burst's client from another's.
    *state*: ``open``, ``leaving`` (asked to go), ``asked`` (its ack is waited for), ``flushing``.
    """

    number: int
    channels: tuple[str, ...]
    of: int
    client: str | None
    user: str | None
    address: str | None
    door: str
    state: str
    age: float
    cursor: str
    behind: int
    events: int
    bytes: int
    bursts: int | None


def list_sockets(node: Node, *, now: float) -> tuple[int, bytes]:
    """Return how many sockets there are, and those furthest behind, packed. *now* is a monotonic clock's."""
    flushing = list(node.flushing)
    streams = [*node.registry, *(each for each in flushing if not node.registry.has(each))]
    waiting = set(flushing)
    chosen = heapq.nlargest(MOST_LISTED, streams, key=lambda each: (_behind(each), now - each.opened))
    rows = [_packed(each, now, flushes=each in waiting and not node.registry.has(each)) for each in chosen]
    return len(streams), zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)


def unpack(packed: bytes) -> list[SocketView]:
    """Return the sockets that :func:`list_sockets` has packed; none if they cannot be read."""
    try:
        text = zlib.decompressobj().decompress(bytes(packed), MOST_UNPACKED)
        return [_unpacked(row) for row in json.loads(text)]
    except (zlib.error, ValueError, TypeError, OverflowError, RecursionError):
        return []


def _behind(connection: Connection) -> int:
    return connection.behind() if connection.behind is not None else 0


def _packed(connection: Connection, now: float, *, flushes: bool) -> list[Any]:
    state = "open"
    if flushes:
        state = "flushing"
    elif connection.asked:
        state = "asked"
    elif connection.leaving is not None:
        state = "leaving"
    return [
        connection.number,
        connection.channels[:MOST_CHANNELS],
        len(connection.channels),
        connection.client[:CLIENT_CHARACTERS] if connection.client is not None else None,
        connection.user,
        connection.address,
        connection.door,
        state,
        round(now - connection.opened, 1),
        connection.cursor[:80],
        _behind(connection),
        connection.events,
        connection.bytes,
        connection.burst,
    ]


def _unpacked(row: Iterable[Any]) -> SocketView:
    (number, channels, of, client, user, address, door, state, age, cursor, behind, events, size, bursts) = (
        row
    )
    return SocketView(
        number=int(number),
        channels=tuple(map(str, channels)),
        of=int(of),
        client=client,
        user=user,
        address=address,
        door=str(door),
        state=str(state),
        age=float(age),
        cursor=str(cursor),
        behind=int(behind),
        events=int(events),
        bytes=int(size),
        bursts=bursts,
    )
