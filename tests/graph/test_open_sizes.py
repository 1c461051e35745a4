"""Open sizes are tried at several values and multiples: what fits at some of them is accepted, with its condition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf.graph.shapes.trial import Trial
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


VALID = {  # a U-Net of convolutions that do not pad: 572 -> 388
    "a1": "Conv2d(1, 2, 3) >> Conv2d(2, 2, 3)",
    "a2": "MaxPool2d(2) >> Conv2d(2, 2, 3) >> Conv2d(2, 2, 3)",
    "a3": "MaxPool2d(2) >> Conv2d(2, 2, 3) >> Conv2d(2, 2, 3)",
    "a4": "MaxPool2d(2) >> Conv2d(2, 2, 3) >> Conv2d(2, 2, 3)",
    "a5": "MaxPool2d(2) >> Conv2d(2, 2, 3) >> Conv2d(2, 2, 3)",
    "c4": {"from": "a4", "through": "ZeroPad2d(-4)"},
    "b4": {"from": "a5", "through": "ConvTranspose2d(2, 2, 2, stride=2)"},
    "j4": {"through": "Concat(1)", "using": {"other": "c4"}},
    "c3": {"from": "a3", "through": "ZeroPad2d(-16)"},
    "b3": {"from": "j4", "through": "Conv2d(4, 2, 3) >> Conv2d(2, 2, 3) >> ConvTranspose2d(2, 2, 2, stride=2)"},
    "j3": {"through": "Concat(1)", "using": {"other": "c3"}},
    "c2": {"from": "a2", "through": "ZeroPad2d(-40)"},
    "b2": {"from": "j3", "through": "Conv2d(4, 2, 3) >> Conv2d(2, 2, 3) >> ConvTranspose2d(2, 2, 2, stride=2)"},
    "j2": {"through": "Concat(1)", "using": {"other": "c2"}},
    "c1": {"from": "a1", "through": "ZeroPad2d(-88)"},
    "b1": {"from": "j2", "through": "Conv2d(4, 2, 3) >> Conv2d(2, 2, 3) >> ConvTranspose2d(2, 2, 2, stride=2)"},
    "j1": {"through": "Concat(1)", "using": {"other": "c1"}},
    "out": "Conv2d(4, 2, 3) >> Conv2d(2, 2, 3)",
}
ODD = {
    "down": "Conv2d(1, 4, 3, stride=2)",
    "up": "ConvTranspose2d(4, 1, 3, stride=2)",
    "sum": {"through": "Concat(1)", "using": {"other": "image"}},
}
TWICE = {
    "d1": "Conv2d(1, 4, 3, stride=2)",
    "d2": "Conv2d(4, 4, 3, stride=2)",
    "u2": "ConvTranspose2d(4, 4, 3, stride=2)",
    "s2": {"through": "Concat(1)", "using": {"other": "d1"}},
    "u1": "ConvTranspose2d(8, 1, 3, stride=2)",
    "s1": {"through": "Concat(1)", "using": {"other": "image"}},
}
TALL_ODD = {
    "down": "Conv2d(1, 4, [3, 1], stride=[2, 1])",
    "up": "ConvTranspose2d(4, 1, [3, 1], stride=[2, 1])",
    "sum": {"through": "Concat(1)", "using": {"other": "image"}},
}


@pytest.mark.parametrize(
    ("flow", "note", "fits", "fails"),
    [
        (VALID, "`H` and `W` must be 16 * k + 12, at least 188", [(188, 188), (572, 204)], [(172, 188), (580, 572)]),
        (ODD, "`H` and `W` must be 2 * k + 1, at least 3", [(3, 5), (101, 7)], [(3, 4), (1, 3)]),
        (TWICE, "`H` and `W` must be 4 * k + 3, at least 7", [(7, 7), (15, 23)], [(9, 7), (7, 3)]),
        (TALL_ODD, "`H` must be 2 * k + 1, at least 3", [(3, 4), (5, 1)], [(4, 4)]),
    ],
)
def test_sizes_with_an_offset_are_found_with_the_smallest(flow, note, fits, fails):
    document = graph(flow, "H", "W")
    assert checked(document) == ([], (note,))
    built = flowconf.build(document)
    with torch.no_grad():
        for size in fits:
            built(torch.zeros(1, 1, *size))
        for size in fails:
            with pytest.raises(RuntimeError):
                built(torch.zeros(1, 1, *size))


def test_the_u_net_of_the_paper_gives_388():
    with torch.no_grad():
        assert flowconf.build(graph(VALID, "H", "W"))(torch.zeros(1, 1, 572, 572)).shape[-2:] == (388, 388)


FIXED = {"a": "Conv2d(1, 8, 3) >> MaxPool2d(2)", "out": "Flatten >> Linear(1352, 10)"}


@pytest.mark.parametrize(
    ("flow", "sizes", "note"),
    [
        (FIXED, ("H", "W"), "`H` and `W` must both be 28 or 29"),
        (FIXED, ("H", 28), "`H` must be 28 or 29"),
        ({"out": "Flatten >> Linear(64, 10)"}, ("T",), "`T` must be 64"),
        ({"a": "MaxPool2d(4)", "out": "Flatten >> Linear(9, 10)"}, ("H", "W"), "`H` and `W` must both be 12 to 15"),
        ({"out": "Flatten(2) >> Linear(144, 10)"}, ("H", "W"), "`H` and `W` must both be 12"),
    ],
)
def test_a_graph_that_fits_one_size_says_which(flow, sizes, note):
    document = graph(flow, *sizes)
    assert checked(document) == ([], (note,))
    size = int(note.split(" be ")[1].split()[0])
    flowconf.build(document)(torch.zeros(2, 1, *(s if isinstance(s, int) else size for s in sizes)))


@pytest.mark.parametrize("sizes", [("H", "W"), ("T",)])
def test_what_fits_no_size_is_refused_with_the_smallest_example(sizes):
    flow = {**UNET, "deep": "MaxPool2d(2) >> Conv2d(4, 4, 3) >> Upsample(scale_factor=2)"}
    flow = flow if len(sizes) == 2 else {k: str(v).replace("2d", "1d") if k != "both" else v for k, v in flow.items()}
    (reported,) = findings(graph(flow, *sizes)).mistakes
    note = reported.labels[-1].message
    assert note.startswith("at 8 for ")
    assert "[B, 4, 4, 4], `other` [B, 4, 8, 8]" in note or "[B, 4, 4], `other` [B, 4, 8]" in note


def test_an_error_that_no_size_mends_is_refused_after_few_trials(monkeypatch):
    trials, whole = [], Trial.whole
    monkeypatch.setattr(Trial, "whole", lambda trial, *given: trials.append(trial) or whole(trial, *given))
    flow = {"wide": "Conv2d(1, 4, 3, padding=1)", "mean": "AdaptiveAvgPool2d(1)", "part": "LSTM(1, 1) >> Linear(1, 2)"}
    assert checked(graph(flow, "H", "W"))[0] == ["FC0201"]
    assert 2 < len(trials) <= 16


class Remainder(nn.Module):
    """Refuses sizes in words that do not mention them."""

    def forward(self, x, other):
        if other.shape[-1] % 4 != 3:
            raise ValueError("three more than a multiple of 4 is required")
        return x


def test_an_error_that_does_not_mention_the_size_may_still_depend_on_it(monkeypatch):
    monkeypatch.setitem(modules.registered, "Remainder", Remainder)
    step = {"from": "x", "through": "Remainder", "using": {"other": "y"}}
    document = {"inputs": {"x": ["B", 5], "y": ["B", "T"]}, "flow": {"a": step}}
    assert checked(document) == ([], ("`T` must be 4 * k + 3, at least 3",))


def test_a_hole_is_not_filled_from_an_open_size():
    flow = {"a": "Conv2d(1, 4, 3) >> Flatten >> Linear(_, 10)"}
    (reported,) = findings(graph(flow, "H", 9)).mistakes
    assert (reported.code, reported.path) == ("FC0204", "a.2")
    assert reported.message.endswith("it depends on `H`, which may have any size")
    pooled = {"a": "Conv2d(1, 4, 3) >> AdaptiveAvgPool2d(1) >> Flatten >> Linear(_, 10)"}
    for size in ("H", 9):
        assert checked(graph(pooled, size, 9)) == ([], ())
    assert checked(graph(flow, 8, 9)) == ([], ())


def test_a_hole_behind_the_only_size_that_fits_is_known():
    flow = {**FIXED, "side": {"from": "a", "through": "Flatten >> Linear(_, 3)"}}
    assert checked(graph(flow, "H", "W")) == ([], ("`H` and `W` must both be 28 or 29",))


def test_a_graph_that_fits_every_size_has_no_note():
    assert checked(graph({"a": "Conv2d(1, 4, 3, padding=1)", "b": "AdaptiveAvgPool2d(1)"}, "H", "W")) == ([], ())
