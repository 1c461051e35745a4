"""What a project's `pyproject.toml` may say, and what happens when the code that it names cannot be imported."""

from __future__ import annotations

import sys

import pytest

import flowconf

CONFIG = """
model: {inputs: {image: [B, 8]}, flow: {a: "Linear(8, 10)"}}
data: {name: synthetic, shape: [8]}
loss: {label: {fn: NAME, input: a, target: label}}
"""
GRAPH = "inputs: {x: [B, 4]}\nflow: {a: GELU}\n"


@pytest.mark.parametrize(
    ("project", "code", "line", "column"),
    [
        ("[tool.flowconf]\nmodules [\n", "FC0002", 2, 9),
        ("[tool.flowconf]\nmodules = 'blocks'\n", "FC0123", 2, 11),
        ("[tool.flowconf]\nmodule = ['blocks']\n", "FC0121", 2, 1),
        ("[tool.flowconf]\nmodules = ['blocks_that_are_not_there']\n", "FC0132", 2, 12),
        ("[tool.flowconf]\nmodules = ['blocks_that_leave']\n", "FC0132", 2, 12),
    ],
)
def test_a_project_file_is_refused_at_its_place(project, code, line, column, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pyproject.toml").write_text(project)
    (tmp_path / "blocks_that_leave.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "graph.yaml").write_text(GRAPH)
    (reported,) = flowconf.check("graph.yaml")
    assert (reported.code, reported.place.line, reported.place.column) == (code, line, column)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("import flowconf\n@flowconf.register_data\ndef rows(): ...\n", "write `register_dataset`"),
        ("from flowconf import registr_loss\n", "write `register_loss`"),
        ("import flowconf\nflowconf.something_else\n", None),
        ("import flowconf\n@flowconf.register_schedule\ndef f(step): return 1\n", "write `def f(progress, ...)`"),
        ("import flowconf\n@flowconf.register_schedule\ndef f(): return 1\n", "write `def f(progress, ...)`"),
    ],
)
def test_a_mistake_in_the_code_of_a_project_says_what_to_write(code, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wrong_names", raising=False)
    (tmp_path / "pyproject.toml").write_text("[tool.flowconf]\nmodules = ['wrong_names']\n")
    (tmp_path / "wrong_names.py").write_text(code)
    (tmp_path / "graph.yaml").write_text(GRAPH)
    (reported,) = flowconf.check("graph.yaml")
    assert (reported.code, reported.help) == ("FC0132", advice)


@pytest.mark.parametrize("decorator", ["register_loss", "register_loss(name='far')"])
def test_a_name_that_an_unlisted_module_registers_is_found(decorator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.flowconf]\nmodules = []\n")
    name = "far" if "name" in decorator else "near"
    for folder in ("mine", ".hidden"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "more_losses.py").write_text(f"@flowconf.{decorator}\ndef near(a, b): ...\n")
    (tmp_path / "config.yaml").write_text(CONFIG.replace("NAME", name))
    (found,) = [one for one in flowconf.check("config.yaml") if one.code == "FC0401"]
    assert found.help == "`mine/more_losses.py` registers it: add `mine.more_losses` to `modules` in `pyproject.toml`"
