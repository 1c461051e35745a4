"""What the shape check says of modules in words of its own: one error, the argument, no words of torch."""

from __future__ import annotations

import re

import pytest

import flowconf
from flowconf.graph.shapes import rules

INPUTS = {
    "x": ["B", 8], "seq": ["B", 5, 8], "long": ["B", 6, 8], "image": ["B", 3, 9, 9], "small": ["B", 3, 7, 7],
    "tokens": {"shape": ["B", 5], "dtype": "int64"}, "mask": {"shape": ["B", 2], "dtype": "bool"}, "y": ["B", 4],
}  # fmt: skip
ATTENTION = "MultiheadAttention(8, 2, batch_first=true)"
WRONG = {
    "Concat": ("image", {"other": "small"}, "dimension 2 has 9 and 7"),
    "Concat(-1)": ("x", {"other": "image"}, "`other` must have 2 dimensions"),
    "StateAdd": ("x", {"state": "y"}, "`state` does not match the shape of the stream"),
    "Scale([1, 2, 3])": ("x", {}, "3 factors for a last size of 8"),
    "Reshape(3, 3)": ("x", {}, "[3, 3] has 9 elements, but a row of the stream has 8"),
    "Unflatten(1, [3, 3])": ("x", {}, "[3, 3] has 9 elements, but dimension 1 has size 8"),
    "Flatten(5)": ("image", {}, "it has no dimension 5"),
    "Flatten(2, 1)": ("image", {}, "`start_dim` 2 is after `end_dim` 1"),
    "LayerNorm([8, 5])": ("seq", {}, "expected [8, 5] as the last sizes, got [5, 8]"),
    "Conv2d(3, 4, 11)": ("image", {}, "a kernel of size 11 is larger than the input size 9"),
    "Conv2d(3, 4, 3, dilation=9)": ("image", {}, "a kernel of size 3 with `dilation` 9, which covers 19"),
    "MaxPool2d(11)": ("image", {}, "a kernel of size 11 is larger than the input size 9"),
    "AvgPool2d(3, padding=2)": ("image", {}, "`padding` 2 is more than half of `kernel_size` 3"),
    "ConvTranspose2d(3, 4, 3, 2, 1, 2)": ("image", {}, "`output_padding` 2 must be less than `stride` 2"),
    "AdaptiveAvgPool2d(1)": ("x", {}, "expects [batch, channels, height, width]"),
    "ReflectionPad2d(10)": ("image", {}, "`padding` 10 must be less than the size 9 that it reflects"),
    "PixelShuffle(2)": ("image", {}, "3 channels are not divisible by 2 * 2"),
    "PixelUnshuffle(2)": ("image", {}, "the size 9 is not divisible by 2"),
    "ChannelShuffle(2)": ("image", {}, "3 channels are not divisible by 2"),
    "GLU(1)": ("image", {}, "dimension 1 must have an even size, got 3"),
    "Upsample": ("image", {}, "it requires `size`, or a `scale_factor`"),
    "Upsample(scale_factor=2, mode='blinear')": ("image", {}, "`mode` must be one of `nearest`"),
    "Upsample(scale_factor=2, mode='linear')": ("image", {}, "`linear` requires 3 dimensions"),
    "Select(9)": ("seq", {}, "index 9 is out of range for dimension 1 of size 5"),
    "CosineSimilarity": ("x", {"x2": "image"}, "`x2` does not match the shape of the stream"),
    "Bilinear(8, 8, 4)": ("x", {"input2": "y"}, "`input2` has 4 features, but `in2_features` is 8"),
    "LogSoftmax": ("seq", {}, "without `dim`, its sums would go over the batch"),
    "GRU(9, 6)": ("image", {}, "expected [length, batch, features]"),
    "GRU(8, 6)": ("x", {}, "the batch would be read as one sequence"),
    "LSTM(8, 6, batch_first=false)": ("seq", {}, "expected [length, batch, features], but the batch would be read"),
    "MSELoss": ("x", {"target": "y"}, "`target` must have the shape of the stream, [B, 8]"),
    "CrossEntropyLoss": ("x", {"target": "y"}, "`target` must be class indices of shape [B] and type int64"),
    "LSTM(8, 6, batch_first=true)": ("seq", {"hx": "x"}, "`hx` must be a tuple of the hidden state [1, B, 6]"),
    "GRUCell(8, 6)": ("x", {"hx": "y"}, "`hx` must be [B, 6]"),
    ATTENTION: ("seq", {"key": "long", "value": "seq"}, "`key` and `value` must have the same length, got 6 and 5"),
    "MultiheadAttention(8, 4, batch_first=true)": ("seq", {"key": "tokens", "value": "seq"}, "must have 3 dimensions"),
    "MultiheadAttention(8, 1, batch_first=true)": (
        "seq", {"key": "seq", "value": "seq", "key_padding_mask": "mask"}, "`key_padding_mask` must be [B, 5]",
    ),
    "TransformerEncoderLayer(9, 3, batch_first=true)": ("image", {}, "expected [batch, length, features]"),
    "TransformerDecoderLayer(8, 2, batch_first=true)": ("seq", {"memory": "y"}, "`memory` must have 3 dimensions"),
    "GELU": ("tokens", {}, "expects a floating-point type"),
    "Zeros(0)": ("x", {}, "all sizes must be at least 1, got 0"),
    "GroupNorm(2, 3)": ("image", {}, "`num_channels` 3 is not divisible by `num_groups` 2"),
    "MaxPool2d(3, 0)": ("image", {}, "`stride` of `MaxPool2d` must be at least 1, got `0`"),
    "Conv2d(3, 4, 3, padding='smae')": ("image", {}, "`padding` must be an integer, `'same'` or `'valid'`"),
    "MultiheadAttention(8, 2, dropout='a')": ("x", {"key": "x", "value": "x"}, "`dropout` of `MultiheadAttention`"),
}  # fmt: skip
TORCH = re.compile(r"[Tt]ensor|torch|: [A-Z]|\bdim \d|\bD\b|shape '|spatial|FakeTensor")


def reported(call, stream, using):
    step = {"from": stream, "through": call, **({"using": using} if using else {})}
    return [d for d in flowconf.check({"inputs": INPUTS, "flow": {"a": step}}) if d.severity == "error"]


@pytest.mark.parametrize("call", WRONG)
def test_what_does_not_fit_is_reported_once_in_words(call):
    stream, using, words = WRONG[call]
    (one,) = reported(call, stream, using)
    assert words in one.message
    assert not TORCH.search(one.message.removeprefix(call)), one.message


RIGHT = {
    "Concat": ("x", {"other": "y"}),
    "Reshape(2, -1)": ("x", {}),
    "Unflatten(1, [-1, 2])": ("x", {}),
    "Conv2d(3, 4, 11, padding=1)": ("image", {}),
    "Conv2d(3, 4, 3, padding='same')": ("image", {}),
    "MaxPool2d(3, padding=1)": ("image", {}),
    "ConvTranspose2d(3, 4, 3, 2, 1, 1)": ("image", {}),
    "LayerNorm([5, 8])": ("seq", {}),
    "Select(-5)": ("seq", {}),
    "GRU(8, 6, 2, batch_first=true, bidirectional=true)": ("seq", {}),
    "GRUCell(8, 8)": ("x", {"hx": "x"}),
    ATTENTION: ("seq", {"key": "long", "value": "long"}),
    "TransformerDecoderLayer(8, 2, batch_first=true)": ("seq", {"memory": "long"}),
    "Upsample(scale_factor=2)": ("image", {}),
    "AdaptiveAvgPool2d(1)": ("image", {}),
}


@pytest.mark.parametrize("call", RIGHT)
def test_what_fits_is_let_pass(call):
    stream, using = RIGHT[call]
    assert reported(call, stream, using) == []


def test_every_rule_refuses_something():
    named = {re.match(r"\w+", call)[0] for call in WRONG}
    kinds = [kind if isinstance(kind, tuple) else (kind,) for kind, _ in rules.RULES]
    for group in kinds:
        names = {one.__name__ for kind in group for one in (kind, *kind.__subclasses__())}
        assert names & named, names


def test_readers_that_agree_tell_of_the_value_once(tmp_path):
    lines = ["inputs: {x: [B, 8]}", "flow:", "  stem: Linear(8, 7)"]
    lines += [f"  {name}: {{fork: 'Linear({size}, 2)'}}" for name, size in (("left", 6), ("right", 6), ("other", 5))]
    (tmp_path / "graph.yaml").write_text("\n".join(lines))
    found = [one for one in flowconf.check(str(tmp_path / "graph.yaml")) if one.severity == "error"]
    assert [(one.path, one.place.line, one.place.column) for one in found] == [("stem", 3, 19), ("other", 6, 25)]
    assert "`left`, `right`" in found[0].message


def test_what_is_used_again_for_another_stream_is_reported_where_it_is_used_again():
    flow = {
        "tower": {"through": {"flow": {"one": "Linear(8, 4)", "two": "Linear(4, 4)"}}},
        "again": {"from": "image", "reuse": "tower"},
    }
    (one,) = (d for d in flowconf.check({"inputs": INPUTS, "flow": flow}) if d.severity == "error")
    assert one.path == "again.one"
