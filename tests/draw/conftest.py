"""A browser for the tests of pages, where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright; a test that uses it is skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package `playwright`")
    with playwright.sync_playwright() as driver:
        own = driver.chromium.executable_path
        executable = next(filter(None, map(shutil.which, BROWSERS)), own)
        if not Path(executable).exists():
            pytest.skip("needs Chromium on the PATH, or that of `playwright install chromium`")
        started = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


class Shown:
    """A page in a tab of its own; `problems` are the errors and warnings of its console, and its requests."""

    def __init__(self, browser, file: Path, **context):
        self.file = file
        self.problems: list[str] = []
        self.tab = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context}).new_page()
        self.tab.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.tab.on("request", self._note_request)

    def _note_request(self, request) -> None:
        if request.url.partition("#")[0] != self.file.as_uri():
            self.problems.append(f"request: {request.url}")

    def open(self, address: str = ""):
        self.tab.goto("about:blank")
        self.tab.goto(self.file.as_uri() + (f"#{address}" if address else ""))
        return self.tab


@pytest.fixture
def shows(browser, tmp_path):
    """Opens a page, and in the end holds that it caused no error, no warning and no request."""
    opened: list[Shown] = []

    def show(page: str | Path, address: str = "", **context):
        file = page if isinstance(page, Path) else tmp_path / f"page{len(opened)}.html"
        if not isinstance(page, Path):
            file.write_text(page, encoding="utf-8")
        opened.append(Shown(browser, file.absolute(), **context))
        return opened[-1].open(address)

    yield show
    for one in opened:
        one.tab.context.close()
        assert one.problems == []
