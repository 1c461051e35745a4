"""A run as a model of the hub: its files, its card, and the upload to a server on loopback."""

from __future__ import annotations

import re
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from safetensors.torch import load_file

from flowconf.cli.main import main
from tests.train.conftest import TINY, Folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushed")
    text = TINY.replace("epochs: 2", "epochs: 1").replace("rows: 320", "rows: 64")
    with chdir(folder):
        return Folder(folder).train(text=text).folder.absolute()


def test_a_dry_run_writes_weights_config_and_card(run, tmp_path, capsys):
    assert main(["push", str(run), "org/model", "--dry-run", str(tmp_path / "made")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "made")
    assert {file.name for file in (tmp_path / "made").iterdir()} == {"README.md", "config.yaml", "model.safetensors"}
    assert load_file(tmp_path / "made" / "model.safetensors").keys()
    card = (tmp_path / "made" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: flowconf\n")
    assert "```mermaid\nflowchart" in card
    assert "checkpoint: {hub: org/model, file: model.safetensors}" in card
    assert re.search(r"\| `val/loss` \| [\d.]+ \|", card)
    assert (run / "config.yaml").read_text().rstrip() in card


def test_a_folder_with_files_is_kept(run, tmp_path, capsys):
    (tmp_path / "kept").write_text("mine")
    assert main(["push", str(run), "org/model", "--dry-run", str(tmp_path)]) == 3
    assert "FC0602" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["../model", "https://x/y", "a/b/c", "", "org/mo del"])
def test_a_name_of_no_model_is_refused(name, run, tmp_path, capsys):
    assert main(["push", str(run), name, "--dry-run", str(tmp_path / "made")]) == 2
    assert "FC0123" in capsys.readouterr().err
    assert not Path(tmp_path / "made").exists()


def test_it_is_uploaded(run, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    assert main(["push", str(run), "org/model"]) == 0
    address = sys.modules["huggingface_hub.constants"].ENDPOINT
    assert capsys.readouterr().out.strip() == f"{address}/org/model"
    assert hub.uploaded["config.yaml"] == (run / "config.yaml").read_bytes()
    assert hub.uploaded["model.safetensors"] == (run / "checkpoints" / "best.safetensors").read_bytes()
    assert b"library_name: flowconf" in hub.uploaded["README.md"]
