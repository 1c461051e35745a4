"""Verbs, bodies and modifiers in combination: the graph, and the file it is ejected to, against modules by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flowconf
from flowconf.graph.blocks import ArgmaxSelector, LearnedHalt, SoftmaxRouter, ThresholdHalt
from flowconf.graph.exchange.eject import ejected

Forward = Callable[..., object]


class Twin(nn.Module):
    """A module by hand: `parts` by name, what computes with them, and which of them stay in evaluation mode."""

    def __init__(self, forward: Forward, parts: dict[str, nn.Module], frozen: Iterable[str] = ()):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.compute, self.frozen = forward, tuple(frozen)
        for name in self.frozen:
            self.get_submodule(name).requires_grad_(False)

    def forward(self, *inputs: Tensor) -> object:
        return self.compute(self, *inputs)

    def train(self, mode: bool = True) -> Twin:
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self


def linear() -> nn.Linear:
    return nn.Linear(6, 6)


def noisy() -> nn.Sequential:
    """Shows every slip of mode: it draws, and keeps statistics."""
    return nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))


def named(**parts: nn.Module) -> nn.Module:
    return holding(nn.Module(), **parts)


def holding(module: nn.Module, **parts: nn.Module) -> nn.Module:
    for name, part in parts.items():
        module.add_module(name.removeprefix("_"), part)
    return module


def two(make: Callable[[], nn.Module]) -> nn.ModuleList:
    return nn.ModuleList([make(), make()])


def each(modules: Iterable[nn.Module], x: Tensor, once: Callable[..., Tensor]) -> Tensor:
    for module in modules:
        x = once(module, x)
    return x


def gate(experts: nn.Module, x: Tensor) -> Tensor:
    weights = experts.router(x)
    return weights[..., 0, None] * experts.a(x) + weights[..., 1, None] * experts.b(x)


def gru() -> nn.GRU:
    return nn.GRU(6, 6, batch_first=True)


L, N, G = "Linear(6, 6)", "Linear(6, 6) >> Dropout(0.5)", "GRU(6, 6, batch_first=true)"
TWO = {"a": L, "b": L}
PART = {"inputs": {"x": ["B", 6]}, "flow": {"a": {"through": N, "frozen": True}, "b": N}}

# name: (flow, inputs' size behind the batch, the parts by hand, what they compute, what is frozen)
CASES: dict[str, tuple[dict, tuple[int, ...], Callable[[], dict[str, nn.Module]], Forward, list[str]]] = {
    "a repeated gate": (
        {"s": {"gate": TWO, "router": "SoftmaxRouter(6, 2)", "repeat": 2}},
        (6,),
        lambda: {"s": two(lambda: named(a=linear(), b=linear(), router=SoftmaxRouter(6, 2)))},
        lambda m, x: each(m.s, x, gate),
        [],
    ),
    "a repeated switch": (
        {"s": {"switch": TWO, "router": "ArgmaxSelector(6, 2)", "repeat": 2}},
        (6,),
        lambda: {"s": two(lambda: named(a=linear(), b=linear(), router=ArgmaxSelector(6, 2)))},
        lambda m, x: each(m.s, x, switch),
        [],
    ),
    "a repeated map": (
        {"s": {"map": L, "dim": -2, "repeat": 2}},
        (3, 6),
        lambda: {"s": two(linear)},
        lambda m, x: each(m.s, x, lambda copy, y: torch.stack([copy(item) for item in y.unbind(-2)], -2)),
        [],
    ),
    "a repeated loop with a condition": (
        {"s": {"loop": L, "until": "LearnedHalt(6)", "max": 3, "repeat": 2}},
        (6,),
        lambda: {"s": two(lambda: holding(linear(), condition=LearnedHalt(6)))},
        lambda m, x: each(m.s, x, lambda copy, y: until(copy, copy.condition, y)),
        [],
    ),
    "a chain beside its condition": (
        {"s": {"loop": f"{L} >> Tanh", "while": "ThresholdHalt(0.5)", "max": 4}},
        (6,),
        lambda: {"s": named(_0=linear(), _1=nn.Tanh(), condition=ThresholdHalt(0.5))},
        lambda m, x: while_(lambda y: m.s.get_submodule("1")(first(m.s)(y)), m.s.condition, x),
        [],
    ),
    "a residual that takes from its body": (
        {"s": {"also": G, "take": 0, "repeat": 2}},
        (4, 6),
        lambda: {"s": two(gru)},
        lambda m, x: each(m.s, x, lambda copy, y: y + copy(y)[0]),
        [],
    ),
    "attention added to its stream": (
        {"s": {"also": "MultiheadAttention(6, 2, batch_first=true)", "using": {"key": "x", "value": "x"}, "take": 0}},
        (4, 6),
        lambda: {"s": nn.MultiheadAttention(6, 2, batch_first=True)},
        lambda m, x: x + m.s(x, x, x)[0],
        [],
    ),
    "copies that each take": (
        {"s": {"through": G, "take": 0, "repeat": 2}},
        (4, 6),
        lambda: {"s": two(gru)},
        lambda m, x: each(m.s, x, lambda copy, y: copy(y)[0]),
        [],
    ),
    "a loop that takes each time, and a value from inside": (
        {"s": {"loop": {"flow": {"pre": L, "g": G}}, "times": 2, "take": 0}, "end": {"from": "s.pre", "through": L}},
        (4, 6),
        lambda: {"s": named(pre=linear(), g=gru()), "end": linear()},
        lambda m, x: m.end(m.s.pre(m.s.g(m.s.pre(x))[0])),
        [],
    ),
    "a map that takes each time, and a value from inside": (
        {
            "s": {"map": {"flow": {"pre": L, "g": G}}, "take": 0},
            "end": {"through": "StateAdd", "using": {"state": "s.pre"}},
        },
        (2, 4, 6),
        lambda: {"s": named(pre=linear(), g=gru())},
        lambda m, x: mapped(m.s, x),
        [],
    ),
    "a frozen part that stands in copies": (
        {"pre": L, "s": {"graph": PART, "repeat": 2}},
        (6,),
        lambda: {"pre": linear(), "s": two(lambda: named(a=noisy(), b=noisy()))},
        lambda m, x: each(m.s, m.pre(x), lambda copy, y: copy.b(copy.a(y))),
        ["s.0.a", "s.1.a"],
    ),
    "one thawed branch of frozen copies": (
        {
            "pre": L,
            "s": {
                "split": {"a": {"through": N, "frozen": False}, "b": N},
                "merge": "add",
                "repeat": 2,
                "frozen": True,
            },
        },
        (6,),
        lambda: {"pre": linear(), "s": two(lambda: named(a=noisy(), b=noisy()))},
        lambda m, x: each(m.s, m.pre(x), lambda copy, y: copy.a(y) + copy.b(y)),
        ["s.0.b", "s.1.b"],
    ),
    "a frozen router": (
        {"pre": L, "s": {"gate": TWO, "router": {"through": "SoftmaxRouter(6, 2)", "frozen": True}}},
        (6,),
        lambda: {"pre": linear(), "s": named(a=linear(), b=linear(), router=SoftmaxRouter(6, 2))},
        lambda m, x: gate(m.s, m.pre(x)),
        ["s.router"],
    ),
    "a frozen loop that borrows a module": (
        {"own": N, "s": {"loop": {"flow": {"a": N, "again": {"reuse": "own"}}}, "times": 2, "frozen": True}},
        (6,),
        lambda: borrowed(noisy()),
        lambda m, x: each(range(2), m.own(x), lambda _, y: m.own(m.s.a(y))),
        ["s.a"],
    ),
    "a loop that borrows a frozen module": (
        {
            "own": {"through": N, "frozen": True},
            "s": {"loop": {"flow": {"a": N, "again": {"reuse": "own"}}}, "times": 2},
        },
        (6,),
        lambda: borrowed(noisy()),
        lambda m, x: each(range(2), m.own(x), lambda _, y: m.own(m.s.a(y))),
        ["own"],
    ),
    "every place once more": (
        {
            "c": f"{L} >> Tanh",
            "r": {"gate": TWO, "router": "SoftmaxRouter(6, 2)", "repeat": 2},
            "s": {"also": f"{L} >> Tanh", "skip": L},
            "c_0": {"reuse": "c.0"},
            "r_1_b": {"reuse": "r.1.b"},
            "s_0": {"reuse": "s.0"},
            "s_skip": {"reuse": "s.skip"},
            "twice": {"reuse": "s_skip"},
        },
        (6,),
        lambda: {
            "c": nn.Sequential(linear(), nn.Tanh()),
            "r": two(lambda: named(a=linear(), b=linear(), router=SoftmaxRouter(6, 2))),
            "s": named(_0=linear(), _1=nn.Tanh(), skip=linear()),
        },
        lambda m, x: m.s.skip(m.s.skip(first(m.s)(m.r[1].b(m.c[0](residual(m.s, each(m.r, m.c(x), gate))))))),
        [],
    ),
}


def switch(step: nn.Module, x: Tensor) -> Tensor:
    """Row by row, in the order of the branches."""
    chosen = step.router(x)
    output = torch.zeros_like(x)
    for number, branch in enumerate((step.a, step.b)):
        rows = (chosen == number).nonzero().flatten()
        if len(rows):
            output = output.index_copy(0, rows, branch(x[rows]))
    return output


def until(body: Forward, condition: nn.Module, x: Tensor) -> Tensor:
    for _ in range(3):
        x = body(x)
        if condition(x) > 0:
            break
    return x


def while_(body: Forward, condition: nn.Module, x: Tensor) -> Tensor:
    for _ in range(4):
        if condition(x) > 0:
            break
        x = body(x)
    return x


def mapped(body: nn.Module, x: Tensor) -> Tensor:
    inside = [body.pre(item) for item in x.unbind(1)]
    return torch.stack([body.g(item)[0] for item in inside], 1) + torch.stack(inside, 1)


def residual(step: nn.Module, x: Tensor) -> Tensor:
    return step.skip(x) + step.get_submodule("1")(first(step)(x))


def first(chain: nn.Module) -> nn.Module:
    return chain.get_submodule("0")


def borrowed(own: nn.Module) -> dict[str, nn.Module]:
    return {"own": own, "s": named(a=noisy(), again=own)}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_and_its_file_are_the_module_by_hand(same, tmp_path: Path, name: str) -> None:
    flow, size, parts, forward, frozen = CASES[name]
    document = {"inputs": {"x": ["B", *size]}, "flow": flow}

    def inputs(batch: int) -> tuple[Tensor, ...]:
        return (torch.randn(batch, *size),)

    graph = same(document, lambda: Twin(forward, parts(), frozen), inputs)
    space: dict[str, type[nn.Module]] = {}
    exec(compile(ejected(graph), "ejected.py", "exec"), space)
    file, twin = space["Graph"](), Twin(forward, parts(), frozen)
    for copy in (file, twin):
        copy.load_state_dict(graph.state_dict())
    assert list(file.state_dict()) == list(twin.state_dict())
    assert learning(file) == learning(twin)
    for mode in (True, False):
        for copy in (file, twin):
            copy.train(mode)
        outputs = []
        for copy in (file, twin):
            torch.manual_seed(3)
            outputs.append(copy(*inputs(3)))
        assert torch.equal(*outputs)


def learning(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    "more", [{"loop": "Bilinear(6, 6, 6)", "times": 2}, {"through": "Bilinear(6, 6, 6)", "repeat": 2}]
)
def test_an_input_called_x_is_still_itself_in_the_second_turn(more: dict) -> None:
    step = {"from": "other", "using": {"input2": "x"}, **more}
    graph = flowconf.build({"inputs": {"x": ["B", 6], "other": ["B", 6]}, "flow": {"s": step, "end": L}})
    x, other = torch.randn(2, 6), torch.randn(2, 6)
    first, second = graph.s if "repeat" in more else (graph.s, graph.s)
    assert torch.equal(graph(x, other), graph.end(second(first(other, x), x)))


BLOCKS = {"blk": {"also": f"{L} >> Tanh", "repeat": 2}, "s": {"also": f"{L} >> Tanh", "skip": L}}


@pytest.mark.parametrize(
    ("path", "reported"),
    [
        (
            "blk",
            "`blk` is repeated; its copies are `blk.0` to `blk.1`\n"
            "  = help: write `blk.0` for one, or repeat the step in a `graph`, and reuse the graph",
        ),
        ("blk.2", "copy `2` of `blk` is out of range: it has 2 copies\n  = help: the last is `1`"),
        (
            "s",
            "the chain `s` shares its path with `s.skip` and is not a single module\n"
            "  = help: move the chain to a separate step, or write one of its modules: `s.0`",
        ),
    ],
)
def test_what_is_not_one_module_cannot_be_reused(path: str, reported: str) -> None:
    with pytest.raises(flowconf.ConfigError) as raised:
        flowconf.build({"inputs": {"x": ["B", 6]}, "flow": {**BLOCKS, "again": {"reuse": path}}})
    assert str(raised.value) == f"error[FC0141]: {reported}"


@pytest.mark.slow
def test_ten_thousand_steps_with_tags_and_references() -> None:
    flow = {
        f"s{at}": {"through": "StateAdd", "tag": f"t{at}", "using": {"state": f"t{at - 2}" if at > 1 else "x"}}
        for at in range(10_000)
    }
    graph = flowconf.build({"inputs": {"x": ["B", 2]}, "flow": flow})
    assert graph(torch.zeros(1, 2)).shape == (1, 2)
    assert len(graph.plan.steps) == 10_000
