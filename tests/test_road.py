"""The road of checks: the same mistake gives the same report in every command, and sizes are inferred once in each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import flowconf
import flowconf.graph.build
from flowconf.cli.main import main
from flowconf.report import Diagnostic, FlowconfError
from flowconf.train.checks import first_step
from flowconf.train.checks.road import STAGES

CONFIG = """\
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    hidden: ReLU
    logits: {through: 'Linear(16, 4)', checkpoint: head.safetensors}
data: {name: synthetic, shape: [8], classes: 4, rows: 64, batch_size: 16}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
metrics:
  accuracy: {fn: accuracy, input: logits, target: label}
optimizer: {name: adamw, lr: 0.01, groups: {stem: {lr: 0.1}}}
schedule: {name: cosine}
trainer: {epochs: 1, devices: cpu, tensorboard: false, progress: false}
"""
LATER = CONFIG.replace("checkpoint: head.safetensors", "checkpoint: {config: small.yaml, at: logits}")


@dataclass(frozen=True)
class Mistake:
    """Words of the command line with a mistake; `stage` is the first one that finds it."""

    stage: str
    code: str
    words: tuple[str, ...]
    exit_code: int = 2


MISTAKES = {
    "a key that is none": Mistake("keys", "FC0121", ("+trainer.epoch=2",)),
    "a value of another type": Mistake("keys", "FC0123", ("trainer.epochs=many",)),
    "a negative batch": Mistake("keys", "FC0123", ("data.batch_size=-1",)),
    "a module that is none": Mistake("graph", "FC0132", ("model.flow.hidden=RelU",)),
    "an argument that is none": Mistake("graph", "FC0133", ("model.flow.stem='Linear(8, 16, bia=true)'",)),
    "a reference that names nothing": Mistake("graph", "FC0141", ("+model.flow.extra={from: stm, through: ReLU}",)),
    "a loss that is none": Mistake("sections", "FC0401", ("loss.label.fn=cross_entrpy",)),
    "an optimizer's argument that is none": Mistake("sections", "FC0133", ("+optimizer.momentm=0.9",)),
    "a group that names nothing": Mistake("sections", "FC0405", ("+optimizer.groups.stm={lr: 0.1}",)),
    "a value to look at that is none": Mistake("sections", "FC0402", ("trainer.best=val/acc",)),
    "an input that the data set lacks": Mistake("data", "FC0502", ("data.shape=[9]",)),
    "a target that the data set lacks": Mistake("sections", "FC0402", ("loss.label.target=lable",)),
    "sizes that do not fit": Mistake("sizes", "FC0201", ("model.flow.stem='Linear(9, 16)'",)),
    "sizes of two members": Mistake("sizes", "FC0201", ("model.flow.stem='Linear(8, 15)'",)),
    "a module that cannot be made": Mistake("sizes", "FC0202", ("model.flow.hidden='Dropout(2.0)'",)),
    "a loss that cannot be computed": Mistake("objective", "FC0406", ("loss.label.fn=mse",)),
    "fewer classes than labels": Mistake("objective", "FC0406", ("data.classes=5",)),
    "a negative learning rate": Mistake("objective", "FC0123", ("optimizer.lr=-1",)),
    "a negative rate of a group": Mistake("objective", "FC0123", ("optimizer.groups.stem.lr=-1",)),
    "a schedule that goes below zero": Mistake("objective", "FC0123", ("+schedule.final=-1",)),
    "nothing left to train": Mistake(
        "objective",
        "FC0403",
        (
            "model.flow.stem={through: 'Linear(8, 16)', frozen: true}",
            "model.flow.logits={through: 'Linear(16, 4)', frozen: true}",
        ),
    ),
    "a checkpoint that is not there": Mistake("weights", "FC0301", ("+init_from=none.safetensors",)),
    "what processes cannot divide": Mistake("machine", "FC0123", ("trainer.strategy=fsdp", "trainer.compile=true")),
    "a package that is not there": Mistake("machine", "FC0601", ("+loggers.mlflow={}",), exit_code=3),
}

ORDER = [stage.name for stage in STAGES]
CLI = ("flowconf.cli.main", "flowconf.cli.check")


@dataclass(frozen=True)
class Command:
    """A command, the last stage that it walks to, and those that it passes by."""

    words: tuple[str, ...]
    last: str = "prerequisites"
    without: tuple[str, ...] = ()

    def finds(self, mistake: Mistake) -> bool:
        return ORDER.index(mistake.stage) <= ORDER.index(self.last) and mistake.stage not in self.without


OWN_WEIGHTS = ("weights",)
"""A run has weights of its own, and those that its config names are not looked at."""
COMMANDS = {
    "check": Command(("check", "small.yaml")),
    "train": Command(("train", "small.yaml")),
    "train -m": Command(("train", "-m", "small.yaml", "seed=0,1")),
    "train --resume": Command(("train", "--resume", "runs/small"), without=OWN_WEIGHTS),
    "eval": Command(("eval", "runs/small"), without=OWN_WEIGHTS),
    "profile": Command(("profile", "small.yaml")),
    "profile of a run": Command(("profile", "runs/small"), without=OWN_WEIGHTS),
    "diff": Command(("diff", "small.yaml"), last="sizes"),
    "diff of a run": Command(("diff", "runs/small"), last="sizes"),
    "summary": Command(("summary", "small.yaml"), last="sizes"),
    "eject": Command(("eject", "small.yaml"), last="sizes"),
    "export": Command(("export", "small.yaml"), last="sizes"),
    "draw": Command(("draw", "small.yaml"), last="sizes"),
}
PYTHON: dict[str, tuple[Callable[..., object], str]] = {
    "check": (flowconf.check, "prerequisites"),
    "build": (flowconf.build, "sizes"),
    "plan": (flowconf.plan, "sections"),
    "load": (flowconf.load, "sections"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a config, its weights, and a run of it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_file({"weight": torch.zeros(4, 16), "bias": torch.zeros(4)}, "head.safetensors")
        Path("small.yaml").write_text(CONFIG, encoding="utf-8")
        assert main(["train", "small.yaml"]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def reported(monkeypatch):
    """The errors that the command line reports."""
    found: list[Diagnostic] = []

    def noted(diagnostics, *_):
        found.extend(one for one in diagnostics if one.severity == "error")
        return ""

    for module in CLI:
        monkeypatch.setattr(f"{module}.render_text", noted)
    return found


def at(diagnostic: Diagnostic) -> tuple[object, ...]:
    """What is wrong, the word or the text of a file that is marked for it, and the path."""
    place = diagnostic.place
    if place.file is None:
        return diagnostic.code, place.word, diagnostic.path
    line = Path(place.file).read_text(encoding="utf-8").splitlines()[place.line - 1]
    return diagnostic.code, line[place.column - 1 :][: place.length], diagnostic.path


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_the_same_in_every_command(name, trained, monkeypatch, reported, capsys):
    monkeypatch.chdir(trained)
    mistake, before = MISTAKES[name], contents(trained)
    expected = [at(one) for one in flowconf.check("small.yaml", mistake.words) if one.severity == "error"]
    assert {code for code, _, _ in expected} == {mistake.code}
    for command, given in COMMANDS.items():
        if given.finds(mistake):
            reported.clear()
            assert main([*given.words, *mistake.words]) == mistake.exit_code, (command, capsys.readouterr().err)
            found = [at(one) for one in reported]
            if "-m" in given.words:  # the words are as the sweeper writes them
                assert [(code, path) for code, _, path in found] == [(code, path) for code, _, path in expected]
                assert all(marked for _, marked, _ in found)
            else:
                assert found == expected, command
    for function, (call, last) in PYTHON.items():
        if function != "check" and Command((), last).finds(mistake):
            with pytest.raises(FlowconfError) as raised:
                call("small.yaml", mistake.words)
            assert [at(one) for one in raised.value.diagnostics if one.severity == "error"] == expected, function
    assert contents(trained) == before, "a refused command leaves every folder as it was"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("hidden: ReLU", "hidden: RelU", "FC0132"),
        ("Linear(8, 16)", "Linear(9, 16)", "FC0201"),
        ("fn: cross_entropy", "fn: mse", "FC0406"),
        ("lr: 0.01", "lr: -1", "FC0123"),
    ],
)
@pytest.mark.parametrize("command", ["check", "train"])
def test_a_mistake_of_a_stage_before_is_found_where_it_is_written(
    command, old, new, code, trained, tmp_path, reported, monkeypatch
):
    shutil.copy(trained / "head.safetensors", tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG.replace(old, new, 1), encoding="utf-8")
    (tmp_path / "later.yaml").write_text(LATER, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main([command, "later.yaml"]) == 2
    assert [one.code for one in reported] == [code]
    assert Path(reported[0].place.file).name == "small.yaml"
    line = CONFIG.splitlines().index(next(line for line in CONFIG.splitlines() if old in line)) + 1
    assert reported[0].place.line == line
    assert not Path("runs").exists()


def test_a_run_with_a_mistake_in_its_config_is_not_loaded(trained, tmp_path, reported, monkeypatch):
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    (config,) = Path("runs/small").glob("*/config.yaml")
    config.write_text(config.read_text().replace("Linear(8, 16)", "Linear(9, 16)"), encoding="utf-8")
    save_file({"image": torch.zeros(3, 8)}, "rows.safetensors")
    with pytest.raises(FlowconfError) as raised:
        flowconf.load_run("runs/small")
    for words in (["predict", "runs/small", "-i", "rows.safetensors", "-o", "out.npz"], ["eval", "runs/small"]):
        reported.clear()
        assert main(words) == 2
        assert [at(one) for one in reported] == [at(one) for one in raised.value.diagnostics]
        assert reported[0].code == "FC0201"
        assert Path(reported[0].place.file).name == "config.yaml"


def test_weights_that_do_not_fit_are_refused_before_a_run_is_changed(trained, monkeypatch, reported):
    monkeypatch.chdir(trained)
    before = contents(trained)
    change = ["model.flow.logits='Linear(16, 5)'", "data.classes=5", "trainer.epochs=2"]
    for words in (["train", "--resume"], ["eval"], ["profile"]):
        reported.clear()
        assert main([*words, "runs/small", *change]) == 2
        assert [one.code for one in reported] == ["FC0305"], words
    assert contents(trained) == before


INFERENCES = {
    "check": (["check", "small.yaml"], 1),
    "check of a chain": (["check", "later.yaml"], 2),
    "train": (["train", "small.yaml"], 1),
    "train of a chain": (["train", "later.yaml", "trainer.runs=others"], 2),
    "train -m": (["train", "-m", "small.yaml", "seed=0,1"], 2),
    "train --resume": (["train", "--resume", "runs/small", "trainer.epochs=2"], 1),
    "eval": (["eval", "runs/small"], 1),
    "predict": (["predict", "runs/small", "-i", "rows.safetensors", "-o", "out.npz"], 1),
    "profile": (["profile", "small.yaml"], 1),
    "diff": (["diff", "small.yaml", "seed=2"], 2),
    "summary": (["summary", "small.yaml"], 1),
    "eject": (["eject", "small.yaml"], 1),
    "export": (["export", "small.yaml"], 1),
    "draw": (["draw", "small.yaml"], 1),
}


@pytest.mark.parametrize("name", INFERENCES)
def test_sizes_are_inferred_once(name, trained, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    Path("later.yaml").write_text(LATER.replace("trainer: {", "trainer: {runs: others, "), encoding="utf-8")
    save_file({"image": torch.zeros(3, 8)}, "rows.safetensors")
    words, expected = INFERENCES[name]
    calls = []
    for module, function in ((flowconf.graph.build, "infer"), (first_step, "rehearse")):
        real = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *given, real=real: (calls.append(given), real(*given))[1])
    assert main(words) == 0, capsys.readouterr().err
    assert len(calls) == expected


def test_all_mistakes_of_losses_and_metrics_come_at_once(trained, monkeypatch):
    monkeypatch.chdir(trained)
    words = [
        "loss.label.fn=mse",
        "+loss.other={fn: bce_with_logits, input: hidden, target: label}",
        "metrics.accuracy.target=image",
        "+metrics.f1={fn: F1Score, input: logits, target: label, args: {task: multiclass, num_classes: 1}}",
        "optimizer.lr=-1",
    ]
    found = flowconf.check("small.yaml", words)
    errors = {one.path for one in found if one.severity == "error"}
    assert errors == {"loss.label", "loss.other", "metrics.accuracy", "metrics.f1.args.num_classes", "optimizer.lr"}


def test_values_that_do_not_go_together_are_reported_once_with_all_that_take_them(trained, monkeypatch):
    monkeypatch.chdir(trained)
    words = ["loss.label.target=image", "metrics.accuracy.target=image"]
    (found,) = [one for one in flowconf.check("small.yaml", words) if one.severity == "error"]
    assert found.path == "loss.label"
    assert found.labels[-1].place.word == words[1]


def test_a_mistake_of_one_stage_keeps_the_next_from_being_checked(trained, monkeypatch):
    monkeypatch.chdir(trained)
    found = flowconf.check("small.yaml", ["model.flow.hidden=RelU", "optimizer.lr=-1"])
    assert [one.code for one in found] == ["FC0132"]
    found = flowconf.check("small.yaml", ["optimizer.lr=-1", "+init_from=none.safetensors"])
    assert sorted(one.code for one in found) == ["FC0123", "FC0301"]


def test_stages_without_torch_come_first():
    needs = [stage.torch for stage in STAGES]
    assert needs == sorted(needs)
