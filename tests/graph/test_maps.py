"""`map` in every form against hand-written modules, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError
from tests.graph.conftest import document, rows

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
