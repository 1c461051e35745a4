"""`check` holds checkpoints against the graph by their headers: nothing is read, nothing is built."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

import flowconf

GRAPH = "inputs: {x: [B, 4]}\nflow:\n  a:\n    through: Linear(4, 4)\n    checkpoint: FILE\n"


def reported(folder, name):
    (folder / "graph.yaml").write_text(GRAPH.replace("FILE", name))
    return [(one.code, one.place.line, one.place.column) for one in flowconf.check(str(folder / "graph.yaml"))]


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}, None),
        ({"weight": torch.zeros(4, 4)}, "FC0303"),
        ({"weight": torch.zeros(4, 2), "bias": torch.zeros(4)}, "FC0305"),
        ({"other": torch.zeros(4)}, "FC0302"),
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_the_header_tells_what_a_load_would_find(tensors, code, name, tmp_path):
    (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    assert reported(tmp_path, name) == ([] if code is None else [(code, 5, 17)])


def test_files_that_are_cut_short_or_no_weights_are_refused(tmp_path):
    save_file({"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-8])
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("w.safetensors", "code.pt", "text.safetensors"):
        assert reported(tmp_path, name) == [("FC0301", 5, 17)]


@pytest.mark.parametrize(
    ("key", "code", "column"),
    [("at: encoder", "FC0302", 43), ("rename: {bone: edges}", "FC0302", 48), (f"sha256: {'a' * 64}", "FC0306", 47)],
)
def test_a_key_that_is_at_fault_is_marked_itself(key, code, column, tmp_path):
    save_file({"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    assert reported(tmp_path, f"{{path: w.safetensors, {key}}}") == [(code, 5, column)]
