"""`trainer.statistics`: norms and shares of zeros by path, against formulas and in teams; training is the same."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import flowconf
from flowconf.api import load
from flowconf.graph.build import build_graph
from flowconf.report import ConfigError
from flowconf.train.callbacks import statistics
from tests.train.conftest import TINY, assert_same, go_on, killed, left_behind
from tests.train.teams import team
from tests.train.test_callbacks import COMPILES, NORMED
from tests.train.test_report import data_in

PLAIN = TINY.replace("Dropout(0.1)", "Identity").replace("name: adamw, lr: 0.01", "name: sgd, lr: 0.5")


def counted(text, section):
    return text.replace("trainer: {", f"trainer: {{statistics: {section}, ")


def found_in(run, step):
    found = {}
    for line in run.log:
        if line["step"] == step and "statistics" in line:
            for kind, paths in line["statistics"].items():
                assert paths.keys().isdisjoint(found.setdefault(kind, {}))
                found[kind] |= paths
    return found


def weights_of(run):
    return {
        name: tensor
        for name, tensor in load_file(run.folder / "checkpoints/last.safetensors").items()
        if not name.startswith("@")
    }


def facts(tensor, rows=1):
    tensor = tensor.double()
    return {"norm": float(tensor.norm()) / rows**0.5, "zeros": float((tensor == 0).double().mean())}


def test_they_are_those_of_the_step(folder):
    """Against the weights after steps 3 and 4: with SGD, an update is the gradient times the rate."""
    words = ["trainer.epochs=null", "+trainer.clip=0.1"]
    before = weights_of(folder.train(*words, "+trainer.steps=3", text=PLAIN))
    run = folder.train(*words, "+trainer.steps=4", text=counted(PLAIN, "{every: 4}"))
    after, found = weights_of(run), found_in(run, 4)
    assert set(found) == {"gradient", "weight", "update", "activation"}
    graph = build_graph(load(folder.write(PLAIN)).model)
    graph.load_state_dict(before)
    batch = next(batch for number, batch in enumerate(flowconf.data(folder.write(PLAIN)).train, 1) if number == 4)
    torch.nn.functional.cross_entropy(graph(batch["image"]), batch["label"]).backward()
    for name, parameter in graph.named_parameters():
        assert found["gradient"][name] == pytest.approx(facts(parameter.grad), rel=1e-4)
        assert found["weight"][name] == pytest.approx(facts(after[name]), rel=1e-5)
        assert found["update"][name] == pytest.approx(facts(after[name] - before[name]), rel=1e-5)
    total = sum(one["norm"] ** 2 for one in found["update"].values()) ** 0.5
    assert total == pytest.approx(0.5 * 0.1, rel=1e-4)  # they are clipped, and gradients are those before that
    graph.load_state_dict(after)
    with torch.no_grad():
        stem = graph.stem(batch["image"])
        given = {"stem": stem, "hidden": stem.relu(), "drop": stem.relu(), "logits": graph.logits(stem.relu())}
    assert found["activation"].keys() == given.keys()
    for name, value in given.items():
        assert found["activation"][name] == pytest.approx(facts(value, len(value)), rel=1e-5)
    assert 0.2 < found["activation"]["hidden"]["zeros"] < 0.8


def test_a_selector_and_kinds_choose(folder):
    run = folder.train(text=counted(NORMED, '{every: 8, of: [weight, activation], at: ["norm", "**:bias"]}'))
    assert [line["step"] for line in run.log if "statistics" in line] == [8, 8, 16, 16]
    found = found_in(run, 16)
    assert {kind: set(paths) for kind, paths in found.items()} == {
        "weight": {"norm.weight", "norm.bias", "stem.bias", "logits.bias"}, "activation": {"norm"},
    }  # fmt: skip
    assert set(found_in(folder.train(text=counted(TINY, "{every: 16, of: update}")), 16)) == {"update"}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("+trainer.accumulate=3", "trainer.ema=null"),
        ("optimizer.name=lbfgs", "optimizer.lr=0.1", "trainer.ema=null"),
        ("trainer.precision=fp16",),
        pytest.param(("trainer.compile=true",), marks=COMPILES),
    ],
    ids=" ".join,
)
def test_training_is_the_same_to_the_bit(folder, words):
    counting = folder.train(*words, text=counted(NORMED, "{every: 3}"))
    without = folder.train(*words, text=NORMED)
    mine, theirs = left_behind(counting), left_behind(without)
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []
    assert [line for line in counting.log if "statistics" not in line] == without.log


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("shares", ["null", "[3, 1]"])
def test_two_processes_find_what_one_finds(folder, strategy, shares):
    text = counted(PLAIN, "{every: 5}")
    one = folder.train(text=text)
    two = team(folder, text, f"trainer.strategy={strategy}", f"trainer.shares={shares}")
    for step in (5, 10, 15):
        mine, theirs = found_in(one, step), found_in(two, step)
        assert mine.keys() == theirs.keys()
        for kind, paths in mine.items():
            assert paths.keys() == theirs[kind].keys()
            for path, values in paths.items():
                assert theirs[kind][path] == pytest.approx(values, rel=2e-3, abs=1e-5)


def test_parts_of_a_batch_are_added_up(folder):
    text = counted(PLAIN, "{every: 5}")
    whole, parts = folder.train(text=text), folder.train("+trainer.accumulate=3", text=text)
    for kind, paths in found_in(whole, 5).items():
        for path, values in paths.items():
            assert found_in(parts, 5)[kind][path] == pytest.approx(values, rel=1e-4)


def test_long_lines_are_divided(folder, monkeypatch):
    text = counted(PLAIN, "{every: 16}")
    whole = folder.train(text=text)
    monkeypatch.setattr(statistics, "MOST_PATHS", 3)
    parts = folder.train(text=text)
    assert found_in(parts, 16) == found_in(whole, 16)
    assert [len(paths) for line in parts.log for paths in line.get("statistics", {}).values()] == [3, 1] * 4


def test_gradients_of_fp16_are_those_before_scaling(folder):
    text = counted(PLAIN, "{every: 2, of: gradient}")
    full, short = (found_in(folder.train(f"trainer.precision={name}", text=text), 2) for name in ("fp32", "fp16"))
    for path, values in full["gradient"].items():
        assert short["gradient"][path]["norm"] == pytest.approx(values["norm"], rel=0.05)


def test_a_killed_run_finds_the_same(folder):
    text = counted(NORMED, "{every: 3}")
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text), 10)
    assert_same(go_on(folder), whole)


def test_turns_have_gradients_of_what_moves(folder):
    text = counted(PLAIN, "{every: 1, of: [gradient, update, weight]}").replace(
        "optimizer:", "turns: {low: {loss: label, updates: stem}, high: {loss: label, updates: logits}}\noptimizer:"
    )
    run = folder.train(text=text)
    for step, moving in ((1, "stem"), (2, "logits"), (3, "stem")):
        found = found_in(run, step)
        assert set(found["gradient"]) == set(found["update"]) == {f"{moving}.weight", f"{moving}.bias"}
        assert set(found["weight"]) == {"stem.weight", "stem.bias", "logits.weight", "logits.bias"}


def test_copies_and_modules_of_a_loop_have_paths(folder):
    text = counted(TINY, "{every: 16, of: activation}").replace(
        "hidden: ReLU", "hidden: {repeat: 2, through: 'Linear(16, 16) >> ReLU'}"
    )
    assert {"hidden.0.0", "hidden.1.0", "stem"} <= set(found_in(folder.train(text=text), 16)["activation"])


def test_loggers_and_the_report_get_them(folder, monkeypatch):
    from flowconf.language import registry

    reported = []

    class Kept:
        def __init__(self, run):
            pass

        def log(self, step, values):
            reported.append((step, values))

        def close(self, status):
            pass

    monkeypatch.setitem(registry.loggers.registered, "kept", Kept)
    run = folder.train(text=counted(PLAIN, "{every: 8, of: weight, at: stem}") + "loggers: {kept: {}}\n")
    found = found_in(run, 8)["weight"]
    assert (8, {
        f"weight/{what}/{path}": values[what] for path, values in found.items() for what in ("norm", "zeros")
    }) in reported  # fmt: skip


def test_the_report_lays_the_latest_over_the_graph(folder):
    run = folder.train(text=counted(PLAIN, "{every: 8}"))
    overlays = data_in((run.folder / "report.html").read_text(encoding="utf-8"))["runs"][0]["graph"]["overlays"]
    found = found_in(run, 16)
    weight, bias = (found["weight"][f"stem.{name}"]["norm"] for name in ("weight", "bias"))
    assert overlays["weight"]["values"]["stem"][1] == f"{(weight**2 + bias**2) ** 0.5:.3g}"
    assert overlays["weight"]["values"][""][0] == 1.0
    assert set(overlays["moved"]["values"]) == set(overlays["weight"]["values"])
    zeros = found["activation"]["hidden"]["zeros"]
    assert overlays["zeros"]["values"]["hidden"] == [round(zeros, 4), f"{zeros:.1%}"]
    assert {overlay["group"] for overlay in overlays.values()} == {"statistics"}
    assert {tuple(overlay["steps"]) for overlay in overlays.values()} == {(8, 16)}
    first = found_in(run, 8)["activation"]["hidden"]["zeros"]
    assert overlays["zeros"]["history"]["hidden"] == [float(f"{value:.3g}") for value in (first, zeros)]


@pytest.mark.parametrize("at", ["nothing", "stem.wait", "**.attend", "hidden:norm", "**.acts"])
def test_a_selector_that_selects_nothing_is_refused(folder, at):
    (reported, *others) = flowconf.check(folder.write(counted(TINY, f'{{at: "{at}"}}')))
    assert (reported.code, others) == ("FC0405", [])
    assert reported.place.line == 15


@pytest.mark.parametrize("at", ["hidden", "*.hidden", "**.hidden", "hid*"])
def test_modules_without_parameters_have_activations(folder, at):
    text = counted(TINY, f'{{every: 16, at: "{at}"}}')
    if at in ("*.hidden", "hid*"):
        assert [one.code for one in flowconf.check(folder.write(text))] == ["FC0405"]
        return
    assert flowconf.check(folder.write(text)) == []
    assert found_in(folder.train(text=text), 16)["activation"].keys() == {"hidden"}
    (reported,) = flowconf.check(folder.write(text.replace("{every: 16,", "{of: weight,")))
    assert reported.code == "FC0405"


def test_the_kinds_are_known(folder):
    with pytest.raises(ConfigError, match=r"`trainer\.statistics\.of"):
        load(folder.write(counted(TINY, "{of: [gradients]}")))
