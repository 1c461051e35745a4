"""A refusal follows from structure, types and sizes, or from real rows; what was not checked is said."""

from __future__ import annotations

import numpy
import pytest
import torch
from safetensors.torch import load_file

import flowconf
from flowconf.language import registry
from flowconf.report import ConfigError
from flowconf.train.checks.road import findings

BINARY = """
model:
  inputs: {x: [B, 6]}
  flow: {stem: "Linear(6, 16) >> GELU", out: "Linear(16, 1) >> Reshape()"}
data: {name: arrays, train: rows.npz, batch_size: 16}
loss: {fit: {fn: bce_with_logits, input: out, target: y}}
metrics: {f1: {fn: F1Score, input: out, target: y, args: {task: binary}}}
trainer: {epochs: 1, devices: cpu}
"""


@pytest.fixture
def rows(folder):
    """Write arrays of 32 rows with 6 numbers `x` and what is given."""

    def write(**fields):
        x = numpy.random.default_rng(0).normal(size=(32, 6)).astype("float32")
        numpy.savez(folder.path / "rows.npz", x=x, **fields)

    return write


def errors(file, overrides=()):
    return [(d.code, d.path) for d in flowconf.check(file, overrides) if d.severity == "error"]


def halves(count, kind="float32"):
    return (numpy.arange(count) % 2).astype(kind)


# values


@pytest.mark.parametrize("metric", ["F1Score", "Accuracy", "Recall"])
def test_labels_of_0_and_1_may_be_floats(folder, rows, metric):
    rows(y=halves(32))
    file = folder.write(BINARY)
    assert not errors(file, [f"metrics.f1.fn={metric}"])
    assert not findings(file, [f"metrics.f1.fn={metric}"]).notes


def test_real_labels_that_a_metric_refuses_are_an_error(folder, rows):
    rows(y=halves(32) * 2)
    assert errors(folder.write(BINARY)) == [("FC0406", "metrics.f1")]


def test_a_type_is_an_error_without_any_row(folder, rows):
    rows(y=halves(32))
    file = folder.write(BINARY)
    assert errors(file, ["metrics.f1.args={task: multilabel, num_labels: 3}"]) == [("FC0406", "metrics.f1")]


def test_what_depends_on_numbers_of_data_that_are_not_at_hand_is_left_open(folder, monkeypatch):
    def early(predicted, target):
        if int(target.max()) < 1:
            raise ValueError("classes begin with 1")
        return predicted.mean(1)

    monkeypatch.setitem(registry.losses.registered, "early", early)
    text = BINARY.replace("arrays, train: rows.npz", "synthetic, shape: [6]").replace("x:", "image:")
    text = text.replace("bce_with_logits", "early").replace(" >> Reshape()", "").replace("target: y", "target: label")
    seen = findings(folder.write(text.partition("metrics")[0] + "trainer: {epochs: 1, devices: cpu}"))
    assert not [d for d in seen.mistakes if d.severity == "error"]
    assert seen.notes == ("checked when a run has read its data: `loss.fit`",)


def test_a_metric_that_needs_more_than_two_rows_runs(folder, rows, monkeypatch):
    def spread(predicted, target):
        if len(target) < 3:
            raise ValueError("three rows are needed")
        return (predicted - target).abs()

    monkeypatch.setitem(registry.metrics.registered, "spread", spread)
    rows(y=halves(32))
    text = BINARY.replace("F1Score", "spread").replace(", args: {task: binary}", "")
    assert folder.train(text=text).record["status"] == "finished"


def test_a_metric_that_refuses_real_rows_ends_before_the_first_step(folder, rows, monkeypatch):
    def never(predicted, target):
        raise ValueError("no")

    monkeypatch.setitem(registry.metrics.registered, "never", never)
    rows(y=halves(32))
    with pytest.raises(ConfigError, match="FC0406"):
        folder.train(text=BINARY.replace("F1Score", "never").replace(", args: {task: binary}", ""))


@pytest.mark.parametrize(("scores", "codes"), [(1, []), (2, ["FC0406"])])
def test_real_rows_of_small_files_say_what_a_data_set_does_not_declare(folder, monkeypatch, scores, codes):
    @flowconf.provides("x", "y", paths=("file",))
    def mine(*, file: str) -> flowconf.Splits:
        return flowconf.Splits(flowconf.Resident({"x": torch.rand(20, 6), "y": torch.rand(20, 1)}))

    monkeypatch.setitem(registry.datasets.registered, "mine", mine)
    (folder.path / "rows.csv").write_text("x,y")
    text = BINARY.partition("metrics")[0].replace("arrays, train: rows.npz", "mine, file: rows.csv")
    text = text.replace("Linear(16, 1) >> Reshape()", f"Linear(16, {scores})").replace("bce_with_logits", "mse")
    found = findings(folder.write(text))
    assert [reported.code for reported in found.mistakes] == codes
    assert found.notes == ()


# metrics with several numbers

CLASSES = """
model:
  inputs: {x: [B, 6]}
  flow: {out: "Linear(6, 3)"}
data: {name: arrays, train: rows.npz, validation: rows.npz, batch_size: 16}
loss: {fit: {fn: cross_entropy, input: out, target: y}}
metrics:
  f1: {fn: F1Score, input: out, target: y, args: {task: multiclass, num_classes: 3, average: none}}
  confusion: {fn: ConfusionMatrix, input: out, target: y, args: {task: multiclass, num_classes: 3}}
  accuracy: {fn: accuracy, input: out, target: y}
trainer: {epochs: 1, devices: cpu}
"""


@pytest.fixture
def classes(folder, rows):
    rows(y=numpy.arange(32) % 3)
    return folder


def test_values_for_each_class_are_logged_by_name(classes):
    run = classes.train("trainer.best=val/f1/1", text=CLASSES)
    found = run.record["metrics"]
    assert {f"val/f1/{number}" for number in range(3)} <= set(found)
    matrix = [found[f"val/confusion/{i}/{j}"] for i in range(3) for j in range(3)]
    assert sum(matrix) == 32
    said = classes.said.getvalue()
    assert "mean val/f1" in said
    assert "val/confusion" not in said


def test_curves_are_logged_by_name(classes):
    text = CLASSES.replace("ConfusionMatrix", "ROC").replace("num_classes: 3}", "num_classes: 3, thresholds: 4}")
    text = text.replace("thresholds: 4, average", "average")
    found = classes.train(text=text).record["metrics"]
    assert {"val/confusion/0/0/0", "val/confusion/2/3"} <= set(found)


@pytest.mark.parametrize(
    ("best", "advice"), [("val/f1", "val/f1/2"), ("val/f1/3", "val/f1/0"), ("val/confusion/0", "/2/2")]
)
def test_the_best_value_must_be_one_number(classes, best, advice):
    (reported,) = [d for d in flowconf.check(classes.write(CLASSES), [f"trainer.best={best}"]) if d.severity == "error"]
    assert (reported.code, reported.path) == ("FC0402", "trainer.best")
    assert advice in str(reported.advice)


def test_a_number_of_a_metric_that_gives_one_is_refused(classes):
    assert errors(classes.write(CLASSES), ["trainer.best=val/accuracy/0"]) == [("FC0402", "trainer.best")]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_number_of_classes_is_that_of_the_graph(folder, rows, task):
    rows(y=numpy.arange(32) % 3 if task == "multiclass" else numpy.arange(96).reshape(32, 3) % 2)
    written = CLASSES.replace("cross_entropy", "cross_entropy" if task == "multiclass" else "bce_with_logits")
    written = written.replace("accuracy: {fn: accuracy, input: out, target: y}", "").replace("multiclass", task)
    written = written.replace("num_classes", "num_classes" if task == "multiclass" else "num_labels")
    left_out = written.replace(", num_classes: 3", "").replace(", num_labels: 3", "")
    assert left_out != written
    assert errors(folder.write(left_out)) == []
    assert folder.train(text=left_out).record["metrics"] == folder.train(text=written).record["metrics"]


@pytest.mark.parametrize(("out", "labels", "task"), [("out", 3, "multiclass"), ("one", 2, "binary")])
def test_the_task_is_that_of_the_shapes(folder, rows, out, labels, task):
    rows(y=numpy.arange(32) % labels)
    flow = 'flow: {out: "Linear(6, 3)", one: {from: x, fork: "Linear(6, 1) >> Reshape()"}}'
    text = (
        CLASSES.partition("  accuracy")[0].replace('flow: {out: "Linear(6, 3)"}', flow).replace(", average: none", "")
    )
    text = text.replace("{fn: F1Score, input: out", f"{{fn: F1Score, input: {out}")
    text = text.replace("{fn: ConfusionMatrix, input: out", f"{{fn: ConfusionMatrix, input: {out}")
    left_out = text.replace(", args: {task: multiclass, num_classes: 3}", "")
    written = text.replace(
        "task: multiclass, num_classes: 3", f"task: {task}" + (", num_classes: 3" if labels == 3 else "")
    )
    assert left_out != written
    found = [folder.train(text=one).record["metrics"] for one in (left_out, written)]
    assert found[0] == found[1]
    assert "val/f1" in found[0]


def test_a_task_that_is_not_certain_is_required(folder, rows):
    rows(y=numpy.arange(96).reshape(32, 3) % 2)
    text = CLASSES.partition("metrics:")[0].replace("cross_entropy", "bce_with_logits")
    text += "metrics: {f1: {fn: F1Score, input: out, target: y}}\n"
    (reported,) = flowconf.check(folder.write(text))
    assert (reported.code, reported.message) == ("FC0133", "`F1Score` requires the argument `task`")
    assert "`multilabel`" in reported.help


def test_a_task_is_not_required_beside_a_file_that_is_missing(folder):
    text = CLASSES.partition("metrics:")[0] + "metrics: {f1: {fn: F1Score, input: out, target: y}}\n"
    assert {one.code for one in flowconf.check(folder.write(text))} == {"FC0501"}


def test_the_number_of_classes_is_required_where_the_graph_leaves_it_open(folder, rows):
    rows(y=numpy.arange(32) % 3)
    text = CLASSES.replace(", num_classes: 3", "").replace(
        "confusion: {fn: ConfusionMatrix, input: out", "confusion: {fn: ConfusionMatrix, input: y"
    )
    assert errors(folder.write(text)) == [("FC0133", "metrics.confusion")]


def test_a_metric_that_requires_integers_says_so(folder, rows):
    rows(y=(numpy.arange(96).reshape(32, 3) % 2).astype("float32"))
    text = CLASSES.partition("metrics:")[0].replace("cross_entropy", "bce_with_logits")
    text += "metrics: {map: {fn: AveragePrecision, input: out, target: y, args: {task: multilabel}}}\n"
    (reported,) = flowconf.check(folder.write(text))
    assert (reported.code, reported.help) == ("FC0406", "make `y` integers")


@pytest.fixture
def undeclared(monkeypatch):
    """The text of `CLASSES` without its metrics, on a data set that does not declare its fields."""

    def undeclared(*, rows: int = 8) -> flowconf.Splits:
        fields = {"x": torch.rand(rows, 6), "y": torch.zeros(rows, dtype=torch.int64), "goal": torch.rand(rows, 3)}
        return flowconf.Splits(flowconf.Resident(fields))

    monkeypatch.setitem(registry.datasets.registered, "undeclared", undeclared)
    text = CLASSES.partition("metrics:")[0] + "trainer: {epochs: 1, devices: cpu}"
    return text.replace("arrays, train: rows.npz, validation: rows.npz", "undeclared")


def test_terms_on_fields_that_are_not_declared_are_listed(folder, rows, undeclared):
    rows(y=numpy.arange(32) % 3)
    assert findings(folder.write(CLASSES.partition("metrics:")[0])).notes == ()
    assert findings(folder.write(undeclared)).notes == ("checked when a run has read its data: `loss.fit`",)


def test_an_input_may_be_a_field_that_is_not_declared(folder, undeclared):
    text = undeclared.replace("cross_entropy, input: out, target: y", "mse, input: goal, target: out")
    assert flowconf.check(folder.write(text)) == []
    assert folder.train(text=text).record["status"] == "finished"


def test_an_input_that_may_be_a_field_or_a_slip_is_a_warning(folder, undeclared):
    text = undeclared.replace("target: y}", "target: y}, more: {fn: mse, input: oit, target: out}")
    (reported,) = flowconf.check(folder.write(text))
    assert (reported.code, reported.severity, reported.help) == ("FC0402", "warning", "write `out`")
    with pytest.raises(ConfigError, match=r"FC0402.*`oit` is neither a value of the graph nor a field"):
        folder.train(text=text)


# ignored and masked elements


@pytest.fixture
def uneven(folder, rows):
    """48 rows of which most labels are ignored: all of a batch in unlucky orders."""
    label = numpy.where(numpy.arange(32) % 8 == 0, numpy.arange(32) % 3, -100)
    rows(y=label, known=(label >= 0))
    return folder


TRAINS = CLASSES.partition("metrics")[0] + "trainer: {epochs: 2, devices: cpu}\n"


def weights(run):
    return load_file(run.folder / "checkpoints" / "last.safetensors")


def test_a_batch_of_ignored_labels_has_no_loss_and_no_gradient(folder, rows):
    rows(y=numpy.full(32, -100))
    run = folder.train("optimizer.name=sgd", "optimizer.lr=0.5", "data.batch_size=4", text=TRAINS)
    assert run.record["status"] == "finished"
    assert all(line["train/loss"] == 0 for line in run.log if "train/loss" in line)


def test_a_run_goes_on_over_batches_without_labels(uneven):
    run = uneven.train("data.batch_size=2", text=TRAINS)
    assert run.record["status"] == "finished"


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "weighed", "masked"])
def test_a_batch_in_parts_is_the_batch(uneven, loss):
    text = TRAINS.replace("cross_entropy", loss) if loss == "nll" else TRAINS
    if loss == "weighed":
        text = text.replace("target: y}", "target: y, args: {weight: [1.0, 5.0, 2.0]}}")
    if loss == "masked":
        text = text.replace("target: y}", "target: y, mask: known}")
    whole, parts = [
        weights(uneven.train("optimizer.name=sgd", "optimizer.lr=0.5", f"trainer.accumulate={count}", text=text))
        for count in (1, 4)
    ]
    for name, tensor in whole.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(parts[name], tensor)
