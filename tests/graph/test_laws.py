"""Laws that hold for every graph, on random small ones: verbs nested up to three deep, right and wrong."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import flowconf
from flowconf import ConfigError
from flowconf.graph.weights.structural_hash import structural_hash

WIDTH = 4
few = settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

CALLS = [
    "Linear(4, 4)", "Linear(width, width)", "Linear(_, width)", "Tanh", "GELU", "LayerNorm(4)", "Identity",
    "Linear(4, 8) >> GELU >> Linear(8, 4)", "Linear(4, width * 2) >> Linear(_, 4)", "Scale(0.5)", "Dropout(0.0)",
]  # fmt: skip
BY_INDEX = [
    "Linear(4, 4 * (i + 1)) >> Linear(4 * (i + 1), 4)",
    {"flow": {"a": "Linear(4, i + 1)", "b": "Tanh", "c": "Linear(i + 1, 4)"}},
    {"flow": {"a": {"also": "Linear(4, i + width) >> Linear(i + width, 4)", "repeat": 2}}},
]
BILINEAR = "Bilinear(4, 4, 4)"
NAMES = ["a", "b", "c", "d", "e", "f", "g", "h", "y", "z", "item", "part"]
WRONG = ["Linear(5, 4)", "Linear(4, 5)", "Linaer(4, 4)", "Linear(4)", "Linear(4, nope)", "Conv2d(4, 4, 3)", "", "GELU("]


@st.composite
def bodies(draw, depth, calls, around, repeated=False):
    if depth <= 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(calls))
    return {"flow": draw(flows(depth - 1, calls, around, repeated))}


MIXERS = [{"through": BILINEAR}, {"also": BILINEAR}, {"loop": BILINEAR, "times": 2}]


@st.composite
def residuals(draw, body, calls):
    step = {"also": draw(body)}
    if draw(st.booleans()):
        step["skip"] = draw(bodies(0, calls, []))
    return step


def may_repeat(step):
    """A split's branches are copied one by one, and have no body to repeat."""
    return "split" not in step and "gate" not in step


@st.composite
def steps(draw, depth, calls, earlier, repeated):
    """One step that keeps the width of its stream; `earlier` are names it may read, here or in the graphs around."""
    verbs = [
        "call",
        "through",
        "also",
        "fork",
        "split",
        "loop",
        "slices",
        "graph",
        "repeat",
        "index",
        "mixture",
        "adapted",
        "state",
        "mix",
    ]
    verb = draw(st.sampled_from(verbs if earlier else verbs[:-2]))
    iterated = bodies(depth, calls, earlier, repeated)
    body = bodies(depth, calls, earlier, repeated)
    step = {
        "call": lambda: draw(st.sampled_from(calls)),
        "through": lambda: {"through": draw(body)},
        "also": lambda: draw(residuals(body, calls)),
        "fork": lambda: {"fork": draw(body)},
        "split": lambda: {
            "split": {"a": draw(body), "b": draw(body)},
            "merge": draw(st.sampled_from(["add", "mean", "mul", "max"])),
        },
        "loop": lambda: {"loop": draw(iterated), "times": draw(st.sampled_from([1, 2, 3, "turns"]))},
        "slices": lambda: {"map": draw(st.sampled_from(["Linear(2, 2)", "Tanh", "Linear(_, 2)"])), "slices": 2},
        "graph": lambda: {"graph": {"flow": draw(flows(max(depth - 1, 0), calls, earlier, repeated))}},
        "repeat": lambda: {
            "through": draw(bodies(depth, calls, earlier, True)),
            "repeat": draw(st.integers(1, 3)),
        },
        "mixture": lambda: {
            "gate": {name: draw(st.sampled_from(calls)) for name in ("a", "b", "c")},
            "router": draw(st.sampled_from(["SoftmaxRouter(4, 3)", "TopRouter(4, 3, k=2)"])),
            **draw(st.sampled_from([{}, {"top": 1}, {"top": 2}])),
        },
        "adapted": lambda: {
            "graph": {"flow": {"a": draw(st.sampled_from(calls)), "b": "Linear(4, 4)", "c": "Linear(width, 4)"}}
            | {"params": {"width": 4}},
            **draw(st.sampled_from([{}, {"adapt": {"**": {"name": "lora", "rank": 2}}}])),
        },
        "index": lambda: {
            draw(st.sampled_from(["through", "also"])): draw(st.sampled_from(BY_INDEX)),
            "repeat": {"times": draw(st.integers(1, 3)), "index": "i"},
        },
        "state": lambda: {"through": "StateAdd", "using": {"state": draw(st.sampled_from(earlier))}},
        "mix": lambda: {
            **draw(st.sampled_from(MIXERS)),
            "using": {"input2": draw(st.sampled_from(earlier))},
        },
    }[verb]()
    if isinstance(step, dict) and earlier and draw(st.integers(0, 4)) == 0:
        step["from"] = draw(st.sampled_from(earlier))
    if isinstance(step, dict) and draw(st.integers(0, 4)) == 0:
        step["frozen"] = draw(st.sampled_from([True, False, "params"]))
    if isinstance(step, dict) and may_repeat(step) and draw(st.integers(0, 9)) == 0 and "repeat" not in step:
        step["repeat"] = 2
    return step


@st.composite
def flows(draw, depth, calls, around, repeated=False):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    flow, earlier = {}, [name for name in around if name not in names]
    for name in names:
        flow[name] = draw(steps(depth, calls, earlier, repeated))
        earlier.append(name)
    return flow


LAST = [
    {},
    {"last": {"through": "Linear(4, 4)", "tie": {"weight": "first.weight"}}},
    {"last": {"fork": "Linear(4, 4)", "follows": {"path": "first", "decay": 0.9}}},
]
"""What may come last: nothing, a step that shares a parameter with the first, or one that follows it."""


def documents(calls=tuple(CALLS), depth=2):
    return st.tuples(flows(depth, list(calls), ["image", "first"]), st.sampled_from(LAST)).map(
        lambda parts: {
            "params": {"width": WIDTH, "turns": 2},
            "inputs": {"image": ["B", WIDTH]},
            "flow": {"first": "Linear(4, 4)", **parts[0], **parts[1]},
        }
    )


def built(document, seed=0):
    torch.manual_seed(seed)
    return flowconf.build(document)


def equal_states(one, other):
    a, b = one.state_dict(), other.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


def interpreted(graph, document, x):
    """What a document says, step by step, with the modules of `graph` by their paths: slow and plain."""
    return run_flow(graph, document, "", x, {"image": x})


def run_flow(graph, document, prefix, x, around):
    seen = dict(around)
    for name, step in document["flow"].items():
        out = run_step(graph, step, f"{prefix}{name}", seen[step["from"]] if "from" in step else x, seen)
        seen[name] = out
        if "fork" not in step:
            x = out
    return x


def run_step(graph, step, path, x, seen):
    if isinstance(step, str):
        return run_body(graph, step, path, x, seen, {})
    using = {argument: seen[name] for argument, name in step.get("using", {}).items()}
    repeat = step.get("repeat")
    times = repeat["times"] if isinstance(repeat, dict) else repeat
    for number in range(times or 1):
        x = run_once(graph, step, f"{path}.{number}" if times else path, x, seen, using)
    return x


def run_once(graph, step, path, x, seen, using):
    def body(verb, x, at=path):
        part = {"flow": step["graph"]["flow"]} if verb == "graph" else step[verb]
        return run_body(graph, part, at, x, seen, using if verb != "skip" else {})

    if "split" in step:
        parts = [run_body(graph, part, f"{path}.{name}", x, seen, using) for name, part in step["split"].items()]
        both = torch.stack(parts)
        return {"add": both.sum(0), "mean": both.mean(0), "mul": both.prod(0), "max": both.amax(0)}[step["merge"]]
    if "gate" in step:
        weights = graph.module_at(f"{path}.router")(x)
        kept = torch.zeros_like(weights).scatter(-1, weights.topk(step.get("top", 3), -1).indices, 1.0)
        parts = [run_body(graph, part, f"{path}.{name}", x, seen, {}) for name, part in step["gate"].items()]
        return (torch.stack(parts, -1) * (weights * kept).unsqueeze(-2)).sum(-1)
    if "also" in step:
        return (body("skip", x, f"{path}.skip") if "skip" in step else x) + body("also", x)
    if "loop" in step:
        for _ in range(2 if step["times"] == "turns" else step["times"]):
            x = body("loop", x)
        return x
    if "slices" in step:
        return torch.cat([body("map", piece) for piece in x.chunk(step["slices"], -1)], -1)
    return body(next(verb for verb in ("through", "fork", "graph") if verb in step), x)


def run_body(graph, body, path, x, seen, using):
    if isinstance(body, dict):
        return run_flow(graph, body, f"{path}.", x, seen)
    members = body.split(" >> ")
    for i, _ in enumerate(members):
        x = graph.module_at(f"{path}.{i}" if len(members) > 1 else path)(x, **using)
    return x


@few
@given(documents())
def test_a_graph_computes_what_its_document_says(document):
    graph = built(document).eval()
    for batch in (1, 3):
        x = torch.randn(batch, WIDTH)
        torch.testing.assert_close(graph(x), interpreted(graph, document, x), rtol=1e-4, atol=1e-5)


def errors(document):
    """What is wrong with a document; it may well have a parameter that nothing uses."""
    return [diagnostic for diagnostic in flowconf.check(document) if diagnostic.severity == "error"]


@few
@given(documents())
def test_a_right_graph_builds_runs_and_learns(document):
    graph = built(document)
    for batch in (1, 3):
        out = graph(torch.randn(batch, WIDTH))
        assert out.shape == (batch, WIDTH)
    assert errors(document) == []
    for name, parameter in graph.named_parameters():
        path, _, leaf = name.rpartition(".")
        assert getattr(graph.module_at(path), leaf) is parameter


@few
@given(documents(calls=CALLS + WRONG))
def test_any_graph_builds_or_gives_diagnostics(document):
    problems = errors(document)
    if not problems:
        built(document)(torch.randn(2, WIDTH))
        return
    assert all(d.message and d.code for d in problems)
    with pytest.raises(ConfigError) as raised:
        built(document)
    refused = [d.code for d in raised.value.diagnostics if d.severity == "error"]
    assert refused == [d.code for d in problems]


@few
@given(documents())
def test_one_seed_one_graph(document):
    equal_states(built(document, 3), built(document, 3))


@few
@given(documents())
def test_save_and_load(document):
    one, other = built(document, 1), built(document, 2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "w.safetensors"
        one.save(file)
        report = other.load(file, unused="error")
    assert report.missing == report.mismatched == report.cast == []
    equal_states(one, other)


@few
@given(documents())
def test_a_view_gives_what_observe_sees_and_what_the_graph_returns(document):
    graph = built(document).eval()
    names = [step.name for step in graph.plan.steps]
    x = torch.randn(3, WIDTH)
    output = graph(x)
    viewed = graph.view(names)(x)
    with graph.observe(*names) as seen:
        assert torch.equal(graph(x), output)
    assert list(viewed) == names
    for name in names:
        assert torch.equal(viewed[name], seen[name]), name
        assert torch.equal(graph.view([name])(x)[name], viewed[name]), name


@few
@given(documents())
def test_a_deep_copy_is_equal(document):
    graph = built(document).eval()
    twin = copy.deepcopy(graph)
    equal_states(graph, twin)
    x = torch.randn(2, WIDTH)
    assert torch.equal(graph(x), twin(x))
    assert twin.plan == graph.plan
    assert {n for n, p in graph.named_parameters() if p.requires_grad} == {
        n for n, p in twin.named_parameters() if p.requires_grad
    }


@few
@given(documents())
def test_the_source_alone_is_the_graph(document):
    graph = built(document).eval()
    space = {"__name__": "alone"}
    exec(compile(graph.source, "<alone>", "exec"), space)
    alone = space[type(graph).__name__]().eval()
    alone.load_state_dict(graph.state_dict())
    x = torch.randn(2, WIDTH)
    assert torch.equal(alone(x), graph(x))


@few
@given(documents())
def test_yaml_and_the_dict_give_one_plan(document):
    plan = flowconf.plan(document)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        from_yaml = flowconf.plan(file)
    assert from_yaml == plan
    assert structural_hash(from_yaml) == structural_hash(plan)
    assert flowconf.plan(json.loads(json.dumps(document))) == plan


@few
@given(documents(), st.data())
def test_a_null_member_was_never_written(document, data):
    """What is set to null leaves no trace; what refers to it is refused in the same way, if in better words."""
    names = list(document["flow"])
    assume(names)
    gone = data.draw(st.sampled_from(names))
    nulled = {**document, "flow": {name: None if name == gone else step for name, step in document["flow"].items()}}
    left_out = {**document, "flow": {name: step for name, step in document["flow"].items() if name != gone}}

    def outcome(doc):
        try:
            return flowconf.plan(doc)
        except ConfigError as refused:
            return [d.code for d in refused.diagnostics]

    if left_out["flow"]:
        assert outcome(nulled) == outcome(left_out)


@few
@given(documents())
def test_adding_a_frozen_mark_moves_no_weight_and_stops_all_gradients(document):
    graph = built(document)
    graph.freeze()
    for _, setting in graph.plan.all_settings():
        if setting.frozen == "no":
            return
    if any(graph.plan.all_adapters()):  # they are trained in any case
        return
    graph.train()
    out = graph(torch.randn(3, WIDTH, requires_grad=True))
    out.square().sum().backward()
    assert all(p.grad is None for p in graph.parameters())
