"""`adapt`: adapters against LoRA written by hand, before and after merging, and what a project registers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import nn
from torch.func import functional_call

import flowconf
from flowconf.cli.main import main
from flowconf.graph.exchange.eject import ejected
from flowconf.graph.exchange.export import export
from flowconf.graph.exchange.merging import merged
from flowconf.graph.weights.structural_hash import structural_hash
from flowconf.language import registry
from tests.graph.conftest import document

SHAPE = {"x": ["B", 5, 8]}
ATTEND = {"through": "MultiheadAttention(8, 2, batch_first=true)", "using": {"key": "x", "value": "x"}, "take": 0}
ENCODER = {
    "inputs": SHAPE,
    "flow": {
        "block": {
            "through": {
                "inputs": SHAPE,
                "flow": {"attend": ATTEND, "norm": "LayerNorm(8)", "mlp": "Linear(8, 16) >> GELU >> Linear(16, 8)"},
            },
            "repeat": 2,
        },
        "mix": "Conv1d(5, 5, 3, padding=1)",
    },
}


def adapted(adapt, **more):
    return document({"encoder": {"graph": ENCODER, "adapt": adapt, **more}, "head": "Linear(8, 3)"}, SHAPE)


LORA = {"**.attend": {"name": "lora", "rank": 2, "alpha": 4}, "mix": {"name": "lora", "rank": 3}}


class ByHand(nn.Module):
    """The encoder with LoRA as it is written by hand: low-rank changes of the projections and of the kernel."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm = nn.LayerNorm(8)
            self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def __init__(self):
        super().__init__()
        self.block = nn.ModuleList([ByHand.Block() for _ in range(2)])
        self.mix = nn.Conv1d(5, 5, 3, padding=1)
        self.head = nn.Linear(8, 3)
        self.changes = []
        for block in self.block:
            weights = block.attend.in_proj_weight, block.attend.out_proj.weight
            self.changes.append([self.change(weight, 2) for weight in weights])
        self.kernel = self.change(self.mix.weight, 3)

    @staticmethod
    def change(weight, rank):
        weight.requires_grad_(False)
        down = torch.empty(rank, weight[0].numel())
        nn.init.kaiming_uniform_(down, a=5**0.5)
        return down.requires_grad_(), torch.zeros(weight.shape[0], rank, requires_grad=True)

    def trained(self):
        pairs = [pair for pairs in self.changes for pair in pairs] + [self.kernel]
        return [tensor for pair in pairs for tensor in pair] + list(self.head.parameters())

    def forward(self, x):
        for block, ((a, b), (c, d)) in zip(self.block, self.changes, strict=True):
            weights = {
                "in_proj_weight": block.attend.in_proj_weight + 2.0 * (b @ a),
                "out_proj.weight": block.attend.out_proj.weight + 2.0 * (d @ c),
            }
            x = functional_call(block.attend, weights, (x, x, x))[0]
            x = block.mlp(block.norm(x))
        kernel = self.mix.weight + 1.0 * (self.kernel[1] @ self.kernel[0]).view(5, 5, 3)
        return self.head(functional_call(self.mix, {"weight": kernel}, (x,)))


def trained(steps=20):
    """A graph and its twin after some steps of AdamW on the same numbers."""
    torch.manual_seed(0)
    graph = flowconf.build(adapted(LORA))
    torch.manual_seed(0)
    twin = ByHand()
    mine = [parameter for parameter in graph.parameters() if parameter.requires_grad]
    optimizers = [torch.optim.AdamW(mine, lr=0.05), torch.optim.AdamW(twin.trained(), lr=0.05)]
    for number in range(steps):
        torch.manual_seed(number)
        x, y = torch.randn(4, 5, 8), torch.randn(4, 5, 3)
        for model, optimizer in zip((graph, twin), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
    return graph, twin


@pytest.fixture(scope="module")
def pair():
    return trained()


X = torch.linspace(-1, 1, 120).reshape(3, 5, 8)


def test_lora_on_attention_and_a_convolution_equals_the_hand_written_one_bit_for_bit(pair):
    graph, twin = pair
    for mode in (True, False):
        assert torch.equal(graph.train(mode)(X), twin.train(mode)(X))
    (a, b), (c, d) = twin.changes[1]
    attend = graph.encoder.block[1].attend
    assert torch.equal(attend.lora.in_proj_weight.down, a)
    assert torch.equal(attend.lora.in_proj_weight.up, b)
    assert torch.equal(attend.out_proj.lora.weight.down, c)
    assert torch.equal(attend.out_proj.lora.weight.up, d)
    assert b.abs().sum() > 0


def test_the_rest_stays_as_it_is(pair):
    graph, _ = pair
    torch.manual_seed(0)
    start = flowconf.build(document({"encoder": {"graph": ENCODER}, "head": "Linear(8, 3)"}, SHAPE)).state_dict()
    state = graph.state_dict()
    base = [name for name in start if name.startswith("encoder.")]
    assert all(torch.equal(state[name], start[name]) for name in base)
    learns = {name for name, parameter in graph.named_parameters() if parameter.requires_grad}
    assert all(".lora." in name or name.startswith("head.") for name in learns)
    assert len([name for name in learns if ".lora." in name]) == 10


def test_merged_weights_give_the_same_values(pair):
    graph, _ = pair
    plain = merged(graph)
    assert not any(".lora." in name for name in plain.state_dict())
    assert type(plain.encoder.mix) is nn.Conv1d
    torch.testing.assert_close(plain.eval()(X), graph.eval()(X), rtol=1e-5, atol=1e-6)


def test_adapters_are_saved_alone_and_loaded_onto_a_base(pair, tmp_path):
    graph, _ = pair
    graph.save(tmp_path / "lora.safetensors", at="encoder.**.lora")
    names = set(load_file(tmp_path / "lora.safetensors"))
    assert len(names) == 10
    assert all(".lora." in name for name in names)
    base = document({"encoder": {"graph": ENCODER}, "head": "Linear(8, 3)"}, SHAPE)
    torch.manual_seed(0)
    plain = flowconf.build(base)
    plain.load_state_dict({**plain.state_dict(), "head.weight": graph.head.weight, "head.bias": graph.head.bias})
    plain.save(tmp_path / "base.safetensors")
    torch.manual_seed(5)
    twin = flowconf.build(adapted(LORA))
    report = twin.load(tmp_path / "base.safetensors", unused="error")
    assert report.missing == report.unused == []
    assert torch.equal(twin.eval()(X), plain.eval()(X))
    twin.load(tmp_path / "lora.safetensors", missing="ignore", unused="error")
    assert torch.equal(twin(X), graph.eval()(X))
    one = "encoder.block.0.attend.lora"
    graph.save(tmp_path / "one.safetensors", at=one)
    assert sorted(load_file(tmp_path / "one.safetensors")) == ["in_proj_weight.down", "in_proj_weight.up"]


def test_copies_pickles_views_and_a_compiled_graph_are_adapted(pair):
    graph = pair[0].eval()
    for twin in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert torch.equal(twin(X), graph(X))
        assert type(twin.encoder.mix).adapter == "lora"
    assert torch.equal(graph.view(["head"])(X)["head"], graph(X))
    compiled = torch.compile(graph, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), graph(X))


def test_an_adapted_graph_is_ejected_and_exported(pair, tmp_path):
    graph = pair[0].eval()
    graph.save(tmp_path / "alone.safetensors")
    space = {"__name__": "alone"}
    text = ejected(graph)
    assert "flowconf" not in text.split('"""', 2)[2]
    exec(compile(text, "alone.py", "exec"), space)
    alone = space["Graph"]().eval()
    load_model(alone, tmp_path / "alone.safetensors")
    assert torch.equal(alone(X), graph(X))
    learns = {name for name, parameter in graph.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in alone.named_parameters() if parameter.requires_grad} == learns
    export(graph, tmp_path / "graph.pt2")
    program = torch.export.load(tmp_path / "graph.pt2")
    torch.testing.assert_close(program.module()(X), graph(X), rtol=1e-5, atol=1e-6)


def test_eject_and_export_merge_when_asked(pair, tmp_path, monkeypatch, capsys):
    import yaml

    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(adapted(LORA), sort_keys=False))
    graph = pair[0].eval()
    graph.save("all.safetensors")
    assert main(["eject", "graph.yaml", "--weights", "all.safetensors", "--merge", "-o", "alone.py"]) == 0
    assert "lora" not in (tmp_path / "alone.py").read_text()
    space = {"__name__": "alone"}
    exec(compile((tmp_path / "alone.py").read_text(), "alone.py", "exec"), space)
    alone = space["Graph"]().eval()
    load_model(alone, "alone.safetensors")
    torch.testing.assert_close(alone(X), graph(X), rtol=1e-5, atol=1e-6)
    assert main(["export", "graph.yaml", "--weights", "all.safetensors", "--merge", "-o", "graph.pt2"]) == 0
    program = torch.export.load("graph.pt2")
    assert not any("lora" in name for name in program.state_dict)
    torch.testing.assert_close(program.module()(X), graph(X), rtol=1e-5, atol=1e-6)
    capsys.readouterr()


def test_adapters_are_shown_and_part_of_the_hash():
    graph = flowconf.build(adapted(LORA))
    assert "+ lora(rank=2, alpha=4)" in graph.dot()
    assert structural_hash(graph.plan) != structural_hash(merged(graph).plan)
    assert graph.source.count("adapted(") == 2


def test_frozen_false_trains_the_rest_too():
    graph = flowconf.build(adapted(LORA, frozen=False))
    assert all(parameter.requires_grad for parameter in graph.parameters())
    still = flowconf.build(adapted(LORA, frozen=True)).train()
    assert not still.encoder.block[0].norm.training
    assert still.encoder.mix.lora.weight.up.requires_grad


def test_a_project_registers_an_adapter_of_its_own():
    @flowconf.register_adapter
    class Gain(nn.Module):
        """One factor for each row of a weight."""

        adapts = (nn.Embedding, nn.Linear)

        def __init__(self, weight, *, start: float = 1.0):
            super().__init__()
            self.gain = nn.Parameter(torch.full((weight.shape[0], 1), start))

        def forward(self, weight):
            return weight * self.gain

    try:
        flow = {"embed": "Embedding(9, 4)", "out": "Linear(4, 2)"}
        inner = {"inputs": {"t": {"shape": ["B", 5], "dtype": "int64"}}, "flow": flow}
        text = {"graph": inner, "adapt": {"**": {"name": "Gain", "start": 2.0}}}
        graph = flowconf.build(document({"text": text}, inner["inputs"]))
        x = torch.randint(0, 9, (2, 5))
        by_hand = nn.functional.linear(
            graph.text.embed._parameters["weight"][x] * 2, graph.text.out._parameters["weight"] * 2
        )
        torch.testing.assert_close(graph(x), by_hand + graph.text.out.bias)
        assert sorted(n for n, p in graph.named_parameters() if p.requires_grad) == [
            "text.embed.Gain.weight.gain",
            "text.out.Gain.weight.gain",
        ]
    finally:
        registry.adapters.registered.pop("Gain")


SHARED = {
    "inputs": {"x": ["B", 6]},
    "flow": {
        "scan": {"loop": {"flow": {"think": "Linear(6, 6)", "move": "Linear(6, 6) >> Tanh"}}, "times": 2},
        "read": {
            "loop": {"flow": {"see": "LayerNorm(6)", "think": {"reuse": "scan.think"}, "move": {"reuse": "scan.move"}}},
            "times": 2,
        },
    },
}


@pytest.mark.parametrize(
    ("selector", "adapted"),
    [
        ("**.think", ["scan.think"]),
        ("read.think", ["scan.think"]),
        ("read.move.0", ["scan.move.0"]),
    ],
)
def test_a_module_that_an_inner_flow_reuses_is_adapted_where_it_is_defined(selector, adapted):
    lora = {selector: {"name": "lora", "rank": 2}}
    graph = flowconf.build(document({"reader": {"graph": SHARED, "adapt": lora}}))
    trained = [name for name, one in graph.named_parameters() if one.requires_grad]
    assert trained == [f"reader.{path}.lora.weight.{part}" for path in adapted for part in ("down", "up")]
