"""`loop` in every form against hand-written modules, bit for bit; inline bodies read what is around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError
from tests.graph.conftest import document, rows

# loop


def test_loop_applies_one_module_again(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

        def forward(self, x):
            for _ in range(4):
                x = self.l(x)
            return x

    same(document({"l": {"loop": "Linear(6, 6) >> Tanh", "times": "n"}}, params={"n": 4}), Twin, rows(6))


def test_loop_once(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Linear(6, 3)

        def forward(self, x):
            return self.l(x)

    same(document({"l": {"loop": "Linear(6, 3)", "times": 1}}), Twin, rows(6))


def test_using_reaches_a_loop_body_every_time(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.h0 = nn.Linear(6, 4)
            self.cell = nn.GRUCell(4, 4)

        def forward(self, x):
            h = self.h0(x)
            y = h
            for _ in range(3):
                y = self.cell(y, hx=h)
            return y

    flow = {"h0": "Linear(6, 4)", "cell": {"loop": "GRUCell(4, 4)", "times": 3, "using": {"hx": "h0"}}}
    same(document(flow), Twin, rows(6))


def test_loop_over_an_inline_graph_that_reads_names_around():
    """The body reads a step and an input of the graph around it, and takes its parameters."""

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(8, 8)
            self.drive = nn.Linear(5, 8)

        def forward(self, x, stem, extra):
            return torch.tanh(self.mix(x) + self.drive(extra)) * stem

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(6, 8)
            self.l = Body()

        def forward(self, x, extra):
            stem = self.stem(x)
            y = stem
            for _ in range(3):
                y = self.l(y, stem, extra)
            return y

    body = {
        "flow": {
            "drive": {"from": "extra", "through": "Linear(5, width)"},
            "mix": {"from": "x", "through": "Linear(width, width)"},
            "sum": {"through": "StateAdd", "using": {"state": "drive"}},
            "act": "Tanh",
            "out": {
                "split": {"a": "Identity", "b": {"flow": {"s": {"from": "stem", "through": "Identity"}}}},
                "merge": "mul",
            },
        }
    }
    graph = flowconf.build(
        document(
            {"stem": "Linear(6, width)", "l": {"loop": {"inputs": {"x": ["B", "width"]}, **body}, "times": 3}},
            {"x": ["B", 6], "extra": ["B", 5]},
            params={"width": 8},
        )
    )
    twin = Twin()
    twin.load_state_dict(graph.state_dict())
    for batch in (1, 3):
        x, extra = torch.randn(batch, 6), torch.randn(batch, 5)
        torch.testing.assert_close(graph(x, extra), twin(x, extra), rtol=1e-6, atol=1e-6)


def test_a_dict_carries_several_values_around_a_loop(same):
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = nn.Linear(2, 4)
            self.think = nn.GRUCell(4, 4)
            self.move = nn.Sequential(nn.Linear(4, 2), nn.Tanh())

        def forward(self, hidden, at):
            think = self.think(self.seen(at), hx=hidden)
            return {"hidden": think, "at": self.move(think)}

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.start = nn.ModuleDict({"hidden": nn.Linear(6, 4), "at": nn.Linear(6, 2)})
            self.read = Body()
            self.latent = nn.Linear(4, 3)

        def forward(self, x):
            state = {"hidden": self.start["hidden"](x), "at": self.start["at"](x)}
            for _ in range(3):
                state = self.read(**state)
            return {"latent": self.latent(state["hidden"]), "at": state["at"]}

    flow = {
        "start": {
            "through": {
                "flow": {"hidden": "Linear(6, 4)", "at": {"from": "x", "through": "Linear(6, 2)"}},
                "outputs": {"hidden": "hidden", "at": "at"},
            }
        },
        "read": {
            "loop": {
                "inputs": {"hidden": ["B", 4], "at": ["B", 2]},
                "flow": {
                    "seen": {"from": "at", "through": "Linear(2, 4)"},
                    "think": {"through": "GRUCell(4, 4)", "using": {"hx": "hidden"}},
                    "move": "Linear(4, 2) >> Tanh",
                },
                "outputs": {"hidden": "think", "at": "move"},
            },
            "times": 3,
        },
        "latent": {"from": "read.hidden", "through": "Linear(4, 3)"},
    }
    same(document(flow, outputs={"latent": "latent", "at": "read.at"}), Twin, rows(6))


def test_nested_loops(same):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.Linear(6, 6)

        def forward(self, x):
            return x + self.r(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.inner = Residual()

        def forward(self, x):
            x = self.a(x)
            for _ in range(2):
                x = self.inner(x)
            return x

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.outer = Outer()

        def forward(self, x):
            for _ in range(3):
                x = self.outer(x)
            return x

    inner = {"loop": {"flow": {"r": {"also": "Linear(6, 6)"}}}, "times": 2}
    same(document({"outer": {"loop": {"flow": {"a": "Linear(6, 6)", "inner": inner}}, "times": 3}}), Twin, rows(6))


def test_a_shared_module_across_bodies():
    """Both loops think with the cell of the first step; its weights stand once, at its own path."""

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp = nn.Linear(6, 6)

        def forward(self, x, cell):
            return cell(self.inp(x), x)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.think = nn.GRUCell(6, 6)
            self.one = Body()
            self.two = Body()

        def forward(self, x):
            x = self.think(x)
            for _ in range(2):
                x = self.one(x, self.think)
            for _ in range(3):
                x = self.two(x, self.think)
            return x

    body = {
        "inputs": {"h": ["B", 6]},
        "flow": {"inp": "Linear(6, 6)", "cell": {"reuse": "think", "using": {"hx": "h"}}},
    }
    flow = {"think": "GRUCell(6, 6)", "one": {"loop": body, "times": 2}, "two": {"loop": body, "times": 3}}
    torch.manual_seed(0)
    graph = flowconf.build(document(flow))
    twin = Twin()
    own = dict(graph.named_parameters())
    assert sorted(own) == sorted(n for n, _ in twin.named_parameters())
    twin.load_state_dict({name: own[name].detach() for name in twin.state_dict()})
    x = torch.randn(3, 6)
    assert torch.equal(graph(x), twin(x))
    graph(x).square().sum().backward()
    twin(x).square().sum().backward()
    theirs = dict(twin.named_parameters())
    for name, parameter in own.items():
        assert torch.equal(parameter.grad, theirs[name].grad), name


def test_last_and_chosen_iterations_by_reference(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Module()
            self.l.a = nn.Linear(6, 6)
            self.l.b = nn.Linear(6, 6)

        def forward(self, x):
            seen = []
            for _ in range(3):
                a = self.l.a(x)
                seen.append(a)
                x = self.l.b(a)
            return {"last": seen[-1], "first": seen[0], "second": seen[-2]}

    flow = {"l": {"loop": {"flow": {"a": "Linear(6, 6)", "b": "Linear(6, 6)"}}, "times": 3}}
    outputs = {"last": "l.a", "first": "l.a[0]", "second": "l.a[-2]"}
    same(document(flow, outputs=outputs), Twin, rows(6))


def test_reference_to_a_loops_own_iteration(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Linear(6, 6)

        def forward(self, x):
            seen = []
            for _ in range(3):
                x = self.l(x)
                seen.append(x)
            return {"end": x, "first": seen[0]}

    flow = {"l": {"loop": "Linear(6, 6)", "times": 3}}
    same(document(flow, outputs={"end": "l", "first": "l[0]"}), Twin, rows(6))


@pytest.mark.parametrize("index", [3, -4])
def test_an_iteration_that_does_not_exist_is_refused(index):
    flow = {"l": {"loop": "Linear(6, 6)", "times": 3}}
    with pytest.raises(ConfigError) as raised:
        flowconf.build(document(flow, outputs={"y": f"l[{index}]"}))
    assert [d.code for d in raised.value.diagnostics] == ["FC0141"]


def test_a_body_that_changes_shape_is_refused():
    with pytest.raises(ConfigError) as raised:
        flowconf.build(document({"l": {"loop": "Linear(6, 3)", "times": 2}}))
    assert [d.code for d in raised.value.diagnostics] in (["FC0205"], ["FC0201"])
