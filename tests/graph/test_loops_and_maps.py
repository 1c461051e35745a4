"""`loop` and `map` in every form against hand-written modules, bit for bit; inline bodies read what is around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError


def rows(*size):
    return lambda batch: (torch.randn(batch, *size),)


def document(flow, inputs=None, **more):
    return {"inputs": inputs or {"x": ["B", 6]}, "flow": flow, **more}


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


# map


@pytest.mark.parametrize("batched", [False, True])
def test_map_over_the_stream(same, batched):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Linear(6, 4)

        def forward(self, x):
            if batched:
                return self.m(x.reshape(-1, 6)).reshape(x.shape[0], 5, 4)
            return torch.stack([self.m(x[:, i]) for i in range(x.shape[1])], 1)

    same(document({"m": {"map": "Linear(6, 4)", "batched": batched}}, {"x": ["B", 5, 6]}), Twin, rows(5, 6))


@pytest.mark.parametrize("dim", [1, 2, -1, -2, 3])
@pytest.mark.parametrize("batched", [False, True])
def test_map_over_each_dimension(dim, batched):
    """Slices along `dim`, stacked again along `dim`; folding gives the same numbers."""
    shape = [2, 3, 4, 5]
    rest = [size for i, size in enumerate(shape) if i != dim % 4]
    last = rest[-1]
    graph = flowconf.build(
        document({"m": {"map": f"Linear({last}, {last})", "dim": dim, "batched": batched}}, {"x": ["B", 3, 4, 5]})
    )
    for batch in (1, 2):
        x = torch.randn(batch, 3, 4, 5)
        by_hand = torch.stack([graph.module_at("m")(piece) for piece in x.unbind(dim)], dim)
        out = graph(x)
        assert out.shape == by_hand.shape
        torch.testing.assert_close(out, by_hand, rtol=1e-5, atol=1e-6)


def test_map_over_the_batch(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Linear(6, 4)

        def forward(self, x):
            return torch.stack([self.m(row) for row in x], 0)

    same(document({"m": {"map": "Linear(6, 4)", "dim": 0}}, {"x": ["B", 5, 6]}), Twin, rows(5, 6))


def test_map_over_another_value_using_the_stream(same):
    """The design's word reader in small: each place is read with the whole image."""

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.where = nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, [4, 3]))
            self.m = nn.Bilinear(3, 6, 2)

        def forward(self, image):
            where = self.where(image)
            return torch.stack([self.m(place, input2=image) for place in where.unbind(1)], 1)

    flow = {
        "where": "Linear(6, 12) >> Unflatten(1, [4, 3])",
        "m": {"map": "Bilinear(3, 6, 2)", "over": "where", "using": {"input2": "image"}},
    }
    same(document(flow, {"image": ["B", 6]}), Twin, rows(6))


def test_a_batched_map_repeats_the_rows_of_using(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Bilinear(3, 6, 2)

        def forward(self, places, image):
            many = places.shape[1]
            rows = image.repeat_interleave(many, 0)
            return self.m(places.reshape(-1, 3), rows).reshape(-1, many, 2)

    flow = {"m": {"map": "Bilinear(3, 6, 2)", "using": {"input2": "image"}, "batched": True}}
    same(
        document(flow, {"places": ["B", 4, 3], "image": ["B", 6]}),
        Twin,
        lambda b: (torch.randn(b, 4, 3), torch.randn(b, 6)),
    )


@pytest.mark.parametrize("batched", [False, True])
def test_map_of_an_inline_graph_that_reads_names_around(batched):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Module()
            self.m.a = nn.Linear(3, 6)

        def forward(self, places, image):
            return torch.stack([self.m.a(place) + image for place in places.unbind(1)], 1)

    body = {"flow": {"a": "Linear(3, 6)", "sum": {"through": "StateAdd", "using": {"state": "image"}}}}
    flow = {"m": {"map": body, "over": "places", "batched": batched}}
    graph = flowconf.build(document(flow, {"image": ["B", 6], "places": ["B", 4, 3]}))
    twin = Twin()
    twin.load_state_dict(graph.state_dict())
    for batch in (1, 3):
        image, places = torch.randn(batch, 6), torch.randn(batch, 4, 3)
        torch.testing.assert_close(graph(image, places), twin(places, image), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(12,), (2, 12), (2, 3, 12)])
def test_slices_cut_the_last_axis(same, shape):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Linear(4, 2)

        def forward(self, x):
            return torch.cat([self.m(x[..., i : i + 4]) for i in (0, 4, 8)], -1)

    flow = {"m": {"map": "Linear(4, 2)", "slices": 3}}
    same(document(flow, {"x": ["B", *shape]}), Twin, rows(*shape))


def test_slices_must_divide_the_axis():
    with pytest.raises(ConfigError) as raised:
        flowconf.build(document({"m": {"map": "Linear(4, 2)", "slices": 3}}, {"x": ["B", 10]}))
    assert all(d.code == "FC0201" for d in raised.value.diagnostics)


def test_slices_with_using(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Bilinear(3, 5, 2)

        def forward(self, x, k):
            return torch.cat([self.m(piece, k) for piece in (x[:, :3], x[:, 3:])], -1)

    flow = {"m": {"map": "Bilinear(3, 5, 2)", "slices": 2, "using": {"input2": "k"}}}
    same(document(flow, {"x": ["B", 6], "k": ["B", 5]}), Twin, lambda b: (torch.randn(b, 6), torch.randn(b, 5)))


@pytest.mark.parametrize("batched", [False, True])
def test_values_inside_a_map_come_stacked(batched):
    body = {"flow": {"a": "Linear(6, 4)", "b": "Linear(4, 2)"}}
    flow = {"m": {"map": body, "batched": batched}}
    graph = flowconf.build(
        document(flow, {"x": ["B", 5, 6]}, outputs={"a": "m.a", "third": "m.a[2]", "last": "m.a[-1]", "m": "m"})
    )
    a, b = graph.module_at("m.a"), graph.module_at("m.b")
    for batch in (1, 3):
        x = torch.randn(batch, 5, 6)
        out = graph(x)
        by_hand = torch.stack([a(x[:, i]) for i in range(5)], 1)
        assert out["a"].shape == (batch, 5, 4)
        torch.testing.assert_close(out["a"], by_hand, rtol=1e-6, atol=1e-6)
        assert torch.equal(out["third"], out["a"][:, 2])
        assert torch.equal(out["last"], out["a"][:, -1])
        torch.testing.assert_close(out["m"], b(out["a"]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batched", [False, True])
def test_a_map_of_a_graph_with_several_outputs_gives_a_dict_of_stacks(batched):
    body = {
        "flow": {"a": "Linear(6, 4)", "b": "Linear(4, 2)"},
        "outputs": {"a": "a", "b": "b"},
    }
    flow = {"m": {"map": body, "batched": batched}, "c": {"from": "m.b", "through": "Linear(2, 3)"}}
    graph = flowconf.build(document(flow, {"x": ["B", 5, 6]}, outputs={"a": "m.a", "c": "c"}))
    for batch in (1, 3):
        x = torch.randn(batch, 5, 6)
        a = torch.stack([graph.module_at("m.a")(x[:, i]) for i in range(5)], 1)
        out = graph(x)
        torch.testing.assert_close(out["a"], a, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(out["c"], graph.c(graph.module_at("m.b")(a)), rtol=1e-6, atol=1e-6)


def test_a_map_inside_a_loop_inside_a_map(same):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.each = nn.Linear(4, 4)

        def forward(self, x):
            return torch.stack([self.each(row) for row in x.unbind(1)], 1)

    class Middle(nn.Module):
        def __init__(self):
            super().__init__()
            self.again = Inner()

        def forward(self, x):
            for _ in range(2):
                x = self.again(x)
            return x

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.outer = Middle()

        def forward(self, x):
            return torch.stack([self.outer(part) for part in x.unbind(1)], 1)

    flow = {
        "outer": {
            "map": {
                "flow": {"again": {"loop": {"flow": {"each": {"map": "Linear(4, 4)"}}}, "times": 2}},
            }
        }
    }
    same(document(flow, {"x": ["B", 2, 3, 4]}), Twin, rows(2, 3, 4))


def test_map_with_repeat(same):
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])

        def forward(self, x):
            for m in self.m:
                x = torch.stack([m(row) for row in x.unbind(1)], 1)
            return x

    same(document({"m": {"map": "Linear(6, 6)", "repeat": 2}}, {"x": ["B", 3, 6]}), Twin, rows(3, 6))


def test_take_after_a_map_picks_from_each_slice(same):
    """`take` picks one element of a module's tuple output."""

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.GRU(4, 3, batch_first=True)

        def forward(self, x):
            return torch.stack([self.m(part)[0] for part in x.unbind(1)], 1)

    flow = {"m": {"map": "GRU(4, 3, batch_first=true)", "take": 0}}
    same(document(flow, {"x": ["B", 2, 5, 4]}), Twin, rows(2, 5, 4))


def test_the_letter_readers_loop_of_the_design(table):
    """Section 2's example: a shared cell from an earlier scan, state by name, the image in every iteration."""

    class Glance(nn.Module):
        def forward(self, image, at):
            return image * at.mean(1, keepdim=True)

    table.register(Glance)

    class Scan(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = nn.Linear(9, 8)
            self.think = nn.GRUCell(8, 8)
            self.move = nn.Sequential(nn.Linear(8, 2), nn.Tanh())

        def forward(self, image):
            hidden = self.think(self.seen(image))
            return {"hidden": hidden, "at": self.move(hidden)}

    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = Glance()
            self.seen = nn.Sequential(nn.Linear(9, 8), nn.ReLU())
            self.move = nn.Sequential(nn.Linear(8, 2), nn.Tanh())

        def forward(self, hidden, at, image, think):
            hidden = think(self.seen(self.patch(image, at=at)), hx=hidden)
            return {"hidden": hidden, "at": self.move(hidden)}

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.scan = Scan()
            self.read = Read()
            self.latent = nn.Linear(8, 8)

        def forward(self, image):
            state = self.scan(image)
            for _ in range(3):
                state = self.read(**state, image=image, think=self.scan.think)
            return self.latent(state["hidden"])

    flow = {
        "scan": {
            "through": {
                "flow": {
                    "seen": "Linear(9, width)",
                    "think": "GRUCell(width, width)",
                    "move": "Linear(width, 2) >> Tanh",
                },
                "outputs": {"hidden": "think", "at": "move"},
            }
        },
        "read": {
            "loop": {
                "inputs": {"hidden": ["B", "width"], "at": ["B", 2], "image": ["B", 9]},
                "flow": {
                    "patch": {"from": "image", "through": "Glance", "using": "at"},
                    "seen": "Linear(9, width) >> ReLU",
                    "think": {"reuse": "scan.think", "using": {"hx": "hidden"}},
                    "move": "Linear(width, 2) >> Tanh",
                },
                "outputs": {"hidden": "think", "at": "move"},
            },
            "times": "reads",
            "using": "image",
        },
        "latent": {"from": "read.hidden", "through": "Linear(width, width)"},
    }
    graph = flowconf.build(document(flow, {"image": ["B", 9]}, params={"width": 8, "reads": 3}))
    twin = Twin()
    own = dict(graph.named_parameters())
    assert list(own) == [n for n, _ in twin.named_parameters()]
    twin.load_state_dict({name: own[name].detach() for name in twin.state_dict()})
    for batch in (1, 3):
        x = torch.randn(batch, 9)
        graph.zero_grad()
        twin.zero_grad()
        mine, theirs = graph(x), twin(x)
        assert torch.equal(mine, theirs)
        mine.square().sum().backward()
        theirs.square().sum().backward()
        for name, parameter in twin.named_parameters():
            assert torch.equal(own[name].grad, parameter.grad), name
