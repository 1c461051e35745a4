"""Augmentation in the language of calls: each row has its own seed, whoever makes it, and after a kill."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from torch import Tensor

import flowconf
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.train.data.splits import Resident, Splits
from flowconf.train.seeds import seed_for
from tests.other_packages import imported
from tests.train.conftest import TINY, assert_same, go_on, killed, place_in
from tests.train.teams import assert_alike, team


class Jolt:
    """Noise from three libraries."""

    def __init__(self, strength: float = 0.1, *, times: int = 1):
        self.strength, self.times = strength, times

    def __call__(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = x + self.strength * (torch.rand(x.shape) + random.random() + numpy.random.rand())
        return x


class Half:
    def __call__(self, x: Tensor) -> Tensor:
        return x[: len(x) // 2]


class Broken:
    def __call__(self, x: Tensor) -> Tensor:
        raise ValueError("no such picture")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for one in (Jolt, Half, Broken):
        monkeypatch.setitem(registry.augmentations.registered, one.__name__, one)


def text(chain="Jolt(0.2) >> Jolt(0.1, times=2)", field="image", more=""):
    return (
        TINY.replace("rows: 320", f"rows: 240, augment: {{{field}: '{chain}'}}{more}")
        .replace("epochs: 2", "epochs: 2, checkpoint_every: 2, accumulate: 2")
        .replace("    drop: Dropout(0.1)\n", "")
    )


def pair(more=""):
    """A config that compares an augmented field with a view of it."""
    return (
        text(more=more)
        .replace("{image: [B, 8]}", "{image: [B, 8], other: [B, 8]}")
        .replace("    hidden: ReLU\n", "    hidden: ReLU\n    twin: {from: other, reuse: stem}\n")
        .replace("logits: Linear(16, 4)", 'logits: {from: hidden, through: "Linear(16, 4)"}')
        .replace("augment: {", "augment: {other: {from: image, through: Jolt(0.1)}, ")
        .replace("metrics:", "  match: {fn: mse, input: [hidden, twin]}\nmetrics:")
    )


@pytest.fixture(scope="module")
def runs():
    return {}


def whole(folder, runs):
    """The run that is never interrupted, without workers."""
    if "whole" not in runs:
        runs["whole"] = folder.train(text=pair())
    return runs["whole"]


def test_augmentation_changes_training_alone(folder):
    plain, run = folder.train(text=text("Jolt(0.0)")), folder.train(text=text())
    first = [next(line for line in one.log if "train/loss" in line) for one in (plain, run)]
    assert first[0]["train/loss"] != first[1]["train/loss"]
    untouched = folder.train(text=TINY.replace("rows: 320", "rows: 240").replace("    drop: Dropout(0.1)\n", ""))
    assert plain.record["metrics"] == pytest.approx(untouched.record["metrics"], abs=1e-5)


def test_workers_change_nothing(folder, runs):
    assert_same(whole(folder, runs), folder.train(text=pair(", workers: 2")))


@pytest.mark.parametrize("step", [5, 9])
def test_nor_does_a_kill(folder, runs, step):
    killed(lambda: folder.train(text=pair(", workers: 1"), name="again.yaml"), step)
    assert_same(whole(folder, runs), go_on(folder, folder.runs("again")[0]))


@pytest.mark.slow
def test_nor_do_two_processes(folder, runs):
    assert_alike(whole(folder, runs), team(folder, pair()))


def test_two_fields_with_the_same_augmentation_are_two_views(folder, monkeypatch):
    def pairs():
        rows = torch.rand(40, 8, generator=torch.Generator().manual_seed(1))
        return Splits(Resident({"image": rows, "other": rows.clone(), "label": torch.arange(40) % 4}))

    monkeypatch.setitem(registry.datasets.registered, "pairs", pairs)
    data = "data: {name: pairs, augment: {image: Jolt, other: Jolt}, batch_size: 8}"
    folder.write(TINY.replace(next(line for line in TINY.splitlines() if line.startswith("data:")), data))
    batch = next(iter(flowconf.data("tiny.yaml", ["~trainer.best"]).train))
    assert ((batch["image"] - batch["other"]).abs().amax(1) > 0.01).all()


@pytest.mark.parametrize("kind", ["resident", "rows", "changed in each batch"])
def test_a_view_is_augmented_in_training_and_a_copy_elsewhere(folder, monkeypatch, kind):
    rows = torch.rand(40, 8, generator=torch.Generator().manual_seed(1))

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, row):
            return {"image": rows[row], "label": row % 4}

    def made():
        if kind == "rows":
            return Splits(Rows(), Rows())
        augment = (lambda batch, generator: batch) if kind == "changed in each batch" else None
        return Splits(*(Resident({"image": rows, "label": torch.arange(40) % 4}, augment) for _ in range(2)))

    monkeypatch.setitem(registry.datasets.registered, "made", made)
    folder.write(pair().replace("name: synthetic, shape: [8], classes: 4, rows: 240", "name: made"))
    assert main(["check", "tiny.yaml"]) == 0
    data = flowconf.data("tiny.yaml")
    batch, held = next(iter(data.train)), next(iter(data.val))
    assert ((batch["image"] - batch["other"]).abs().amax(1) > 0.01).all()
    assert torch.equal(held["image"], held["other"])
    assert torch.equal(held["image"], rows)


def test_the_size_of_a_view_is_known_to_a_check(folder, capsys):
    out = folder.refusal(pair().replace("other: [B, 8]", "other: [B, 9]"), capsys)
    assert "the input `other` is declared as [B, 9], but the data set has [B, 8]" in out
    assert out.count("error[") == 1


def test_files_and_further_sets_have_views(folder):
    """Rows of a file, and of a set to evaluate on, need the field that a view is made of."""
    lines = [f"{a},{b},{a + b}" for a in range(8) for b in range(4)]
    (folder.path / "rows.csv").write_text("a,b,sum\n" + "\n".join(lines))
    (folder.path / "new.csv").write_text("a,b\n1,2\n3,4\n")
    run = folder.train(
        text="""
model:
  inputs: {pair: [B, 2], other: [B, 2]}
  flow:
    given: {from: pair, through: "Linear(2, 1)"}
    twin: {from: other, reuse: given}
data:
  name: table
  train: rows.csv
  validation: 0.25
  fields: {pair: {columns: [a, b]}, total: {columns: [sum]}}
  augment: {other: {from: pair, through: Jolt(0.1)}}
  evaluate: {again: {split: train}}
loss: {total: {fn: mse, input: given, target: total}, match: {fn: mse, input: [given, twin]}}
trainer: {epochs: 1, devices: cpu}
"""
    )
    assert run.record["metrics"]["again/loss/match"] == run.record["metrics"]["val/loss/match"] == 0
    found = flowconf.predict(run.folder, folder.path / "new.csv", ["given", "twin"])
    assert torch.equal(found["given"], found["twin"])


def test_built_in_augmentations(folder):
    folder.write(text("ZeroOut(0.5) >> AddNoise(0.001)"))
    batch = next(iter(flowconf.data("tiny.yaml").train))["image"]
    plain = next(iter(flowconf.data("tiny.yaml", ["~data.augment"]).train))["image"]
    kept = (batch - plain).abs() < 0.01
    assert kept.float().mean() == pytest.approx(0.5, abs=0.1)
    assert (batch[~kept].abs() < 0.01).all()
    assert not torch.equal(batch[kept], plain[kept])


@pytest.mark.parametrize(
    ("chain", "field", "code", "words", "marked"),
    [
        ("Jlot(0.2)", "image", "FC0132", "write `Jolt`", "Jlot"),
        ("Jolt(strenth=0.2)", "image", "FC0133", "write `strength`", "strenth"),
        ("Jolt(0.2, times=1.5)", "image", "FC0133", "`times` of `Jolt` must be an integer", "1.5"),
        ("Jolt(0.2) >>", "image", "FC0131", "is not a call", "Jolt"),
        ("Jolt(0.2)", "imgae", "FC0502", "write `image`", "imgae"),
        ("Jolt() >> Half", "image", "FC0501", "the augmentation of `image` gives float32 [4], but the field", "'Jolt"),
        ("Broken", "image", "FC0501", "`Broken` cannot augment `image`: ValueError: no such picture", "'Broken"),
        ("Jolt(_)", "image", "FC0133", "`_` has no meaning in an augmentation", "_)"),
    ],
)
def test_mistakes(folder, chain, field, code, words, marked, capsys):
    found = text(chain, field)
    out = folder.refusal(found, capsys, "train")
    assert f"error[{code}]" in out, out
    assert words in out, out
    assert place_in(found, marked, found.index("augment")) in out, out


@pytest.mark.parametrize(
    ("view", "code", "words", "marked"),
    [
        ("other: {from: imgae, through: Jolt}", "FC0502", "write `image`", "imgae"),
        ("other: {from: image, through: Jlot}", "FC0132", "write `Jolt`", "Jlot"),
        ("label: {from: image, through: Jolt}", "FC0123", "the data has a field `label` already", "label"),
        ("'other, third': {from: image, through: Jolt}", "FC0123", "names 2 fields, but `from` names 1", "image"),
        ("third: {from: other, through: Jolt}", "FC0502", "the data has no field `other`", "other"),
        ("other: {from: image, through: Half}", "FC0501", "gives float32 [4], but the field is float32 [8]", "{from"),
    ],
)
@pytest.mark.parametrize("data", ["synthetic, shape: [8], classes: 4, rows: 240", "undeclared"])
def test_mistakes_in_views(folder, monkeypatch, view, code, words, marked, data, capsys):
    rows = {"image": torch.rand(40, 8), "label": torch.arange(40) % 4}
    monkeypatch.setitem(registry.datasets.registered, "undeclared", lambda: Splits(*[Resident(rows)] * 3))
    found = pair().replace("name: synthetic, shape: [8], classes: 4, rows: 240", f"name: {data}")
    if not view.startswith("other:"):
        found = found.replace(", other: [B, 8]", "").replace("from: other", "from: image")
    found = found.replace("other: {from: image, through: Jolt(0.1)}", view)
    out = folder.refusal(found, capsys, "train")
    assert f"error[{code}]" in out, out
    assert words in out, out
    assert place_in(found, marked, found.index("augment") + len("augment: {")) in out, out


def test_two_chains_of_one_field(folder, capsys):
    assert "`image` is augmented twice" in folder.refusal(
        text(more="").replace("'}", "', 'image, label': Jolt}"), capsys
    )


def test_without_torchvision(folder, monkeypatch, capsys):
    monkeypatch.setattr("flowconf.language.signatures.has_source", lambda module: False)
    monkeypatch.setattr(registry.augmentations, "offered", {})
    monkeypatch.setattr(registry.augmentations, "unread", [])
    assert "pip install 'flowconf[vision]'" in folder.refusal(text("RandomCrop(32, padding=4)"), capsys)


@pytest.fixture
def torchvision():
    return imported("torchvision.transforms.v2")


PICTURES = """
model:
  inputs: {image: [B, 3, 8, 8]}
  flow:
    body: Conv2d(3, 4, 3) >> ReLU >> Flatten() >> Linear(144, 4)
data:
  name: pictures
  batch_size: 16
  augment:
    image: RandomCrop(8, padding=2) >> RandomHorizontalFlip() >> RandomApply([GaussianBlur(3)], p=0.5)
loss:
  label: {fn: cross_entropy, input: body, target: label}
trainer: {epochs: 1, devices: cpu}
"""


@pytest.fixture
def pictures(monkeypatch):
    def made():
        picture = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        fields = {"image": picture, "label": torch.arange(64) % 4, "mask": (picture[:, :1] > 0.5).long()}
        return Splits(Resident(fields))

    monkeypatch.setitem(registry.datasets.registered, "pictures", made)


def test_the_transforms_of_torchvision(folder, torchvision, pictures):
    folder.write(PICTURES)
    assert main(["check", "tiny.yaml"]) == 0
    found = [*flowconf.data("tiny.yaml").train]
    plain = [*flowconf.data("tiny.yaml", ["~data.augment"]).train]
    chain = torchvision.Compose(
        [
            torchvision.RandomCrop(8, padding=2),
            torchvision.RandomHorizontalFlip(),
            torchvision.RandomApply([torchvision.GaussianBlur(3)], p=0.5),
        ]
    )
    for step, (batch, before) in enumerate(zip(found, plain, strict=True)):
        assert torch.equal(batch["label"], before["label"])
        for place, (image, original) in enumerate(zip(batch["image"], before["image"], strict=True)):
            torch.manual_seed(seed_for(seed_for(0, "augment", step, 0, place), "image"))
            assert torch.equal(image, chain(original))


def test_a_mask_beside_an_image(folder, torchvision, pictures):
    chain = "RandomRotation(30) >> RandomHorizontalFlip()"
    text = (
        PICTURES[: PICTURES.index("    image:")] + f"    image, mask: {chain}\n" + PICTURES[PICTURES.index("loss:") :]
    )
    folder.write(text)
    batch = next(iter(flowconf.data("tiny.yaml").train))
    assert batch["mask"].dtype == torch.int64
    assert type(batch["image"]) is Tensor
    inside = batch["image"][:, :1] > 0
    agrees = (batch["image"][:, :1] > 0.5) == (batch["mask"] == 1)
    assert agrees[inside].float().mean() > 0.99
    assert not torch.equal(batch["mask"], next(iter(flowconf.data("tiny.yaml", ["~data.augment"]).train))["mask"])


class Boxed(Resident):
    """Pictures, each with two rectangles as a mask, and as boxes; every fourth row has one of them."""

    boxes = {"boxes": "xyxy"}

    def __init__(self):
        numbers = torch.Generator().manual_seed(3)
        corner = torch.randint(0, 4, (64, 2, 2), generator=numbers)
        corner[:, 1, 0] += 8
        boxes = torch.cat([corner, corner + torch.randint(2, 4, (64, 2, 2), generator=numbers)], -1)
        present = torch.ones(64, 2, dtype=torch.bool)
        present[::4, 1] = False
        mask = torch.zeros(64, 1, 16, 16, dtype=torch.int64)
        for row in range(64):
            for number in range(2):
                left, top, right, low = (boxes[row, number] * present[row, number]).tolist()
                mask[row, :, top:low, left:right] = number + 1
        fields = {"image": torch.rand(64, 3, 16, 16, generator=numbers), "mask": mask, "boxes": boxes.float()}
        super().__init__({**fields, "boxes_present": present, "label": torch.arange(64) % 4})
        self.tensors["boxes"][~present] = 0


BOXED = (
    PICTURES.replace("[B, 3, 8, 8]", "[B, 3, 16, 16]")
    .replace("Linear(144", "Linear(784")
    .replace(
        "image: RandomCrop(8, padding=2) >> RandomHorizontalFlip() >> RandomApply([GaussianBlur(3)], p=0.5)",
        "image, boxes, mask: RandomHorizontalFlip() >> RandomVerticalFlip() >> RandomCrop(16, padding=6)",
    )
)


@pytest.mark.parametrize("fields", ["image, boxes, mask", "other, others, marks"])
def test_boxes_are_augmented_with_their_image(folder, torchvision, monkeypatch, fields):
    """The boxes are those of the rectangles in the mask that is augmented with them; those out of sight are absent."""
    monkeypatch.setitem(registry.datasets.registered, "pictures", lambda: Splits(Boxed()))
    chain = BOXED.partition("image, boxes, mask: ")[2].partition("\n")[0]
    text = (
        BOXED.replace(f"image, boxes, mask: {chain}", f"{fields}: {{from: [image, boxes, mask], through: '{chain}'}}")
        if fields.startswith("other")
        else BOXED
    )
    _, own, mask = fields.split(", ")
    folder.write(text)
    assert main(["check", "tiny.yaml"]) == 0
    seen = 0
    for batch in flowconf.data("tiny.yaml").train:
        assert type(batch[own]) is Tensor
        for boxes, present, marks in zip(batch[own], batch[f"{own}_present"], batch[mask][:, 0], strict=True):
            for number in range(2):
                places = (marks == number + 1).nonzero()
                assert present[number] == bool(len(places))
                (top, left), (low, right) = (places.amin(0), places.amax(0) + 1) if len(places) else ((0, 0), (0, 0))
                assert boxes[number].tolist() == [left, top, right, low]
                seen += len(places) > 0
    assert 40 < seen < 112
    run = folder.train(text=text)
    assert_same(run, folder.train(text=text.replace("batch_size: 16", "batch_size: 16\n  workers: 2")))


def test_boxes_without_their_image_are_refused(folder, torchvision, monkeypatch, capsys):
    monkeypatch.setitem(registry.datasets.registered, "pictures", lambda: Splits(Boxed()))
    out = folder.refusal(BOXED.replace("image, boxes, mask:", "boxes:"), capsys, "train")
    assert "`boxes` must be augmented with an image" in out
    assert "write `image, boxes`" in out
    assert "tiny.yaml:10:12" in out


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("RandomCrop(8", "RandomCorp(8", "write `RandomCrop`"),
        ("padding=2", "pading=2", "write `padding`"),
        ("RandomCrop(8", "RandomCrop(6", "the augmentation of `image` gives float32 [3, 6, 6], but the field"),
    ],
)
def test_mistakes_in_transforms(folder, torchvision, pictures, old, new, words, capsys):
    assert words in folder.refusal(PICTURES.replace(old, new), capsys, "train")
