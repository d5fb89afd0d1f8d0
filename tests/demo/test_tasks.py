"""Background tasks in the running demo: the API, the worker, and what a reader is told whatever happens."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from project.agent.schema import check_step
from tests.demo.conftest import form_of
from tests.demo.tasking import QUESTION, Tasks, demo_for_tasks, steps, transcript
from tests.harness.client import EventSourceClient


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    with demo_for_tasks(tmp_path_factory.mktemp("tasks"), pace=0.01) as demo:
        yield Tasks(demo)


def seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_a_task_is_submitted_listed_and_read_to_its_result(tasks: Tasks) -> None:
    status, made, headers = tasks.post({"question": QUESTION, "pace": 0})
    assert status == 201
    assert made["channel"] == f"task.{made['id']}"
    assert made["state"] in {"waiting", "running"}
    assert made["stream"] == f"/events/task.{made['id']}/?last_event_id=earliest"
    assert made["url"] == f"{tasks.demo.url}/tasks/{made['id']}/"
    assert headers["Location"] == f"/tasks/{made['id']}/"
    form = urllib.parse.urlencode({"question": "zxqwv blorple"}).encode()
    status, second, _ = tasks.send("/tasks/", form)
    assert status == 201
    _, listed, headers = tasks.send("/tasks/")
    assert [task["id"] for task in listed["tasks"][:2]] == [second["id"], made["id"]]
    assert headers["Vary"] == "Accept, Cookie" or "Accept" in headers["Vary"]
    over = tasks.wait_over(made["id"])
    assert over["state"] == "done"
    assert over["result"]["where"].startswith("django/db/transaction.py:")
    assert over["steps"] == len(steps(tasks.stored(made["id"]))) > 10
    assert seconds(over["created"], over["ended"]) > 0
    assert (over["error"], over["attempts"], over["cancel"]) == (None, 1, None)
    tasks.wait_over(second["id"])


async def test_what_a_reader_gets_is_what_is_stored_and_then_the_end(tasks: Tasks) -> None:
    key = (await asyncio.to_thread(tasks.submit, pace=0.05))["id"]
    reader = await tasks.reader(key).run(deadline=30)
    assert reader.ended
    assert transcript(reader) == tasks.stored(key)
    assert transcript(reader)[-1] == ("end", '{"status":"done"}')
    told = steps(transcript(reader))
    for step in told:
        check_step(step)
    assert [step["n"] for step in told] == list(range(1, len(told) + 1))
    # A paragraph is a burst: each came with a response of its own, apart from the last with its `end`.
    paragraphs = sum(step.get("ends", False) for step in told)
    assert len({entry.response for entry in reader.transcript}) >= paragraphs - 1


@pytest.mark.parametrize(
    ("fields", "status", "code", "said"),
    [
        ({}, 400, "invalid", "question: This field is required."),
        ({"question": "  "}, 400, "invalid", "question: This field is required."),
        ({"question": "x" * 301}, 400, "invalid", "at most 300 characters"),
        ({"question": 7}, 400, "invalid", "question is a text"),
        ({"question": "half \ud83d"}, 400, "invalid", "a lone surrogate"),
        ({"question": "a", "index": "yes"}, 400, "invalid", "index true or false"),
        ({"question": "a", "pace": 9}, 400, "invalid", "less than or equal to 2"),
        ({"question": "a", "pace": "slow"}, 400, "invalid", "a number of seconds"),
        ({"question": "a", "speed": 9}, 400, "invalid", "Unknown: speed."),
        (["question"], 400, "json", "a JSON object"),
        ({"question": "x" * 20_000}, 413, "too_large", "16,384 bytes"),
    ],
)
def test_what_is_no_question_is_refused_in_words(
    tasks: Tasks, fields: object, status: int, code: str, said: str
) -> None:
    answer = tasks.post(fields)
    assert answer.status == status
    assert answer.body["error"]["code"] == code
    assert said in answer.body["error"]["message"]


def test_what_cannot_be_read_or_is_not_there_is_said_in_json(tasks: Tasks) -> None:
    answers = {
        "json": tasks.send("/tasks/", b"{", Content_Type="application/json"),
        "media_type": tasks.send("/tasks/", b"<q/>", Content_Type="text/xml"),
        "too_large": tasks.send("/tasks/", [b" " * 65_536] * 48, Content_Type="application/json"),
        "unknown": tasks.send("/tasks/nobody/"),
        "method": tasks.send("/tasks/nobody/", b""),
    }
    assert {code: answer.body["error"]["code"] for code, answer in answers.items()} == {
        code: code for code in answers
    }
    assert [answer.status for answer in answers.values()] == [400, 415, 413, 404, 405]
    assert answers["method"].headers["Allow"] == "GET, HEAD"
    assert tasks.cancel("nobody").status == 404


def test_a_browsers_request_needs_the_token(tasks: Tasks) -> None:
    body = json.dumps({"question": QUESTION}).encode()
    kind = {"Content_Type": "application/json"}
    for headers in (
        {"Cookie": "sessionid=x"},
        {"Origin": "https://evil.example"},
        {"Origin": tasks.demo.url},
    ):
        answer = tasks.send("/tasks/", body, **kind, **headers)
        assert (answer.status, answer.body["error"]["code"]) == (403, "csrf"), headers
        answer = tasks.send("/tasks/nobody/cancel/", b"", **headers)
        assert answer.status == 403
    token = "a" * 32
    given = {"Cookie": f"csrftoken={token}", "X_CSRFToken": token, "Origin": tasks.demo.url}
    status, made, _ = tasks.send("/tasks/", body, **kind, **given)
    assert status == 201
    assert tasks.send(f"/tasks/{made['id']}/cancel/", b"", **given).status == 200


def test_only_so_many_tasks_wait(tasks: Tasks) -> None:
    row = "('full-' || ?, 'project.tasks.agents.answer', 'nobody', '[]', '{}', 'waiting', '', '', 0, 0)"
    columns = "key, function, queue, args, kwargs, state, holder, error, attempts, created"
    for number in range(50):
        tasks.query(f"INSERT INTO project_task ({columns}) VALUES {row}", number)
    try:
        status, body, headers = tasks.post({"question": QUESTION})
        assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "full", "5")
        assert tasks.send("/tasks/").body["waiting"] == 50
        status, page = form_of(tasks.demo, "/ask/")("/ask/", question="How does <i>it</i> work?")
        assert status == 503
        assert "50 tasks wait already" in page
        assert 'value="How does &lt;i&gt;it&lt;/i&gt; work?"' in page
    finally:
        tasks.query("DELETE FROM project_task WHERE queue = 'nobody'")


def test_a_bad_step_is_an_error_before_anything_is_stored(prepared: list[str]) -> None:
    assert prepared[0].startswith("A step's type is one of")
    assert prepared[1].startswith("A step's content is")
    assert prepared[2] == "stored: False"


async def test_cancelling_ends_the_stream_and_the_work_within_a_second(tasks: Tasks) -> None:
    key = (await asyncio.to_thread(tasks.submit, pace=2))["id"]
    reader = tasks.reader(key)
    reading = asyncio.create_task(reader.run(deadline=20))
    await asyncio.to_thread(tasks.wait, key, lambda task: task["steps"] >= 1)
    asked = time.monotonic()
    status, body, _ = await asyncio.to_thread(tasks.cancel, key)
    assert (status, body["state"]) == (200, "cancelled")
    await reading
    assert reader.transcript[-1].at - asked < 1
    assert transcript(reader)[-1] == ("end", '{"status":"cancelled"}')
    over = await asyncio.to_thread(tasks.wait_over, key)
    assert seconds(over["ended"], over["released"]) < 1
    assert over["steps"] < 4, "it was left in mid-pause"
    assert transcript(reader) == tasks.stored(key)
    again = await asyncio.to_thread(tasks.cancel, key)
    assert again.status == 200
    assert len(tasks.stored(key)) == len(transcript(reader)), "nothing comes after the end"


def test_a_task_that_is_over_is_not_cancelled(tasks: Tasks) -> None:
    key = tasks.submit("zxqwv blorple")["id"]
    assert tasks.wait_over(key)["state"] == "done"
    status, body, _ = tasks.cancel(key)
    assert (status, body["error"]["code"]) == (409, "over")


async def test_a_killed_worker_is_replaced_and_its_task_goes_on_where_it_stood(tasks: Tasks) -> None:
    key = (await asyncio.to_thread(tasks.submit, pace=0.06))["id"]
    reader = tasks.reader(key)
    reading = asyncio.create_task(reader.run(deadline=40))
    await asyncio.to_thread(tasks.wait, key, lambda task: task["steps"] >= 4)
    tasks.kill_worker()
    await reading
    over = await asyncio.to_thread(tasks.wait_over, key)
    assert (over["state"], over["attempts"]) == ("done", 2)
    assert transcript(reader) == tasks.stored(key)
    told = steps(transcript(reader))
    assert [step["n"] for step in told] == list(range(1, len(told) + 1))
    assert told[-1]["type"] == "final"


@pytest.mark.parametrize(
    ("attempts", "error"), [(5, "Its worker died 5 times."), (1, "Diverged: Step 1 is not what")]
)
async def test_a_task_that_cannot_be_resumed_fails_and_its_readers_are_told(
    tasks: Tasks, prepared: list[str], attempts: int, error: str
) -> None:
    key = f"stuck-{attempts}"
    reader = await tasks.reader(key).run(deadline=20)
    task = await asyncio.to_thread(tasks.task, key)
    assert task["state"] == "failed"
    assert error in task["error"]
    assert json.loads(reader.data[-1]) == {"status": "failed", "error": task["error"]}
    assert transcript(reader) == tasks.stored(key)


def test_a_moment_without_the_database_fails_no_attempt(tasks: Tasks) -> None:
    assert tasks.demo.site.python(_OUTAGE).split() == ["begun", "stopped"]


def test_what_is_forgotten_takes_nobody_along_who_is_at_work(tasks: Tasks) -> None:
    assert tasks.demo.site.python(_PRUNE).split() == ["asks", "asked"]


def test_an_agent_reads_another_while_it_speaks(tasks: Tasks) -> None:
    key = tasks.submit(index=True, pace=0.1)["id"]
    over = tasks.wait_over(key)
    assert over["state"] == "done"
    (source,) = over["reads"]
    moments = over["timeline"]
    assert moments == sorted(moments, key=lambda moment: moment["at"])

    def at(who: str, what: str) -> dict[str, Any]:
        return next(moment for moment in moments if (moment["who"], moment["what"]) == (who, what))

    # By time: the reader starts before the source's first word, and speaks before the source has ended.
    assert at("reader", "started")["at"] < at("reader", "first step")["at"] < at("source", "first step")["at"]
    found = [moment for moment in moments if moment["who"] == "reader" and moment["what"].startswith("step ")]
    before = [moment for moment in found if moment["at"] < at("source", "end")["at"]]
    assert len(before) >= 2
    # By sequence: each paragraph's index follows the one before, and names the steps that it has read.
    mine = steps(tasks.stored(key))
    theirs = steps(tasks.stored(source))
    read = [step["content"]["read"] for step in mine if step["type"] == "result"]
    assert [n for each in read for n in range(each["first"], each["last"] + 1)] == [s["n"] for s in theirs]
    assert [moment["sequence"] for moment in found] == list(range(2, len(mine) + 1))
    assert theirs[-1]["content"]["answer"] in mine[-1]["content"]["answer"]
    assert tasks.workers("readers") != tasks.workers("agents")


def test_cancelling_the_reader_cancels_what_it_has_asked(tasks: Tasks) -> None:
    key = tasks.submit(index=True, pace=0.1)["id"]
    (source,) = tasks.wait(key, lambda task: len(task["reads"]) == 1)["reads"]
    assert tasks.cancel(key).status == 200
    for each in (key, source):
        over = tasks.wait_over(each)
        assert over["state"] == "cancelled"
        assert seconds(over["ended"], over["released"]) < 1
        assert tasks.stored(each)[-1] == ("end", '{"status":"cancelled"}')


async def test_the_list_is_a_channel_of_its_own(tasks: Tasks) -> None:
    reader = EventSourceClient(f"{tasks.demo.url}/events/tasks/")
    reading = asyncio.create_task(reader.read_until(3, deadline=20))
    deadline = time.monotonic() + 20
    while not reader.last_event_id:  # from now on, once it is connected
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    key = (await asyncio.to_thread(tasks.submit, "zxqwv blorple"))["id"]
    await reading
    told = [json.loads(data) for data in reader.data]
    assert [(each["id"], each["state"]) for each in told] == [
        (key, "waiting"),
        (key, "running"),
        (key, "done"),
    ]


_PREPARE = """
from datetime import timedelta
from django.db.models.functions import Now
from project.agent.schema import BadStep
from project.agent.steps import Step
from project.models import Task
from project.tasks.run import Run
from sse_polling import publish
from sse_polling.models import Channel

with Run("task.bad", "bad", "nobody") as run:
    for step in (Step("musing", "so"), Step("result", "")):
        try:
            run.write(step)
        except BadStep as error:
            print(error)
print("stored:", Channel.objects.filter(name="task.bad").exists())

for attempts in (1, 5):
    step = {"v": 1, "n": 1, "type": "reasoning", "content": "of another life"}
    publish(f"task.stuck-{attempts}", step)
    Task.objects.create(
        key=f"stuck-{attempts}", function="project.tasks.agents.answer", queue="agents",
        kwargs={"question": "What does SimpleLazyObject do?"}, state="running", holder="a dead one",
        attempts=attempts, lease_until=Now() - timedelta(seconds=1),
    )
"""


_OUTAGE = """
from django.db import OperationalError, connection
from project.tasks.run import Run, Stopped

outages = iter([True])

def away(execute, *query):
    if next(outages, False):
        raise OperationalError("away")
    return execute(*query)

def never(*error):
    raise OperationalError("away")

run = Run("task.nobody", "nobody", "nobody")
with connection.execute_wrapper(away):
    try:
        with run:
            print("begun")
            run._writer.__exit__ = never
            run.stop("the worker leaves")
            run.check()
    except Stopped:
        print("stopped")
"""

_PRUNE = """
from project.models import Task
from project.tasks import ledger

ledger.KEPT = 0
call = dict(function="project.tasks.agents.answer", queue="nobody")
Task.objects.create(key="over", state="done", **call)
asks = Task.objects.create(key="asks", state="failed", **call)
Task.objects.create(key="asked", state="running", parent=asks, **call)
ledger.prune()
mine = Task.objects.filter(queue="nobody")
print(*mine.order_by("pk").values_list("key", flat=True))
mine.delete()
"""


@pytest.fixture(scope="module")
def prepared(tasks: Tasks) -> list[str]:
    """What a process of the site said that wrote bad steps, and left tasks of workers that died."""
    return tasks.demo.site.python(_PREPARE).splitlines()
