"""The console in a real browser, under the site's strict policy."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.demo.tasking import QUESTION, Tasks, demo_for_tasks
from tests.harness.chromium import open_page

expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    with demo_for_tasks(tmp_path_factory.mktemp("page"), pace=0.08) as demo:
        yield Tasks(demo)


@pytest.mark.faults
async def test_the_console_watches_any_task_through_a_restart(tasks: Tasks) -> None:
    async with open_page(screenshots=tasks.demo.directory, size=(390, 800)) as page:
        problems: list[str] = []
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"{tasks.demo.url}/tasks/")
        await page.get_by_label("Your question").fill(QUESTION)
        await page.get_by_role("button", name="Submit").click()
        await expect(page.locator(".watched h2")).to_have_text(QUESTION)
        key = page.url.rstrip("/").rpartition("/")[2]
        await expect(page.locator(".step").nth(2)).to_be_visible()
        tasks.demo.signal(signal.SIGUSR1)  # the server is restarted; the worker goes on
        await expect(page.locator("[data-status]")).to_have_text(re.compile("^Done"))
        await expect(page.locator(f'[data-task="{key}"]')).to_have_attribute("data-state", "done")
        assert await shown(page) == [step["n"] for step in stored(tasks, key)]
        await expect(page.locator(".answer")).to_contain_text("django/db/transaction.py")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390

        # Two agents, side by side; then cancelled from the page.
        await page.get_by_label("Your question").fill(QUESTION)
        await page.get_by_label("A second agent").check()
        await page.get_by_role("button", name="Submit").click()
        await expect(page.locator("[data-watch-source] .step").nth(1)).to_be_visible()
        await expect(page.locator(".pair .step.result")).not_to_have_count(0)
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator("[data-status]")).to_have_text(re.compile("^Cancelled"))
        await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        await page.get_by_text("Who said what when").click()
        await expect(page.locator("[data-timeline] tr")).not_to_have_count(0)
        assert [each for each in problems if "net::ERR" not in each] == []


async def shown(page: Page) -> list[int]:
    """Return the numbers of the steps on the page, in its order; the answer stands above and comes last."""
    numbers = await page.locator("[data-steps] [data-n], [data-answer][data-n]").evaluate_all(
        "items => items.map((item) => [item.hasAttribute('data-answer'), Number(item.dataset.n)])"
    )
    return [number for _, number in sorted(numbers, key=lambda pair: pair[0])]


def stored(tasks: Tasks, key: str) -> list[dict[str, int]]:
    return [json.loads(data) for event, data in tasks.stored(key) if event != "end"]
