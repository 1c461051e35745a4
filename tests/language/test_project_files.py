"""What a project's `pyproject.toml` may say, and what happens when the code that it names cannot be imported."""

from __future__ import annotations

import pytest

import flowconf

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
