"""The demo's pages, in a real browser, under their own strict policy."""

from __future__ import annotations

import re
import signal
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from playwright.async_api import Page, expect

from project.csp import POLICY
from tests.demo.conftest import Demo, form_of
from tests.harness.chromium import open_page

# A browser, a server and an agent share two cores with other tests.
expect.set_options(timeout=20_000)

PAGES = ["/", "/ask/", "/machine/", "/crowd/", "/read/log/", "/read/machine/", "/nowhere/", "/read/a%20b/"]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_anything_inline(demo: Demo, path: str) -> None:
    status, body, headers = demo.get(path)
    assert status == (404 if path in {"/nowhere/", "/read/a%20b/"} else 200)
    assert headers["Content-Security-Policy"] == POLICY
    if path != "/nowhere/":  # Django's own page, while DEBUG is on
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", body)


@pytest.mark.parametrize("path", ["/read/a%20b/", "/read/sse_polling.nodes/", "/ask/nobody-asked-this/"])
def test_what_is_not_there_is_said_in_words(demo: Demo, path: str) -> None:
    status, body, _ = demo.get(path)
    assert status == 404
    assert "There is no such page" in body
    assert "Traceback" not in body


async def test_an_answer_comes_as_steps_and_then_the_browser_stops(demo: Demo) -> None:
    async with open_page(screenshots=demo.directory) as page:
        problems = _listen(page)
        streams: list[float] = []
        page.on("request", lambda request: "/events/" in request.url and streams.append(time.monotonic()))
        await page.goto(f"{demo.url}/ask/")
        await page.get_by_label("Your question").fill("What does transaction.on_commit do with robust?")
        await page.get_by_role("button", name="Ask", exact=True).click()
        await expect(page.locator("h1")).to_have_text("What does transaction.on_commit do with robust?")
        await expect(page.locator(".step").nth(4)).to_be_visible()
        # A worker is a process of its own: it goes on without the server.
        demo.signal(signal.SIGUSR1)
        await expect(page.locator("[data-status]")).to_contain_text("Answered", timeout=60_000)
        await expect(page.locator(".answer")).to_contain_text("django/db/transaction.py")
        await expect(page.locator(".meter")).to_have_attribute("data-state", "finished")
        steps = await page.locator(".step").count()
        assert steps > 10
        assert len(streams) > 3, "the steps came in several bursts"
        asked = len(streams)
        await page.wait_for_timeout(3000)
        assert len(streams) == asked, "a finished channel is asked for no more"
        # All of it again, at once, from what was stored.
        await page.reload()
        await expect(page.locator("[data-status]")).to_contain_text("Answered")
        assert await page.locator(".step").count() == steps
        await _expect_counts(page, lost="0", repeated="0")
        assert [each for each in problems if "net::ERR" not in each] == []


async def test_the_pages_survive_a_cut_and_a_restart_and_lose_nothing(demo: Demo) -> None:
    async with open_page(screenshots=demo.directory) as page:
        problems = _listen(page)
        await page.goto(f"{demo.url}/crowd/")
        for preset in ("reclaim", "live"):
            await page.locator(f"button[value={preset}]").click()
            await expect(page.locator("main [data-answer]")).to_contain_text(f"on {preset}")
            await expect(page.locator(f"button[value={preset}]")).to_have_attribute("aria-pressed", "true")
        mine = page.locator(".meter").first
        await expect(mine).to_have_attribute("data-state", "open")
        await page.get_by_role("button", name="Cut me now").click()
        await expect(page.locator("main [data-answer]")).to_contain_text(re.compile("Cut|no open socket"))
        await page.get_by_role("button", name="Restart the server").click()
        await expect(mine).to_have_attribute("data-state", "waiting")
        events = int(await mine.locator('[data-field="events"]').inner_text())
        await page.wait_for_timeout(6000)
        await expect(mine).to_have_attribute("data-state", "open")
        assert int(await mine.locator('[data-field="events"]').inner_text()) > events + 2
        for meter in await page.locator(".meter").all():
            await expect(meter.locator('[data-field="lost"]')).to_have_text("0")
            await expect(meter.locator('[data-field="repeated"]')).to_have_text("0")
        assert [each for each in problems if "net::ERR" not in each] == []


async def test_the_plots_are_drawn_from_real_figures(demo: Demo) -> None:
    async with open_page(screenshots=demo.directory, size=(390, 800)) as page:
        problems = _listen(page)
        await page.goto(f"{demo.url}/machine/")
        await expect(page.locator('[data-figure="cpu"]')).to_have_text(re.compile(r"^\d+%$"))
        await expect(page.locator('[data-figure="descriptors"]')).to_have_text(re.compile(r"^\d+$"))
        await expect(page.locator(".plot path.line")).to_have_count(2)
        width = await page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 390
        assert problems == []


async def test_a_deleted_event_turns_the_count_red(demo: Demo) -> None:
    demo.site.python(
        "from sse_polling import publish_many\n"
        "from sse_polling.models import Event\n"
        "publish_many('ask.red', [{'n': n, 'content': str(n)} for n in range(1, 21)])\n"
        "Event.objects.get(channel__name='ask.red', sequence=7).delete()\n"
    )
    async with open_page(screenshots=demo.directory) as page:
        await page.goto(f"{demo.url}/read/ask.red/")
        await expect(page.locator("[data-total]")).to_have_text("19")
        await _expect_counts(page, lost="1", repeated="0")
        await expect(page.locator(".meter")).to_have_class(re.compile(r"\bbad\b"))
        await expect(page.locator('[data-field="gaps"]')).to_have_text("1")


async def test_a_long_channel_is_read_with_a_short_page(demo: Demo) -> None:
    lines = "\n".join(f"line {n} <b>not markup</b>" for n in range(1, 3001))
    demo.site.python(
        "import sys\nfrom sse_polling import publish_many\npublish_many('log', sys.argv[1].split('\\n'))",
        lines,
    )
    async with open_page(screenshots=demo.directory) as page:
        problems = _listen(page)
        await page.goto(f"{demo.url}/read/log/")
        await expect(page.locator("[data-total]")).to_have_text("3,000")
        await expect(page.locator("[data-lines] li")).to_have_count(500)
        await expect(page.locator("[data-lines] li").last).to_have_text("line 3000 <b>not markup</b>")
        await expect(page.locator('[data-field="lost"]')).to_have_text("not numbered")
        assert problems == []


async def test_the_admin_works_under_the_policy(demo: Demo) -> None:
    password = (demo.var / "admin-password").read_text().strip()
    async with open_page(screenshots=demo.directory) as page:
        problems = _listen(page)
        await page.goto(f"{demo.url}/admin/")
        await page.fill("#id_username", "admin")
        await page.fill("#id_password", password)
        await page.click("input[type=submit]")
        await expect(page.locator("#site-name")).to_have_text("sse_polling demo")
        for model in ("channel", "event"):
            await page.goto(f"{demo.url}/admin/sse_polling/{model}/")
            await page.locator("#result_list tbody th a").first.click()
            await expect(page.locator("#content h1")).to_be_visible()
        assert [each for each in problems if "Content Security Policy" in each] == []


def test_forms_refuse_nonsense_in_words(demo: Demo) -> None:
    send = form_of(demo, "/crowd/")
    status, body = send("/crowd/preset/", preset="hectic")
    assert (status, "hectic" in body) == (400, True)
    status, body = send("/ask/", question="x" * 301)
    assert (status, "at most 300 characters" in body) == (200, True)
    status, body = send("/crowd/cut/", client="")
    assert (status, "Readers" in body) == (200, True)
    request = urllib.request.Request(f"{demo.url}/crowd/restart/", data=b"")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == 403
    assert "too old" in refused.value.read().decode()


def _listen(page: Page) -> list[str]:
    problems: list[str] = []
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    return problems


async def _expect_counts(page: Page, *, lost: str, repeated: str) -> None:
    await expect(page.locator('[data-field="lost"]')).to_have_text(lost)
    await expect(page.locator('[data-field="repeated"]')).to_have_text(repeated)
