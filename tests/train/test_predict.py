"""Predictions for a split: in the order of its rows, written batch by batch, in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset

import flowconf
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError
from flowconf.train.commands.predict import Prediction
from flowconf.train.data.splits import Resident, Splits
from tests.train.conftest import TINY

FORMATS = ("npz", "safetensors", "csv", "jsonl")


@pytest.fixture
def run(folder):
    return flowconf.train(folder.write(), ["trainer.epochs=1"])


def read(file):
    """The columns of a file of predictions, as arrays."""
    if file.endswith("npz"):
        return dict(numpy.load(file))
    if file.endswith("safetensors"):
        return {name: tensor.numpy() for name, tensor in load_file(file).items()}
    with Path(file).open(encoding="utf-8", newline="") as stream:
        if file.endswith("jsonl"):
            rows = [json.loads(line) for line in stream]
            return {name: numpy.array([row[name] for row in rows], dtype="float32") for name in rows[0]}
        rows = list(csv.reader(stream))
    columns = {}
    for name, *cells in zip(*rows, strict=True):
        columns.setdefault(name.split(".")[0], []).append(numpy.array(cells, dtype="float32"))
    return {name: parts[0] if len(parts) == 1 else numpy.stack(parts, 1) for name, parts in columns.items()}


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("batch_size", [7, 256])
def test_a_split_is_written_in_every_format(folder, run, ending, batch_size, capsys):
    words = ["--split", "test", "-o", f"out/found.{ending}", "--batch-size", str(batch_size)]
    assert main(["predict", str(run.folder), *words, "--with", "row", "--with", "label", "--value", "logits"]) == 0
    assert capsys.readouterr().out.splitlines() == ["row  [32] int64", "label  [32] int64", "logits  [32, 4] float32"]
    rows = list(flowconf.data(folder.write()).test)
    label, image = (torch.cat([batch[name] for batch in rows]) for name in ("label", "image"))
    found = read(f"out/found.{ending}")
    assert list(found) == ["row", "label", "logits"] or ending == "safetensors"
    assert found["row"].tolist() == list(range(32))
    assert found["label"].tolist() == label.tolist()
    numpy.testing.assert_allclose(found["logits"], run.graph(image).detach(), rtol=1e-5)
    assert [file.name for file in (folder.path / "out").iterdir()] == [f"found.{ending}"]


def test_numbers_are_written_with_all_digits(run):
    for name in ("a.csv", "a.npz", "a.jsonl"):
        Prediction(run.folder).write("val", name)
    exact = read("a.npz")["logits"]
    assert numpy.array_equal(read("a.csv")["logits"], exact)
    assert numpy.array_equal(read("a.jsonl")["logits"], exact)


def test_python_gives_the_same(folder, run):
    Prediction(run.folder, ["logits"], ["label"]).write("test", "a.npz")
    expected = read("a.npz")
    for found in (
        run.predict("test", ["logits"], fields=["label"]),
        flowconf.predict(run.folder, "test", ["logits"], fields=["label"], batch_size=5),
        flowconf.predict("runs/tiny", "test", ["logits"], fields=["label"]),
    ):
        torch.testing.assert_close(found["logits"], torch.from_numpy(expected["logits"]))
        assert found["label"].tolist() == expected["label"].tolist()
    images = torch.cat([batch["image"] for batch in flowconf.data(folder.write()).test])
    torch.testing.assert_close(flowconf.predict(run.folder, {"image": images})["logits"], run.predict("test")["logits"])
    last = flowconf.predict("runs/tiny", {"image": images}, last=True)["logits"]
    torch.testing.assert_close(last, flowconf.load_run("runs/tiny", last=True)(images))
    assert flowconf.evaluate(run.folder, ["test"]) == run.evaluate("test")
    assert set(flowconf.evaluate(run.folder, overrides=["++data.test=0"])) == {
        "val/loss",
        "val/loss/label",
        "val/accuracy",
    }


def test_a_field_with_the_name_of_a_value_is_written_under_another_name(run):
    found = run.predict("test", ["image", "logits"], fields=["image", "label"])
    assert sorted(found) == ["data.image", "image", "label", "logits"]
    assert torch.equal(found["data.image"], found["image"])


def test_only_the_inputs_of_the_values_are_needed(folder, monkeypatch, capsys):
    rows = torch.rand(64, 8)
    split = Resident({"image": rows, "given": rows, "label": torch.arange(64) % 4})
    monkeypatch.setitem(registry.datasets.registered, "pairs", lambda: Splits(split))
    text = TINY.replace("inputs: {image: [B, 8]}", "inputs: {image: [B, 8], given: [B, 8]}")
    text = text.replace("drop: Dropout(0.1)", "taught: {through: Concat, using: given}").replace("(16, 4)", "(24, 4)")
    text = text.replace("synthetic, shape: [8], classes: 4, rows: 320", "pairs").replace(
        "best: val/accuracy", "steps: 1"
    )
    trained = flowconf.train(folder.write(text))
    image = torch.rand(3, 8)
    found = trained.predict({"image": image}, ["hidden"])["hidden"]
    assert torch.equal(found, trained.graph.view(["hidden"])(image, None)["hidden"])
    numpy.savez("rows.npz", image=image.numpy())
    assert main(["predict", "runs/tiny", "-i", "rows.npz", "-o", "out.npz", "--value", "hidden"]) == 0
    assert main(["predict", "runs/tiny", "-i", "rows.npz", "-o", "out.npz"]) == 2
    assert "there is no array for the input `given`" in capsys.readouterr().err


def test_a_run_is_checked_ejected_and_exported_with_its_best_weights(run, capsys):
    assert main(["check", "runs/tiny"]) == 0
    assert main(["eject", "runs/tiny", "-o", "model.py"]) == 0
    assert main(["export", "runs/tiny", "-o", "model.pt2"]) == 0
    assert "the weights are initial values" not in capsys.readouterr().out
    best, written = (load_file(file) for file in (run.folder / "checkpoints/best.safetensors", "model.safetensors"))
    assert all(torch.equal(written[name], best[name]) for name in run.graph.state_dict())
    assert torch.equal(torch.export.load("model.pt2").state_dict["stem.weight"], best["stem.weight"])
    assert main(["check", "runs/tiny", "--fix"]) == 2
    assert "the config of a run is not changed" in capsys.readouterr().err


def test_overrides_change_the_data(run):
    assert len(flowconf.predict(run.folder, "train", overrides=["data.rows=100"])["logits"]) == 80


def test_rows_of_a_file_keep_their_numbers(folder):
    numbers = numpy.random.default_rng(0)
    image = numbers.normal(size=(40, 8)).astype("float32")
    numpy.savez("rows.npz", image=image, label=numpy.arange(40) % 4)
    text = TINY.replace("synthetic, shape: [8], classes: 4, rows: 320", "arrays, train: rows.npz, validation: 0.25")
    run = flowconf.train(folder.write(text))
    Prediction(run.folder, ["image"], ["row", "label"]).write("val", "found.csv")
    found = read("found.csv")
    assert sorted(found["row"].tolist()) != list(range(10))
    numpy.testing.assert_allclose(found["image"], image[found["row"].astype(int)], rtol=1e-6)


class Ragged(Dataset):
    """Sequences of one length in each batch of two rows."""

    def __len__(self):
        return 6

    def __getitem__(self, row):
        if row == 5:
            raise ValueError("the last row")
        return {"image": torch.ones(4 + row // 2, 8), "label": torch.zeros(4 + row // 2, dtype=torch.int64)}


RAGGED = """
model: {inputs: {image: [B, T, 8]}, flow: {logits: "Linear(8, 3)"}}
data: {name: ragged, batch_size: 2}
loss: {label: {fn: cross_entropy, input: logits, target: label, args: {dim: -1}}}
trainer: {steps: 1, devices: cpu}
"""


@pytest.fixture
def ragged(folder, monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "ragged", lambda: Splits(Ragged()))
    return folder.train(text=RAGGED, name="ragged.yaml").folder


@pytest.mark.parametrize("output", ["found.csv", "found.npz"])
def test_a_failure_leaves_the_file_that_was_there(folder, ragged, output, monkeypatch):
    (folder.path / output).write_text("before")
    with pytest.raises(ConfigError, match=r"`logits` is \[4, 3\] in the first row, and \[5, 3\] in a later one"):
        Prediction(ragged, batch_size=2).write("train", output)
    assert (folder.path / output).read_text() == "before"
    assert not list(folder.path.glob(".found*"))
    with pytest.raises(flowconf.FlowconfError, match="row 5 cannot be loaded: ValueError: the last row"):
        Prediction(ragged, batch_size=2).write("train", "found.jsonl")
    assert not list(folder.path.glob("*found.jsonl*"))


def test_lines_may_have_different_shapes(folder, ragged, monkeypatch):
    monkeypatch.setattr(Ragged, "__len__", lambda rows: 5)
    Prediction(ragged, batch_size=2).write("train", "found.jsonl")
    rows = [json.loads(line) for line in (folder.path / "found.jsonl").read_text().splitlines()]
    assert [len(row["logits"]) for row in rows] == [4, 4, 5, 5, 6]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "test", "-o", "a.txt"], "the output file must end in `.npz`, `.safetensors`, `.csv`, `.jsonl`"),
        (["--split", "test", "-o", "a.csv", "--with", "lable"], "the data have no field `lable`"),
        (["--split", "test", "-o", "a.csv", "--with", "file"], "the data have no field `file`"),
        (["--split", "test", "-o", "a.csv", "++data.test=0"], "has no split `test`"),
        (["-o", "a.csv"], "expected one of `--split` and `--input`"),
        (["--split", "test", "-i", "a.npz", "-o", "a.csv"], "expected one of `--split` and `--input`"),
        (["-i", "a.npz", "-o", "a.csv", "--with", "label"], "`--with` does not apply to arrays"),
        (["-i", "a.npz", "-o", "a.csv", "data.rows=9"], "overrides apply only to `--split`"),
        (["--split", "test"], "require `-o FILE`"),
        (["-i", "a.npz"], "require `-o FILE`"),
        (["-i", "a.png"], "expected an `.npz` or `.safetensors` file, got `a.png`"),
        (["-i", "a.png", "-o", "a.csv"], "expected an `.npz` or `.safetensors` file, got `a.png`"),
        (["-i", "a.png", "--value", "logits"], "require `-o FILE`"),
    ],
)
def test_what_cannot_be_predicted_is_refused_before_anything_is_written(folder, run, capsys, words, said):
    before = sorted(folder.path.rglob("*"))
    assert main(["predict", str(run.folder), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert sorted(folder.path.rglob("*")) == before


def test_a_row_of_many_numbers_is_no_table(folder):
    text = TINY.replace("Linear(16, 4)", "Linear(16, 12000)").replace("classes: 4", "classes: 4")
    run = flowconf.train(folder.write(text), ["trainer.steps=1"])
    with pytest.raises(ConfigError, match="a row has 12,000 numbers") as caught:
        Prediction(run.folder).write("test", "a.csv")
    assert caught.value.diagnostics[0].help == "write to an `.npz` or `.jsonl` file"


def heights(file, compute, *, tall, **others):
    """Reads numbers in a text file: those above `tall`, and what the graph gives for a row of each of them."""
    numbers = torch.tensor([float(word) for word in file.read_text().split()])
    logits = compute({"image": numbers[:, None].expand(-1, 8)})["logits"]
    yield f"{int((numbers > tall).sum())} of {len(numbers)} are tall"
    yield f"logits of {list(logits.shape)}"


@pytest.fixture
def reading(folder, monkeypatch):
    """A run with a data set that reads files."""

    @flowconf.provides("image", "label", reader=heights)
    def people(*, tall: float = 1.8) -> Splits:
        return Splits(flowconf.Resident({"image": torch.ones(8, 8), "label": torch.zeros(8, dtype=torch.int64)}))

    monkeypatch.setitem(registry.datasets.registered, "people", people)
    text = TINY.replace("name: synthetic, shape: [8], classes: 4, rows: 320", "name: people").replace(
        "best: val/accuracy, ", ""
    )
    return flowconf.train(folder.write(text), ["trainer.steps=1", "trainer.epochs=null", "+data.tall=1.7"]).folder


def test_a_data_set_reads_files_of_its_own(folder, reading, capsys):
    (folder.path / "a.txt").write_text("1.6 1.75 1.9")
    before = sorted(folder.path.rglob("*"))
    assert main(["predict", str(reading), "--input", "a.txt"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2 of 3 are tall", "logits of [3, 4]"]
    assert sorted(folder.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file `a.txt`"),
        ("x", "the reader of the data set `people` fails: ValueError: could not convert string to float"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(folder, reading, capsys, text, said):
    if text is not None:
        (folder.path / "a.txt").write_text(text)
    assert main(["predict", str(reading), "--input", "a.txt"]) == 2
    assert said in capsys.readouterr().err
