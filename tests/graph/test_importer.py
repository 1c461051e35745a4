"""Graph documents read from modules: the same weights under reported names, and the same outputs bit for bit."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

import flowconf
from flowconf.cli.main import main
from flowconf.graph.exchange.importer import outputs_are_equal, read, rebuilt
from flowconf.graph.exchange.recovered_calls import Unrecoverable, call_of


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(8, 16), nn.Linear(16, 4), nn.Dropout(0.1)

    def forward(self, x):
        return self.fc2(F.dropout(self.drop(F.relu(self.fc1(x))), 0.2, self.training))


def sequence():
    return nn.Sequential(
        nn.Linear(8, 16),
        nn.ReLU(),
        nn.Sequential(nn.Linear(16, 16), nn.Tanh()),
        nn.Sequential(MLP2()),
        nn.Linear(16, 4),
    )


class MLP2(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 16))

    def forward(self, x):
        return x + self.body(x)


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), (2, 2))
        x = x.view(-1, 256)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Block(nn.Module):
    def __init__(self, fan_in, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(fan_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(fan_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        out = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        out = F.adaptive_avg_pool2d(out, 1)
        return self.linear(out.view(out.size(0), -1))


class Attention(nn.Module):
    def __init__(self, width=16, heads=4):
        super().__init__()
        self.n1, self.n2, self.drop = nn.LayerNorm(width), nn.LayerNorm(width), nn.Dropout(0.1)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, mask=None):
        y = self.n1(x)
        a, _ = self.attn(y, y, y, attn_mask=mask)
        x = x + self.drop(a)
        return x + self.mlp(self.n2(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList(Attention() for _ in range(2))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).transpose(1, 2).contiguous().mean(dim=-1))


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 16, num_layers=2, batch_first=True), nn.Linear(16, 3)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


class Hidden(Tail):
    def forward(self, x):
        _, (h, c) = self.lstm(x)
        return self.fc(h[-1]) + self.fc(c[-1])


class Merges(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(24, 2)

    def forward(self, x):
        a, b, c = self.a(x), self.b(x), self.c(x)
        gated, largest = a * torch.sigmoid(b), torch.maximum(b, c)
        wide = self.out(torch.cat([(a + b + c) / 3, gated, largest], dim=1))
        return torch.cat([wide, torch.stack([a, b], 1).flatten(1)], 1) * 0.5


CASES = {
    "mlp": (MLP, (3, 8)),
    "sequence": (sequence, (3, 8)),
    "lenet": (LeNet, (3, 1, 28, 28)),
    "resnet": (ResNet20, (3, 3, 32, 32)),
    "transformer": (Transformer, (3, 5, 8)),
    "lstm": (Tail, (3, 5, 8)),
    "hidden": (Hidden, (3, 5, 8)),
    "merges": (Merges, (3, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_read_gives_the_same_bit_for_bit(name, tmp_path):
    factory, shape = CASES[name]
    torch.manual_seed(0)
    module = factory()
    found = read(module)
    assert found.unread == []
    document = yaml.safe_load(found.yaml("here"))
    graph = flowconf.build(document)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    report = graph.load(tmp_path / "weights.pt", rename=found.rename, unused="error")
    assert len(report.loaded) == len(module.state_dict())
    x = torch.randn(shape)
    for mode in (False, True):
        outputs = []
        for one in (module.train(mode), graph.train(mode)):
            torch.manual_seed(3)
            one.zero_grad()
            outputs.append(one(x))
            outputs[-1].sum().backward()
        assert torch.equal(*outputs)
    mine, theirs = dict(graph.named_parameters()), dict(rebuilt(module, found).named_parameters())
    assert list(mine) == list(theirs)
    gradients = sorted(float(p.grad.abs().sum()) for p in module.parameters())
    assert gradients == sorted(float(p.grad.abs().sum()) for p in mine.values())


def test_it_reads_like_a_graph_by_hand():
    assert read(MLP2()).document == {"flow": {"body": {"also": "Linear(16, 16)"}}}
    assert read(Tail()).document == {
        "flow": {
            "lstm": {"through": "LSTM(8, 16, num_layers=2, batch_first=true)", "take": 0},
            "select": "Select(-1)",
            "fc": "Linear(16, 3)",
        }
    }


def test_shapes_of_inputs_are_known_at_every_level():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.join = nn.GRUCell(4, 8), Joined()

        def forward(self, x, state, unused=None):
            return self.join(self.cell(x, state), state)

    class Joined(nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "both": torch.cat([a, b], -1)}

    shapes = {"x": ["B", 4], "state": ["B", 8]}
    module = Pair()
    found = read(module, shapes)
    assert found.unread == []
    assert found.document["inputs"] == shapes
    assert found.document["flow"]["join"]["graph"]["inputs"] == {"a": ["B", 8], "b": ["B", 8]}
    graph = rebuilt(module, found)
    given = torch.randn(3, 4), torch.randn(3, 8)
    assert all(torch.equal(graph(*given)[name], value) for name, value in module(*given).items())
    assert any("several inputs" in str(one) for one in read(module).unread)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.spare, self.scale = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.branch, self.spare = nn.Linear(4, 4), Branching(), nn.Linear(4, 4)
        self.place = nn.Parameter(torch.zeros(1, 4))
        self.again = self.first

    def forward(self, x):
        x = self.branch(torch.sin(self.first(x))) + self.place
        return F.dropout(x, 0.5)


def test_what_could_not_be_read_is_said_with_its_path():
    found = read(Odd())
    reported = {one.path: one.reason for one in found.unread}
    assert reported["branch"].endswith("must be registered with `@flowconf.register`")
    assert any(one.path == "branch" and "cannot be traced" in one.reason for one in found.unread)
    assert reported["sin"] == "`sin` has no equivalent module"
    assert reported["place"].startswith("a parameter of shape [1, 4] is used directly")
    assert reported["spare"] == "its weights are not used by the forward"
    assert "is also active in evaluation mode" in reported["dropout"]
    flow = found.document["flow"]
    assert flow["branch"] == "Branching"
    assert flow["sin"] == "Sin"
    text = found.yaml("here")
    assert "  sin: Sin" in text
    assert "# not imported: `sin` has no equivalent module" in text
    with pytest.raises(flowconf.ConfigError, match="unknown module `Sin`"):
        flowconf.build(found.document)


def test_a_registered_module_is_a_call(table):
    class Halve(nn.Module):
        def __init__(self, by=2):
            super().__init__()
            self.by = by

        def forward(self, x):
            return x / self.by if x.dim() else x

    table.register(Halve)
    module = nn.Sequential(nn.Linear(4, 4), Halve(3))
    found = read(module)
    assert found.unread == []
    assert found.document["flow"] == {"linear": "Linear(4, 4)", "halve": "Halve(by=3)"}


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda self, x: x.add_(1) * x, "changes a value in place by `add_`"),
        (lambda self, *xs: xs[0], "has variadic arguments"),
        (lambda self, x: x if self.training else x + x, "behaves differently in training and evaluation"),
        (lambda self, x: self.fc(x) if x.sum() > 0 else x, "cannot be traced: symbolically traced variables"),
    ],
)
def test_forwards_that_cannot_be_read(forward, words):
    cls = type("Custom", (nn.Module,), {"forward": forward})
    found = read(cls())
    assert found.document == {"flow": {"custom": "Custom"}}
    assert words in str(found.unread[0])


def test_the_same_module_in_two_graphs_is_reported():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(nn.Sequential(shared, MLP3(shared)), nn.ReLU())
    assert any("is the same module as" in one.reason for one in read(module).unread)


class MLP3(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


MODULES = [
    (nn.Linear(3, 4, bias=False), "Linear(3, 4, bias=false)"),
    (nn.Conv2d(3, 4, (3, 5), stride=2), "Conv2d(3, 4, [3, 5], stride=2)"),
    (nn.Conv1d(2, 4, 3, padding="same", padding_mode="circular"),
     "Conv1d(2, 4, 3, padding='same', padding_mode='circular')"),
    (nn.LSTM(3, 4, 2, bidirectional=True), "LSTM(3, 4, num_layers=2, bidirectional=true)"),
    (nn.LayerNorm((8, 8)), "LayerNorm([8, 8])"),
    (nn.LayerNorm(8, elementwise_affine=False), "LayerNorm(8, elementwise_affine=false)"),
    (nn.MultiheadAttention(8, 2, bias=False), "MultiheadAttention(8, 2, bias=false)"),
    (nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=True),
     "TransformerEncoderLayer(8, 2, dim_feedforward=16, activation='gelu', norm_first=true)"),
    (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3, enable_nested_tensor=False),
     "TransformerEncoder(TransformerEncoderLayer(8, 2, dim_feedforward=16), 3, enable_nested_tensor=false)"),
    (nn.Embedding(5, 3, padding_idx=0), "Embedding(5, 3, padding_idx=0)"),
    (nn.MaxPool2d(3, 2, 1), "MaxPool2d(3, stride=2, padding=1)"),
    (nn.BatchNorm2d(4, affine=False), "BatchNorm2d(4, affine=false)"),
    (nn.Unflatten(1, (2, 3)), "Unflatten(1, [2, 3])"),
    (nn.Dropout(), "Dropout"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "call"), MODULES, ids=[call.partition("(")[0] for _, call in MODULES])
def test_calls_are_recovered_and_make_the_same_module(module, call):
    assert call_of(module) == call
    text = call if "(" in call else f"{call}()"
    made = eval(text.replace("true", "True").replace("false", "False"), vars(nn))
    assert repr(made).replace("[", "(").replace("]", ")") == repr(module).replace("[", "(").replace("]", ")")
    assert [(n, t.shape) for n, t in made.state_dict().items()] == [
        (n, t.shape) for n, t in module.state_dict().items()
    ]


def test_a_call_that_would_make_another_module_is_not_reported():
    changed = nn.Linear(3, 4)
    changed.weight = nn.Parameter(torch.zeros(5, 3))
    with pytest.raises(Unrecoverable, match="weight"):
        call_of(changed)
    with pytest.raises(Unrecoverable, match="float64"):
        call_of(nn.Linear(3, 4).double())


SOURCE = """\
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.layers = nn.Linear(8, 4), nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), Inner())

    def forward(self, x):
        return self.layers(self.stem(x))

class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(x).relu()

class Sine(nn.Module):
    def forward(self, x):
        return x.sin()

def number():
    return 3
"""
WRITTEN = """\
# Imported from nets_of_a_test:Net.
# To load its weights, rename them:
#   rename:
#     layers.1: layers.inner
#     layers.0: layers.sequential
inputs:
  x: [B, 8]
flow:
  stem: Linear(8, 4)
  layers:
    graph:
      inputs:
        input: [B, 4]
      flow:
        sequential: Linear(4, 4) >> ReLU
        inner:
          graph:
            inputs:
              x: [B, 4]
            flow:
              out: Linear(4, 2)
              relu: ReLU
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_a_test.py").write_text(SOURCE, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("nets_of_a_test", None)


def test_the_command(folder, capsys):
    arguments = ["nets_of_a_test:Net", "--input", "x=[B, 8]", "-o", "net.yaml", "--weights", "net.safetensors"]
    assert main(["import", *arguments]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "all parts converted: 6 tensors, 2 prefixes renamed\n"
        "the outputs of the graph and the module are equal, bit for bit\n"
        "wrote net.safetensors\n"
    )
    assert (folder / "net.yaml").read_text(encoding="utf-8") == WRITTEN
    graph = flowconf.build("net.yaml")
    assert len(graph.load("net.safetensors").loaded) == 6


def test_the_command_says_what_it_could_not_read(folder, capsys):
    assert main(["import", "nets_of_a_test:Sine"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("flow:\n  sin: Sin  # not imported: `sin` has no equivalent module\n")
    assert err == "1 could not be converted:\n  `sin`: `sin` has no equivalent module\n"
    assert main(["import", "nets_of_a_test:Sine", "--weights", "w.safetensors"]) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nets_of_a_test"], "expected `package.module:Factory`, got `nets_of_a_test`"),
        (["nowhere_at_all:Net"], "`nowhere_at_all` cannot be imported"),
        (["nets_of_a_test:Nothing"], "`nets_of_a_test` has no `Nothing`"),
        (["nets_of_a_test:number"], "expected a module from `nets_of_a_test:number`, got `int`"),
        (["nets_of_a_test:Net", "--input", "x=3"], "NAME=[SIZE, ...]"),
    ],
)
def test_the_command_refuses(arguments, words, capsys):
    assert main(["import", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: nn.TransformerEncoder(layer(nn.TransformerEncoderLayer), 2, enable_nested_tensor=False), {"src": 5}),
        (lambda: nn.TransformerDecoder(layer(nn.TransformerDecoderLayer), 2), {"tgt": 5, "memory": 4}),
        (lambda: nn.Transformer(8, 2, 1, 2, 16, activation="gelu", batch_first=True), {"src": 4, "tgt": 5}),
        (lambda: nn.Bilinear(8, 8, 3), {"input1": 5, "input2": 5}),
    ],
    ids=["encoder", "decoder", "transformer", "bilinear"],
)
def test_a_module_of_torch_by_itself_is_one_call(make, shapes):
    module = make()
    given = {name: ["B", length, 8] for name, length in shapes.items()}
    found = read(module, given)
    assert found.unread == []
    assert len(found.document["flow"]) == 1
    assert outputs_are_equal(module, rebuilt(module, found), given)


def layer(kind):
    return kind(8, 2, 16, batch_first=True)


def test_weights_that_are_tied_are_taken_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(8, 8)
            self.b = self.a

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    module = Tied()
    found = read(module)
    graph = rebuilt(module, found)
    assert found.unread == []
    assert list(graph.state_dict()) == ["a.weight", "a.bias"]
    assert outputs_are_equal(module, graph, {"x": ["B", 8]})
