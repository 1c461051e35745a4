"""A picture of mistakes: `check --draw`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flowconf.cli.main import main

GRAPH = """\
inputs: {x: [B, 4]}
flow:
  stem: Linear(4, 8)
  part:
    graph:
      inputs: {x: [B, 8]}
      flow:
        wide: Linear(8, 16)
        narrow: Linear(12, 2)
  last: ReLU
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("graph.yaml").write_text(GRAPH, encoding="utf-8")


def drawn(*words: str):
    assert main(["check", "graph.yaml", *words, "--draw", "page.html"]) == 2
    page = Path("page.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def members(data):
    def walk(one):
        yield one
        for inner in one.get("inside", {}).get("members", []):
            yield from walk(inner)

    return {one["id"]: one for one in walk(data["graph"])}


def test_both_parties_of_a_mistake_are_marked():
    data = drawn()
    assert data["title"] == "Errors and warnings"
    assert {path: mark["kind"] for path, mark in data["marks"].items()} == {
        "part.narrow": "error",
        "part.wide": "cause",
    }
    [text] = data["marks"]["part.narrow"]["texts"]
    assert text.startswith("FC0201: `part.narrow` expects 12 features, got 16")
    assert "write `Linear(16, 2)`" in text


def test_shapes_are_shown_up_to_the_mistake():
    found = members(drawn())
    assert found["stem"]["shape"] == "[B, 8]"
    assert found["part.wide"]["shape"] == "[B, 16]"


def test_a_mistake_of_the_command_line_marks_its_member():
    data = drawn("flow.part.graph.flow.narrow=Linear(16, 2)", "flow.stem=Linear(5, 8)")
    assert data["marks"]["stem"]["kind"] == "error"


def test_what_cannot_be_resolved_is_not_drawn(capsys):
    Path("graph.yaml").write_text("flow: [", encoding="utf-8")
    assert main(["check", "graph.yaml", "--draw", "page.html"]) == 2
    assert "page.html was not written" in capsys.readouterr().err
    assert not Path("page.html").exists()


def test_only_pages_are_written(capsys):
    assert main(["check", "graph.yaml", "--draw", "page.svg"]) == 2
    assert ".html" in capsys.readouterr().err


def test_a_graph_without_mistakes_is_drawn_without_marks():
    Path("graph.yaml").write_text(GRAPH.replace("Linear(12, 2)", "Linear(16, 2)"), encoding="utf-8")
    assert main(["check", "graph.yaml", "--draw", "page.html"]) == 0
    assert '"marks":{}' in Path("page.html").read_text(encoding="utf-8")


def test_a_mistake_in_a_step_that_cannot_be_drawn_is_a_note_with_its_place():
    Path("graph.yaml").write_text(GRAPH.replace("last: ReLU", "last: RleU"), encoding="utf-8")
    data = drawn()
    assert [note.partition(": ")[0] for note in data["notes"]] == ["graph.yaml:10:9"]
