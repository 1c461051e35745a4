"""The page of watched runs, in a browser, while runs are written."""

from __future__ import annotations

import json
from threading import Thread

import pytest

from flowconf.train.runs import watching
from flowconf.train.runs.watch_server import WatchServer
from flowconf.train.runs.watching import Watched
from tests.draw.contrast import low_contrast
from tests.train.test_watch import make_run, write_lines

HOSTILE = "<img src=x onerror=window.ran=1></script><script>window.ran=2</script>\u202e\x1b"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "BETWEEN_LOOKS", 0.0)
    make_run(tmp_path, "first", 0)
    return tmp_path


@pytest.fixture
def server(root):
    with WatchServer(Watched([root]), 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def tab(server, browser):
    context = browser.new_context()
    tab = context.new_page()
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: problems.append(f"error: {error}"))
    tab.goto(server.address)
    yield tab
    context.close()
    assert problems == []


def test_it_shows_what_is_written(root, tab, browser, server):
    tab.get_by_role("heading", name="first").wait_for()
    tab.locator("canvas").first.wait_for()
    folder = make_run(root, HOSTILE.replace("/", "|"), 1)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"step": 4, HOSTILE: 1.5, f"val/{HOSTILE}": 1, "phase": HOSTILE}) + '\n{"step": 5, "tr')
    tab.get_by_role("heading", name="2 runs").wait_for()
    assert tab.locator("table.runs tbody tr").count() == 2
    write_lines(root / "digits" / "first", range(4, 2000))
    tab.get_by_role("cell", name="1,999").wait_for()
    assert "seed" in tab.locator("table thead").first.inner_text()
    tab.locator("table.runs td:first-child button").last.click()
    assert "\\u202e" in tab.locator("h2").filter(has_text="B").inner_text()
    tab.locator("summary").filter(has_text="Graph").click()
    tab.locator('.graph [data-id="stem"]').wait_for()
    assert tab.evaluate("window.ran") is None
    assert (tab.locator("img").count(), tab.locator("script").count()) == (0, 2)
    late = browser.new_page()
    late.goto(server.address)
    late.get_by_role("cell", name="1,999").wait_for()
    late.close()


def test_it_says_when_the_server_is_gone(server, browser):
    tab = browser.new_page()
    tab.goto(server.address)
    tab.get_by_role("heading", name="first").wait_for()
    tab.context.set_offline(True)
    tab.get_by_text("does not answer").wait_for()
    tab.context.set_offline(False)
    tab.get_by_text("does not answer").wait_for(state="detached")
    tab.close()


def test_texts_have_contrast_in_the_dark(server, browser):
    tab = browser.new_page(color_scheme="dark")
    tab.goto(server.address)
    tab.get_by_role("heading", name="first").wait_for()
    tab.locator("summary").filter(has_text="Graph").click()
    tab.locator('.graph [data-id="stem"]').wait_for()
    assert low_contrast(tab) == {}
    tab.context.set_offline(True)
    tab.get_by_text("does not answer").wait_for()
    assert low_contrast(tab) == {}
    tab.close()
