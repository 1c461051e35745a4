"""The picture says what the Plan says: every verb, what is frozen, and where it was written."""

from __future__ import annotations

import re

import pytest

from flowconf.draw.dot import dot
from flowconf.draw.facts import Facts
from flowconf.draw.levels import picture
from flowconf.language.resolve.resolver import resolve
from flowconf.text.documents import read

EVERYTHING = """\
label: word
params: {width: 96, reads: 3}
inputs: {image: [B, 1, 32, 32]}
flow:
  sensor: Conv2d(1, 16, 5, padding=2) >> ReLU >> AvgPool2d(4)
  mix:
    also: Conv2d(16, 16, 3, padding=1)
    repeat: 2
  scales:
    split:
      fine: Conv2d(16, 16, 3, padding=1)
      coarse: AvgPool2d(3, 1, 1) >> Conv2d(16, 16, 1)
    merge: cat
    dim: 1
  flat: Flatten >> Linear(_, width)
  think: GRUCell(width, width)
  start:
    fork: Linear(width, 2) >> Tanh
  read:
    loop:
      inputs: {hidden: [B, width], at: [B, 2], image: [B, 1, 32, 32]}
      flow:
        patch:
          from: image
          through: Flatten >> Linear(1024, 96)
        next:
          reuse: think
          using: {hx: hidden}
        move: Linear(width, 2) >> Tanh
      outputs: {hidden: next, at: move}
    times: reads
    using: {at: start, image: image}
  latent:
    from: read.hidden
    through: Linear(width, width)
    tag: latent_of_letter
  letter:
    frozen: true
    checkpoint: {config: fbrl_letter.yaml, at: inner}
    graph:
      inputs: {latent: [B, 96]}
      flow:
        hidden: Linear(96, 64) >> ReLU
        decoder:
          fork: Linear(64, 256)
          frozen: false
        out: Linear(64, 26)
  refine:
    loop: Linear(26, 26) >> Tanh
    times: 3
  length:
    fork: Linear(26, 8)
  slices:
    map: Linear(13, 13)
    slices: 2
outputs: {text: slices, length: length}
"""


def drawn(text: str, shapes: dict[str, str] | None = None, depth: int | None = None) -> str:
    return dot(picture(resolve(read("configs/word.yaml", text)), Facts(shapes=shapes or {})), depth=depth)


@pytest.fixture(scope="module")
def everything() -> str:
    return drawn(EVERYTHING)


def line_of(picture: str, start: str, number: int | None = None) -> str:
    """The one line of the picture that begins with `start`, or that of a number."""
    found = [line.strip() for line in picture.splitlines() if line.strip().startswith(start)]
    assert number is not None or len(found) == 1, found
    return found[number or 0]


def test_the_same_plan_gives_the_same_text(everything):
    assert drawn(EVERYTHING) == everything


def test_every_edge_joins_nodes_that_are_there(everything):
    nodes = set(re.findall(r'^\s*"([^"]+)" \[', everything, flags=re.MULTILINE))
    edges = re.findall(r'^\s*"([^"]+)" -> "([^"]+)"', everything, flags=re.MULTILINE)
    assert edges
    assert {end for edge in edges for end in edge} == nodes


@pytest.mark.parametrize(
    "edge",
    [
        '"input image" -> "sensor"',
        '"sensor" -> "mix"',
        '"mix" -> "scales entry"',
        '"scales entry" -> "scales.fine"',
        '"scales.coarse" -> "scales joint"',
        '"think" -> "start"',
        '"think" -> "read input hidden"',
        '"read.next" -> "read to latent',
        '"latent" -> "letter input latent"',
        '"letter.out" -> "refine"',
        '"refine" -> "slices"',
        '"length" -> "output length"',
    ],
)
def test_the_stream_is_solid(everything, edge):
    assert "style" not in line_of(everything, edge)


def test_a_fork_does_not_change_the_stream(everything):
    assert '"start" -> "read input hidden"' not in everything
    assert '"letter.decoder" -> "letter.out"' not in everything


def test_what_using_brings_is_dashed(everything):
    assert 'style="dashed"' in line_of(everything, '"start" -> "read input at"')
    assert 'label=" hx "' in line_of(everything, '"read input hidden" -> "read.next" [style="dashed"')


def test_what_comes_from_the_last_iteration_is_dotted(everything):
    """From the input up there, so that the layout makes room for the line; the arrow is at the input."""
    for edge in ('"read input hidden" -> "read.next" [style="dotted"', '"read input at" -> "read.move"'):
        assert re.search(r'style="dotted".* dir="back"', line_of(everything, edge))
    assert re.search(r'style="dotted".* dir="forward"', line_of(everything, '"refine" -> "refine"'))


def test_verbs_are_reported_in_words(everything):
    assert r'label="loop  read  × 3\l"' in everything
    assert r'label="loop  refine  × 3\nLinear(26, 26)\nTanh"' in everything
    assert r'label="map  slices\nLinear(13, 13)\n2 slices of the stream"' in everything
    assert r'label="fork  start\nLinear(96, 2)\nTanh"' in everything
    assert r'label="also  mix × 2\nConv2d(16, 16, 3, padding=1)"' in everything
    assert r'label="reuse  next\nGRUCell(96, 96)\nthe module of think"' in everything
    assert 'label="cat 1"' in line_of(everything, '"scales joint" [')


def test_frozen_parts_are_marked_where_it_is_said_and_coloured_below(everything):
    assert r'label="letter  ❄ frozen\lweights: fbrl_letter.yaml at inner\l"' in everything
    assert "#1c74a8" in line_of(everything, '"letter.hidden" [')
    assert "❄" not in line_of(everything, '"letter.hidden" [')
    assert "thawed" in line_of(everything, '"letter.decoder" [')
    assert "#1c74a8" not in line_of(everything, '"letter.decoder" [')


def test_nodes_lead_to_their_lines(everything):
    node = line_of(everything, '"latent" [')
    assert 'tooltip="configs/word.yaml:33:3"' in node
    assert 'URL="configs/word.yaml#L33"' in node
    assert "‹latent_of_letter›" in node


def test_known_shapes_are_shown():
    picture = drawn("inputs: {x: [B, 4]}\nflow: {a: GELU, b: Tanh}\n", {"a": "[B, 4]"})
    assert line_of(picture, '"a" -> "b"').endswith('[label=" [B, 4] "]')
    assert line_of(picture, '"b" -> "output b"').endswith('"output b"')


def test_a_small_graph_in_full():
    assert drawn("inputs: {x: [B, 4]}\nflow: {head: 'Linear(4, 2)'}\n").splitlines()[4:] == [
        '  "input x" [label="x [B, 4]", shape="box", style="filled", fillcolor="#f0f2f5", color="#f0f2f5",'
        ' fontsize="9.5", tooltip="configs/word.yaml:1:10", URL="configs/word.yaml#L1"]',
        r'  "head" [label="head\nLinear(4, 2)", tooltip="configs/word.yaml:2:8", URL="configs/word.yaml#L2"]',
        '  "output head" [label="output", shape="box", style="filled", fillcolor="#f0f2f5", color="#f0f2f5",'
        ' fontsize="9.5", tooltip="configs/word.yaml:2:8", URL="configs/word.yaml#L2"]',
        '  "input x" -> "head"',
        '  "head" -> "output head"',
        "}",
    ]


NESTED = """\
inputs: {x: [B, 4]}
flow:
  first: Linear(4, 4)
  outer:
    frozen: true
    checkpoint: outer.safetensors
    graph:
      inputs: {x: [B, 4]}
      flow:
        inner:
          graph:
            flow: {deep: "Linear(4, 4)"}
        scan:
          loop:
            flow: {turn: "Linear(4, 4)"}
          times: 3
  probe:
    from: outer.inner.deep
    fork: Linear(4, 2)
  last: Linear(4, 4)
"""


def nodes_of(picture: str) -> set[str]:
    return set(re.findall(r'^\s*"([^"]+)" \[', picture, flags=re.MULTILINE))


def nested(depth: int | None) -> str:
    return drawn(NESTED, depth=depth)


@pytest.mark.parametrize(
    ("depth", "inside"),
    [(1, {"outer"}), (2, {"outer.inner", "outer.scan"}), (3, {"outer.inner.deep", "outer.scan.turn"})],
)
def test_graphs_below_a_depth_are_one_node_each(depth, inside):
    named = {name for name in nodes_of(nested(depth)) if "input" not in name and "output" not in name}
    assert named == {"first", "probe", "last"} | inside


def test_a_depth_that_the_graph_does_not_reach_changes_nothing():
    assert nested(3) == nested(None) == nested(9)


def test_a_folded_graph_says_what_its_cluster_would():
    node = line_of(nested(1), '"outer" [')
    assert "outer  ❄ frozen" in node
    assert "weights: outer.safetensors" in node
    assert 'peripheries="2"' in node


@pytest.mark.parametrize("depth", [1, 2])
def test_every_edge_of_a_folded_picture_joins_nodes_that_are_there(depth):
    picture = drawn(EVERYTHING, depth=depth)
    edges = re.findall(r'^\s*"([^"]+)" -> "([^"]+)"', picture, flags=re.MULTILINE)
    assert {end for edge in edges for end in edge} == nodes_of(picture)


def test_what_is_taken_from_inside_a_folded_graph_comes_from_its_node():
    assert line_of(nested(1), '"outer" -> "probe"')
    assert line_of(nested(1), '"outer" -> "last"')


def test_a_folded_loop_still_turns():
    assert 'style="dotted"' in line_of(nested(2), '"outer.scan" -> "outer.scan"')


def test_a_long_graph_is_drawn_in_columns():
    steps = "".join(f"  m{number}: ReLU\n" for number in range(60))
    picture = drawn(f"inputs: {{x: [B, 4]}}\nflow:\n{steps}")
    apart = re.findall(r'"m(\d+)" -> "m\1 to m(\d+) \d+"', picture)
    assert [int(after) - int(before) for before, after in apart] == [1, 1, 1]
    for before, after in apart:
        assert f'label="→ m{after}"' in line_of(picture, f'"m{before} to m{after}')
        assert f'label="m{before} →"' in line_of(picture, f'"m{after} from m{before} ', 0)
        assert f'"m{before}" -> "m{after}"' not in picture


def test_a_long_graph_inside_of_a_graph_is_drawn_in_columns():
    steps = "".join(f"        m{number}: ReLU\n" for number in range(40))
    picture = drawn(f"inputs: {{x: [B, 4]}}\nflow:\n  a: ReLU\n  b:\n    graph:\n      flow:\n{steps}")
    apart = re.findall(r'"b.m(\d+)" -> "b.m\1 to b.m(\d+) (\d+)"', picture)
    assert len(apart) == 3
    for before, after, number in apart:
        assert 'style="invis"' in line_of(picture, f'"b input x" -> "b.m{after} from b.m{before} {number}"')


def test_a_reference_to_another_column_has_names_at_both_ends():
    steps = "".join(f"  m{number}: ReLU\n" for number in range(60))
    last = "  last: {through: StateAdd, using: {state: m3}}\n"
    picture = drawn(f"inputs: {{x: [B, 4]}}\nflow:\n{steps}{last}")
    assert 'style="dashed"' in line_of(picture, '"m3" -> "m3 to last')
    assert re.search(r'style="dashed".*label=" state "', line_of(picture, '"last from m3 ', 1))


def test_the_effort_grows_with_the_members():
    """Lists that are searched for every edge would make it quadratic: 16,000 members took 5 s."""
    import cProfile
    import pstats

    def calls(count: int) -> int:
        steps = "".join(f"  m{number}: ReLU\n" for number in range(count))
        plan = resolve(read("long.yaml", f"inputs: {{x: [B, 4]}}\nflow:\n{steps}"))
        profile = cProfile.Profile()
        profile.runcall(lambda: dot(picture(plan)))
        return pstats.Stats(profile).total_calls

    assert calls(800) < 2.6 * calls(400)
