"""Exact resume of what is hard to take up again: two processes, stages, phases, short numbers, a full disk."""

from __future__ import annotations

import signal

import pytest
import torch
from safetensors.torch import load_file

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.graph.weights import files
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, assert_same, go_on, killed, train
from tests.train.teams import dying, go_on_together, team, together
from tests.train.test_teams import DEEP, NORMED, with_keys

SLOW = pytest.mark.slow
PHASES = """
schedule: {name: cosine, warmup: 3}
phases:
  warm: {until: {step: 6}, freeze: [stem, body], lr: 0.5}
  joint: {until: {epoch: 1.5}, loss: {side: {linear: {from: 1, to: 0}}}}
  last: {freeze: [norm], loss: {side: 0}}
"""
HARD = {
    "everything": with_keys(DEEP.replace('"Linear(16, 16) >> GELU"', '"Linear(16, 16) >> GELU >> Dropout(0.2)"'),
        accumulate=2, ema=0.9, clip=0.5, precision="fp16") + PHASES,
    "norm": NORMED.replace("weight: 0.5}", "weight: 0.5, updates: [side]}"),
}  # fmt: skip
STEPS = [5, 6, 7, *(pytest.param(step, marks=SLOW) for step in (1, 2, 3, 4, 8, 9, 12, 14, 15, 16))]


@pytest.mark.parametrize("step", STEPS)
def test_one_process(folder, step):
    text = HARD["everything"]
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text), step)
    assert_same(go_on(folder), whole)


@SLOW
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("step", [4, 6, 13])
def test_two_processes(folder, name, step):
    whole = team(folder, HARD[name])
    config = load(folder.write(HARD[name]), ["trainer.devices=2"])

    def killed_on_the_way(rank):
        dying(step)
        train(config)

    assert together(killed_on_the_way) == [-signal.SIGKILL] * 2
    run = folder.runs()[-1]
    go_on_together(run)
    assert_same(folder.run(run), whole)


def test_a_signal_to_one_process_ends_all_after_the_same_step(folder, capfd):
    text = HARD["everything"]
    whole = team(folder, text)
    config = load(folder.write(text), ["trainer.devices=2"])

    def interrupted(rank):
        dying(7, signal.SIGTERM, ranks=(1,))
        with pytest.raises(KeyboardInterrupt):
            train(config)

    assert together(interrupted) == [0, 0]
    run = folder.runs()[-1]
    assert "interrupted; to resume: flowconf train --resume" in capfd.readouterr().out
    assert folder.run(run).record["status"] == "interrupted"
    go_on_together(run)
    assert_same(folder.run(run), whole)


@SLOW
def test_a_full_disk_ends_both_and_the_earlier_checkpoint_goes_on(folder, capfd):
    whole = team(folder, DEEP)
    write, file = files.write_atomically, folder.write(DEEP)
    saves = []

    def full(rank):
        def fails(target, *parts):
            saves.append(target)
            if len(saves) == 3:
                raise OSError(28, "No space left on device")
            write(target, *parts)

        files.write_atomically = fails
        return main(["train", file, "trainer.devices=2"])

    assert together(full) == [1, 1]
    said = capfd.readouterr().err
    assert said.count("error[") == 1
    assert "cannot save the checkpoint of step 5: no space left on device" in said
    run = folder.runs()[-1]
    assert folder.run(run).record["status"] == "failed"
    go_on_together(run)
    assert_same(folder.run(run), whole)


@SLOW
@pytest.mark.parametrize("step", [3, 6])
@pytest.mark.parametrize("before", [1, 2], ids=["one, then two", "two, then one"])
def test_another_number_of_processes(folder, before, step):
    """The same data order and state; other random numbers and roundings are theirs, so nothing random is in it."""
    whole = folder.train(text=DEEP)
    if before == 1:
        killed(lambda: folder.train(text=DEEP), step)
        run = folder.runs()[-1]
        assert together(lambda rank: resume(str(run), ["trainer.devices=2"]) and None) == [0, 0]
        again = folder.run(run)
        saved = load_file(run / "checkpoints/last.safetensors")
        assert not torch.equal(saved["@random/0/cpu"], saved["@random/1/cpu"])
    else:
        config = load(folder.write(DEEP), ["trainer.devices=2"])

        def killed_on_the_way(rank):
            dying(step)
            train(config)

        together(killed_on_the_way)
        again = go_on(folder, None, "trainer.devices=cpu")
    assert [line["step"] for line in again.log] == [line["step"] for line in whole.log]
    for mine, theirs in zip(again.log, whole.log, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)


LETTER = TINY.replace("    stem: Linear(8, 16)\n    hidden: ReLU\n", "    part:\n      graph: part\n")
WORD = LETTER.replace("graph: part\n", "graph: part\n      checkpoint: {config: letter.yaml, at: part}\n")


@pytest.mark.parametrize(("stage", "step"), [(1, 3), (2, 11), pytest.param(2, 3, marks=SLOW)])
@pytest.mark.parametrize("again", ["started", "resumed"])
def test_stages(folder, stage, step, again):
    folder.write("inputs: {image: [B, 8]}\nflow: {stem: 'Linear(8, 16)', hidden: ReLU}\n", "graph/part.yaml")
    folder.write(LETTER.replace("epochs: 2", "epochs: 1"), "letter.yaml")
    word = load(folder.write(WORD.replace("epochs: 2", "epochs: 2, checkpoint_every: 2"), "word.yaml"))
    whole = folder.run(train(word, Screen(folder.said)))
    for letter in folder.runs("letter"):
        letter.rename(folder.path / "aside")

    def both():
        seen = []
        Screen.start = lambda self, total, done=0: seen.append(total)
        count = Screen.step
        Screen.step = lambda self, done: count(self, done) if len(seen) == stage else None
        train(word, Screen(folder.said))

    killed(both, step)
    unfinished = folder.runs("letter" if stage == 1 else "word")[-1]
    if again == "resumed":
        resume(str(unfinished), (), Screen(folder.said))
    last = folder.path / (unfinished if (again, stage) == ("resumed", 2) else train(word, Screen(folder.said)))
    assert_same(folder.run(last), whole)
