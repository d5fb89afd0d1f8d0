from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import Promise
from tests.property.planted import PLANTED, plant

EXAMPLES = int(os.environ.get("SSE_POLLING_EXAMPLES", "100"))
PLANT = os.environ.get("SSE_POLLING_PLANTED")

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600)]


def check(*, examples: int, shrink: bool = True) -> None:
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


def test_the_promise_holds() -> None:
    check(examples=EXAMPLES, shrink="NOSHRINK" not in os.environ)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with plant(name), pytest.raises(Exception) as caught:
        check(examples=max(EXAMPLES, 400), shrink=False)
    print("FOUND", name, "|", repr(caught.value)[:300])
