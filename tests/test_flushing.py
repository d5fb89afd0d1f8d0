"""What is counted of sockets that still flush."""

from __future__ import annotations

from typing import Any

import pytest

from sse_polling.conf import get_config
from sse_polling.connections import Connection, Registry
from sse_polling.flushing import Flushing
from sse_polling.lifecycle import Node, Refusal


def connection(key: str | None = None) -> Connection:
    return Connection(channels=("a",), door="mount", key=key)


def test_each_is_counted_once_and_never_below_nothing() -> None:
    flushing, one, other, nobody = Flushing(), connection("user:1"), connection("user:1"), connection()
    for each in (one, one, other, nobody):
        flushing.add(each)
    assert (len(flushing), flushing.count(key="user:1"), flushing.count(key="user:2")) == (3, 2, 0)
    for each in (one, one, nobody, connection("user:1")):
        flushing.discard(each)
    assert (len(flushing), flushing.count(key="user:1")) == (1, 1)
    flushing.discard(other)
    assert (len(flushing), flushing._by_key) == (0, {})  # no key stays


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"MAX_SOCKETS": 3, "BREAKER": {"threshold": 1}}, Refusal.CAPACITY),
        ({"BUDGET": 3}, Refusal.BUDGET),  # 1.25 times that, whole ones
        ({"PER_CLIENT": {"max_sockets": 3}}, Refusal.CLIENT),
    ],
)
def test_every_limit_sees_what_flushes(settings: Any, values: Any, refusal: Refusal) -> None:
    settings.SSE_POLLING = values
    config, node = get_config(), Node(Registry())
    over = [connection("user:1") for _ in range(3)]
    for each in over:
        node.flushing.add(each)
    assert node.sockets == 3
    assert node.admit(connection("user:1"), 0, config) is refusal
    for each in over:
        node.flushing.discard(each)
    assert node.admit(connection("user:1"), 0, config) is None
    assert node.sockets == 1
