"""A fleet as an operator's process sees and orders it about."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.harness.shell import Shell

from .served import eventually

__all__ = ["give", "node_of", "read", "result_of"]

_READ = """
from sse_polling.nodes.reading import read_fleet
result = [
    {
        "pk": node.pk, "name": node.name, "pid": node.pid, "server": node.server, "state": node.state,
        "sockets": node.sockets, "figures": dict(node.figures), "age": node.age,
        "listed": [[each.number, list(each.channels), each.state, each.client] for each in node.listed],
    }
    for node in read_fleet(sockets=True).nodes
]
"""

_GIVE = """
from sse_polling.nodes.giving import give
(result,) = give(kind, [node], target=target, by="test")
"""

_RESULT = """
from sse_polling.models import Order
result = Order.objects.get(pk=order).result
"""


async def read(shell: Shell) -> list[dict[str, Any]]:
    return list(await asyncio.to_thread(shell.run, _READ))


async def node_of(shell: Shell, pid: int, *, deadline: float = 30) -> dict[str, Any]:
    """Return the row of the process *pid*, once it is there."""

    async def found() -> Any:
        return next((node for node in await read(shell) if node["pid"] == pid), None)

    return dict(await eventually(found, deadline=deadline, what=f"a row of {pid}"))


async def give(shell: Shell, kind: str, node: int, target: str = "") -> int:
    return int(await asyncio.to_thread(shell.run, _GIVE, kind=kind, node=node, target=target))


async def result_of(shell: Shell, order: int, *, deadline: float = 30) -> str:
    """Return what came of an order, once it is told."""

    async def told() -> Any:
        return await asyncio.to_thread(shell.run, _RESULT, order=order)

    return str(await eventually(told, deadline=deadline, what=f"a result of order {order}"))
