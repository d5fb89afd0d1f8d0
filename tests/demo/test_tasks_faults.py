"""Twenty tasks at once while server and workers are killed: what each reader got is what is stored."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.async_api import expect

from tests.demo import test_fleet
from tests.demo.conftest import alive
from tests.demo.tasking import OVER, QUESTION, Tasks, demo_for_tasks, steps, transcript
from tests.demo.test_fleet import WORKERS, Fleet
from tests.demo.test_tasks_page import shown
from tests.harness.chromium import open_page
from tests.harness.client import EventSourceClient

pytestmark = pytest.mark.faults
fleet = test_fleet.fleet  # the fixture

QUESTIONS = [
    QUESTION,
    "How does QuerySet.select_related work?",
    "Where is the CSRF token checked?",
    "Who closes old database connections?",
    "What does SimpleLazyObject do?",
]


@pytest.fixture
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    with demo_for_tasks(tmp_path_factory.mktemp("faults"), pace=0.25) as demo:
        yield Tasks(demo)


async def test_twenty_tasks_survive_two_kills_of_the_server_and_of_the_workers(tasks: Tasks) -> None:
    # Every fifth one is read by a second agent, so there are twenty-four channels in the end.
    made = [
        await asyncio.to_thread(tasks.submit, f"{QUESTIONS[n % 5]} ({n})", index=n % 5 == 0)
        for n in range(20)
    ]
    keys = [task["id"] for task in made]
    readers = {key: tasks.reader(key) for key in keys}
    reading = [asyncio.create_task(reader.run(deadline=140)) for reader in readers.values()]
    async with open_page(screenshots=tasks.demo.directory) as page:
        await page.goto(f"{tasks.demo.url}/tasks/{keys[1]}/")
        await expect(page.locator(".step").first).to_be_visible(timeout=30_000)
        for _ in range(2):
            before = await asyncio.to_thread(_progress, tasks)
            await _until(lambda before=before: _progress(tasks) >= before + 25)  # type: ignore[misc]
            tasks.kill_server()
            tasks.kill_worker("agents")
            tasks.kill_worker("readers")
            await _until(lambda: len(tasks.workers("agents")) == len(tasks.workers("readers")) == 1)
        await asyncio.gather(*reading)
        await expect(page.locator("[data-status]")).to_contain_text("finished", timeout=30_000)
        on_page = await shown(page)
    taken_over = 0
    for key, reader in readers.items():
        task = await asyncio.to_thread(tasks.task, key)
        assert task["state"] == "done", task
        assert transcript(reader) == tasks.stored(key), key
        numbers = [step["n"] for step in steps(transcript(reader))]
        assert numbers == list(range(1, len(numbers) + 1)), key
        assert reader.transcript[-1].type == "end"
        taken_over += task["attempts"] > 1
    assert taken_over >= 4, "the kills came while tasks were at work"
    assert on_page == [step["n"] for step in steps(tasks.stored(keys[1]))]
    rows = tasks.query("SELECT state, count(*) FROM project_task GROUP BY state")
    assert rows == [("done", 24)]


async def test_no_more_than_four_run_at_once(tasks: Tasks) -> None:
    keys = [(await asyncio.to_thread(tasks.submit, f"{QUESTION} ({n})", pace=0.02))["id"] for n in range(12)]
    most = 0
    while any(tasks.task(key)["state"] not in OVER for key in keys):
        ((running,),) = tasks.query("SELECT count(*) FROM project_task WHERE state = 'running'")
        most = max(most, running)
        await asyncio.sleep(0.05)
    assert most == 4


def test_a_worker_that_leaves_in_order_gives_its_task_back(tasks: Tasks) -> None:
    key = tasks.submit()["id"]
    tasks.wait(key, lambda task: task["steps"] >= 3)
    (pid,) = tasks.workers()
    os.kill(pid, signal.SIGTERM)
    over = tasks.wait_over(key)
    assert (over["state"], over["attempts"]) == ("done", 1)


def test_a_frozen_worker_is_taken_over_and_adds_nothing_when_it_thaws(tasks: Tasks) -> None:
    key = tasks.submit(pace=0.3)["id"]
    tasks.wait(key, lambda task: task["steps"] >= 3)
    (pid,) = tasks.workers()
    os.kill(pid, signal.SIGSTOP)
    try:
        other = tasks.demo.site.spawn(
            "from django.core.management import call_command\ncall_command('worker', '--queue', 'agents')"
        )
        try:
            over = tasks.wait_over(key)
            assert (over["state"], over["attempts"]) == ("done", 2)
            stored = tasks.stored(key)
        finally:
            other.kill()
            other.communicate(timeout=10)
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)
    assert tasks.stored(key) == stored
    assert [step["n"] for step in steps(stored)] == list(range(1, len(stored)))
    assert tasks.task(key)["state"] == "done"


async def test_a_task_is_carried_out_although_its_worker_and_a_server_are_killed(fleet: Fleet) -> None:
    """On PostgreSQL, through nginx: whichever server is asked, and whichever worker is left."""
    tasks = Tasks(fleet)
    key = (await asyncio.to_thread(tasks.submit, pace=0.15, index=True))["id"]
    task = await asyncio.to_thread(tasks.wait, key, lambda task: task["steps"] >= 2)
    (source,) = task["reads"]
    clients = [
        EventSourceClient(f"{fleet.url}/events/task.{each}/?last_event_id=earliest") for each in (key, source)
    ]
    reading = [asyncio.create_task(client.run(deadline=60)) for client in clients]
    for name in ("worker-1", "worker-2", "reader", "uvicorn-2"):
        os.kill(fleet.table()[name][0], signal.SIGKILL)
    await asyncio.gather(*reading)
    for each, client in zip((key, source), clients, strict=True):
        over = await asyncio.to_thread(tasks.task, each)
        assert (over["state"], over["attempts"]) == ("done", 2)
        told = steps(transcript(client))
        assert [step["n"] for step in told] == list(range(1, over["steps"] + 1))
        assert client.transcript[-1].type == "end"
    await _until(lambda: all(alive(fleet.table()[name][0]) for name in [*WORKERS, "uvicorn-2"]))


def _progress(tasks: Tasks) -> int:
    ((count,),) = tasks.query(
        "SELECT count(*) FROM sse_polling_event e JOIN sse_polling_channel c ON c.id = e.channel_id"
        " WHERE c.name LIKE 'task.%'"
    )
    return int(count)


async def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
