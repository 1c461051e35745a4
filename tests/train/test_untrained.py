"""What a run would not train or not need is reported, once, at the highest path; what a config may well mean is not."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import torch
from torch import nn

import flowconf
from flowconf.api import load
from flowconf.language.registry import modules
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, train

BASE = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    hidden: ReLU
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4, rows: 320}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
"""
DECODER = """    decoder:
      from: hidden
      fork:
        flow:
          wide: Linear(16, 32) >> ReLU
          image: Linear(32, 8)
    logits: {from: hidden, through: "Linear(16, 4)"}
"""


def reported(tmp_path: Path, text: str) -> list[tuple[str, str, int]]:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return [(found.code, found.path, found.place.line) for found in flowconf.check(str(file))]


def with_decoder(*more: str) -> str:
    return BASE.replace("    logits: Linear(16, 4)\n", DECODER) + "".join(more)


def test_a_config_in_which_all_is_trained_is_silent(tmp_path):
    assert reported(tmp_path, BASE) == []
    assert reported(tmp_path, with_decoder("  again: {fn: mse, input: decoder, target: image}\n")) == []


def test_a_member_that_nothing_needs(tmp_path):
    assert reported(tmp_path, with_decoder()) == [("FC0407", "decoder", 7)]
    assert reported(tmp_path, with_decoder("metrics:\n  again: {fn: mse, input: decoder.image, target: image}\n")) == [
        ("FC0408", "decoder", 7)
    ]


@pytest.mark.parametrize(
    ("thawed", "message"),
    [
        ([0], "`parts.a0` is not trained"),
        ([0, 2], "`parts.a0` and `parts.a2` are not trained"),
        ([0, 1, 2, 3], "4 parts of `parts`, such as `parts.a0`, are not trained"),
    ],
)
def test_thawed_parts_of_a_frozen_graph_are_named_in_one_warning(tmp_path, thawed, message):
    steps = (
        f"          a{n}: {{through: 'Linear(16, 16)'{', frozen: false' if n in thawed else ''}}}\n" for n in range(5)
    )
    part = f"    parts:\n      from: hidden\n      fork:\n        flow:\n{''.join(steps)}        frozen: true\n"
    text = BASE.replace("    logits:", f"{part}    logits:").replace("data:", "  outputs: {a: logits, b: parts}\ndata:")
    (tmp_path / "config.yaml").write_text(text)
    (found,) = [one for one in flowconf.check(tmp_path / "config.yaml") if one.code == "FC0408"]
    assert found.message == f"{message} by any term of the loss"


def test_a_member_inside_of_a_graph_is_reported_by_its_path(tmp_path):
    text = BASE.replace("    stem: Linear(8, 16)\n", """    stem:
      graph:
        flow:
          one: Linear(8, 16)
          probe: {fork: "Linear(16, 3)"}
          two: Linear(16, 16)
""")  # fmt: skip
    assert reported(tmp_path, text) == [("FC0407", "stem.probe", 9)]


def test_a_graph_of_another_file_may_offer_more_than_is_asked(tmp_path):
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "stem.yaml").write_text(
        "inputs: {x: [B, 8]}\nflow:\n  one: Linear(8, 16)\n  probe: {fork: 'Linear(16, 3)'}\n  two: Linear(16, 16)\n"
    )
    assert reported(tmp_path, BASE.replace("stem: Linear(8, 16)", "stem: {graph: stem}")) == []


def test_an_output_is_needed_and_yet_not_trained(tmp_path):
    text = with_decoder().replace("data:", "  outputs: {logits: logits, image: decoder}\ndata:")
    assert reported(tmp_path, text) == [("FC0408", "decoder", 7)]
    text = text.replace("wide: Linear", "wide: {frozen: true, through: 'Linear").replace(">> ReLU", ">> ReLU'}")
    assert reported(tmp_path, text) == [("FC0408", "decoder.image", 12), ("FC0409", "decoder.wide", 11)]


def test_updates_that_leave_a_part_out_are_named(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(BASE.replace("target: label}", "target: label, updates: [logits]}"))
    (found,) = flowconf.check(str(file))
    assert (found.code, found.path) == ("FC0408", "stem")
    assert [label.message for label in found.labels] == ["`loss.label` only updates other parts"]


REPEATED = "  again: {fn: mse, input: decoder, target: image, weight: 0}\n"


def test_phases_are_looked_at_one_by_one(tmp_path):
    two = "phases:\n  first: {until: {epoch: 1}, loss: {again: 1}%s}\n  second: {loss: {again: 0}%s}\n"
    assert reported(tmp_path, with_decoder(REPEATED, two % ("", ""))) == []
    text = with_decoder(REPEATED, two % (", freeze: decoder", ""))
    assert reported(tmp_path, text) == [("FC0408", "decoder", 7)]
    (found,) = flowconf.check(str(tmp_path / "config.yaml"))
    assert [label.message for label in found.labels] == [
        "`loss.again` depends on it, but it is frozen in phase `first`"
    ]
    frozen = text.replace("    decoder:\n", "    decoder:\n      frozen: true\n")
    assert reported(tmp_path, frozen.replace(", freeze: decoder", ", thaw: decoder")) == []


def test_the_choice_of_a_selector_has_no_gradient(tmp_path):
    text = BASE.replace("    hidden: ReLU\n", """    hidden:
      switch: {low: "Linear(16, 16)", high: Tanh}
      router: ArgmaxSelector(16, 2)
""")  # fmt: skip
    assert reported(tmp_path, text) == [("FC0408", "hidden.router", 6)]


FROZEN = BASE.replace("logits: Linear(16, 4)", "logits: {through: 'Linear(16, 4)', frozen: true%s}")


def test_a_frozen_part_behind_a_trained_one_needs_weights(tmp_path):
    assert reported(tmp_path, FROZEN % "") == [("FC0409", "logits", 7)]
    assert reported(tmp_path, FROZEN % ", init: {weight: xavier_uniform()}") == []
    head = flowconf.build({"inputs": {"x": ["B", 16]}, "flow": {"a": "Linear(16, 4)"}})
    head.save(str(tmp_path / "head.safetensors"))
    assert reported(tmp_path, FROZEN % ", checkpoint: {path: head.safetensors, rename: {a: ''}}") == []
    assert reported(tmp_path, FROZEN % "" + "phases: {late: {when: {epoch: 1}, thaw: logits}}\n") == []
    first = BASE.replace("stem: Linear(8, 16)", "stem: {through: 'Linear(8, 16)', frozen: true}")
    assert reported(tmp_path, first) == []


def test_a_loss_that_depends_on_nothing(tmp_path):
    text = BASE.replace("input: logits, target: label", "input: image, target: image").replace("cross_entropy", "mse")
    found = reported(tmp_path, text)
    assert ("FC0403", "", 9) in found


@pytest.mark.parametrize("name", ["digits", "fbrl_letter", "fbrl_word", "fbrl_line"])
def test_the_flagship_is_silent(name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent.parent)
    assert flowconf.check(f"configs/{name}.yaml") == []


def test_a_run_begins_with_the_warnings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = TINY.replace("    drop: Dropout(0.1)\n", "    probe: {fork: 'Linear(16, 3)'}\n").replace(
        "epochs: 2", "steps: 1"
    )
    Path("tiny.yaml").write_text(text)
    said = StringIO()
    train(load("tiny.yaml"), Screen(said))
    assert said.getvalue().count("warning[FC0407]: `probe` is not used by any output, loss or metric") == 1


# what is chosen by numbers


class TopOne(nn.Module):
    """One expert for each row, weighed by its probability."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, experts)

    def forward(self, x):
        scores = self.score(x).softmax(-1)
        top, at = scores.topk(1, dim=-1)
        return torch.zeros_like(scores).scatter(-1, at, top)


class Hard(TopOne):
    """One expert for each row, with the weight 1, and the gradient of its probability."""

    def forward(self, x):
        scores = self.score(x).softmax(-1)
        chosen = nn.functional.one_hot(scores.argmax(-1), scores.shape[-1])
        return chosen + scores - scores.detach()


class Silent(TopOne):
    """One expert for each row, with a choice that has no gradient."""

    def forward(self, x):
        return nn.functional.one_hot(self.score(x).argmax(-1), self.score.out_features).to(x.dtype)


class Sparse(nn.Module):
    """Runs the experts that some row has chosen, and no other."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, experts)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))

    def forward(self, x):
        weights, at = self.score(x).softmax(-1).max(-1)
        given = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if (at == number).any():
                given = given + torch.where((at == number)[:, None], expert(x) * weights[:, None], 0)
        return given


GATE = """    mix:
      gate: {a: "Linear(16, 16)", b: "Linear(16, 16)", c: "Linear(16, 16)"}
      router: ROUTER
"""


@pytest.mark.parametrize("router", ["TopOne(16, 3)", "Hard(16, 3)", "SoftmaxRouter(16, 3)", "SigmoidRouter(16, 3)"])
def test_every_expert_of_a_gate_is_trained(tmp_path, monkeypatch, router):
    monkeypatch.setitem(modules.registered, "TopOne", TopOne)
    monkeypatch.setitem(modules.registered, "Hard", Hard)
    text = BASE.replace("    hidden: ReLU\n", "    hidden: ReLU\n" + GATE.replace("ROUTER", router))
    assert reported(tmp_path, text) == []


def test_a_gate_whose_router_cannot_learn_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(modules.registered, "Silent", Silent)
    text = BASE.replace("    hidden: ReLU\n", "    hidden: ReLU\n" + GATE.replace("ROUTER", "Silent(16, 3)"))
    assert [(code, path) for code, path, _ in reported(tmp_path, text)] == [("FC0408", "mix.router")]


def test_experts_that_a_module_runs_for_some_rows_are_not_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(modules.registered, "Sparse", Sparse)
    text = BASE.replace("    hidden: ReLU\n", "    hidden: Sparse(16, 5)\n")
    assert reported(tmp_path, text) == []
    config = load(str(tmp_path / "config.yaml"))
    screen = StringIO()
    train(config, Screen(screen))
    assert "unused" not in screen.getvalue()


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.rest = [nn.Linear(16, 16) for _ in range(2)]
        self.all = [self.first]
        self.named = {"gain": nn.Parameter(torch.ones(16))}
        self.shift = torch.zeros(16, requires_grad=True)
        self.constant = torch.zeros(16)
        self.sizes = [16, 16]

    def forward(self, x):
        for layer in (*self.all, *self.rest):
            x = layer(x)
        return x * self.named["gain"] + self.shift


def test_layers_and_parameters_that_torch_does_not_find(tmp_path, monkeypatch):
    monkeypatch.setitem(modules.registered, "Listed", Listed)
    file = tmp_path / "config.yaml"
    file.write_text(BASE.replace("hidden: ReLU", "hidden: Listed >> Listed"))
    found = flowconf.check(str(file))
    assert [(one.code, one.severity, one.place.line) for one in found] == [("FC0408", "warning", 6)]
    assert found[0].help == "make `rest` an `nn.ModuleList`, `named` an `nn.ParameterDict`, `shift` an `nn.Parameter`"
    assert found[0].labels[0].place.file == __file__


def test_a_target_that_is_frozen_at_random(tmp_path):
    teacher = "    teacher: {from: image, fork: 'Linear(8, 4)', frozen: true}\n    logits: Linear(16, 4)\n"
    text = BASE.replace("    logits: Linear(16, 4)\n", teacher) + "  as: {fn: mse, input: logits, target: teacher}\n"
    assert reported(tmp_path, text) == [("FC0409", "teacher", 7)]
    assert reported(tmp_path, text.replace("frozen: true", "frozen: true, init: {weight: xavier_normal}")) == []
    assert reported(tmp_path, text.replace(", frozen: true", "")) == []


def test_a_group_of_the_optimizer_that_is_frozen(tmp_path):
    groups = "optimizer: {name: adamw, lr: 1e-3, groups: {stem: {lr: 0.1}}}\n"
    text = BASE.replace("stem: Linear(8, 16)", "stem: {through: 'Linear(8, 16)', frozen: true}") + groups
    assert reported(tmp_path, text) == [("FC0410", "optimizer.groups.stem", 11)]
    thaw = "phases: {late: {when: {epoch: 1}, thaw: stem}}\n"
    assert reported(tmp_path, text + thaw) == []
