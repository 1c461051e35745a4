"""Checkpoints know themselves: what is damaged, foreign, older or newer is refused with the way on, and never used."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import flowconf
from flowconf.cli.main import main
from flowconf.graph.weights.seal import data_of as bytes_of
from flowconf.graph.weights.seal import digest_of, sealed
from flowconf.train import loop
from flowconf.train.commands.train import resume
from flowconf.train.screen import Screen
from tests.train.conftest import TEXT, killed


@pytest.fixture
def run(folder):
    """A run that was killed after step 9: `last` is of step 9, `best` of step 5."""
    killed(lambda: folder.train(text=TEXT), 10)
    return folder.runs()[0].relative_to(folder.path)


def last(run):
    return run / "checkpoints" / "last.safetensors"


def best(run):
    return run / "checkpoints" / "best.safetensors"


def metadata(file):
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def rewrite(file, change, seal=True):
    """Change the tensors and texts of a file; with `seal` as one who knows how flowconf seals them."""
    tensors, texts = load_file(file), metadata(file)
    change(tensors, texts)
    digests = {name: digest_of(tensor, bytes_of(tensor)) for name, tensor in tensors.items()}
    save_file(tensors, file, sealed(digests, texts) if seal else texts)


def in_state(change):
    def changed(tensors, texts):
        state = json.loads(texts["state"])
        change(state)
        texts["state"] = json.dumps(state)

    return lambda file: rewrite(file, changed)


def flipped(where):
    """A bit flipped in the file: in the tensor data, or in a text."""

    def flip(file):
        data = bytearray(file.read_bytes())
        data[where(data)] ^= 1
        file.write_bytes(data)

    return flip


def data_of(name):
    """The place of a tensor's first byte."""

    def place(data):
        (size,) = struct.unpack("<Q", data[:8])
        return 8 + size + json.loads(data[8 : 8 + size])[name]["data_offsets"][0]

    return place


def cut(size):
    return lambda file: file.write_bytes(file.read_bytes()[:size])


def with_text(name, value, seal=False):
    return lambda file: rewrite(file, lambda tensors, texts: texts.__setitem__(name, value), seal=seal)


def of_another_run(file):
    rewrite(file, lambda tensors, texts: texts.__setitem__("run", "0123456789ab"))


def exchanged(tensors, texts):
    first, second = "@optimizer/stem.bias/exp_avg", "@optimizer/stem.bias/exp_avg_sq"
    tensors[first], tensors[second] = tensors[second], tensors[first]


DAMAGED = {
    "empty": (cut(0), "is not a safetensors file"),
    "cut in the header": (cut(100), "cannot be read as weights"),
    "cut in the data": (cut(-1), "it is truncated"),
    "no file of tensors": (lambda file: file.write_text("not this"), "cannot be read as weights"),
    "a flipped bit in a weight": (flipped(data_of("stem.weight")), "`stem.weight` does not match its digest"),
    "a flipped bit in the optimizer's state": (
        flipped(data_of("@optimizer/stem.weight/exp_avg")),
        "`@optimizer/stem.weight/exp_avg` does not match its digest",
    ),
    "a flipped bit in random numbers": (flipped(data_of("@random/0/cpu")), "`@random/0/cpu` does not match its digest"),
    "a flipped bit in a text": (
        flipped(lambda data: data.index(b"rows") + 7),
        "its metadata does not match its digest",
    ),
    "moments exchanged": (
        lambda file: rewrite(file, exchanged, seal=False),
        "`@optimizer/stem.bias/exp_avg` does not match its digest",
    ),
    "a tensor left out": (
        lambda file: rewrite(file, lambda tensors, texts: tensors.pop("@random/0/cpu"), seal=False),
        "`@random/0/cpu` was removed after it was saved",
    ),
    "another run's": (of_another_run, "it belongs to another run"),
    "weights alone": (lambda file: shutil.copy(best(file.parents[1]), file), "it is not a training checkpoint"),
    "another program's": (
        lambda file: save_file({"stem.weight": torch.zeros(16, 8)}, file),
        "it is not a training checkpoint",
    ),
    "older": (with_text("format", "flowconf 1"), "it has format 1"),
    "newer": (
        with_text("format", "flowconf 3"),
        "it has format 3, but this version of flowconf supports",
    ),
    "no JSON": (with_text("state", "{", seal=True), "is invalid"),
    "deep JSON": (with_text("state", "[" * 100_000, seal=True), "is invalid"),
    "no random numbers": (
        lambda file: rewrite(file, lambda tensors, _: tensors.pop("@random/0/cpu")),
        "its random state is invalid: 'cpu' is missing",
    ),
    "bad random numbers": (
        lambda file: rewrite(file, lambda tensors, _: tensors.update({"@random/0/python": torch.tensor([1, 2])})),
        "its random state is invalid",
    ),
    "a negative step": (in_state(lambda state: state["progress"].update(step=-1)), "`progress.step` is invalid"),
    "a step that is text": (in_state(lambda state: state["progress"].update(step="9")), "`progress.step` is invalid"),
}


def snapshot(run):
    return {file: file.read_bytes() for file in sorted(run.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_last_checkpoint_that_is_not_what_was_saved(run, capsys, damage, words):
    damage(last(run))
    before = snapshot(run)
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("error[FC030")
    assert f"--> {last(run)}" in said
    way = f"to start a new run from its best weights: `flowconf train tiny.yaml init_from={best(run)}`"
    assert f"= help: {way}" in said
    assert snapshot(run) == before


def test_a_last_checkpoint_that_is_gone(run, capsys):
    last(run).unlink()
    before = snapshot(run)
    assert main(["train", "--resume", str(run)]) == 1
    said = capsys.readouterr().err
    assert "error[FC0301]: `last.safetensors` is missing, although the run has saved a checkpoint" in said
    assert "to start a new run from its best weights" in said
    best(run).unlink()
    assert main(["train", "--resume", str(run)]) == 1
    assert "= help: to start over: `flowconf train tiny.yaml`" in capsys.readouterr().err
    assert snapshot(run) == {file: data for file, data in before.items() if file != best(run)}


def test_paths_are_those_of_the_folder_that_the_command_is_called_in(run, folder, monkeypatch, capsys):
    flipped(data_of("stem.weight"))(last(run))
    (folder.path / "elsewhere").mkdir()
    for place, shown in (("elsewhere", str(folder.path / run)), ("runs", str(run.relative_to("runs")))):
        monkeypatch.chdir(folder.path / place)
        assert main(["train", "--resume", str(folder.path / run)]) == 1
        assert f"init_from={shown}/checkpoints/best.safetensors`" in capsys.readouterr().err


def test_the_way_on_is_one(run, folder):
    """What the help says to write is run: it starts from the weights that it names."""
    last(run).unlink()
    assert main(["train", "tiny.yaml", f"init_from={best(run)}", "trainer.epochs=1"]) == 0
    assert "stem: 2 loaded" in (folder.runs()[-1] / "weights.txt").read_text()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flipped(data_of("stem.weight")), "`stem.weight` does not match its digest"),
        (cut(50), "cannot be read as weights"),
        (lambda file: file.unlink(), "no such file"),
        (of_another_run, "it does not contain the run's weights of step 5"),
        (with_text("step", "4", seal=True), "it does not contain the run's weights of step 5"),
    ],
)
def test_best_weights_that_are_not_what_was_saved(run, capsys, damage, words):
    damage(best(run))
    before = snapshot(run)
    assert main(["train", "--resume", str(run)]) == 1
    said = capsys.readouterr().err
    assert words in said.lower()
    assert f"to start a new run from its last weights: `flowconf train tiny.yaml init_from={last(run)}`" in said
    assert snapshot(run) == before


@pytest.mark.parametrize("command", [["eval"], ["predict", "-i", "in.npz", "-o", "out.npz"]])
def test_damaged_best_weights_are_used_by_no_command(run, capsys, command):
    import numpy

    numpy.savez("in.npz", image=numpy.zeros((4, 8), "float32"))
    flipped(data_of("logits.bias"))(best(run))
    assert main([command[0], str(run), *command[1:]]) == 2
    assert "`logits.bias` does not match its digest" in capsys.readouterr().err


def test_missing_best_weights_of_a_finished_run_are_not_replaced_by_the_last_ones(folder, capsys):
    run = folder.train(text=TEXT).folder
    best(run).unlink()
    assert main(["eval", str(run)]) == 2
    assert "best.safetensors` does not exist" in capsys.readouterr().err


def test_weights_of_the_format_before_are_read(run):
    texts = metadata(best(run))
    older = {key: text for key, text in texts.items() if key not in ("digest", "digests")} | {"format": "flowconf 1"}
    save_file(load_file(best(run)), best(run), older)
    assert main(["eval", str(run)]) == 0


def test_every_piece_of_state_has_a_name_and_a_digest(run):
    tensors, texts = load_file(last(run)), metadata(last(run))
    assert json.loads(texts["digests"]).keys() == tensors.keys()
    kept = {f"@optimizer/{name}/{key}" for name in ("stem.weight", "stem.bias", "logits.weight", "logits.bias")
            for key in ("step", "exp_avg", "exp_avg_sq")}  # fmt: skip
    assert {name for name in tensors if name.startswith("@optimizer")} == kept


def test_a_checkpoint_is_a_file_of_weights_to_others(run):
    graph = flowconf.build("tiny.yaml", weights=False)
    assert len(graph.load(last(run), unused="error").loaded) == 4


def test_state_belongs_to_a_name(run, folder):
    """Groups that change the order of the parameters, one of which has another's shape, change no one's state."""
    before = {name: load_file(last(run))[f"@optimizer/{name}/exp_avg"] for name in ("stem.bias", "logits.bias")}
    restore, restored = loop.restore, {}

    def watched(job, *rest):
        step = restore(job, *rest)
        state = job.optimizers[0].state
        restored.update({name: state[job.graph.get_parameter(name)]["exp_avg"].clone() for name in before})
        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "restore", watched)
        resume(str(run), ["+optimizer.groups.logits.lr=0.001", "+optimizer.groups.stem.lr=0.002"], Screen(folder.said))
    assert all(torch.equal(restored[name], before[name]) for name in before)
