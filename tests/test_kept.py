"""What is counted of sockets that servers keep for the next poll, and when no more are kept."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.kept import TIDY_SECONDS, Kept
from sse_polling.lifecycle import Node, Refusal


class Owner:
    closed = False


def is_open(owner: Owner) -> bool:
    return not owner.closed


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_socket_counts_until_it_is_closed_or_its_next_request_is_there(clock: Clock) -> None:
    kept, owners = Kept(clock), [Owner() for _ in range(4)]
    for owner in [*owners, *owners]:
        kept.add(owner, is_open)
    assert len(kept) == 4
    kept.discard(owners[0])
    kept.discard(Owner())
    assert len(kept) == 3
    owners[1].closed = True
    clock.now += TIDY_SECONDS
    assert len(kept) == 2
    del owner, owners[2]
    gc.collect()
    assert len(kept) <= 2  # nothing is kept alive
    owners.clear()
    gc.collect()
    assert len(kept) == 0


def test_what_cannot_be_seen_counts_for_its_window(clock: Clock) -> None:
    kept, ends = Kept(clock), (("10.0.0.1", 1), ("10.0.0.2", 2))
    for _ in range(3):
        kept.guess(5)
        kept.guess(30, owner=ends)  # one socket, however often it comes
    assert (kept.guessed, len(kept)) == (4, 0)
    clock.now += 6
    assert kept.guessed == 1
    kept.discard(ends)
    assert kept.guessed == 0


@pytest.mark.parametrize(
    ("values", "most"),
    [({"MAX_SOCKETS": 100}, 67), ({"MAX_SOCKETS": 100, "BUDGET": 20}, 17)],  # 0.75 of 90; its places
)
def test_no_more_are_kept_than_leave_room_for_streams(
    settings: Any, clock: Clock, values: Any, most: int
) -> None:
    settings.SSE_POLLING = values
    config, owners = get_config(), []
    node = Node(Registry(), clock=clock)
    for _ in range(100):
        connection = Connection(channels=("a",), door="mount")
        assert node.admit(connection, 0, config) is None
        if node.keeps(config):
            owners.append(Owner())
            node.kept.add(owners[-1], is_open)
        node.registry.release(connection)
    assert len(node.kept) == most


def test_kept_sockets_take_places_and_guesses_do_not(settings: Any, clock: Clock) -> None:
    settings.SSE_POLLING = {"MAX_SOCKETS": 10, "BREAKER": {"threshold": 1}}
    config, node, owners = get_config(), Node(Registry(), clock=clock), [Owner() for _ in range(10)]
    for _ in owners:
        node.kept.guess(5)
    assert not node.keeps(config)
    assert node.refuses(0, config) is None
    for owner in owners:
        node.kept.add(owner, is_open)
    assert node.refuses(0, config) is Refusal.CAPACITY
