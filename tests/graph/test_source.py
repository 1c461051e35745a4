"""The generated source: what it reads like, that it stands alone, and that it costs what hand-written code costs."""

from __future__ import annotations

import ast
import itertools
import linecache
import sys
import weakref

import pytest
import torch
from torch import nn

import flowconf

DIGITS = {
    "label": "classifier",
    "params": {"width": 128},
    "inputs": {"image": ["B", 784]},
    "flow": {
        "stem": "Linear(784, width)",
        "hidden": "GELU",
        "norm": "LayerNorm(width)",
        "residual": {"also": "Linear(width, width)"},
        "logits": "Linear(width, 10)",
    },
}

DIGITS_SOURCE = '''\
from torch import nn


class Classifier(nn.Module):
    """The graph `classifier`."""

    def __init__(self, width=128):
        super().__init__()
        self.stem = nn.Linear(784, width)
        self.hidden = nn.GELU()
        self.norm = nn.LayerNorm(width)
        self.residual = nn.Linear(width, width)
        self.logits = nn.Linear(width, 10)

    def forward(self, image):
        x = self.stem(image)
        x = self.hidden(x)
        x = self.norm(x)
        x = x + self.residual(x)
        return self.logits(x)
'''

READER = {
    "label": "letter",
    "params": {"width": 16, "reads": 3},
    "inputs": {"image": ["B", 1, 8, 8]},
    "flow": {
        "scan": {
            "through": {
                "flow": {
                    "seen": "Flatten >> Linear(64, width) >> ReLU",
                    "think": "GRUCell(width, width)",
                    "move": "Linear(width, 2) >> Tanh",
                },
                "outputs": {"hidden": "think", "at": "move"},
            }
        },
        "read": {
            "loop": {
                "inputs": {"hidden": ["B", "width"], "at": ["B", 2], "image": ["B", 1, 8, 8]},
                "flow": {
                    "patch": {"from": "image", "through": "Glimpse([4, 4])", "using": "at"},
                    "seen": "Flatten >> Linear(16, width) >> ReLU",
                    "think": {"reuse": "scan.think", "using": {"hx": "hidden"}},
                    "move": "Linear(width, 2) >> Tanh",
                },
                "outputs": {"hidden": "think", "at": "move"},
            },
            "times": "reads",
            "using": "image",
        },
        "latent": {"from": "read.hidden", "through": "Linear(width, width)"},
        "logits": "Linear(width, 26)",
    },
}


def test_the_digits_example_reads_like_this():
    assert flowconf.build(DIGITS).source == DIGITS_SOURCE


READER_SOURCE = '''\
from torch import nn

from flowconf.fbrl.glimpse import Glimpse


class Scan(nn.Module):
    """Part `scan` of the surrounding graph."""

    def __init__(self, width):
        super().__init__()
        self.seen = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())
        self.think = nn.GRUCell(width, width)
        self.move = nn.Sequential(nn.Linear(width, 2), nn.Tanh())

    def forward(self, x):
        x = self.seen(x)
        think = self.think(x)
        x = self.move(think)
        return {"hidden": think, "at": x}


class Read(nn.Module):
    """Part `read` of the surrounding graph."""

    def __init__(self, think, width):
        super().__init__()
        self.patch = Glimpse([4, 4])
        self.seen = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU())
        self.think = think
        self.move = nn.Sequential(nn.Linear(width, 2), nn.Tanh())

    def forward(self, hidden, at, image):
        x = self.patch(image, at)
        x = self.seen(x)
        think = self.think(x, hidden)
        x = self.move(think)
        return {"hidden": think, "at": x}


class Letter(nn.Module):
    """The graph `letter`."""

    def __init__(self, width=16, reads=3):
        super().__init__()
        self.reads = reads
        self.scan = Scan(width=width)
        self.read = Read(think=self.scan.think, width=width)
        self.latent = nn.Linear(width, width)
        self.logits = nn.Linear(width, 26)

    def forward(self, image):
        x = self.scan(image)
        for _ in range(self.reads):
            x = self.read(x["hidden"], x["at"], image)
        x = self.latent(x["hidden"])
        return self.logits(x)
'''


@pytest.mark.usefixtures("flagship")
def test_a_reader_with_a_loop_reads_like_this():
    assert flowconf.build(READER).source == READER_SOURCE


@pytest.mark.usefixtures("flagship")
@pytest.mark.parametrize("document", [DIGITS, READER], ids=["digits", "reader"])
def test_source_names_nothing_of_flowconf_but_imported_blocks(document):
    graph = flowconf.build(document)
    tree = ast.parse(graph.source)
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(isinstance(node, ast.ClassDef) for node in body)
    assert "flowconf" not in "\n".join(ast.unparse(node) for node in body)
    from_ours = [node for node in imported if isinstance(node, ast.ImportFrom) and "flowconf" in str(node.module)]
    names = {alias.name for node in from_ours for alias in node.names}
    assert names <= {"Glimpse"}


@pytest.mark.usefixtures("flagship")
@pytest.mark.parametrize("document", [DIGITS, READER], ids=["digits", "reader"])
def test_source_runs_by_itself_bit_for_bit(document):
    """The printed file, executed as plain Python, is the same module."""
    torch.manual_seed(0)
    graph = flowconf.build(document)
    space = {"__name__": "alone"}
    exec(compile(graph.source, "<alone>", "exec"), space)
    cls = next(value for value in reversed(space.values()) if isinstance(value, type) and issubclass(value, nn.Module))
    alone = cls()
    assert not isinstance(alone, flowconf.Graph)
    assert list(alone.state_dict()) == list(graph.state_dict())
    alone.load_state_dict(graph.state_dict())
    shape = [3, *graph.plan.inputs[0].shape[1:]]
    x = torch.randn(shape)
    assert torch.equal(alone(x), graph(x))


def test_source_shows_in_tracebacks():
    graph = flowconf.build(DIGITS)
    file = type(graph).forward.__code__.co_filename
    line = type(graph).forward.__code__.co_firstlineno
    assert linecache.getline(file, line).strip() == "def forward(self, image):"
    linecache.checkcache()
    assert linecache.getline(file, line).strip() == "def forward(self, image):"


NAMES = ["x", "y", "y_", "x_", "nn", "torch", "item", "part", "block_copy", "reader_seen", "_"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_members_never_collide_with_names_of_the_source(name):
    """Whatever a member is called, the graph computes what it says, or the name is refused with a place."""
    flow = {
        name: {"fork": "Linear(6, 6)"},
        "k": {"fork": "Linear(6, 6)"},
        "block": {"through": "Bilinear(6, 6, 6)", "repeat": 2, "using": {"input2": name}},
        "reader": {"loop": {"flow": {"a": "Linear(6, 6)"}}, "times": 2},
        "part_": {"split": {"a": "Identity", "b": "Linear(6, 6)"}, "merge": "add"},
        "sum": {"through": "StateAdd", "using": {"state": "k"}},
        "more": {"through": "StateAdd", "using": {"state": "reader.a[0]"}},
    }
    document = {"inputs": {"in_": ["B", 6]}, "flow": flow}
    if refused := {d.code for d in flowconf.check(document)}:
        assert refused == {"FC0126"}
        return
    graph = flowconf.build(document)
    at = graph.module_at
    x = start = torch.randn(3, 6)
    other, k = at(name)(x), at("k")(x)
    for i in range(2):
        x = at(f"block.{i}")(x, other)
    seen = []
    for _ in range(2):
        x = at("reader.a")(x)
        seen.append(x)
    x = x + at("part_.b")(x)
    assert torch.equal(graph(start), x + k + seen[0])


# values are released where hand-written code would release them


class Counter:
    """Counts how many of the tensors it was shown are alive at once."""

    def __init__(self):
        self.alive, self.peak = 0, 0

    def see(self, tensor):
        self.alive += 1
        self.peak = max(self.peak, self.alive)
        weakref.finalize(tensor, self.gone)

    def gone(self):
        self.alive -= 1


@pytest.fixture
def counted(table):
    """A ReLU that counts its live outputs."""
    counter = Counter()

    class CountedRelu(nn.Module):
        def forward(self, x):
            out = torch.relu(x)
            counter.see(out)
            return out

    table.register(CountedRelu)
    counter.module = CountedRelu
    return counter


def peak_of(module, counter, *inputs):
    counter.alive = counter.peak = 0
    with torch.no_grad():
        module(*inputs)
    return counter.peak


def test_a_chain_of_24_holds_what_hand_written_code_holds(counted):
    graph = flowconf.build({"flow": {f"r{i}": "CountedRelu" for i in range(24)}})
    by_hand = nn.Sequential(*[counted.module() for _ in range(24)])
    x = torch.randn(1 << 20)  # 4 MiB
    assert peak_of(graph, counted, x) <= peak_of(by_hand, counted, x) <= 2


def test_a_skip_is_held_as_long_as_it_is_needed(counted):
    flow = {
        "a": "CountedRelu",
        "b": "CountedRelu",
        "c": "CountedRelu",
        "join": {"through": "StateAdd", "using": {"state": "a"}},
        **{f"r{i}": "CountedRelu" for i in range(8)},
    }
    graph = flowconf.build({"flow": flow})
    assert peak_of(graph, counted, torch.randn(16)) <= 3


def test_forks_that_nothing_reads_later_are_dropped(counted):
    flow = {}
    for i in range(6):
        flow[f"probe{i}"] = {"fork": "CountedRelu"}
        flow[f"r{i}"] = "Tanh"
    graph = flowconf.build({"flow": flow})
    assert peak_of(graph, counted, torch.randn(16)) <= 1


def test_loops_maps_and_repeats_keep_no_iteration(counted):
    graph = flowconf.build(
        {"flow": {"l": {"loop": "CountedRelu", "times": 12}, "r": {"through": "CountedRelu", "repeat": 12}}}
    )
    assert peak_of(graph, counted, torch.randn(16)) <= 2


# cost


def chain_of(length):
    flow = {f"s{i}": "Linear(4, 4)" if i % 2 else "Tanh" for i in range(length)}
    return {"inputs": {"x": ["B", 4]}, "flow": flow}


def calls_made(length):
    """How many Python functions are entered while a chain is built."""
    entered = itertools.count()
    sys.setprofile(lambda frame, event, argument: next(entered) if event == "call" else None)
    try:
        flowconf.build(chain_of(length))
    finally:
        sys.setprofile(None)
    return next(entered)


def test_the_effort_of_a_long_chain_is_linear():
    """Calls are counted, not seconds: four times the steps take about four times the calls."""
    calls_made(50)
    assert calls_made(1200) < 5 * calls_made(300)


def test_a_long_chain_of_calls_in_one_step_builds():
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"c": " >> ".join(["Tanh"] * 700)}})
    assert len(list(graph.module_at("c").children())) == 700
    x = torch.randn(2, 4)
    by_hand = x
    for _ in range(700):
        by_hand = torch.tanh(by_hand)
    assert torch.equal(graph(x), by_hand)


def test_deep_nesting_builds_or_is_refused():
    document = {"flow": {"a": "Linear(4, 4)"}}
    for _ in range(60):
        document = {"flow": {"g": {"graph": document}}}
    limit = sys.getrecursionlimit()
    document = {"inputs": {"x": ["B", 4]}, **document}
    if refused := {d.code for d in flowconf.check(document)}:
        assert refused == {"FC0006"}
        return
    graph = flowconf.build(document)
    x = torch.randn(2, 4)
    assert torch.equal(graph(x), graph.module_at(".".join(["g"] * 60 + ["a"]))(x))
    assert sys.getrecursionlimit() == limit
