"""What differs between two configs: by label path, with the place of each change."""

from __future__ import annotations

import json
import re
from itertools import combinations, permutations
from pathlib import Path

import pytest

from flowconf.api import compose
from flowconf.cli.main import main
from flowconf.draw.differences import text_lines
from flowconf.language.carried_over import CarriedOver
from flowconf.language.diff import Change, compare
from flowconf.text.documents import from_data

Capture = pytest.CaptureFixture[str]
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


def reported(found: list[Change]) -> list[tuple[str, str, str | None]]:
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
def test_a_change_is_reported_once_at_its_path(tmp_path: Path, override: str, expected: list[object]) -> None:
    found = changes(tmp_path, override)
    assert reported(found) == expected
    assert found[0].after_place.word == override


def test_a_member_that_moves_is_one_change(tmp_path: Path) -> None:
    for name, order in (("a", "stem middle head"), ("b", "middle stem head")):
        steps = {"stem": "Linear(4, 4)", "middle": "Tanh", "head": "Linear(4, 2)"}
        text = "".join(f"  {member}: {steps[member]}\n" for member in order.split())
        (tmp_path / f"{name}.yaml").write_text(f"inputs: {{x: [B, 4]}}\nflow:\n{text}")
    found = compare(compose(tmp_path / "a.yaml").document, compose(tmp_path / "b.yaml").document)
    assert [change.kind for change in found] == ["moved"]


def test_as_few_members_as_possible_move() -> None:
    before = "abcde"
    for after in permutations(before):
        orders = ({"inputs": {"x": ["B", 4]}, "flow": dict.fromkeys(order, "ReLU")} for order in (before, after))
        found = {change.path: change.before for change in compare(*map(from_data, orders))}
        kept = [name for name in before if name not in found]
        assert kept == [name for name in after if name not in found]
        longer = combinations(before, len(kept) + 1)
        assert not any(list(names) == [name for name in after if name in names] for names in longer)
        assert found == {name: before[before.index(name) - 1] if name != "a" else None for name in found}


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
        "  head.weight: [2, 4] -> [3, 4], reinitialised",
        "  head.bias: [2] -> [3], reinitialised",
    ]


def test_the_copies_of_a_repeat_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text("inputs: {x: [B, 4]}\nflow:\n  block: {repeat: 1, through: 'Linear(4, 4, bias=False)'}\n")
    for word, expected in (
        ("flow.block.repeat=3", ["1 of 1 tensors carry over", "  block.1.weight: new", "  block.2.weight: new"]),
        ("flow.block.repeat=2", ["1 of 1 tensors carry over", "  block.1.weight: new"]),
    ):
        assert main(["diff", str(file), word]) == 0
        first, *others = capsys.readouterr().out.splitlines()[1:]
        assert [first.removeprefix("weights: "), *others] == expected
    assert main(["diff", str(file), "--before", "flow.block.repeat=2"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "weights: 1 of 2 tensors carry over",
        "  block.1.weight: removed",
    ]


def test_json_is_one_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "~flow.head", "--format", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["kind"] for row in rows] == ["removed", "graph"]
    assert rows[0]["after_place"] is None
    assert rows[1]["weights"]["dropped"] == ["head.weight", "head.bias"]


def test_the_picture_shows_what_was_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "+flow.tail=ReLU", "-o", str(tmp_path / "diff.dot")]) == 0
    tail = next(line for line in (tmp_path / "diff.dot").read_text().splitlines() if line.strip().startswith('"tail"'))
    assert "#2f9e44" in tail


def test_the_picture_shows_what_was_removed_and_what_has_another_shape(tmp_path: Path) -> None:
    file, picture = tmp_path / "graph.yaml", tmp_path / "diff.dot"
    file.write_text(GRAPH)
    words = [
        "~flow.middle.loop.flow.move",
        "flow.head='Linear(4, 3)'",
        "+flow.tail=ReLU",
        "--before",
        "+flow.tail=Tanh",
    ]
    assert main(["diff", str(file), *words, "-o", str(picture)]) == 0
    lines = [line.strip() for line in picture.read_text().splitlines() if " -> " not in line]
    nodes = {line.split('"')[1]: line for line in lines if line.startswith('"')}
    assert "removed" in nodes["middle.move"]
    assert "[B, 3], was [B, 2]" in nodes["head"]
    assert "#9c36b5" not in nodes["stem"]


def test_the_page_marks_what_has_changed(tmp_path: Path) -> None:
    file, page = tmp_path / "graph.yaml", tmp_path / "diff.html"
    file.write_text(GRAPH)
    words = ["~flow.middle.loop.flow.move", "flow.head='Linear(4, 3)'", "+flow.tail=ReLU"]
    assert main(["diff", str(file), *words, "-o", str(page)]) == 0
    both = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1])
    before, data = both["before"], both["after"]
    assert {path: mark["kind"] for path, mark in before["marks"].items()} == {
        "middle.move": "removed",
        "head": "changed",
    }
    carried = {path: text for path, (_, text) in data["overlays"]["carried"]["values"].items()}
    assert carried["head"] == "0 of 2 tensors carry over"
    assert data["overlays"]["carried"]["values"]["head"][0] == 0
    assert carried["stem"] == "2 of 2 tensors carry over"
    assert before["overlays"]["carried"]["values"]["head"] == [0, "0 of 2 tensors carry over"]
    assert data["show"] == "carried"
    assert {path: mark["kind"] for path, mark in data["marks"].items()} == {
        "middle.move": "removed",
        "head": "changed",
        "tail": "added",
    }
    assert data["marks"]["head"]["texts"][0].startswith("Linear(4, 2) -> Linear(4, 3)  (command line")
    assert data["marks"]["head"]["texts"][1] == "[B, 2] -> [B, 3]"
    assert data["title"] == "Changes"
    assert data["notes"][0].startswith("weights: ")


def test_a_run_stands_for_its_config_and_a_folder_of_runs_for_the_newest(tmp_path: Path, capsys: Capture) -> None:
    for day, size in (("1", 3), ("2", 5)):
        run = tmp_path / "runs" / day
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(GRAPH.replace("Linear(4, 2)", f"Linear(4, {size})"))
        (run / "run.json").write_text(json.dumps({"started": f"2026-01-0{day}"}))
    for sides, reported in ((("runs/1", "runs/2"), "3) -> Linear(4, 5"), (("runs", "runs/1"), "5) -> Linear(4, 3")):
        assert main(["diff", *(str(tmp_path / side) for side in sides)]) == 0
        assert capsys.readouterr().out.startswith(f"~ head: Linear(4, {reported})  (")
    for command, reported in (("summary", "Linear(4, 5)"), ("show", "Linear(4, 5)"), ("draw", "Linear(4, 5)")):
        assert main([command, str(tmp_path / "runs")]) == 0
        assert reported in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["diff", str(tmp_path / "empty"), str(tmp_path / "runs")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_group_of_a_run_is_reported_to_be_in_its_config(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"config": "/home/me/first.yaml"}))
    (tmp_path / "config.yaml").write_text(GRAPH)
    assert main(["diff", str(tmp_path), "pivot=thaw"]) == 2
    reported = capsys.readouterr().err
    assert "`pivot` does not exist" in reported
    assert "has no config groups: compare the config from which it was composed, `/home/me/first.yaml`" in reported


def test_shapes_that_do_not_fit_are_reported_of_both_sides(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "flow.head='Linear(5, 2)'", "--before", "flow.head='Linear(6, 2)'"]) == 2
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert [line.split(": ")[1].split(",")[0] for line in reported] == [
        "`head` expects 6 features",
        "`head` expects 5 features",
    ]


def test_the_mistakes_of_both_sides_come_at_once(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH)
    assert main(["diff", str(file), "flow.head='Linear(4, a)'", "--before", "flow.stem='Linear(4, b)'"]) == 2
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")] == [
        "error[FC0134]: unknown parameter `b`",
        "error[FC0134]: unknown parameter `a`",
    ]


def test_a_text_is_distinguished_from_a_number_and_stays_in_its_line() -> None:
    found = [Change("changed", "seed", 1, "1"), Change("added", "note", None, "a\nb\x1b[31m\u202e")]
    assert list(text_lines(found, CarriedOver((), (), (), (), ())))[:2] == [
        '~ seed: 1 -> "1"',
        '+ note: "a\\nb\\u001b[31m\\u202e"',
    ]
