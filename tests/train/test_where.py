"""`checkpoint: {config: ..., where: {...}}`: which run a config takes its weights from, and what it says about it."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flowconf.api import build, load
from flowconf.cli.main import main
from flowconf.graph.weights.sources import find_run
from flowconf.language.values import ABSENT, value_of
from flowconf.report import ConfigError
from flowconf.text.overrides import parse, word_of
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, train

TEACHER = TINY.replace("epochs: 2", "epochs: 1")
STUDENT = TEACHER.replace(
    "    stem: Linear(8, 16)\n",
    """    teacher:
      fork: {flow: {stem: "Linear(8, 16)", hidden: ReLU, drop: Dropout(0.1), logits: "Linear(16, 4)"}}
      frozen: true
      checkpoint: {config: teacher.yaml}
    stem: {through: "Linear(8, 16)", from: image}
""",
).replace("  label: {fn", "  soft: {fn: mse, input: logits, target: teacher}\n  label: {fn")


@pytest.fixture
def project(folder):
    folder.write(TEACHER, "teacher.yaml")
    return folder


def student(where="", text=STUDENT):
    return text.replace("{config: teacher.yaml}", f"{{config: teacher.yaml{where}}}")


def taught(folder, name, *overrides):
    said = StringIO()
    return folder.run(folder.path / train(load(folder.path / name, overrides), Screen(said))), said.getvalue()


def weights_of_teacher(run):
    return load_file(run.folder / "checkpoints/best.safetensors")["teacher.stem.weight"]


def weights(run):
    return load_file(run.folder / "checkpoints/best.safetensors")["stem.weight"]


def test_the_run_that_is_taken_and_its_differences_are_named(project):
    teacher, _ = taught(project, "teacher.yaml", "seed=3", "optimizer.lr=0.1", "trainer.progress=false")
    project.write(STUDENT, "student.yaml")
    run, said = taught(project, "student.yaml")
    name = teacher.folder.relative_to(Path.cwd())
    lines = said.splitlines()
    assert lines[0].startswith(f"weights of `teacher`: {name} (finished 20")
    assert lines[1:3] == [
        "  warning: that run differs from `teacher.yaml`: `optimizer.lr` is `0.1` in the run, `0.01` now; "
        "`seed` is `3` in the run, `0` now",
        "  to use the config as it is: `flowconf train teacher.yaml`, or add `where: {optimizer.lr: 0.01, seed: 0}`",
    ]
    assert run.record["weights"] == {"teacher": str(teacher.folder / "checkpoints/best.safetensors")}
    assert "weights" not in teacher.record


def test_a_run_of_the_config_as_it_is_needs_no_warning(project):
    taught(project, "teacher.yaml", "trainer.progress=false", "seed=0")
    project.write(STUDENT, "student.yaml")
    assert "warning" not in taught(project, "student.yaml")[1]
    project.write(TEACHER.replace("lr: 0.01", "lr: 0.02"), "teacher.yaml")
    assert "`optimizer.lr` is `0.01` in the run, `0.02` now" in taught(project, "student.yaml")[1]
    project.write("flow", "teacher.yaml")
    assert "warning: `teacher.yaml` has errors now" in taught(project, "student.yaml")[1]


@pytest.mark.parametrize("where", ["{seed: 1, trainer.epochs: 1}", "{seed: 1, trainer: {epochs: 1}}"])
def test_where_asks_for_a_run_with_values(project, where):
    asked, _ = taught(project, "teacher.yaml", "seed=1")
    taught(project, "teacher.yaml", "seed=1", "trainer.epochs=2")
    taught(project, "teacher.yaml")
    project.write(student(f", where: {where}"), "student.yaml")
    run, said = taught(project, "student.yaml")
    assert torch.equal(weights_of_teacher(run), weights(asked))
    assert "stages:" not in said
    assert "warning" not in said
    assert torch.equal(dict(build("student.yaml").named_parameters())["teacher.stem.weight"], weights(asked))


def test_defaults_have_values_too(project):
    plain, _ = taught(project, "teacher.yaml")
    project.write(student(", where: {seed: 0, data.drop_last: false, trainer.clip: null}"), "student.yaml")
    run, _ = taught(project, "student.yaml")
    assert torch.equal(weights_of_teacher(run), weights(plain))


def test_of_several_runs_the_newest_is_taken_and_said(project):
    for _ in range(2):
        taught(project, "teacher.yaml", "seed=1")
    newest, _ = taught(project, "teacher.yaml", "seed=1", "optimizer.lr=0.02")
    taught(project, "teacher.yaml")
    project.write(student(", where: {seed: 1}"), "student.yaml")
    _, said = taught(project, "student.yaml")
    first, second, third, *_ = said.splitlines()
    assert newest.folder.name in first
    assert first.endswith(", the newest of 3 runs")
    assert "`optimizer.lr` is `0.02` in the run, `0.01` now" in second
    assert "`flowconf train teacher.yaml seed=1`" in third


def test_without_such_a_run_it_is_trained_with_these_values(project):
    taught(project, "teacher.yaml")
    project.write(student(", where: {seed: 1, optimizer.lr: 2.0e-2}"), "student.yaml")
    run, said = taught(project, "student.yaml")
    assert (
        "  1. teacher.yaml seed=1 optimizer.lr=0.02: required by `teacher`, no finished run\n  2. student.yaml" in said
    )
    alone, _ = taught(project, "teacher.yaml", "seed=1", "optimizer.lr=0.02")
    assert torch.equal(weights_of_teacher(run), weights(alone))
    again, said = taught(project, "student.yaml")
    assert "stages:" not in said
    assert "warning" not in said
    assert torch.equal(weights_of_teacher(again), weights(alone))


def test_two_runs_of_one_config(project):
    """An ensemble: each member has weights of a run with its own seed."""
    branch = (
        '{flow: {stem: "Linear(8, 16)", hidden: ReLU, drop: Dropout(0.1), logits: "Linear(16, 4)"}, checkpoint: %s}'
    )
    members = "".join(
        f"        m{seed}: {branch % f'{{config: teacher.yaml, where: {{seed: {seed}}}}}'}\n" for seed in (1, 2)
    )
    text = re.sub(r"    stem: .*\n    hidden: .*\n    drop: .*\n    logits: .*\n", "", TEACHER)
    text = text.replace("  flow:\n", f"  flow:\n    logits:\n      split:\n{members}      merge: mean\n")
    project.write(text, "ensemble.yaml")
    run, said = taught(project, "ensemble.yaml")
    assert "3 stages:" in said
    tensors = load_file(run.folder / "checkpoints/best.safetensors")
    assert len(run.record["weights"]) == 2
    assert not torch.equal(tensors["logits.m1.stem.weight"], tensors["logits.m2.stem.weight"])
    assert "stages:" not in taught(project, "ensemble.yaml")[1]


def test_values_follow_the_config_that_asks(project):
    project.write("seed: 5\n" + student(", where: {seed: '${seed}'}"), "student.yaml")
    taught(project, "student.yaml")
    assert find_run("teacher.yaml", "runs", [("seed", 5)]) is not None
    taught(project, "student.yaml", "seed=6")
    assert find_run("teacher.yaml", "runs", [("seed", 6)]) is not None


@pytest.mark.parametrize(
    ("where", "code", "message", "marked"),
    [
        ("{trainer.epoch: 1}", "FC0121", "unknown key `epoch` in `trainer`", "trainer.epoch"),
        ("{trainer: {epoch: 1}}", "FC0121", "unknown key `epoch` in `trainer`", "epoch"),
        ("{sed: 1}", "FC0102", "`sed` does not exist", "sed"),
        ("{seed: many}", "FC0123", "`seed` must be an integer from 0 to 2**63 - 1, got the string `many`", "seed"),
        ("{hydra.searchpath: [a]}", "FC0102", "`hydra.searchpath` is not a key of `teacher.yaml`", "hydra.searchpath"),
        ("{'seed=1 x': 1}", "FC0102", "`seed=1 x` is not a key of `teacher.yaml`", "'seed=1 x'"),
        ("{+seed: 1}", "FC0102", "`+seed` is not a key of `teacher.yaml`", "+seed"),
        ("{seed: {}}", "FC0123", None, "{}"),
        ("[1]", "FC0123", None, "[1]"),
    ],
)
def test_mistakes_are_reported_where_they_are_written(project, where, code, message, marked):
    file = project.write(student(f", where: {where}"), "student.yaml")
    with pytest.raises(ConfigError) as caught:
        taught(project, "student.yaml")
    found = caught.value.diagnostics[0]
    assert (found.code, found.place.file) == (code, file)
    assert message is None or found.message == message
    line = Path(file).read_text().splitlines()[found.place.line - 1]
    assert line[found.place.column - 1 :].startswith(marked)
    assert not Path("runs").exists()


def test_a_config_group_has_no_value(project):
    project.write("# @package _global_\nseed: 4\n", "pivot/four.yaml")
    project.write("defaults: [_self_, {pivot: null}]\n" + TEACHER, "teacher.yaml")
    project.write(student(", where: {pivot: four}"), "student.yaml")
    with pytest.raises(ConfigError, match="`pivot` is a config group of"):
        taught(project, "student.yaml")


def test_where_belongs_to_config(project, capsys):
    project.write(STUDENT.replace("{config: teacher.yaml}", "{path: a.safetensors, where: {seed: 1}}"), "student.yaml")
    assert main(["check", "student.yaml"]) == 2
    assert "error[FC0125]: `where` applies only to `config`, not to `path`" in capsys.readouterr().out


def test_without_training_a_missing_run_names_the_command(project):
    project.write(student(", where: {seed: 1, data.shape: [8]}"), "student.yaml")
    with pytest.raises(ConfigError) as caught:
        build("student.yaml")
    (found,) = caught.value.diagnostics
    assert found.message == "`teacher.yaml` has no finished run with `seed=1 data.shape=[8]` in `runs`"
    assert found.help == "run `flowconf train teacher.yaml seed=1 'data.shape=[8]'` first"


@pytest.mark.parametrize(
    "value",
    [1, -1, 0.5, 1e-7, True, None, "adamw", "true", "null", "1", "a b", "it's", 'x"y', "Linear(1, 2) >> A", [1, "b c"]],
)  # fmt: skip
def test_a_word_gives_its_value(value):
    (word,) = parse([word_of("a.b", value)])
    assert word.parsed.value() == value
    assert type(word.parsed.value()) is type(value)


def test_values_of_keys():
    data = {"optimizer": {"name": "sgd", "groups": {"a.b": {"lr": 1}}}, "list": [{"x": 2}]}
    assert value_of(data, "optimizer.groups.a.b.lr") == 1
    assert value_of(data, "list.0.x") == 2
    assert value_of(data, "schedule.name") == "constant"
    for key in ("optimizer.lr", "list.1", "loss", "model.flow", "trainer.nothing"):
        assert value_of(data, key) is ABSENT


def start(where=""):
    return f"init_from: {{config: teacher.yaml{where}}}\n" + TEACHER


def test_a_run_starts_from_a_run_of_a_config(project):
    teacher, _ = taught(project, "teacher.yaml", "seed=1")
    taught(project, "teacher.yaml")
    project.write(start(", where: {seed: 1}"), "next.yaml")
    run, said = taught(project, "next.yaml", "optimizer.lr=0.0", "trainer.steps=1")
    assert f"weights of `init_from`: {teacher.folder.relative_to(Path.cwd())} (finished" in said
    assert torch.equal(weights(run), weights(teacher))
    assert run.record["weights"] == {"": str(teacher.folder / "checkpoints/best.safetensors")}
    kept = load(run.folder / "config.yaml").training.init_from
    assert (kept.config, kept.where) == (str(project.path / "teacher.yaml"), {"seed": 1})


def test_the_config_to_start_from_is_trained_first(project):
    project.write(start(", where: {seed: 2}"), "next.yaml")
    run, said = taught(project, "next.yaml", "optimizer.lr=0.0", "trainer.steps=1")
    assert "  1. teacher.yaml seed=2: required by `init_from`, no finished run" in said
    alone, _ = taught(project, "teacher.yaml", "seed=2")
    assert torch.equal(weights(run), weights(alone))


@pytest.mark.parametrize(
    ("source", "code", "marked"),
    [
        ("{config: teecher.yaml}", "FC0301", "teecher.yaml"),
        ("{config: teacher.yaml, where: {sed: 1}}", "FC0102", "sed"),
        ("{config: teacher.yaml, where: {trainer: {epoch: 1}}}", "FC0121", "epoch"),
        ("{config: teacher.yaml, where: {seed: {}}}", "FC0123", "{}"),
        ("{config: next.yaml}", "FC0404", "next.yaml"),
        ("{configs: teacher.yaml}", "FC0121", "configs"),
        ("[teacher.yaml]", "FC0123", "[teacher.yaml]"),
    ],
)
def test_mistakes_of_a_start_are_reported_where_they_are_written(project, source, code, marked):
    file = project.write(f"init_from: {source}\n{TEACHER}", "next.yaml")
    with pytest.raises(ConfigError) as caught:
        taught(project, "next.yaml")
    (found,) = caught.value.diagnostics
    assert (found.code, found.place.file, found.place.line) == (code, file, 1)
    assert f"init_from: {source}"[found.place.column - 1 :].startswith(marked)
    assert not Path("runs").exists()


def test_a_path_from_the_environment_is_kept_as_a_reference(project, monkeypatch):
    teacher, _ = taught(project, "teacher.yaml")
    monkeypatch.setenv("TEACHER", str(teacher.folder))
    project.write(STUDENT.replace("{config: teacher.yaml}", "{path: '${oc.env:TEACHER}'}"), "student.yaml")
    run, _ = taught(project, "student.yaml")
    assert 'path: "${oc.env:TEACHER}"' in (run.folder / "config.yaml").read_text()


def test_a_sweep_trains_what_its_runs_need_once(project):
    project.write(student(", where: {seed: 7}"), "student.yaml")
    assert main(["train", "student.yaml", "-m", "seed=0,1,2"]) == 0
    assert len(project.runs("teacher")) == 1
    assert len([run for run in project.runs("student") if (run / "run.json").exists()]) == 3
