"""After each fault every client's transcript is the committed history. See the package's docstring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import LAYER
from .fault import Fault
from .fleet import Fleet, Where
from .report import report
from .trial import run
from .twenty import TWENTY

FORM = os.environ.get("SSE_POLLING_FAULT_FORM", "short")
REPEAT = int(os.environ.get("SSE_POLLING_FAULT_REPEAT", "1"))
LONGEST_PUBLISH_SECONDS = 3.0


def cases() -> list[Any]:
    return [
        pytest.param(
            fault,
            where,
            number,
            marks=[] if where in fault.quick and FORM == "short" else [pytest.mark.faults],
            id=f"{fault.name}-{where}" + (f"-{number + 1}" if REPEAT > 1 else ""),
        )
        for where in ("fleet", "proxied", "embedded")
        for fault in TWENTY
        if where in fault.where
        for number in range(REPEAT)
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "where", "number"), cases())
async def test_every_transcript_is_the_history(
    fleet_at: Callable[[Where], Fleet], fault: Fault, where: Where, number: int
) -> None:
    began = time.monotonic()
    seconds = fault.full if FORM == "full" else fault.short
    verdict = await run(fleet_at(where), fault.strike, seconds, seed=number, proxies=fault.proxies)
    layer = "memory" if where == "embedded" else LAYER
    report(
        verdict,
        fault=fault.name,
        where=where,
        layer=layer,
        form=FORM,
        seconds=seconds,
        took=round(time.monotonic() - began, 2),
    )
    if fault.publishing_goes_on:
        assert verdict.longest_publish < LONGEST_PUBLISH_SECONDS
