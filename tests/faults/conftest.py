"""One fleet of each kind for all faults, and the form that they have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.harness.programs import require
from tests.harness.site import Layer

from . import fleet as fleets
from .fleet import Fleet, Where

LAYER: Layer = "core" if os.environ.get("SSE_POLLING_FAULT_LAYER") == "core" else "pubsub"


@pytest.fixture(scope="session")
def fleet_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Where], Fleet]]:
    """Return a fleet by its name, started when it is first asked for, and whole."""
    made: dict[Where, Fleet] = {}

    def start(where: Where) -> Fleet:
        if where not in made:
            directory = tmp_path_factory.mktemp(where)
            if where == "embedded":
                made[where] = fleets.embedded(directory)
            elif where == "proxied":
                made[where] = fleets.proxied(directory, beside=start("fleet"))
            else:
                require("redis-server")
                require("postgres")
                made[where] = fleets.full(directory, layer=LAYER)
            stack.callback(made[where].close)
        return made[where]

    with ExitStack() as stack:
        yield start
