"""The Python of docs/clients.md, run as it stands there. Its scripts: tests/servers/test_clients_docs.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.test import AsyncClient
from django.urls import reverse

from sse_polling import access, afinish, apublish
from sse_polling.client import StreamRefused, stream_events
from sse_polling.testing import Transcript
from tests.asgi import application
from tests.servers.docs_page import CLIENT, DOCUMENT, blocks

pytestmark = pytest.mark.django_db(transaction=True)

FOLLOW, LEAVE, SETTINGS, SIGN, TEST, ASYNC_TEST = blocks("python")


def run(example: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(example, "docs/clients.md", "exec"), names)  # noqa: S102 - our own document
    return names


def connected() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://testserver")


async def test_the_agent_reads_prints_and_saves(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "PRESET": "reclaim"}
    first = await apublish("news", "one")
    second = await apublish("news", "two", event="log")
    end = await afinish("news")
    example = run(FOLLOW)
    saved: list[str] = []
    async with connected() as client:
        example["stream_events"] = lambda url, **given: stream_events(url, client=client, **given)
        await example["follow"](
            "http://testserver" + reverse("sse_polling:stream", args=["news"]), first.id, saved.append
        )
    assert capsys.readouterr().out.splitlines() == [f"{second.id} log two", f"{end.id} end {{}}"]
    assert saved == [second.id, end.id]


async def test_who_leaves_early_closes(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public", "PRESET": "reclaim"}
    await apublish("news", "one")
    await apublish("news", "two", event="failed")
    example = run(LEAVE)
    made: list[Any] = []

    def streaming(url: str, *given: Any) -> Any:
        made.append(stream_events(url, *given, client=client))
        return made[-1]

    async with connected() as client:
        example["stream_events"] = streaming
        address = "http://testserver" + reverse("sse_polling:stream", args=["news"])
        assert await example["first_failure"](address) == "two"
    assert [each.ag_frame for each in made] == [None]


async def test_a_signed_address_reads_its_channel_and_expires(settings: Any) -> None:
    access.cache.clear()
    settings.SSE_POLLING = {**run(SETTINGS)["SSE_POLLING"], "PRESET": "reclaim", "AUTH_CACHE_SECONDS": 0}
    await apublish("build.42", "one")
    await afinish("build.42")
    url = run(SIGN)["url"]
    async with connected() as client:
        found = [
            event.data async for event in stream_events(f"http://testserver{url}", "earliest", client=client)
        ]
        assert found == ["one", "{}"]
        with pytest.raises(StreamRefused, match="403"):
            await anext(stream_events(f"http://testserver{url}x", "earliest", client=client))


def test_the_check_of_ones_own_channels(transcript: Callable[..., Transcript]) -> None:
    run(TEST)["test_a_build_tells_every_step"](transcript)


async def test_the_check_of_ones_own_channels_in_an_async_test(transcript: Callable[..., Transcript]) -> None:
    await run(ASYNC_TEST)["test_a_build_tells_every_step"](transcript)


async def test_a_polls_answer_has_the_fields_that_are_shown(settings: Any) -> None:
    settings.SSE_POLLING = {"AUTHORIZE": "sse_polling.access.public"}
    await apublish("a", "one")
    answer = await AsyncClient().get("/events/poll/?channel=a&channel=b&last_event_id=earliest")
    told, shown = json.loads(answer.content), json.loads(blocks("json")[0])
    assert told.keys() == shown.keys()
    assert [each.keys() for each in told["events"]] == [each.keys() for each in shown["events"]]


def test_the_options_of_client_js_are_documented_with_their_defaults() -> None:
    defaults = re.findall(r"^  (\w+): ([\d_]+),", CLIENT.read_text(), re.MULTILINE)
    assert len(defaults) >= 5
    shown: dict[str, int] = {}
    for names, numbers in re.findall(r"^\| (`[^|]*`) \| ([\d, ]+) \|", DOCUMENT.read_text(), re.MULTILINE):
        shown |= zip(re.findall(r"`(\w+)`", names), map(int, numbers.split(",")), strict=True)
    assert shown == {name: int(number) for name, number in defaults}
