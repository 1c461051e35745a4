"""`trainer.keep`: the weights that are kept beside the best and the last ones, what they say, and who finds them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import flowconf
from flowconf.cli.main import main
from flowconf.report import ConfigError
from flowconf.train.runs.kept import Kept
from flowconf.train.runs.state import Snapshot
from tests.train.conftest import TINY, assert_same, go_on, killed
from tests.train.teams import dying, go_on_together, team, together

PLAIN = TINY.replace("trainer: {epochs: 2, best: val/accuracy,", "trainer: {epochs: 2, evaluate_every: 3, ema: 0.5,")
KEEP = "trainer.keep={best: 2, every: 5}"
TEXT = PLAIN.replace("evaluate_every: 3,", "evaluate_every: 3, keep: {best: 2, every: 5},")


@pytest.fixture
def found(folder, whole):
    """The working folder, with a copy of that run."""
    copy = shutil.copytree(whole.folder, folder.path / "runs/tiny/one")
    (copy / "run.json").write_text(json.dumps({**whole.record, "config": folder.write(TEXT)}))
    return folder


def kept(run):
    """Step -> the texts of its file."""
    files = (run.folder / "checkpoints").glob("step_*.safetensors")
    return {int(file.stem.removeprefix("step_")): said(file) for file in sorted(files)}


def said(file):
    with safe_open(file, "pt") as opened:
        texts = opened.metadata()
    return {key: texts[key] for key in ("kept", "best_of", "value") if key in texts}


def best_steps(run, count):
    """The steps of the smallest losses, by the log."""
    losses = {line["step"]: line["val/loss"] for line in run.log if "val/loss" in line}
    return sorted(losses, key=lambda step: (losses[step], -step))[:count], losses


def test_the_best_ones_and_every_nth_are_kept_and_say_why(whole):
    best, losses = best_steps(whole, 2)
    files = kept(whole)
    assert set(files) == {*best, 5, 10, 15}
    for step, texts in files.items():
        reasons = [reason for reason, holds in (("best", step in best), ("every", step % 5 == 0)) if holds]
        assert texts["kept"] == ", ".join(reasons)
        named = {"best_of": "val/loss", "value": repr(losses[step])} if step in best else {}
        assert texts == {"kept": ", ".join(reasons), **named}
    assert said(whole.folder / "checkpoints/best.safetensors") == {
        "best_of": "val/loss", "value": repr(losses[best[0]])
    }  # fmt: skip


def test_times_in_epochs_and_fractions_are_those_in_steps(folder, whole):
    given = [
        "trainer.evaluate_every={fraction: 0.18}",
        "trainer.keep.every={epoch: 0.6}",
        "trainer.log_every={epoch: 1}",
    ]
    run = folder.train(*given, "trainer.checkpoint_every={step: 3}", text=TEXT)
    assert best_steps(run, 2) == best_steps(whole, 2)
    assert kept(run) == kept(whole)
    assert {line["step"] for line in run.log if "train/loss" in line} == {8, 16}


def test_training_is_the_same_without(folder, whole):
    without = folder.train(text=PLAIN)
    assert without.log == whole.log
    mine, theirs = (load_file(run.folder / "checkpoints/best.safetensors") for run in (without, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert kept(without) == {}


def test_they_are_the_averages_of_their_step(folder, whole):
    """The bits of a run that ends there: its averages, which are what was evaluated."""
    short = folder.train("trainer.epochs=null", "+trainer.steps=5", text=PLAIN)
    last = load_file(short.folder / "checkpoints/last.safetensors")
    for name, tensor in load_file(whole.folder / "checkpoints/step_5.safetensors").items():
        assert torch.equal(tensor, last[f"@own/average/{name}"])


@pytest.mark.parametrize("step", [3, 5, 6, 7, 10, *(pytest.param(n, marks=pytest.mark.slow) for n in (9, 12, 15))])
def test_a_killed_run_keeps_the_same(folder, whole, step):
    killed(lambda: folder.train(text=TEXT), step)
    assert_same(go_on(folder), whole)
    assert kept(folder.run(folder.runs()[0])) == kept(whole)


def test_what_a_killed_run_has_not_kept_follows_from_its_checkpoint(folder, whole, monkeypatch):
    """Killed after saving a checkpoint, and before its kept weights; and before removing what they replace."""
    write, remove = Snapshot.write, Kept._remove_all_but

    def cannot(self, file):
        if file.name == "step_16.safetensors":
            raise KeyboardInterrupt
        write(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "write", cannot)
        patch.setattr(Kept, "_remove_all_but", lambda self, staying: remove(self, staying) if len(staying) < 2 else 0)
        with pytest.raises(KeyboardInterrupt):
            folder.train(text=TEXT)
    (run,) = folder.runs()
    assert not (run / "checkpoints/step_18.safetensors").exists()
    assert len(kept(folder.run(run))) > len(kept(whole))
    assert_same(go_on(folder), whole)
    assert kept(folder.run(run)) == kept(whole)


def test_the_latest_weights_are_the_best_ones_also_after_a_resume(folder):
    """Whatever their values: the learning rate makes each evaluation worse than the first one."""
    text = TEXT.replace("ema: 0.5", "best: last").replace("lr: ", "lr: 10")
    whole = folder.train(text=text)
    assert "(best)" not in folder.said.getvalue()
    best, losses = best_steps(whole, 1)
    assert max(losses) not in best
    assert said(whole.folder / "checkpoints/best.safetensors") == {"best_of": "last", "value": f"{max(losses):.1f}"}
    assert {step for step, texts in kept(whole).items() if "best" in texts["kept"]} == {*sorted(losses)[-2:]}
    assert whole.record["metrics"]["val/loss"] == losses[max(losses)]
    killed(lambda: folder.train(text=text), 7)
    assert_same(go_on(folder), whole)
    assert kept(folder.run(folder.runs()[-1])) == kept(whole)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_keep_the_same_steps(folder, strategy):
    text = TEXT.replace("Dropout(0.1)", "Identity")
    one, two = folder.train(text=text), team(folder, text, f"trainer.strategy={strategy}")
    assert {step: texts["kept"] for step, texts in kept(two).items()} == {
        step: texts["kept"] for step, texts in kept(one).items()
    }
    for step in kept(one):
        mine, theirs = (load_file(run.folder / f"checkpoints/step_{step}.safetensors") for run in (one, two))
        assert mine.keys() == theirs.keys()
        assert all(torch.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-5) for name in mine)


def test_two_processes_that_are_killed_keep_the_same(folder):
    whole = team(folder, TEXT)
    config = flowconf.load(folder.path / "tiny.yaml", ["trainer.devices=2"])

    def dies(rank):
        from tests.train.conftest import train

        dying(8)
        train(config)

    together(dies)
    run = folder.runs()[-1]
    go_on_together(run)
    assert_same(folder.run(run), whole)
    assert kept(folder.run(run)) == kept(whole)


def test_a_run_that_is_resumed_with_fewer_keeps_fewer_and_removes_nothing_else(found):
    run = found.path / "runs/tiny/one"
    before = kept(found.run(run))
    assert main(["train", "--resume", str(run), "trainer.epochs=3", "trainer.keep={best: 1, every: 7}"]) == 0
    after = kept(found.run(run))
    assert {5, 10, 15, 21} <= set(after)
    best, _ = best_steps(found.run(run), 1)
    assert [step for step, texts in after.items() if texts["kept"] == "best" and step not in before] in ([], best)
    assert main(["train", "--resume", str(run), "trainer.epochs=4", "trainer.keep=null"]) == 0
    assert kept(found.run(run)) == after


def test_weights_that_are_best_of_another_value_stay(found):
    run = found.path / "runs/tiny/one"
    before = kept(found.run(run))
    words = ["trainer.epochs=3", "trainer.best=val/accuracy", "trainer.keep={best: 1, every: null}"]
    assert main(["train", "--resume", str(run), *words]) == 0
    after = kept(found.run(run))
    assert before.items() <= after.items()
    assert [texts["best_of"] for step, texts in after.items() if step not in before] == ["val/accuracy"]


def test_python_and_the_command_line_find_them(found, capsys):
    run = found.path / "runs/tiny/one"
    weights = load_file(run / "checkpoints/step_5.safetensors")
    graph = flowconf.load_run("runs/tiny", step=5)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in graph.named_parameters())
    first = [line for line in found.run(run).log if line.get("step") == 15 and "val/loss" in line]
    assert flowconf.evaluate("runs/tiny", ["val"], step=15)["val/loss"] == first[0]["val/loss"]
    capsys.readouterr()
    assert main(["eval", "runs/tiny", "--split", "val", "--step", "15", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["val/loss"] == first[0]["val/loss"]
    assert main(["predict", "runs/tiny", "--split", "val", "--step", "5", "-o", "five.npz"]) == 0
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[-1].endswith("5, 10, 15, 16")
    assert main(["runs", "--format", "json"]) == 0
    described = json.loads(capsys.readouterr().out)["kept"]
    assert [one["step"] for one in described] == [5, 10, 15, 16]
    assert described[0] == {"step": 5, "file": "runs/tiny/one/checkpoints/step_5.safetensors", "kept": "every"}
    assert described[3]["best_of"] == "val/loss"


def test_a_step_that_was_not_kept_is_refused(found, capsys):
    with pytest.raises(ConfigError, match="has not kept the weights of step 7"):
        flowconf.load_run("runs/tiny", step=7)
    with pytest.raises(ConfigError, match="`last` and `step` are both given"):
        flowconf.load_run("runs/tiny", step=5, last=True)
    assert main(["eval", "runs/tiny", "--step", "7"]) == 2
    assert "it has kept those of the steps `5`, `10`, `15`, `16`" in capsys.readouterr().err


STUDENT = PLAIN.replace("    stem: Linear(8, 16)\n", "    stem: {through: 'Linear(8, 16)', checkpoint: SOURCE}\n")


@pytest.mark.parametrize("source", ["config: tiny.yaml", "path: runs/tiny", "path: runs/tiny/one"])
def test_a_checkpoint_of_a_config_or_run_is_found_by_its_step(found, source):
    found.write(STUDENT.replace("SOURCE", f"{{{source}, step: 5, at: stem}}"), "student.yaml")
    weights = load_file(found.path / "runs/tiny/one/checkpoints/step_5.safetensors")
    assert torch.equal(flowconf.build("student.yaml").stem.weight, weights["stem.weight"])


def test_a_run_starts_from_the_weights_of_a_step(found, monkeypatch):
    text = PLAIN + "init_from: {config: tiny.yaml, step: 5}\n"
    run = found.train("optimizer.lr=0", "trainer.ema=null", text=text, name="next.yaml")
    weights = load_file(found.path / "runs/tiny/one/checkpoints/step_5.safetensors")
    assert torch.equal(load_file(run.folder / "checkpoints/last.safetensors")["stem.weight"], weights["stem.weight"])


def test_a_config_that_keeps_the_step_is_trained_first(folder):
    folder.write(TEXT)
    folder.write(STUDENT.replace("SOURCE", "{config: tiny.yaml, step: 5, at: stem}"), "student.yaml")
    assert main(["train", "student.yaml"]) == 0
    (teacher,) = folder.runs()
    report = (folder.runs("student")[0] / "weights.txt").read_text()
    assert f"{teacher.name}/checkpoints/step_5.safetensors" in report


@pytest.mark.parametrize(
    ("step", "said"),
    [(7, "set `trainer.keep.every` in `teacher.yaml`"), (40, "it ends after step 20")],
)
def test_a_config_that_will_not_keep_the_step_is_refused_before_it_is_trained(folder, step, said, capsys):
    folder.write(TEXT.replace("best: 2, ", "").replace("epochs: 2", "steps: 20"), "teacher.yaml")
    folder.write(STUDENT.replace("SOURCE", f"{{config: teacher.yaml, step: {step}, at: stem}}"), "student.yaml")
    assert main(["train", "student.yaml"]) == 2
    reported = capsys.readouterr().err
    assert f"a run of `teacher.yaml` keeps no weights of step {step}" in reported
    assert said in reported
    assert not (folder.path / "runs").exists()


def test_the_best_ones_require_a_validation_split(folder, capsys):
    text = TEXT.replace("rows: 320", "rows: 320, validation: 0")
    assert main(["train", folder.write(text)]) == 2
    assert "`trainer.keep.best` requires a validation split" in capsys.readouterr().err
    assert main(["train", folder.write(text.replace("best: 2, ", ""))]) == 0
