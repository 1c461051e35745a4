"""What a command does grows with the size of a config, not with its square.

Calls and lines are counted, not seconds: for four times as many members, mounts or settings, every function may be
called about four times as often, and run about four times as many lines. A search through all members for each of
them is called, or runs, sixteen times as often, and is named.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import re
import sys
from collections import Counter

import pytest

import flowconf
from flowconf.cli.main import main
from flowconf.graph.weights.structural_hash import structural_hash

FEW, MANY = 8, 32

CONFIG = """
model:
  params: {{size: 4{params}}}
  inputs: {{image: [B, 4]}}
  flow:
    first: Linear(4, 4)
{flow}
    last: Linear(4, 4)
data: {{name: synthetic, shape: [4], rows: 8, validation: 0.25, test: 0, classes: 4, batch_size: 2}}
loss:
  label: {{fn: cross_entropy, input: last, target: label}}
optimizer: {{name: adamw, lr: 0.001}}
trainer: {{steps: 4, devices: cpu}}
{more}
"""
PART = "params: {size: 4}\ninputs: {x: [B, 4]}\nflow: {a: 'Linear(4, size)', b: ReLU, c: 'Linear(size, 4)'}\n"

DEPTH = 8


def nested(depth):
    """A graph in a graph, and so on, with a module at each level."""
    return f"{{flow: {{a: 'Linear(4, 4)'{f', b: {{also: {nested(depth - 1)}}}' if depth else ''}}}}}"


STEPS = {
    "members": "    s{i}: Linear(4, 4) >> ReLU",
    "holes": "    s{i}: Linear(_, 4)",
    "references": "    s{i}: {{through: StateAdd, using: {{state: first}}, tag: t{i}}}\n"
    "    u{i}: {{from: t{i}, also: 'Linear(4, 4)'}}",
    "states": "    s{i}: {{through: StateAdd, using: {{state: u{i}}}}}\n    u{i}: Linear(4, 4)",
    "captures": "    s{i}: {{through: {{flow: {{a: {{through: StateAdd, using: {{state: first}}}}}}}}}}",
    "orders": "    s{i}: {{through: 'Linear(4, 4)', after: {before}}}",
    "settings": "    s{i}: {{through: 'Linear(4, 4)', init: {{bias: 0}}}}\n"
    "    f{i}: {{through: 'Linear(4, 4)', frozen: params}}",
    "ties": "    s{i}: {{through: 'Linear(4, 4)', tie: {{weight: {before}.weight}}}}",
    "followers": "    s{i}: {{fork: 'Linear(4, 4)', follows: {{path: first, decay: 0.9}}}}",
    "adapters": "    s{i}:\n      through: {{flow: {{a: 'Linear(4, 4)'}}, adapt: {{a: {{name: lora, rank: 1}}}}}}",
    "reuses": "    s{i}: {{reuse: first}}",
    "mounts": "    s{i}: {{graph: part.yaml, with: {{size: {i}}}}}",
    "inline graphs": "    s{i}:\n      through:\n        flow:\n          a: Linear(4, 4)\n          b: {{also: ReLU}}",
}
"""What is written once for each of FEW or MANY numbers."""


def many(line, count):
    return "\n".join(line.format(i=i, before=f"s{i - 1}" if i > 1 else "first") for i in range(1, count + 1))


def listed(line, count):
    return "".join(f", {line.format(i=i)}" for i in range(1, count + 1))


OTHERS = {
    "branches": lambda n: {"flow": "    w:\n      merge: add\n      split:\n" + many("        b{i}: Linear(4, 4)", n)},
    "experts": lambda n: {
        "flow": f"    w:\n      router: SoftmaxRouter(4, {n})\n      gate:\n" + many("        b{i}: Linear(4, 4)", n)
    },
    "params": lambda n: {"params": listed("p{i}: 4", n), "flow": many("    s{i}: Linear(size, p{i})", n)},
    "copies": lambda n: {
        "flow": f"    w: {{also: 'Linear(4, i + 1) >> Linear(i + 1, 4)', repeat: {{times: {n}, index: i}}}}"
    },
    "phases": lambda n: {
        "flow": many(STEPS["members"], 4),
        "more": "phases:\n" + many("  p{i}: {{freeze: s1, when: {{step: {i}}}}}", n),
    },
    "nested graphs": lambda n: {"flow": "\n".join(f"    s{i}: {{also: {nested(DEPTH)}}}" for i in range(n // 8))},
}


MISTAKES = {
    "unknown keys": {"flow": "    s{i}: {{through: 'Linear(4, 4)', frozn: params}}"},
    "unknown sections": {"more": "section{i}: 3"},
    "unknown references": {"flow": "    s{i}: {{through: 'Linear(4, 4)', from: lost{i}}}"},
    "unknown modules": {"flow": "    s{i}: Linaer{i}(4, 4)"},
    "wrong values": {"flow": "    s{i}: {{through: 'Linear(4, 4)', frozen: 3}}"},
    "references to them": {
        "flow": "    s{i}: {{through: 'Xyzzy(4, 4)', tag: t{i}}}\n    u{i}: {{from: t{i}, also: ReLU}}"
    },
    "wrong sizes": {"flow": "    s{i}: Linear(4, 5)"},
}
"""A mistake in each of FEW or MANY places."""


def mistaken(kind, count):
    """A config with a mistake in `count` places."""
    parts = {key: many(line, count) for key, line in MISTAKES[kind].items()}
    return CONFIG.format(**{"params": "", "more": "", "flow": many(STEPS["members"], 4), **parts})


def written(shape, count):
    """A config with `count` of something."""
    if shape == "everything":
        texts = enumerate(STEPS.values())
        unique = [re.sub(r"\b([stuf])\{i\}", rf"\g<1>{number}_{{i}}", text) for number, text in texts]
        parts = {"flow": "\n".join(many(text.replace("{before}", "first"), count) for text in unique)}
    elif shape in STEPS:
        parts = {"flow": many(STEPS[shape], count)}
    else:
        parts = OTHERS[shape](count)
    return CONFIG.format(**{"params": "", "more": "", **parts})


def calls(run):
    """How often each function of the package was called, and each other one by a function of the package.

    "lines of" a function: how many lines it has run in all of its calls.
    """
    profile, lines = cProfile.Profile(), Counter()

    def trace(frame, event, _):
        if "/flowconf/" not in frame.f_code.co_filename:
            return None
        lines[frame.f_code] += event == "line"
        return trace

    gc.collect()
    gc.disable()  # what a collection calls would count for the function in which it happens
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        profile.runcall(run)
    finally:
        sys.settrace(before)
        gc.enable()
    found = Counter()
    for code, count in lines.items():
        found[f"lines of {code.co_filename}: {code.co_name}"] += count
    for (file, _, name), (_, count, _, _, callers) in pstats.Stats(profile).stats.items():
        if "/flowconf/" in file or file.endswith("difflib.py"):
            found[f"{file}: {name}"] += count
        else:
            for (caller, _, above), (_, times, _, _) in callers.items():
                if "/flowconf/" in caller:
                    found[f"{caller}: {above} calls {name}"] += times
    return found


def growing(run, shape):
    """The functions that are called more than in proportion when `run` takes a config."""
    return grown(lambda count: run(written(shape, count)))


def grown(run):
    """The functions that are called more than in proportion when `run` takes a count."""
    few, many_ = (calls(lambda count=count: run(count)) for count in (FEW, MANY))
    return {
        name: (few[name], count) for name, count in many_.items() if count > 1.2 * MANY / FEW * few[name] + 16 * MANY
    }


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs a command on the text of a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part.yaml").write_text(PART)

    def run(*words, code=0):
        def on(text, *more):
            (tmp_path / "config.yaml").write_text(text)
            (tmp_path / "other.yaml").write_text(text.replace("last: Linear(4, 4)", "last: Linear(4, 4, bias=false)"))
            assert main([*words, *more]) == code, capsys.readouterr().err
            capsys.readouterr()

        on(written("members", 2) if code == 0 else mistaken("unknown keys", 2))  # what is imported and cached is free
        return on

    return run


@pytest.mark.parametrize("shape", [*STEPS, *OTHERS])
def test_the_checks_grow_in_proportion(shape, command):
    assert growing(command("check", "config.yaml"), shape) == {}


SHORT = ("unknown keys", "unknown references", "references to them")


@pytest.mark.parametrize(
    "kind", [kind if kind in SHORT else pytest.param(kind, marks=pytest.mark.slow) for kind in MISTAKES]
)
def test_the_reports_of_mistakes_grow_in_proportion(kind, command):
    run = command("check", "config.yaml", code=2)
    assert grown(lambda count: run(mistaken(kind, count))) == {}


SHALLOW, DEEP = 3, 12


def test_the_checks_of_nested_graphs_do_not_start_from_the_root(command):
    """A member that is nested four times as deep takes less than twice the calls of any function."""
    run = command("check", "config.yaml")

    def on(depth, count):
        flow = "\n".join(f"    s{i}: {{also: {nested(depth - 1)}}}" for i in range(count))
        run(CONFIG.format(params="", more="", flow=flow))

    few, many_ = calls(lambda: on(SHALLOW, DEEP)), calls(lambda: on(DEEP, SHALLOW))
    assert {name: (few[name], count) for name, count in many_.items() if count > 2 * few[name] + 16 * DEEP} == {}


MOST_CALLS = 2_400
"""Calls of functions for one member; more means that something known is computed again."""


def test_the_checks_of_a_member_take_few_calls(command):
    run, taken = command("check", "config.yaml"), []
    run(written("settings", 2))
    for count in (FEW, MANY):
        profile = cProfile.Profile()
        profile.runcall(run, written("settings", count))
        taken.append(pstats.Stats(profile).total_calls)
    members = 2 * (MANY - FEW)
    assert (taken[1] - taken[0]) / members < MOST_CALLS


SLOW = (
    "draw config.yaml --format dot --depth 9",  # without a depth, a larger graph is folded
    "draw config.yaml --format json",
    "diff config.yaml other.yaml",
    "eject config.yaml -o ejected.py",
)
COMMANDS = [
    "summary config.yaml",
    *(pytest.param(words, marks=pytest.mark.slow) for words in SLOW),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_grow_in_proportion(words, command):
    assert growing(command(*words.split()), "everything") == {}


def test_overrides_grow_in_proportion(command):
    """As many overrides as members: each is applied to its place, not compared with all others."""
    run = command("check", "config.yaml")
    words = [f"model.flow.s{i}.init.bias=1" for i in range(1, MANY + 1)]
    assert grown(lambda count: run(written("settings", count), *words[:count])) == {}


def test_the_names_of_a_graph_are_gathered_once_for_all_groups(command):
    run = command("summary", "config.yaml")

    def on(count):
        groups = ", ".join(f"'**.s{i}:bias': {{lr: 0.01}}" for i in range(1, count + 1))
        run(written("members", FEW).replace("lr: 0.001}", f"lr: 0.001, groups: {{{groups}}}}}"))

    few, many_ = (calls(lambda count=count: on(count)) for count in (2, FEW))
    gathering = [name for name in many_ if name.endswith("selecting.py: kinds_of")]
    assert gathering
    assert [many_[name] for name in gathering] == [few[name] for name in gathering]


@pytest.fixture
def weights(tmp_path):
    """Builds a graph of a count of members, and writes its weights."""

    def write(count):
        steps = {f"s{i}": {"also": {"flow": {"a": "Linear(4, 4)", "b": "Linear(4, 4)"}}} for i in range(count)}
        graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": steps})
        graph.save(tmp_path / f"{count}.safetensors")
        return graph

    return {count: write(count) for count in (2, FEW, MANY)}


def test_the_hash_grows_in_proportion(weights):
    structural_hash(weights[2].plan)
    assert grown(lambda count: structural_hash(weights[count].plan)) == {}


def test_reading_weights_grows_in_proportion(weights, tmp_path, capsys):
    def listed_and_loaded(count):
        assert main(["weights", str(tmp_path / f"{count}.safetensors")]) == 0
        weights[count].load(tmp_path / f"{count}.safetensors")
        weights[count].load(tmp_path / f"{count}.safetensors", at="s1", source_at="s0")

    listed_and_loaded(2)
    assert grown(listed_and_loaded) == {}
