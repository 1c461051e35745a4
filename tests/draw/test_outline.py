"""A picture as a tree for a terminal."""

from __future__ import annotations

import pytest

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


def wide(levels: int) -> str:
    """Graphs in each other, with long calls."""
    text, indent = "inputs: {x: [B, 4]}\nflow:\n", "  "
    for level in range(levels):
        text += f"{indent}first{level}: {' >> '.join(['Linear(4, 4)'] * 9)}\n"
        text += f"{indent}inner{level}:\n{indent}  graph:\n{indent}    flow:\n"
        indent += "      "
    return f"{text}{indent}last: Linear(4, 4)\n"


@pytest.mark.parametrize("width", [60, 80, 130])
def test_no_line_is_wider_than_the_terminal(width):
    whole = picture(resolve(read("graph.yaml", wide(12))))
    lines = outline(whole, width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    for member in whole.walk():
        if member.name and member.kind == "step":
            assert sum(f"─ {member.name} " in f"{line} " for line in lines) == 1, member.name
    assert sum(line.count("Linear(4, 4)") for line in lines) + sum(line.endswith("Linear(4,") for line in lines) >= 100
    assert (any("[8] ├─ first7" in line for line in lines)) == (width == 60)


def test_what_does_not_fit_goes_on_below():
    graph = "label: small\ninputs: {x: [B, 4]}\nflow: {stem: 'Linear(4, 4) >> ReLU >> Linear(4, 4)', last: ReLU}\n"
    assert outline(picture(resolve(read("graph.yaml", graph))), width=40).splitlines() == [
        "small",
        "├─ input x                      → [B, 4]",
        "├─ stem     Linear(4, 4) >>",
        "│           ReLU >> Linear(4,",
        "│           4)",
        "└─ last     ReLU",
    ]
