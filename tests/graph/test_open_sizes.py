"""Open sizes are tried at several values and multiples: what fits at some of them is accepted, with its condition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf.language.registry import modules
from flowconf.report import ConfigError
from flowconf.train.checks.road import findings

UNET = {
    "wide": "Conv2d(1, 4, 3, padding=1)",
    "deep": "MaxPool2d(2) >> Conv2d(4, 4, 3, padding=1) >> Upsample(scale_factor=2)",
    "both": {"through": "Concat(1)", "using": {"other": "wide"}},
}
DEEP = {
    "a": "Conv2d(1, 4, 3, padding=1)",
    "b": "Conv2d(4, 4, 3, stride=2, padding=1)",
    "c": "Conv2d(4, 4, 3, stride=2, padding=1)",
    "up": "ConvTranspose2d(4, 4, 2, stride=2)",
    "skip": {"through": "Concat(1)", "using": {"other": "b"}},
    "top": "ConvTranspose2d(8, 4, 2, stride=2)",
    "join": {"through": "Concat(1)", "using": {"other": "a"}},
}
TALL = {
    "wide": "Conv2d(1, 4, 3, padding=1)",
    "deep": "MaxPool2d([3, 1]) >> ConvTranspose2d(4, 4, [3, 1], stride=[3, 1])",
    "both": {"also": "Identity", "skip": "Identity"},
    "sum": {"through": "Concat(1)", "using": {"other": "wide"}},
}


ONE_SKIP = {
    "a": "Conv2d(1, 4, 3, stride=2, padding=1)",
    "b": "Conv2d(4, 4, 3, stride=2, padding=1)",
    "up": "Upsample(scale_factor=2)",
    "skip": {"through": "Concat(1)", "using": {"other": "a"}},
}
"""Accepts sizes that leave the remainder 3 when divided by 4, too."""
POOLED = {
    "a": "MaxPool2d(2)",
    "b": "MaxPool2d(2) >> Upsample(scale_factor=2)",
    "skip": {"through": "Concat(1)", "using": {"other": "a"}},
}
"""Accepts sizes that leave the remainder 1 when divided by 4, too."""


def graph(flow, *sizes):
    return {"inputs": {"image": ["B", 1, *sizes]}, "flow": flow}


def checked(document):
    found = findings(document)
    return [d.code for d in found.mistakes if d.severity == "error"], found.notes


@pytest.mark.parametrize(
    ("flow", "notes", "fits"),
    [
        (UNET, ("`H` and `W` must be multiples of 2",), (6, 10)),
        (DEEP, ("`H` and `W` must be multiples of 4",), (4, 12)),
        (TALL, ("`H` must be a multiple of 3",), (9, 7)),
    ],
)
def test_a_graph_that_fits_some_multiples_says_which(flow, notes, fits):
    assert checked(graph(flow, "H", "W")) == ([], notes)
    built = flowconf.build(graph(flow, "H", "W"))
    assert built(torch.zeros(2, 1, *fits)).shape[-2:] == fits


@pytest.mark.parametrize("flow", [ONE_SKIP, POOLED])
@pytest.mark.parametrize("sizes", [("H",), ("H", "W"), ("W", "H")])
def test_a_size_that_happens_to_fit_is_no_proof(flow, sizes):
    dimensions = [*sizes, *[8] * (2 - len(sizes))]
    (note,) = checked(graph(flow, *dimensions))[1]
    assert note.endswith("of 4")
    assert all(f"`{size}`" in note for size in sizes)


@pytest.mark.parametrize("sizes", [("2 * H", "2*W"), ("H * 4", "scale * W")])
def test_multiples_of_a_symbol_can_be_declared(sizes):
    document = {"params": {"scale": 6}, **graph(UNET, *sizes)}
    assert checked(document) == ([], ())


def test_a_declared_multiple_holds_for_what_arrives():
    inner = {"inputs": {"x": ["B", 1, "4*H", "W"]}, "flow": {"deep": "MaxPool2d([4, 1])"}}
    outer = {"inputs": {"image": ["B", 1, 6, 5]}, "flow": {"part": {"graph": inner, "from": "image"}}}
    codes, _ = checked(outer)
    assert codes == ["FC0206"]
    outer["inputs"]["image"] = ["B", 1, 8, 5]
    assert checked(outer) == ([], ())


@pytest.mark.parametrize("size", ["2 * 3 * H", "0 * H", "H * W", "-1 * H", "1.5 * H"])
def test_other_products_are_refused(size):
    codes, _ = checked(graph(UNET, size, 8))
    assert codes == ["FC0134"] or codes == ["FC0123"] or codes == ["FC0131"]


def test_what_fits_nowhere_is_refused_in_terms_of_the_symbols():
    flow = {**UNET, "deep": "MaxPool2d(2) >> Conv2d(4, 4, 3) >> Upsample(scale_factor=2)"}
    with pytest.raises(ConfigError) as refused:
        flowconf.build(graph(flow, "H", "W"))
    assert "[B, 4, H-4, W-4]" in str(refused.value)
    assert "10" not in str(refused.value)


class Places(nn.Module):
    """Adds one learned vector for each of at most `most` positions."""

    def __init__(self, most: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(most, width))

    def forward(self, x):
        return x + self.table[: x.shape[1]]


@pytest.mark.parametrize("most", [16, 48, 512])
def test_a_largest_size_is_found(most, monkeypatch):
    monkeypatch.setitem(modules.registered, "Places", Places)
    document = {"inputs": {"x": ["B", "T", 8]}, "flow": {"place": f"Places({most}, 8)"}}
    assert checked(document) == ([], (f"`T` must be at most {most}",))


def test_a_graph_that_fits_every_size_has_no_note():
    assert checked(graph({"a": "Conv2d(1, 4, 3, padding=1)", "b": "AdaptiveAvgPool2d(1)"}, "H", "W")) == ([], ())
