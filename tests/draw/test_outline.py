"""A picture as a tree for a terminal."""

from __future__ import annotations

from flowconf.draw.levels import picture
from flowconf.draw.outline import outline
from flowconf.language.resolve.resolver import resolve
from flowconf.text.documents import read

GRAPH = """\
label: small
inputs: {x: [B, 4]}
flow:
  stem: {through: "Linear(4, 4)", repeat: 2, frozen: true}
  mixed: {split: {a: "Linear(4, 2)", b: "Linear(4, 2)"}, merge: cat, tag: both}
  again: {reuse: stem.0}
  last: {through: StateAdd, using: {state: stem}}
"""


def drawn(depth: int | None = None) -> list[str]:
    return outline(picture(resolve(read("graph.yaml", GRAPH))), depth).splitlines()


def test_the_tree_of_a_graph():
    assert drawn() == [
        "small",
        "├─ input x                                                 → [B, 4]",
        "├─ stem × 2 ❄          Linear(4, 4)",
        "├─ split mixed ‹both›",
        "│  ├─ a                Linear(4, 2)",
        "│  └─ b                Linear(4, 2)",
        "├─ reuse again ❄       Linear(4, 4), the module of stem.0",
        "└─ last                StateAdd, with stem",
    ]


def test_graphs_below_a_depth_are_one_line():
    assert len(drawn(depth=1)) == len(drawn()) - 2
