"""Mistakes in the training sections: each reported once, with its code and place, before any data is made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import flowconf
from flowconf.api import load
from flowconf.language import registry
from flowconf.language.config import compose
from flowconf.language.points import RunLength
from flowconf.language.sections.directions import direction_of_best, with_mode
from flowconf.language.sections.ineffective import check_length
from flowconf.language.training import schedules
from flowconf.report import ConfigError, Reporter, Suggestion
from flowconf.train.data.splits import Resident, Splits
from flowconf.train.prepare import prepare

CONFIG = """\
model:
  inputs: {image: [B, 8]}
  flow:
    stem:
      through: Linear(8, 16)
      tag: early
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4}
loss:
  label: {fn: cross_entropy, input: logits, target: label, args: {label_smoothing: 0.1}}
metrics:
  accuracy: {fn: accuracy, input: logits, target: label}
optimizer: {name: adamw, lr: 0.01, groups: {stem: {lr: 0.1}}}
schedule: {name: cosine, final: 0.1}
trainer: {epochs: 2, best: val/accuracy}
"""

MISTAKES = [
    ("name: synthetic", "name: syntetic", "FC0501", 8, "write `synthetic`"),
    ("classes: 4", "clases: 4", "FC0133", 8, "write `classes`"),
    ("fn: cross_entropy", "fn: cross_entrpy", "FC0401", 10, "write `cross_entropy`"),
    ("input: logits, target: label, args", "input: logitz, target: label, args", "FC0402", 10, "write `logits`"),
    ("target: label, args", "target: lable, args", "FC0402", 10, "write `label`"),
    ("target: label, args", "target: [label, image], args", "FC0133", 10, None),
    ("target: label, args", "args", "FC0133", 10, None),
    ("label_smoothing", "label_smothing", "FC0133", 10, "write `label_smoothing`"),
    ("label_smoothing: 0.1", "reduction: mean", "FC0133", 10, None),
    ("label_smoothing: 0.1", "logits: 1", "FC0133", 10, None),
    ("fn: accuracy", "fn: acuracy", "FC0401", 12, "write `accuracy`"),
    ("name: adamw", "name: adamww", "FC0401", 13, "write `adamw`"),
    ("lr: 0.01", "learning_rate: 0.01", "FC0133", 13, None),
    ("{stem: {lr: 0.1}}", "{stm: {lr: 0.1}}", "FC0405", 13, "write `stem`"),
    ("{stem: {lr: 0.1}}", "{stem: {rl: 0.1}}", "FC0133", 13, None),
    ("name: cosine", "name: cosin", "FC0401", 14, "write `cosine`"),
    ("final: 0.1", "finel: 0.1", "FC0133", 14, "write `final`"),
    ("{name: cosine, final: 0.1}", "{name: steps}", "FC0133", 14, None),
    ("{name: cosine, final: 0.1}", "{name: steps, at: [0.5, 60]}", "FC0123", 14, None),
    (
        "{name: cosine, final: 0.1}",
        "{name: steps, at: [0.5], milestones: [30, 60]}",
        "FC0133",
        14,
        "write `at`, progress from 0 to 1, as in `at: [0.5, 0.75]`",
    ),
    (
        "{name: cosine, final: 0.1}",
        "{name: cosine, eta_min: 1e-5}",
        "FC0133",
        14,
        "write `final`, or `lowest` of a plateau: a factor of `lr`, so this rate divided by `lr`",
    ),
    ("metrics:\n", "metrics:\n  loss: {fn: accuracy, input: logits, target: label}\n", "FC0126", 12, "rename it"),
    ("val/accuracy", "val/acuracy", "FC0402", 15, "write `val/accuracy`"),
    ("{image: [B, 8]}", "{picture: [B, 8]}", "FC0502", 2, None),
    ("epochs: 2", "epochs: 0", "FC0123", 15, None),
    ("epochs: 2", "epocs: 2", "FC0121", 15, "write `epochs`"),
]


UNKNOWN = "write `mode: max` beside it if larger values are better, as is assumed, or `mode: min`"
DIRECTIONS = [
    # metric, keys of the trainer, schedule, help
    ("accuracy", "best: val/it", "", None),
    ("accuracy", "best: val/it, mode: max", "", None),
    ("accuracy", "best: val/it, mode: min", "", "write `mode: max`, or remove it"),
    ("CalibrationError", "best: val/it", "", None),
    ("CalibrationError", "best: val/it, mode: max", "", "write `mode: min`, or remove it"),
    ("CohenKappa", "best: val/it, mode: min", "", "write `mode: max`, or remove it"),
    ("own", "best: val/it, mode: min", "", None),
    ("own", "best: val/loss", "", None),
    ("own", "best: val/it", "", UNKNOWN),
    ("own", "best: val/loss, mode: max", "", "write `mode: min`, or remove it"),
    ("accuracy", "epochs: 2", "plateau, value: val/it", None),
    ("own", "epochs: 2", "plateau, value: val/it, mode: max", None),
    ("own", "epochs: 2", "plateau, value: val/it",
     UNKNOWN),
    ("accuracy", "epochs: 2", "plateau, value: val/it, mode: min", "write `mode: max`, or remove it"),
    ("own", "epochs: 2}\nphases: {a: {until: {stalled: {metric: val/it, epochs: 1, mode: min}}, lr: 2}", "", None),
    ("own", "epochs: 2}\nphases: {a: {until: {stalled: {metric: val/it, epochs: 1}}, freeze: stem}", "",
     UNKNOWN),
]  # fmt: skip

KINDS = [
    # the last modules of `logits`, loss, help
    ("Linear(16, 4) >> Softmax(1)", "cross_entropy", "remove `Softmax(1)`"),
    ("Linear(16, 4) >> Sigmoid", "bce_with_logits", "remove `Sigmoid`"),
    ("Linear(16, 4)", "nll", "end `logits` with `LogSoftmax(1)`"),
    ("Linear(16, 4)", "kl_div", "end `logits` with `LogSoftmax(1)`"),
    ("Linear(16, 4)", "bce", "end `logits` with `Sigmoid`, or write `fn: bce_with_logits`"),
    ("Linear(16, 4)", "cross_entropy", None),
    ("Linear(16, 4) >> LogSoftmax(1)", "cross_entropy", None),
    ("Linear(16, 4) >> LogSoftmax(1)", "nll", None),
    ("Linear(16, 4) >> Sigmoid", "bce", None),
    ("Linear(16, 4) >> Softmax(1)", "mse", None),
]

LONGEST = [
    ("epochs: 20, patience: 18", None),
    ("epochs: 20, patience: 19", "write at most `18`, or remove it"),
    ("epochs: 1, patience: 1", "remove it"),
    ("epochs: 1, evaluate_every: 10, patience: 50", None),
    ("steps: 95, evaluate_every: 10, patience: 8", None),
    ("steps: 95, evaluate_every: 10, patience: 9", "write at most `8`, or remove it"),
    ("steps: 95, patience: 50", None),
]
"""How long a run is, and the help where its patience is too long."""


@pytest.fixture
def mistakes(tmp_path, monkeypatch):
    def forbidden(**arguments):
        raise AssertionError("data was made")

    monkeypatch.setattr("flowconf.train.data.builtin.synthetic.__code__", forbidden.__code__)

    def find(text):
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            load(file)
        except ConfigError as error:
            return error.diagnostics
        return ()

    return find


def test_nothing_is_wrong(mistakes):
    assert mistakes(CONFIG) == ()
    assert mistakes(CONFIG.replace("input: logits", "input: [early]")) == ()


@pytest.mark.parametrize(("old", "new", "code", "line", "advice"), MISTAKES, ids=[new for _, new, *_ in MISTAKES])
def test_one_mistake_gives_one_message(mistakes, old, new, code, line, advice):
    assert old in CONFIG
    (found,) = mistakes(CONFIG.replace(old, new, 1))
    assert (found.code, found.place.line) == (code, line)
    if advice is not None:
        assert found.help == advice


@pytest.mark.parametrize(("trainer", "advice"), LONGEST)
def test_a_patience_that_never_ends_a_run(tmp_path, trainer, advice):
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace("epochs: 2", trainer), encoding="utf-8")
    assert [(found.code, found.help) for found in load(file).warnings] == ([("FC0410", advice)] if advice else [])


@pytest.mark.parametrize("key", ["evaluate_every", "checkpoint_every", "log_every"])
def test_a_time_between_events_that_is_longer_than_the_run(tmp_path, key):
    file = tmp_path / "config.yaml"
    for steps, advice in ((21, ["write at most `20`, or remove it"]), (20, [])):
        file.write_text(CONFIG.replace("epochs: 2", f"steps: 20, {key}: {steps}"), encoding="utf-8")
        assert [found.help for found in load(file).warnings] == advice


@pytest.mark.parametrize(
    ("inputs", "advice"),
    [
        ("inputs: {image: [32, 8]}", "write `[B, 8]`"),
        ("params: {B: 32}\n  inputs: {image: [B, 8]}", "write `[N, 8]`"),
    ],
)
def test_a_number_of_rows_in_an_input(tmp_path, inputs, advice):
    (tmp_path / "config.yaml").write_text(CONFIG.replace("inputs: {image: [B, 8]}", inputs), encoding="utf-8")
    (found,) = flowconf.check(tmp_path / "config.yaml")
    assert (found.code, found.help) == ("FC0502", advice)


@pytest.mark.parametrize(
    ("written", "words", "advice"),
    [
        ("epochs: 2", ["trainer.steps=30"], "add `trainer.epochs=null`"),
        ("epochs: 2", ["trainer.steps=3"], None),
        ("epochs: 2", ["trainer.steps=20"], None),
        ("steps: 20", ["trainer.epochs=3"], "add `trainer.steps=null`"),
        ("epochs: 2", ["trainer.steps=30", "trainer.epochs=null"], None),
    ],
)
def test_a_length_on_the_command_line_that_a_shorter_one_overrules(tmp_path, written, words, advice):
    (tmp_path / "config.yaml").write_text(CONFIG.replace("epochs: 2", written), encoding="utf-8")
    config = load(tmp_path / "config.yaml", words)
    trainer, reporter = config.training.trainer, Reporter(config.origins)
    length = RunLength(min((trainer.epochs or 99) * 10, trainer.steps or 990), per_epoch=10)
    check_length(config.training, length, reporter)
    assert [(found.code, found.help) for found in reporter.mistakes()] == ([("FC0410", advice)] if advice else [])


@pytest.mark.parametrize(("metric", "trainer", "schedule", "advice"), DIRECTIONS)
def test_which_values_are_better(tmp_path, monkeypatch, metric, trainer, schedule, advice):
    monkeypatch.setitem(registry.metrics.registered, "own", lambda logits, target: logits)
    text = CONFIG.replace("accuracy: {fn: accuracy", f"it: {{fn: {metric}").replace(
        "epochs: 2, best: val/accuracy", trainer
    )
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("cosine, final: 0.1", schedule or "cosine"), encoding="utf-8")
    assert [(found.code, found.help) for found in load(file).warnings] == ([("FC0411", advice)] if advice else [])


def test_words_that_are_read_as_strings(tmp_path, monkeypatch):
    def drawn(*, source: str | None = None, kind: str = "a", pick=1, size: int = 8, seed: int = 0) -> Splits:
        return Splits(Resident({"image": torch.zeros(8, 8), "label": torch.zeros(8, dtype=torch.long)}))

    monkeypatch.setitem(registry.datasets.registered, "drawn", drawn)
    file = tmp_path / "config.yaml"
    text = CONFIG.replace("synthetic, shape: [8], classes: 4", "drawn, source: none, kind: none, pick: no")
    file.write_text(text)
    assert [(one.path, one.help) for one in flowconf.check(file) if one.code == "FC0008"] == [
        ("data.source", 'write `null`, or quote it: `"none"`'),
        ("data.pick", 'write `false`, or quote it: `"no"`'),
    ]
    file.write_text(text.replace("none", '"none"').replace("no}", "'no'}"))
    assert [one for one in flowconf.check(file) if one.code == "FC0008"] == []


@pytest.mark.parametrize(("higher", "advice"), [(True, "write `mode: max`, or remove it"), (False, None)])
def test_a_metric_of_a_project_declares_which_values_are_better(tmp_path, monkeypatch, higher, advice):
    @flowconf.higher_is_better(higher)
    def own(logits, target):
        return (logits.argmax(1) == target).float()

    monkeypatch.setitem(registry.metrics.registered, "own", own)
    file = tmp_path / "config.yaml"
    text = CONFIG.replace("accuracy: {fn: accuracy", "it: {fn: own")
    file.write_text(text.replace("epochs: 2, best: val/accuracy", "epochs: 2, best: val/it, mode: min"))
    assert [found.help for found in load(file).warnings if found.code == "FC0411"] == ([advice] if advice else [])


def test_modules_and_losses_of_a_project_say_what_they_return_and_expect(tmp_path, monkeypatch):
    class Squash(nn.Module):
        def forward(self, x: Tensor) -> flowconf.Probabilities:
            return x.sigmoid()

    def own(logits: flowconf.Logits, target: Tensor) -> Tensor:
        return (logits.sigmoid() - target[:, None]) ** 2

    monkeypatch.setitem(registry.modules.registered, "Squash", Squash)
    monkeypatch.setitem(registry.losses.registered, "own", own)
    text = CONFIG.replace("logits: Linear(16, 4)", "logits: Linear(16, 4) >> Squash >> Flatten")
    for loss in ("own", "cross_entropy"):
        (tmp_path / "config.yaml").write_text(
            text.replace("fn: cross_entropy", f"fn: {loss}").replace(", args: {label_smoothing: 0.1}", "")
        )
        (found,) = [one for one in flowconf.check(tmp_path / "config.yaml") if one.code == "FC0412"]
        assert found.help == "remove `Squash`"


@pytest.mark.parametrize(("module", "loss", "advice"), KINDS)
def test_logits_and_probabilities_are_distinguished(tmp_path, module, loss, advice):
    text = CONFIG.replace("logits: Linear(16, 4)", f"logits: {module}").replace(", args: {label_smoothing: 0.1}", "")
    graph = text.replace("logits: " + module, f"logits: {{graph: {{flow: {{a: 'Linear(16, 16)', last: '{module}'}}}}}}")
    for written in (text, graph):
        file = tmp_path / "config.yaml"
        file.write_text(written.replace("fn: cross_entropy", f"fn: {loss}"), encoding="utf-8")
        found = [(one.code, one.help) for one in flowconf.check(file) if one.code == "FC0412"]
        assert found == ([("FC0412", advice)] if advice else [])


@pytest.mark.parametrize(("words", "direction"), [
    (["metrics.it.fn=accuracy"], "max"), (["metrics.it.fn=HammingDistance"], "min"), (["metrics.it.fn=l1"], "min"),
    (["trainer.best=val/loss"], "min"), (["metrics.it.fn=F1Score", "trainer.mode=min"], "min"),
])  # fmt: skip
def test_a_plateau_and_the_best_weights_know_which_values_are_better(tmp_path, words, direction):
    file = tmp_path / "config.yaml"
    text = CONFIG.replace("accuracy: {fn: accuracy", "it: {fn: mae").replace("best: val/accuracy", "best: val/it")
    file.write_text(text.replace("{name: cosine, final: 0.1}", "{name: plateau, value: val/it}"), encoding="utf-8")
    training = load(file, words).training
    assert direction_of_best(training) == direction
    (schedule,) = schedules(training.schedule)
    if "trainer" not in words[-1]:
        assert with_mode(training, schedule)["mode"] == direction


def test_a_run_that_is_shortened_keeps_its_patience(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace("epochs: 2", "epochs: 20, patience: 18"), encoding="utf-8")
    assert load(file, ["trainer.epochs=1"]).warnings == ()


def test_null_removes_members(mistakes):
    assert (
        mistakes(CONFIG.replace("metrics:\n", "metrics:\n  gone: null\n").replace("loss:\n", "loss:\n  b: null\n"))
        == ()
    )


def test_a_name_may_be_a_field_that_is_not_declared(mistakes, monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "mine", lambda: None)
    text = CONFIG.replace("{name: synthetic, shape: [8], classes: 4}", "{name: mine}")
    assert mistakes(text.replace("target: label, args", "target: anything, args")) == ()
    assert mistakes(text.replace("input: logits, target: label, args", "input: logitz, target: label, args")) == ()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"image": torch.zeros(4, 9), "label": torch.zeros(4)},
            r"declared as \[B, 8\], but the data set has \[B, 9\]",
        ),
        ({"image": torch.zeros(4, 8, 1), "label": torch.zeros(4)}, r"the data set has \[B, 8, 1\]"),
        (
            {"image": torch.zeros(4, 8).long(), "label": torch.zeros(4)},
            "declared as float32, but the data set has int64",
        ),
        (
            {"picture": torch.zeros(4, 8), "label": torch.zeros(4)},
            "no field for the input `image` of the graph",
        ),
        ({"image": torch.zeros(4, 8)}, "`label` is neither a value of the graph nor a field of the data"),
    ],
)
def test_data_that_does_not_fit(tmp_path, monkeypatch, tensors, message):
    monkeypatch.setitem(registry.datasets.registered, "mine", lambda: Splits(Resident(tensors)))
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace("{name: synthetic, shape: [8], classes: 4}", "{name: mine}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        prepare(load(file), tmp_path)


def test_symbolic_sizes_agree_between_inputs(tmp_path, monkeypatch):
    monkeypatch.setitem(
        registry.datasets.registered, "mine", lambda: Splits(Resident({"a": torch.zeros(4, 3), "b": torch.zeros(4, 5)}))
    )
    file = tmp_path / "config.yaml"
    file.write_text(
        "model:\n  inputs: {a: [B, T], b: [B, T]}\n  flow: {y: 'Linear(3, 1)'}\n"
        "data: {name: mine}\nloss: {x: {fn: value, input: y}}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError):
        prepare(load(file), tmp_path)


def test_a_loss_names_a_value_and_not_an_output(tmp_path):
    file = tmp_path / "config.yaml"
    text = CONFIG.replace("data: {name", "  outputs: {scores: logits, label: stem}\ndata: {name")
    file.write_text(text, encoding="utf-8")
    assert flowconf.check(file) == []
    file.write_text(text.replace("cross_entropy, input: logits", "cross_entropy, input: scores"), encoding="utf-8")
    (found,) = flowconf.check(file)
    assert (found.code, found.message) == (
        "FC0402",
        "`scores` is the name of an output, which is `logits` in the graph",
    )
    assert isinstance(found.advice, Suggestion)
    assert found.advice.write == "logits"


def test_a_target_of_undeclared_data_may_have_the_name_of_an_output(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.datasets.registered, "mine", lambda: Splits(Resident({"label": torch.zeros(4)})))
    file = tmp_path / "config.yaml"
    text = CONFIG.replace("data: {name", "  outputs: {label: logits}\ndata: {name")
    file.write_text(text.replace("{name: synthetic, shape: [8], classes: 4}", "{name: mine}"), encoding="utf-8")
    assert "FC0402" not in [found.code for found in flowconf.check(file)]


def test_a_step_with_the_name_of_the_default_input():
    (found,) = flowconf.check({"flow": {"x": "Linear(8, 4)"}})
    assert (found.code, found.message, found.labels) == ("FC0142", "duplicate name `x`", ())
    assert found.advice == "a graph without `inputs` has the input `x`: rename the step, or declare `inputs`"


def test_a_word_replaces_the_alternatives_of_a_choice(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(
        """
model: {inputs: {image: [B, 8]}, flow: {logits: "Linear(8, 4)"}}
data: {name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}
loss: {label: {fn: cross_entropy, input: logits, target: label, weight: {linear: {from: 1, to: 0}}}}
phases: {warm: {until: {epoch: 1}, lr: 0.1}}
init_from: {config: other.yaml, at: logits}
"""
    )
    words = [
        "phases.warm.until.step=3",
        "loss.label.weight={steps: {values: [1, 2], at: [0.5]}}",
        "init_from.path=other",
    ]
    composed = compose(file, [*words, "schedule={name: cosine, warmup: {epoch: 1}}", "schedule.warmup.step=4"])
    plain = composed.document.origins.root.plain()
    assert plain["phases"]["warm"] == {"until": {"step": 3}, "lr": 0.1}
    assert plain["loss"]["label"]["weight"] == {"steps": {"values": [1, 2], "at": [0.5]}}
    assert plain["init_from"] == {"path": "other", "at": "logits"}
    assert plain["schedule"] == {"name": "cosine", "warmup": {"step": 4}}


@pytest.mark.parametrize(("factor", "said"), [(None, "got `None`"), (-1.0, "is -1 at 0%")])
def test_a_schedule_that_returns_no_factor(tmp_path, monkeypatch, factor, said):
    monkeypatch.setitem(registry.schedules.registered, "own", lambda progress: factor)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("{name: cosine, final: 0.1}", "{name: own}"), encoding="utf-8")
    (found,) = flowconf.check(tmp_path / "config.yaml")
    assert found.code == "FC0123"
    assert said in found.message
