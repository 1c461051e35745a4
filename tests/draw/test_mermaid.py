"""A flowchart in which every name is only a label."""

from __future__ import annotations

import re

from flowconf.draw.levels import picture
from flowconf.draw.mermaid import mermaid
from flowconf.language.resolve.resolver import resolve
from flowconf.text.documents import read


def drawn(text: str, depth: int | None = None) -> str:
    return mermaid(picture(resolve(read("a.yaml", text))), depth)


def test_a_small_graph_in_full():
    text = "inputs: {x: [B, 4]}\nflow: {head: 'Linear(4, 2)', act: {also: ReLU, frozen: true}}\n"
    assert drawn(text).splitlines() == [
        "flowchart TB",
        "  classDef frozen stroke-dasharray: 5 3",
        '  n1(["x<br>[B, 4]"])',
        '  n2["head<br>Linear(4, 2)"]',
        '  n3["also act ❄<br>ReLU"]',
        "  class n3 frozen",
        '  n4(["output"])',
        "  n1 --> n2",
        "  n2 --> n3",
        "  n3 --> n4",
    ]


def test_a_graph_is_a_subgraph_until_the_depth():
    text = "inputs: {x: [B, 4]}\nflow: {a: {loop: {flow: {b: ReLU}}, times: 3}}\n"
    assert 'subgraph n2["loop a × 3"]' in drawn(text)
    assert "-. previous .->" in drawn(text)
    assert 'n2["loop a × 3"]' in drawn(text, 1)
    assert "subgraph" not in drawn(text, 1)


def test_texts_are_only_labels():
    text = 'inputs: {x: [B, 4]}\nflow: {a: \'Identity("\\"]; click n1 href \\"javascript:x\\" <b>&amp;#")\'}\n'
    chart = drawn(text)
    labels = re.sub(r'"[^"]*"', "", chart)
    assert "click" not in labels
    for label in re.findall(r'"([^"]*)"', chart):
        assert not re.search(r"[<>&;\"'`{}|\\](?<!<br>)", re.sub(r"<br>|#\d+;", "", label)), label
