"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, async_playwright

from .programs import require

__all__ = ["open_page"]

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@asynccontextmanager
async def open_page(
    *, deadline: float = 20, screenshots: Path | None = None, size: tuple[int, int] = (1280, 800)
) -> AsyncIterator[Page]:
    """Start headless Chromium with an empty profile and give one page of it.

    Each of the page's own waits ends after `deadline` seconds. For what goes
    wrong in the page, listen with `page.on("console", …)` and
    `page.on("pageerror", …)`. With `screenshots`, a failing block leaves `failure.png` there.
    """
    executable = require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=_FLAGS, timeout=deadline * 1000, chromium_sandbox=False
        )
        try:
            context = await browser.new_context(viewport={"width": size[0], "height": size[1]})
            context.set_default_timeout(deadline * 1000)
            page = await context.new_page()
            try:
                yield page
            except BaseException:
                if screenshots is not None:
                    await page.screenshot(path=screenshots / "failure.png")
                raise
        finally:
            await browser.close()
