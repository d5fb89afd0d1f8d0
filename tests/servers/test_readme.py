"""The README's five minutes, taken literally in a new project, with a browser at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from project.programs.ports import accepts, free_port
from tests.harness.chromium import open_page
from tests.harness.programs import require

ROOT = Path(__file__).resolve().parents[2]


def blocks() -> list[str]:
    """Return the code blocks of the section, in order, without the list's indentation."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## In your project") : text.index("## Publishing")]
    found = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    return ["\n".join(line.removeprefix("   ") for line in block.splitlines()) + "\n" for block in found]


async def test_the_five_minute_start_works_as_it_is_written(tmp_path: Path) -> None:
    require("chromium")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")}
    environment |= {"PYTHONPATH": str(ROOT), "DJANGO_SUPERUSER_PASSWORD": "pw"}

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    run("-m", "django", "startproject", "mysite", ".")
    settings, events, urls, asgi, page, script, publishing = blocks()
    with (tmp_path / "mysite/settings.py").open("a") as file:
        file.write(settings)
    files = {"mysite/events.py": events, "mysite/urls.py": urls, "mysite/asgi.py": asgi}
    files |= {"templates/news.html": page, "static/news.js": script}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert "no issues" in run("manage.py", "check", "--fail-level", "WARNING")
    run("manage.py", "migrate", "-v0")
    run("manage.py", "createsuperuser", "--noinput", "--username", "root", "--email", "root@example.com")
    port = free_port()
    server = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs here
        [sys.executable, "manage.py", "runserver", str(port), "--noreload"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while not accepts(port) and time.monotonic() < until:
            time.sleep(0.1)  # noqa: ASYNC251 - nothing else runs here
        async with open_page(screenshots=tmp_path) as browser:
            await browser.goto(f"http://127.0.0.1:{port}/news/")
            await browser.fill("#id_username", "root")
            await browser.fill("#id_password", "pw")
            await browser.click("[type=submit]")
            await browser.wait_for_selector("#news", state="attached")
            run("manage.py", "shell", "-c", publishing)
            await browser.wait_for_selector("#news li", timeout=30_000)
            assert await browser.inner_text("#news li") == "Your build has passed"
    finally:
        server.terminate()
        server.wait(10)
