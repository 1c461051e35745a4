"""What differs between two configs: by label path, with the place of each change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowconf.api import compose
from flowconf.cli.main import main
from flowconf.language.diff import Change, compare

GRAPH = """\
inputs: {x: [B, 4]}
flow:
  stem: Linear(4, 4)
  middle:
    loop:
      flow:
        think: Linear(4, 4)
        move: Tanh
    times: 2
  head: Linear(4, 2)
"""


def changes(tmp_path: Path, *overrides: str) -> list[Change]:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    return compare(compose(file).document, compose(file, overrides).document)


def told(found: list[Change]) -> list[tuple[str, str, str | None]]:
    return [(change.kind, change.path, change.key) for change in found]


def test_equal_configs_do_not_differ(tmp_path: Path) -> None:
    assert changes(tmp_path) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("~flow.head", [("removed", "head", None)]),
        ("+flow.tail=ReLU", [("added", "tail", None)]),
        ("flow.head='Linear(4, 3)'", [("changed", "head", None)]),
        ("flow.middle.times=3", [("changed", "middle", "times")]),
        ("flow.middle.loop.flow.move=GELU", [("changed", "middle.move", None)]),
        ("+flow.middle.loop.flow.rest=ReLU", [("added", "middle.rest", None)]),
        ("flow.stem.frozen=true", [("changed", "stem", "frozen")]),
    ],
)
def test_a_change_is_told_once_at_its_path(tmp_path: Path, override: str, expected: list[object]) -> None:
    found = changes(tmp_path, override)
    assert told(found) == expected
    assert found[0].after_place.word == override


def test_a_member_that_moves_is_one_change(tmp_path: Path) -> None:
    for name, order in (("a", "stem middle head"), ("b", "middle stem head")):
        steps = {"stem": "Linear(4, 4)", "middle": "Tanh", "head": "Linear(4, 2)"}
        text = "".join(f"  {member}: {steps[member]}\n" for member in order.split())
        (tmp_path / f"{name}.yaml").write_text(f"inputs: {{x: [B, 4]}}\nflow:\n{text}")
    found = compare(compose(tmp_path / "a.yaml").document, compose(tmp_path / "b.yaml").document)
    assert [change.kind for change in found] == ["moved"]


def test_the_command_tells_members_shapes_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "flow.head='Linear(4, 3)'", "flow.middle.times=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "~ middle times: 2 -> 3  (command line, `flow.middle.times=3`)",
        "~ head: Linear(4, 2) -> Linear(4, 3)  (command line, `flow.head='Linear(4, 3)'`)",
        "shape of head: [B, 2] -> [B, 3]",
        "weights: 4 of 6 tensors carry over",
        "  head.weight: [2, 4] -> [3, 4], starts anew",
        "  head.bias: [2] -> [3], starts anew",
    ]


def test_json_is_one_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "~flow.head", "--format", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["kind"] for row in rows] == ["removed", "graph"]
    assert rows[1]["weights"]["dropped"] == ["head.weight", "head.bias"]


def test_the_picture_shows_what_was_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "+flow.tail=ReLU", "-o", str(tmp_path / "diff.dot")]) == 0
    tail = next(line for line in (tmp_path / "diff.dot").read_text().splitlines() if line.strip().startswith('"tail"'))
    assert "#2f9e44" in tail
