"""A real browser for the pages: the system's Chromium, driven by Playwright.

Playwright rather than a screenshot on the command line: it tells of every console message and request, and sets the
colour scheme and the size of the window. The browser is the system's own, so that nothing is fetched for a test.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from pyharness import paths
from tests.rules.requires import BROWSER_VARIABLE, BROWSERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

# DISAGG_E2E_BROWSER names another one, and makes it an error that it is missing.
requires = "chromium"

PHONE = (360, 780)
DESKTOP = (1280, 900)


@dataclass
class Opened:
    """A page in the browser, with everything that it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def keep_picture(self, name: str) -> Path:
        """Keep what is seen, for people: run/browser/<name>.png."""
        path = paths.PROJECT / "run" / "browser" / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the system's browser."""
    wanted = os.environ.get(BROWSER_VARIABLE)
    program = next(found for name in ((wanted,) if wanted else BROWSERS) if (found := shutil.which(name)))
    with sync_playwright() as driver:
        # As root, as in a container, it does not run in its sandbox. All that it opens are files that a test wrote.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Return a function that opens a file in a window of its own."""
    contexts = []

    def visit(path: Path, *, dark: bool = False, size: tuple[int, int] = DESKTOP, scripts: bool = True) -> Opened:
        context = browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": size[0], "height": size[1]},
            java_script_enabled=scripts,
            offline=True,
        )
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        opened.page.goto(path.resolve().as_uri())
        return opened

    yield visit
    for context in contexts:
        context.close()
