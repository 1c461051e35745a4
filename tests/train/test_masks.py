"""Fields of which another field says where they have values: losses without that mask, and masks in the other sense."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import flowconf
from flowconf.graph.blocks import Not
from flowconf.language import registry
from flowconf.train.data.declarations import DataSet

TEXT = """
model:
  inputs: {words: {shape: [B, 4], dtype: int64}, words_present: {shape: [B, 4], dtype: bool}}
  flow:
    absent: {fork: Not, from: words_present}
    each: {from: words, through: "Embedding(9, 8)"}
    seen: {through: "TransformerEncoderLayer(8, 2, 8, batch_first=true)", using: {src_key_padding_mask: absent}}
    scores: Linear(8, 9)
    size: {from: seen, through: "Mean(1) >> Linear(8, 1) >> Flatten(0)"}
data: {name: padded}
loss:
  kind: {fn: cross_entropy, input: scores, target: words, args: {dim: -1}, mask: words_present}
  size: {fn: mse, input: size, target: cost, mask: cost_known}
metrics:
  size: {fn: mae, input: size, target: cost, mask: cost_known}
trainer: {devices: cpu}
"""


def own_loss(size, cost, known):
    """A loss that takes the mask itself."""
    return (size - cost) ** 2 * known


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes = {
        "words": ((4,), torch.int64, 9), "words_present": ((4,), torch.bool),
        "cost": ((), torch.float32), "cost_known": ((), torch.bool),
    }  # fmt: skip
    masks = {"words": "words_present", "cost": "cost_known"}

    @flowconf.provides(*shapes, shapes=lambda **args: shapes, masks=masks)
    def padded(*, rows: int = 4) -> flowconf.Splits:
        raise AssertionError("it is not made for a check")

    monkeypatch.setitem(registry.datasets.registered, "padded", padded)
    monkeypatch.setitem(registry.losses.registered, "own_loss", own_loss)

    def checked(*changes):
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "config.yaml").write_text(text)
        return [one for one in flowconf.check(tmp_path / "config.yaml") if one.code != "FC0408"]

    return checked


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("target: cost, mask: cost_known", "target: [cost, cost_known]"), ("fn: mse", "fn: own_loss"),
         ("fn: mae", "fn: own_loss")],
        [("args: {dim: -1}, mask: words_present", "args: {dim: -1, ignore_index: 0}")],
        [("mask: words_present", "mask: absent")],
    ],
)  # fmt: skip
def test_masks_that_are_used(config, changes):
    assert config(*changes) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ([(", mask: words_present", "")], "loss.kind"),
        ([("fn: mse, input: size, target: cost, mask: cost_known", "fn: mse, input: size, target: cost")], "loss.size"),
        ([("fn: mae, input: size, target: cost, mask: cost_known", "fn: mae, input: cost, target: size")],
         "metrics.size"),
    ],
)  # fmt: skip
def test_terms_of_missing_values_are_reported(config, changes, place):
    (only,) = [one for one in config(*changes) if one.code == "FC0504"]
    assert only.path == place
    assert only.severity == "warning"


SEEN = """{through: "TransformerEncoderLayer(8, 2, 8, batch_first=true)", using: {src_key_padding_mask: absent}}"""


@pytest.mark.parametrize(
    ("seen", "argument"),
    [
        (SEEN.replace("absent", "words_present"), "src_key_padding_mask"),
        (
            "{through: 'MultiheadAttention(8, 2, batch_first=true)', take: 0, "
            "using: {key: each, value: each, key_padding_mask: words_present}}",
            "key_padding_mask",
        ),
        ("{graph: inner.yaml, from: each, using: {keep: words_present}}", "src_key_padding_mask"),
    ],
)
def test_a_mask_in_the_opposite_sense_is_an_error(config, seen, argument):
    inner = f"{{inputs: {{x: [B, 4, 8], keep: {{shape: [B, 4], dtype: bool}}}}, flow: {{own: {SEEN}}}}}"
    Path("inner.yaml").write_text(inner.replace("absent", "keep"))
    (only,) = [one for one in config((SEEN, seen)) if one.code == "FC0504"]
    assert only.severity == "error"
    assert f"`{argument}` is true for the places to ignore" in only.message


def test_what_the_data_sets_declare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("x.csv", "t.json"):
        Path(file).touch()
    fields = {"cost": {"missing": "mask"}, "kinds": {"type": "category", "pad": [3]}, "size": "size"}
    present = {"cost": "cost_present", "kinds": "kinds_present"}
    assert DataSet("table", {"train": "x.csv", "fields": fields}).masks() == present
    assert DataSet("annotated_images", {"train": "x.csv", "size": [2, 2], "fields": fields}).masks() == present
    given = {"train": "x.csv", "tokenizer": "t.json", "length": 4, "fields": fields}
    assert DataSet("tokens", {**given, "form": "padded"}).masks() == {"tokens": "mask", **present}
    assert DataSet("tokens", given).masks() == {}


@pytest.mark.parametrize(
    ("masks", "words"), [(["cost"], "gives `\\['cost'\\]`"), (lambda: ["cost"], "unexpected keyword argument")]
)
def test_wrong_masks_of_a_project_are_refused(masks, words, monkeypatch):
    @flowconf.provides("cost", masks=masks)
    def own(*, rows: int = 4) -> flowconf.Splits:
        raise AssertionError

    monkeypatch.setitem(registry.datasets.registered, "own", own)
    with pytest.raises(flowconf.ConfigError, match=words):
        DataSet("own", {}).masks()


def test_not_inverts_masks_and_numbers():
    assert Not()(torch.tensor([True, False])).tolist() == [False, True]
    assert Not()(torch.tensor([[0, 3]])).tolist() == [[True, False]]
