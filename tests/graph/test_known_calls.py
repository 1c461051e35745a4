"""Equal calls of the shape check: constructed and run once, with the same results as if each was."""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import flowconf
from flowconf.graph.gradients import leaves
from flowconf.graph.shapes import known_calls, module_caller
from flowconf.graph.shapes.check import rehearse
from flowconf.graph.shapes.fake_values import faked
from flowconf.graph.shapes.sizes import Sizes
from flowconf.language.arguments import Call, Literal
from flowconf.language.paths import join
from flowconf.train.checks import road

INPUTS = {"x": ["B", 4], "seq": ["B", 5, 4], "image": ["B", 4, 9, 9], "ids": {"shape": ["B", 5], "dtype": "int64"}}
STEPS = ("one", "two")
CALLS = {
    "Linear(4, 4)": {},
    "Linear(_, 4) >> ReLU(inplace=true) >> Dropout(0.5)": {},
    "Sequential(Linear(4, 4), Tanh(), Linear(4, 4))": {},
    "LayerNorm(4)": {},
    "Identity": {},
    "Detach": {},
    "Learned(4)": {},
    "Gaussian": {"take": "sample"},
    "StateAdd": {"using": {"state": "x"}},
    "ArgmaxSelector(4, 3)": {},
    "Conv2d(4, 4, 3, padding='same')": {"from": "image"},
    "BatchNorm2d(4)": {"from": "image"},
    "Embedding(9, 4)": {"from": "ids"},
    "GRU(4, 4, batch_first=true)": {"from": "seq"},
    "TransformerEncoderLayer(4, 2, 8, batch_first=true)": {"from": "seq"},
    "MultiheadAttention(4, 2, batch_first=true)": {"from": "seq", "using": {"key": "seq", "value": "seq"}},
}
BRANCHES = {"a": "Linear(4, 4)", "b": "Linear(4, 4)"}
VERBS = {
    "also": {"also": "Linear(4, 4)"},
    "add": {"split": BRANCHES, "merge": "add"},
    "cat": {"split": BRANCHES, "merge": "cat", "dim": 0},
    "gate": {"gate": BRANCHES, "router": "SoftmaxRouter(4, 2)"},
    "switch": {"switch": BRANCHES, "router": "ArgmaxSelector(4, 2)"},
}


def rehearsed(call, keys):
    """A trained step into two equal calls, and what each of these gives, with the parameters that it depends on."""
    using = {"using": {name: f"a_{value}" for name, value in keys["using"].items()}} if "using" in keys else {}
    source = keys.get("from", "x")
    before = {"x": "Linear(4, 4)", "seq": "Linear(4, 4)", "image": "LeakyReLU", "ids": "Identity"}
    flow = {f"a_{name}": {"from": name, "through": call} for name, call in before.items()}
    step = {
        **{key: value for key, value in keys.items() if key == "take"},
        **using,
        **(call if isinstance(call, dict) else {"through": call}),
    }
    flow |= {name: {"from": f"a_{source}", **step} for name in STEPS}
    plan = (
        road.begin({"inputs": INPUTS, "flow": flow, "outputs": dict(zip(STEPS, STEPS, strict=True))}).to("graph").plan
    )
    with faked(grad=True):
        found = rehearse(plan, {}, Sizes())
    assert not found.inference.reporter.errors
    names = {p: join(path, name) for path, module in found.modules.items() for name, p in module.named_parameters()}
    given = {}
    for step in STEPS:
        values = [one for one in tree_leaves(found.scope.local[step]) if isinstance(one, Tensor)]
        reached = [sorted(names[p].replace(step, "step") for p in leaves(one)[0] if p in names) for one in values]
        given[step] = [(one.shape, one.stride(), one.dtype, one.requires_grad) for one in values], reached
    return given, sorted(names.values())


@pytest.mark.parametrize("call", CALLS)
def test_the_second_of_equal_calls_gives_what_the_first_gives(call, monkeypatch):
    known_calls._prototypes.cache_clear()
    given, names = rehearsed(call, CALLS[call])
    assert given["one"] == given["two"]
    monkeypatch.setattr(known_calls, "prototypes", lambda *_: None)
    monkeypatch.setattr("flowconf.graph.shapes.module_maker.prototypes", lambda *_: None)
    assert rehearsed(call, CALLS[call]) == (given, names)


@pytest.mark.parametrize("verb", VERBS)
def test_the_second_of_equal_merges_gives_what_the_first_gives(verb, monkeypatch):
    given, names = rehearsed(VERBS[verb], {})
    assert given["one"] == given["two"]
    monkeypatch.setattr(known_calls, "known_call", lambda *_: None)
    assert rehearsed(VERBS[verb], {}) == (given, names)


@pytest.fixture
def runs(monkeypatch):
    """The types of the modules that were run, on the meta device or on fake tensors."""
    known_calls._prototypes.cache_clear()
    found, run = [], module_caller.called

    def called(built, *given):
        found.append(type(built).__name__)
        return run(built, *given)

    for place in (module_caller, known_calls):
        monkeypatch.setattr(place, "called", called)
    return found


def test_equal_calls_run_once(runs):
    rehearsed("Linear(4, 8) >> ReLU >> Linear(8, 8)", {})
    assert runs.count("Linear") == 4, "two by which `a_x` and `a_seq` are made, and the two calls"
    assert runs.count("ReLU") == 1
    runs.clear()
    rehearsed("Linear(4, 8) >> ReLU >> Linear(8, 8)", {})
    assert runs == ["Identity"], "which gives its input, so that it is run each time"


@pytest.mark.parametrize("verb", VERBS)
def test_equal_merges_run_once(verb, runs):
    known_calls._computation.cache_clear()
    rehearsed(VERBS[verb], {})
    assert runs.count("_Computation") == 1


def test_modules_of_projects_run_each_time(runs):
    class Counted(nn.Module):
        def forward(self, x):
            return x * 2

    flowconf.register(Counted)
    rehearsed("Sequential(Counted(), Linear(4, 4))", {})
    assert runs.count("Sequential") == 2


def test_a_module_that_changes_its_input_runs_each_time(runs):
    rehearsed("Linear(4, 4) >> ReLU(inplace=true)", {})
    assert runs.count("ReLU") == 1 + 2, "once on the meta device, which shows that it has to be run"


def test_values_that_are_equal_in_python_are_different_calls():
    calls = [Call("Linear", (Literal(4, "4"), Literal(value, "p"))) for value in (1, 1.0, True)]
    assert len(set(calls)) == 1
    assert len({id(known_calls.prototypes(call, ())) for call in calls}) == 3
