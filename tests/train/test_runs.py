"""Run folders and stages: what is left behind, what is reused, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
from io import StringIO

import pytest
import torch
from safetensors.torch import save_file

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.report import ConfigError, RunError
from flowconf.train.commands import train as training
from flowconf.train.runs.folder import create_run
from flowconf.train.runs.repository import git_state
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, weights
from tests.train.conftest import train as train_config

PART = TINY.replace("    stem: Linear(8, 16)\n    hidden: ReLU\n", "    part:\n      graph: part\n").replace(
    "  inputs: {image: [B, 8]}", "  inputs: {image: [B, 8]}"
)
GRAPH = """
inputs: {image: [B, 8]}
flow:
  stem: Linear(8, 16)
  hidden: ReLU
"""
LETTER = PART
WORD = PART.replace(
    "      graph: part\n", "      graph: part\n      frozen: true\n      checkpoint: {config: letter.yaml, at: part}\n"
)


@pytest.fixture
def stages(folder):
    folder.write(GRAPH, "graph/part.yaml")
    folder.write(LETTER, "letter.yaml")
    folder.write(WORD, "word.yaml")
    return folder


def train(folder, name, *overrides):
    screen = Screen(StringIO())
    run = train_config(load(folder.path / name, overrides), screen)
    return folder.run(folder.path / run), screen.stream.getvalue()


def test_a_run_folder_holds_everything(folder):
    run = folder.train("trainer.epochs=1", "+trainer.clip=1")
    names = {file.name.split(".tfevents")[0] for file in run.folder.iterdir()}
    texts = {"config.yaml", "graph.dot", "metrics.jsonl", "origins.json", "run.json", "weights.txt", "report.html"}
    assert names == texts | {"events.out", "checkpoints", "predictions.json", "resources.jsonl"}
    assert {file.name for file in (run.folder / "checkpoints").iterdir()} == {"last.safetensors", "best.safetensors"}
    record = run.record
    assert record["status"] == "finished"
    assert record["overrides"] == ["trainer.epochs=1", "+trainer.clip=1"]
    assert record["seed"] == 0
    assert record["started"] <= record["ended"]
    assert record["environment"]["packages"]["torch"] == torch.__version__
    origins = json.loads((run.folder / "origins.json").read_text())
    assert origins["trainer.epochs"].startswith("command line, `trainer.epochs=1` (over tiny.yaml:15:")
    assert origins["model.flow.stem"].startswith("tiny.yaml:5:")
    assert (run.folder / "graph.dot").read_text().startswith("digraph")
    assert sorted(path.name for path in folder.path.iterdir()) == ["runs", "tiny.yaml"]


def test_the_resolved_config_repeats_the_run(folder):
    first = folder.train("optimizer.lr=1.0e-3")
    second = folder.train(text=(first.folder / "config.yaml").read_text(), name="again.yaml")
    assert torch.equal(weights(first)["stem.weight"], weights(second)["stem.weight"])


def test_folders_are_never_shared(folder):
    config = load(str(folder.write()))
    runs = [create_run(folder.path / "runs", config).folder.name for _ in range(3)]
    assert len(set(runs)) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d)?", name) for name in runs)


def test_a_folder_that_cannot_be_made(folder):
    folder.write("", "file")
    with pytest.raises(RunError, match="cannot make a run folder under"):
        folder.train("+trainer.runs=file")


def test_the_arithmetic_comes_first(folder):
    folder.train()
    said = folder.said.getvalue()
    assert said.index("total") < said.index("epoch 1")
    for words in (
        "212",
        "256 train, 32 val, 32 test",
        "16 of 32 rows, 8 an epoch: 2 epochs",
        "adamw, fused",
        "cpu, 1 thread, fp32",
    ):
        assert words in said


@pytest.mark.parametrize(("error", "status", "code"), [(KeyboardInterrupt, "interrupted", 130), (OSError, "failed", 3)])
def test_a_run_that_ends_early_says_so(folder, monkeypatch, error, status, code):
    def stop(self, step):
        if step == 3:
            raise error

    monkeypatch.setattr(Screen, "step", stop)
    assert main(["train", folder.write()]) == code
    run = folder.run(folder.runs()[0])
    assert run.record["status"] == status
    assert run.record["ended"] is not None


def test_the_state_of_a_repository(tmp_path):
    assert git_state(tmp_path) is None
    for words in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m first"):
        subprocess.run(["git", "-C", str(tmp_path), *words.split()], check=True)
    found = git_state(tmp_path)
    assert len(found["commit"]) == 40
    assert found["changed"] == []
    (tmp_path / "new file").write_text("")
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    assert git_state(tmp_path)["changed"] == ["new file"]


def test_a_missing_source_is_trained_first(stages):
    word, said = train(stages, "word.yaml")
    assert "2 stages:" in said
    assert "1. letter.yaml: required by `part`, no finished run" in said
    assert said.index("2. word.yaml") < said.index("letter.yaml  ->")
    letter = stages.run(stages.runs("letter")[0])
    assert "weights of `part`" in (word.folder / "weights.txt").read_text()
    assert torch.equal(weights(word)["part.stem.weight"], weights(letter, "best")["part.stem.weight"])
    assert "weights of `part`" in said


def test_a_stage_gives_the_weights_of_a_run_by_itself(stages):
    word, _ = train(stages, "word.yaml")
    staged = stages.run(stages.runs("letter")[0])
    alone, _ = train(stages, "letter.yaml")
    again, _ = train(stages, "word.yaml")
    for first, second in ((staged, alone), (word, again)):
        assert all(torch.equal(weights(first)[name], tensor) for name, tensor in weights(second).items())


def test_a_finished_run_is_reused_and_named(stages):
    train(stages, "letter.yaml", "trainer.epochs=1")
    _, said = train(stages, "word.yaml")
    assert len(stages.runs("letter")) == 1
    assert re.search(r"weights of `part`: runs/letter/\S+ \(finished \S+, with trainer\.epochs=1, val/loss ", said)


def test_the_newest_finished_run_counts(stages, monkeypatch):
    train(stages, "letter.yaml")
    newest, _ = train(stages, "letter.yaml", "seed=3")
    monkeypatch.setattr(training, "fit", lambda *job: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(stages, "letter.yaml", "seed=4")
    monkeypatch.undo()
    monkeypatch.chdir(stages.path)
    word, _ = train(stages, "word.yaml")
    assert torch.equal(weights(word)["part.stem.weight"], weights(newest, "best")["part.stem.weight"])


def test_stages_in_another_runs_folder(stages):
    train(stages, "word.yaml", "+trainer.runs=elsewhere")
    assert sorted(folder.name for folder in (stages.path / "elsewhere").iterdir()) == ["letter", "word"]
    assert not (stages.path / "runs").exists()


def test_stages_that_wait_for_each_other(stages):
    stages.write(WORD.replace("letter.yaml", "word.yaml"), "letter.yaml")
    with pytest.raises(ConfigError) as caught:
        train(stages, "word.yaml")
    (found,) = caught.value.diagnostics
    assert found.code == "FC0404"
    assert found.message == "circular dependency of stages: `word.yaml` requires `letter.yaml` requires `word.yaml`"
    assert [found.place.file.rpartition("/")[2], *(label.place.file.rpartition("/")[2] for label in found.labels)] == [
        "letter.yaml", "word.yaml",
    ]  # fmt: skip
    assert not (stages.path / "runs").exists()


def test_a_config_that_waits_for_itself(stages):
    stages.write(WORD.replace("letter.yaml", "word.yaml"), "word.yaml")
    with pytest.raises(ConfigError, match=r"`word\.yaml` depends on itself"):
        train(stages, "word.yaml")


def test_a_source_that_does_not_exist(stages):
    stages.write(WORD.replace("letter.yaml", "leter.yaml"), "word.yaml")
    with pytest.raises(ConfigError) as caught:
        train(stages, "word.yaml")
    assert [(d.code, d.help) for d in caught.value.diagnostics] == [("FC0301", "write `letter.yaml`")]


def test_what_is_wrong_with_a_later_stage_is_reported_before_the_first(stages):
    stages.write(WORD.replace("Linear(16, 4)", "Linear(17, 4)"), "word.yaml")
    with pytest.raises(ConfigError) as caught:
        train(stages, "word.yaml")
    assert caught.value.diagnostics[0].code == "FC0201"
    assert not (stages.path / "runs").exists()


def test_weights_from_a_file(stages):
    source = {"stem.weight": torch.ones(16, 8), "stem.bias": torch.zeros(16)}
    save_file(source, stages.path / "part.safetensors")
    stages.write(WORD.replace("{config: letter.yaml, at: part}", "part.safetensors"), "word.yaml")
    word, said = train(stages, "word.yaml")
    assert torch.equal(weights(word)["part.stem.weight"], source["stem.weight"])
    assert "2 tensors loaded" in said


def test_a_sweep_is_a_run_for_each_combination(folder, monkeypatch):
    assert main(["train", folder.write(), "-m", "seed=0,1", "trainer.epochs=1,2"]) == 0
    records = [folder.run(run).record for run in folder.runs() if (run / "run.json").exists()]
    assert sorted(record["overrides"] for record in records) == [
        [f"seed={seed}", f"trainer.epochs={epochs}"] for seed in (0, 1) for epochs in (1, 2)
    ]
