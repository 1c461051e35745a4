"""Images that a table lists, with masks and boxes beside them."""

from __future__ import annotations

import json

import numpy
import pytest
import torch

from flowconf.report import ConfigError
from flowconf.train.data.annotated import annotated_images
from flowconf.train.data.declarations import DataSet

GENERATOR = torch.Generator()
GIVEN = {
    "train": "rows.jsonl",
    "size": (4, 6),
    "mask": "mask",
    "classes": 3,
    "fields": {"box": {"pad": [2, 4]}, "kind": {"type": "category"}},
}
CONFIG = """
model:
  inputs: {image: [B, 3, 4, 6]}
  flow:
    pixels: Conv2d(3, 3, 3, padding=1)
data:
  name: annotated_images
  train: rows.jsonl
  size: [4, 6]
  mask: mask
  classes: 3
  fields: {kind: {type: category}}
  sample: {by: kind}
  workers: 1
  batch_size: 4
loss:
  pixels: {fn: cross_entropy, input: pixels, target: mask}
trainer: {epochs: 1, devices: cpu}
"""


@pytest.fixture
def rows(folder):
    pillow = pytest.importorskip("PIL.Image")
    lines = []
    for row in range(8):
        classes = numpy.full((4, 6), row % 3, "uint8")
        pillow.fromarray(classes).save(folder.path / f"{row}_mask.png")
        pillow.fromarray(numpy.full((8, 12, 3), 30 * row, "uint8")).save(folder.path / f"{row}.png")
        boxes = [[0.0, 0.1, 0.2, 0.3]] * (row % 3)
        lines.append({"image": f"{row}.png", "mask": f"{row}_mask.png", "box": boxes, "kind": "ab"[row == 0]})
    folder.write("".join(json.dumps(line) + "\n" for line in lines), "rows.jsonl")
    return folder


def test_rows(rows):
    splits = annotated_images(**GIVEN, validation=0.25)
    assert [len(split) for _, split in splits.named()] == [6, 2]
    split = annotated_images(**GIVEN).train
    batch = split.batch(torch.tensor([5, 0]), GENERATOR)
    torch.testing.assert_close(batch["image"], torch.tensor([150, 0]).view(2, 1, 1, 1).expand(2, 3, 4, 6) / 255)
    assert batch["mask"].unique().tolist() == [0, 2]
    assert batch["box_present"].tolist() == [[True, True], [False, False]]
    assert batch["kind"].tolist() == [0, 1]
    assert {name: tensor.dtype for name, tensor in batch.items()} == {name: f[1] for name, f in split.fields.items()}
    assert {name: said[:2] for name, said in DataSet("annotated_images", GIVEN).declared().items()} == split.fields
    assert split.column("kind").tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_boxes_are_scaled_with_their_images(rows):
    pillow = pytest.importorskip("PIL.Image")
    boxes = {"xyxy": [2.0, 1.0, 8.0, 7.0], "xywh": [2.0, 1.0, 6.0, 6.0], "cxcywh": [5.0, 4.0, 6.0, 6.0]}
    lines = [{"image": f"{size}.png", **{form: [box] for form, box in boxes.items()}} for size in (8, 16)]
    for height in (8, 16):
        pillow.new("RGB", (12, height)).save(rows.path / f"{height}.png")
    rows.write(
        "".join(json.dumps({**line, **{form: [line[form]] for form in boxes}}) + "\n" for line in lines), "b.jsonl"
    )
    fields = {form: {"pad": [2, 4]} for form in boxes}
    split = annotated_images(train="b.jsonl", size=(4, 6), fields=fields, boxes={form: form for form in boxes}).train
    found = split.batch(torch.tensor([0, 1]), GENERATOR)
    half = {"xyxy": [1, 0.5, 4, 3.5], "xywh": [1, 0.5, 3, 3], "cxcywh": [2.5, 2, 3, 3]}
    for form, numbers in half.items():
        x, y, right, low = numbers
        assert found[form][:, 0].tolist() == [numbers, [x, y / 2, right, low / 2]]
        assert found[form][:, 1].tolist() == [[0.0] * 4] * 2
    assert split.boxes == {form: form for form in boxes}


@pytest.mark.parametrize(
    ("fields", "boxes", "words"),
    [
        ({"box": {"pad": [2, 4]}}, {"bxo": "xyxy"}, "`fields` has no field `bxo`"),
        ({"box": {"pad": [2, 4]}, "kind": {"type": "category"}}, {"kind": "xyxy"}, r"`pad: \[N, 4\]`, and `kind` has"),
        ({"box": {"pad": [2, 4]}}, {"box": "xyxy"}, r"the box \[0.3, 0.1, 0.2, 0.3\] has no area as `xyxy`, in row 2"),
    ],
)
def test_boxes_that_cannot_be_scaled(rows, fields, boxes, words):
    lines = (rows.path / "rows.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace("[0.0, 0.1, 0.2, 0.3]", "[0.3, 0.1, 0.2, 0.3]")
    rows.write("\n".join(lines), "rows.jsonl")
    with pytest.raises(ConfigError, match=words):
        annotated_images(train="rows.jsonl", size=(4, 6), fields=fields, boxes=boxes)


def test_a_run(rows):
    assert rows.train(text=CONFIG).record["status"] == "finished"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classes": 2}, "has a pixel of class 2, and there are 2 classes"),
        ({"mask": "image"}, "must have one class for each pixel, and is an image with the mode RGB"),
        ({"image": "kind"}, "there is no file `a`|there is no file `b`"),
        ({"image": "box"}, "`box` has no file, in row 0"),
        ({"fields": {"image": "box"}}, "the field `image` is that of the files already"),
        ({"train": "damaged.jsonl"}, "`damaged.png` is not an image"),
    ],
)
def test_what_cannot_be_read(rows, given, words):
    (rows.path / "damaged.png").write_bytes(b"no image")
    rows.write('{"image": "damaged.png", "mask": "1_mask.png", "box": [], "kind": "a"}', "damaged.jsonl")
    with pytest.raises(ConfigError, match=words):
        annotated_images(**{**GIVEN, **given}).train.batch(torch.arange(8), GENERATOR)


def test_a_mistake_has_a_place(rows, capsys):
    assert "tiny.yaml:12:25" in rows.refusal(CONFIG.replace("type: category", "type: categry"), capsys)
