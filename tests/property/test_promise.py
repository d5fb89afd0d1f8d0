from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import Promise

EXAMPLES = int(os.environ.get("SSE_POLLING_EXAMPLES", "100"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(3600)
def test_the_promise_holds() -> None:
    run_state_machine_as_test(
        Promise,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate] if 'NOSHRINK' in os.environ else [Phase.generate, Phase.shrink],
            derandomize="SSE_POLLING_RANDOM" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
