"""Phases: where a run is in them, what they freeze, scale and weight, and that a resume across an edge is exact."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from flowconf.api import build, load, load_run
from flowconf.language.changing import Changing, first_value, last_value, value_at
from flowconf.language.points import Point, RunLength
from flowconf.language.training import Convergence, PhaseSection, Trend
from flowconf.report import ConfigError
from flowconf.train.phases import Frozen, Phases, converged, improved
from flowconf.train.prepare import prepare
from tests.train.conftest import TINY, assert_same, go_on, killed

TWO = TINY.replace(
    "metrics:",
    "  small: {fn: value, input: hidden, weight: 0.1}\nmetrics:",
)


def phased(phases):
    return TWO.replace("trainer:", f"phases:\n  {phases}\ntrainer:")


def sections(**phases):
    return {name: PhaseSection.model_validate(phase) for name, phase in phases.items()}


def walk(phases, total, values=None, per_epoch=10):
    """The phase of each step."""
    found = Phases(sections(**phases), RunLength(total, per_epoch), lambda trend: "min")
    names = []
    for step in range(total):
        if step >= found.due:
            found.advance(step)
        names.append(found.current)
        if values is not None and (step + 1) % per_epoch == 0:
            found.observe(step + 1, {"val/loss": values[(step + 1) // per_epoch - 1]})
    return names


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=8, max_size=30),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_a_trend_needs_few_of_the_evaluations(values, epochs, others):
    watched = {"metric": "val/loss", "epochs": epochs}
    other = {"metric": "val/loss", "epochs": others, "within": 1e-9}
    phases = Phases(
        sections(a={"until": {"stalled": watched}}, b={"when": {"converged": other}}),
        RunLength(100, 1),
        lambda trend: "min",
    )
    finite = []
    for step, value in enumerate(values, 1):
        phases.observe(step, {"val/loss": value})
        finite += [(step, value)] if math.isfinite(value) else []
        few = phases._points(Trend(**watched))
        assert improved(few, Trend(**watched)) == improved(finite, Trend(**watched))
        assert converged(few, Convergence(**other)) == converged(finite, Convergence(**other))
    gaps = len(values) - len(finite)
    assert len(phases.history) <= max(epochs, others) + 1 + 2 + gaps


def test_phases_come_one_after_the_other():
    names = walk({"a": {"until": {"step": 3}}, "b": {"until": {"epoch": 0.5}}, "c": {}}, 8)
    assert names == [*"aaabbccc"]


def test_a_phase_begins_at_its_when_and_nothing_holds_outside():
    names = walk({"a": {"when": {"step": 2}, "until": {"step": 4}}, "b": {"when": {"fraction": 0.75}}}, 8)
    assert names == [None, None, "a", "a", None, None, "b", "b"]


def test_the_next_phase_may_begin_before_the_end_of_one():
    assert walk({"a": {"until": {"step": 6}}, "b": {"when": {"step": 2}}}, 4) == ["a", "a", "b", "b"]


def test_a_phase_that_is_over_is_passed_by():
    assert walk({"a": {"until": {"step": 0}}, "b": {"until": {"step": 1}}}, 3) == ["b", None, None]


def test_trends_are_watched_since_the_last_change():
    stall = {"stalled": {"metric": "val/loss", "epochs": 2}}
    values = [5, 4, 4, 4, 3, 2, 2, 2, 1, 1]
    names = walk({"a": {"until": stall}, "b": {"until": stall}, "c": {}}, 100, values)
    edges = [step for step in range(1, 100) if names[step] != names[step - 1]]
    assert edges == [40, 80]


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=20), st.integers(1, 5), st.floats(0, 1))
def test_the_best_of_the_last_epochs_is_compared_with_the_best_before(values, epochs, by):
    points = list(enumerate(values))
    trend = Trend(metric="m", epochs=float(epochs), by=by)
    better = min(values[-epochs:]) < min(values[:-epochs], default=math.nan) - by
    assert improved(points, trend) is (better if len(values) > epochs else None)
    assert improved(points[:epochs], trend) is None


def test_convergence_is_relative():
    trend = Convergence(metric="m", epochs=2.0, within=0.1)
    assert converged([(0, 9.0), (1, 1.0), (2, 1.05)], trend)
    assert not converged([(0, 9.0), (1, 1.0), (2, 1.2)], trend)
    assert not converged([(1, 1.0), (2, 1.0)], trend)


@given(st.data())
def test_going_on_from_the_state_is_the_same_at_any_step(data):
    stall = {"stalled": {"metric": "val/loss", "epochs": 1}}
    phases = {"a": {"until": stall}, "b": {"when": {"step": 20}, "until": {"fraction": 0.5}}, "c": {"when": stall}}
    values = data.draw(st.lists(st.floats(0, 3), min_size=10, max_size=10))
    stop = data.draw(st.integers(1, 99))
    whole, first = [], Phases(sections(**phases), RunLength(100, 10), lambda trend: "min")
    for step in range(100):
        if step == stop:
            again = Phases(sections(**phases), RunLength(100, 10), lambda trend: "min")
            again.restore(first.state())
            first = again
        if step >= first.due:
            first.advance(step)
        whole.append(first.current)
        if (step + 1) % 10 == 0:
            first.observe(step + 1, {"val/loss": values[step // 10]})
    assert whole == walk(phases, 100, values)


def test_larger_is_better_where_it_is():
    stall = sections(a={"until": {"stalled": {"metric": "val/accuracy", "epochs": 1}}})
    phases = Phases(stall, RunLength(100, 1), lambda trend: "max")
    phases.advance(0)
    for step, value in enumerate([0.1, 0.5, 0.9, 0.8], 1):
        phases.observe(step, {"val/accuracy": value})
        assert phases.advance(step) == (step == 4)


def test_changing_weights():
    length = RunLength(80, per_epoch=20)
    for after, over in ((0.5, 0.25), ({"step": 40}, {"epoch": 1}), ({"epoch": 2}, {"fraction": 0.25})):
        ramp = {"from": 0, "to": 2, "after": after, "over": over}
        line = Changing.model_validate({"linear": ramp})
        assert [value_at(line, step, length) for step in (0, 40, 50, 60, 80)] == [0, 0, 1, 2, 2]
        curve = Changing.model_validate({"cosine": ramp})
        assert [round(value_at(curve, step, length), 6) for step in (0, 50, 80)] == [0, 1, 2]
        assert value_at(curve, 45, length) == pytest.approx(1 - math.cos(math.pi / 4))
        assert (first_value(curve), last_value(curve)) == (0, 2)
    for jumps in ([0.25, 0.5], [{"step": 20}, {"step": 40}], [{"epoch": 1}, {"epoch": 2}]):
        stairs = Changing.model_validate({"steps": {"values": [1, 0.5, 0], "at": jumps}})
        assert [value_at(stairs, step, length) for step in (0, 16, 20, 48)] == [1, 1, 0.5, 0]
        assert (first_value(stairs), last_value(stairs)) == (1, 0)
    assert (value_at(3.0, 80, length), first_value(3.0), last_value(3.0)) == (3, 3, 3)


def test_a_change_in_steps_does_not_depend_on_the_length_of_the_run():
    line = Changing.model_validate({"linear": {"from": 0, "to": 1, "over": {"step": 100}}})
    found = [[value_at(line, step, RunLength(total, 7)) for step in (0, 25, 49)] for total in (50, 1000)]
    assert found[0] == pytest.approx(found[1]) == [0, 0.25, 0.49]


def test_points_are_whole_steps():
    length = RunLength(100, per_epoch=15)
    points = [{"epoch": 0.5}, {"epoch": 2}, {"fraction": 0.07}, {"fraction": 0.001}, {"step": 9}]
    assert [length.steps_before(Point.model_validate(point)) for point in points] == [8, 30, 7, 1, 9]
    assert length.steps_before(12) == 12


def learning(graph):
    return {name for name, parameter in graph.named_parameters() if parameter.requires_grad}


def test_a_phase_is_taken_back_completely():
    graph = build(
        {
            "inputs": {"x": ["B", 2]},
            "flow": {
                "a": {"through": "Linear(2, 2)", "frozen": True},
                "b": {"graph": {"flow": {"c": "Linear(2, 2) >> Dropout(0.5)", "d": "Linear(2, 2)"}}},
            },
        }
    )
    graph.train()

    def picture():
        return [(n, p.requires_grad) for n, p in graph.named_parameters()], [m.training for m in graph.modules()]

    before, frozen = picture(), Frozen(graph)
    frozen.enter(PhaseSection(freeze=["b", "a"], thaw="b.d"))
    assert {name for name, parameter in graph.named_parameters() if parameter.requires_grad} == {
        "b.d.weight",
        "b.d.bias",
    }
    assert not graph.module_at("b.c").training
    frozen.enter(PhaseSection(thaw="a", freeze="b"))
    assert learning(graph) == {"a.weight", "a.bias"}
    frozen.enter(None)
    assert picture() == before


def test_a_frozen_part_does_not_move_and_then_does(folder):
    text = phased("warm: {until: {epoch: 1}, freeze: stem}")
    run = folder.train("trainer.checkpoint_every=8", "trainer.epochs=1", text=text)
    torch.manual_seed(0)
    start = torch.nn.Linear(8, 16).weight
    assert torch.equal(load_file(run.folder / "checkpoints" / "last.safetensors")["stem.weight"], start)
    whole = folder.train(text=text)
    assert not torch.equal(load_file(whole.folder / "checkpoints" / "last.safetensors")["stem.weight"], start)
    assert {line["step"]: line["phase"] for line in whole.log if "train/loss" in line} == {8: "warm", 16: None}
    assert "no phase any more" in folder.said.getvalue()


def test_a_part_that_only_a_phase_thaws_is_trained(folder):
    text = phased("late: {when: {epoch: 1}, thaw: stem}").replace(
        "stem: Linear(8, 16)", "stem: {through: 'Linear(8, 16)', frozen: true}"
    )
    run = folder.train(text=text)
    torch.manual_seed(0)
    start = torch.nn.Linear(8, 16).weight
    assert not torch.equal(load_file(run.folder / "checkpoints" / "last.safetensors")["stem.weight"], start)


def test_learning_rates_of_a_phase(folder):
    job = prepare(load(folder.write(phased("slow: {when: {step: 4}, lr: {stem: 0.5, '': 0.1}}"))), folder.path)
    job.enter("slow")
    job.learning_rate.set(4)
    rates = {p: group["lr"] for group in job.learning_rate.groups for p in group["params"]}
    assert rates[job.graph.module_at("stem").weight] == pytest.approx(0.005)
    assert rates[job.graph.module_at("logits").weight] == pytest.approx(0.001)
    job.enter(None)
    job.learning_rate.set(4)
    assert {group["lr"] for group in job.learning_rate.groups} == {0.01}


def test_a_term_without_weight_does_not_run_and_is_evaluated_all_the_same(folder):
    run = folder.train("trainer.log_every=1", text=phased("first: {until: {step: 3}, loss: {small: 0}}"))
    steps = {line["step"]: line for line in run.log if "train/loss" in line}
    assert "train/loss/small" not in steps[3]
    assert steps[3]["train/loss"] == steps[3]["train/loss/label"]
    assert steps[4]["train/loss"] == pytest.approx(steps[4]["train/loss/label"] + 0.1 * steps[4]["train/loss/small"])
    val = next(line for line in run.log if "val/loss" in line)
    assert val["val/loss"] == pytest.approx(val["val/loss/label"] + 0.1 * val["val/loss/small"])


def test_a_changing_weight_in_a_run(folder):
    text = TWO.replace("weight: 0.1", "weight: {linear: {from: 1, to: 0, over: {epoch: 1}}}")
    run = folder.train("trainer.log_every=1", text=text)
    for line in run.log:
        if "train/loss" in line:
            weight = max(0, 1 - (line["step"] - 1) / 8)
            assert line["weight/small"] == weight
            total = line["train/loss/label"] + weight * line["train/loss/small"]
            assert line["train/loss"] == pytest.approx(total, rel=1e-5)
        elif "val/loss" in line:
            assert line["val/loss"] == line["val/loss/label"]


EDGES = """warm: {until: {step: 6}, freeze: stem, loss: {small: 0}, lr: 0.5}
  joint: {until: {stalled: {metric: val/loss, epochs: 0.5}}, thaw: stem}
  last: {lr: {stem: 0.1}, loss: {small: {linear: {from: 0, to: 1}}}}"""
EVERYTHING = (
    phased(EDGES)
    .replace("epochs: 2", "epochs: 3, checkpoint_every: 3, evaluate_every: 4, log_every: 5, ema: 0.9, accumulate: 3")
    .replace("weight: 0.1", "weight: 0.1, updates: [stem]")
    .replace("trainer: {", "trainer: {clip: 1, clip_value: 0.5, patience: 5, ")
)


@pytest.mark.parametrize("step", [4, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 5, 6, 9, 12, 13, 17))])
def test_resume_across_the_edges_of_phases(folder, step):
    whole = folder.train(text=EVERYTHING)
    assert {line["phase"] for line in whole.log} >= {"warm", "joint"}
    killed(lambda: folder.train(text=EVERYTHING, name="again.yaml"), step)
    assert_same(go_on(folder, folder.runs("again")[0]), whole)


def test_a_phase_without_a_beginning_and_an_end_is_the_whole_run(folder):
    """One line trains only a part."""
    text = TINY + 'phases: {only: {freeze: "**", thaw: "logits:bias"}}\n'
    run, still = (folder.train(text=one) for one in (text, text.replace("lr: 0.01", "lr: 0")))
    assert {line["phase"] for line in run.log} == {"only"}
    before, after = (load_run(one.folder, last=True).state_dict() for one in (still, run))
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert moved == ["logits.bias"]


MISTAKES = [
    ("a: {when: {step: 1}}\n  b: {freeze: stem}", "FC0122", "never begins"),
    ("a: {until: {step: 1, epoch: 1}}", "FC0122", "`epoch` and `step`"),
    ("a: {until: {}}", "FC0122", "got none"),
    ("a: {until: {step: 1}, freeze: [stm]}", "FC0405", "the path `stm` does not exist"),
    ("a: {until: {step: 1}, thaw: stm}", "FC0405", "the path `stm` does not exist"),
    ("a: {until: {step: 1}, lr: {stm: 1}}", "FC0405", "the path `stm` does not exist"),
    ("a: {until: {step: 1}, loss: {smal: 1}}", "FC0402", "unknown term `smal` of the loss"),
    (
        "a: {until: {step: 1}, loss: {small: {steps: {values: [1], at: [0.5]}}}}",
        "FC0123",
        "`at` must have one entry fewer than `values` (1), got 1",
    ),
    (
        "a: {until: {step: 1}, loss: {small: {steps: {values: [1, 2, 3], at: [0.5, 0.2]}}}}",
        "FC0123",
        "must be in ascending order",
    ),
    ("a: {until: {stalled: {metric: val/los, epochs: 1}}}", "FC0402", "unknown value `val/los`"),
    ("a: {until: {fraction: 1.5}}", "FC0123", ""),
    ("a: {untl: {step: 1}}", "FC0121", "untl"),
    ("a: {until: {step: 1}, freeze: [stem, logits]}", "FC0403", "in the phase `a`: every parameter is frozen"),
    ("a: {until: {step: 1}, loss: {small: 0, label: 0}}", "FC0403", "every term of the loss has weight 0"),
]


@pytest.mark.parametrize(("phases", "code", "words"), MISTAKES, ids=[words or code for _, code, words in MISTAKES])
def test_mistakes(folder, phases, code, words):
    with pytest.raises(ConfigError) as caught:
        prepare(load(folder.write(phased(phases))), folder.path)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert words in found.message
    assert found.place.line


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "adagrad", "nadam", "radam", "adam"])
def test_a_part_that_is_thawed_is_trained_by_every_optimizer(folder, name):
    momentum = ", momentum: 0.9" if name in ("sgd", "rmsprop") else ""
    text = TINY.replace("{name: adamw, lr: 0.01}", f"{{name: {name}, lr: 0.01{momentum}}}")
    text += "phases: {first: {freeze: stem, until: {step: 3}}, all: {until: {step: 6}}, last: {freeze: logits}}\n"
    assert folder.train(text=text).record["status"] == "finished"
