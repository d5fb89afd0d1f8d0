"""The examples of docs/tasks.md, run as they stand there."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.test import RequestFactory
from django.urls import reverse

from project.agent.schema import check_step
from sse_polling import afinish, apublish
from sse_polling.models import Event
from tests.harness.site import ROOT

DOCUMENT = (ROOT / "docs/tasks.md").read_text()
PARAGRAPHS = ["It rains. It pours.", "The old man is snoring."]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with each example under its own name."""
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        name = block.split("\n", 1)[0].removeprefix("# ")
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        try:
            import django.tasks  # noqa: F401
        except ImportError:
            block = block.replace("from django.tasks import", "from django_tasks import")  # noqa: PLW2901
        path.write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("reports", "reports.tasks", "reports.views", "indexer"):
        sys.modules.pop(name, None)


def test_the_view_starts_a_task_that_streams_steps_and_the_end(example: Path) -> None:
    start = importlib.import_module("reports.views").start
    answer = start(RequestFactory().post("/", {"paragraph": PARAGRAPHS}))
    assert answer.status_code == 201
    channel = json.loads(answer.content)["channel"]
    assert json.loads(answer.content)["stream"] == f"/events/{channel}/?last_event_id=earliest"
    events = list(Event.objects.filter(channel__name=channel).order_by("sequence"))
    assert [event.event for event in events] == ["message"] * 3 + ["end"]
    told = [json.loads(event.data) for event in events[:-1]]
    for step in told:
        check_step(step)
    assert [step["content"] for step in told] == ["It rains", "It pours", "The old man is snoring"]
    assert [step["ends"] for step in told] == [False, True, True]
    # A second attempt stores nothing twice.
    importlib.import_module("reports.tasks").summarise.func(channel, PARAGRAPHS)
    assert Event.objects.filter(channel__name=channel).count() == len(events)


async def test_the_reader_is_given_paragraphs_and_how_it_ended(example: Path, settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "PRESET": "reclaim"}
    read_along = importlib.import_module("indexer").read_along
    for number, text in enumerate(["It rains", "It pours", "The old man"]):
        await apublish("report.x", {"v": 1, "type": "result", "content": text, "ends": number > 0})
    await afinish("report.x", {"status": "cancelled"})
    said: list[list[str]] = []

    async def say(paragraph: list[dict[str, Any]]) -> None:
        said.append([step["content"] for step in paragraph])

    from tests.asgi import application

    module = importlib.import_module("indexer")
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport) as client:
        plain = module.stream_events
        module.stream_events = lambda url, since: plain(url, since, client=client)
        url = "http://testserver" + reverse("sse_polling:stream", args=["report.x"])
        assert await read_along(url, say) == "cancelled"
    assert said == [["It rains", "It pours"], ["The old man"]]
