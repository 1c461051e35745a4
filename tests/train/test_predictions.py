"""The predictions in the report of a run: what is compared, what is counted, and what it costs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

import flowconf
from flowconf.train.objective import losses, metrics, predictions
from flowconf.train.objective.predictions import MOST_CLASSES, ROWS, Predictions
from flowconf.train.objective.terms import Operand, Term
from flowconf.train.runs import predictions as module
from flowconf.train.runs.predictions import read_predictions, write_predictions


def term(function, *, predicted="logits", target="label", mask=None, **args):
    operands = Operand(predicted, in_batch=False), Operand(target, in_batch=True)
    return Term("label", function, operands, mask and Operand(mask, in_batch=True), args, 1.0, False)


def gathered(function, batches, *, dealt=False, add_up=lambda counts: counts, fitted=None, compiled=False, **options):
    """What an evaluation of some batches gathers: (values of the graph, fields)."""
    section = SimpleNamespace(splits=None)
    trainer = SimpleNamespace(best="val/loss", compile=compiled)
    training = SimpleNamespace(trainer=trainer, loss={"label": section}, metrics={})
    found = Predictions(training, [term(function, **options)], [], ["x"], add_up, fitted)
    found.begin("val", dealt)
    for values, batch in batches:
        found.add("val", values, batch)
        found.add("test", {}, {})
    found.keep(7)
    shown = found.take()
    assert (shown.split, shown.step, found.take()) == ("val", 7, None)
    return shown


def tasks_of(*args, **options):
    return gathered(*args, **options).tasks


def scores_of(*chosen, classes=3):
    return 4.0 * torch.nn.functional.one_hot(torch.tensor(chosen), classes).float()


def test_a_run_has_those_of_its_best_weights(folder):
    run = folder.train()
    found = json.loads((run.folder / "predictions.json").read_text())
    (task,) = found["tasks"]
    best = max((line["val/accuracy"], line["step"]) for line in run.log if "val/accuracy" in line)
    assert (task["of"], found["split"], found["step"]) == (["loss.label", "metrics.accuracy"], "val", best[1])
    confusion = task["confusion"]
    assert confusion["right"] / confusion["total"] == pytest.approx(best[0])
    assert confusion["right"] == sum(row[at] for at, row in enumerate(confusion["counts"]))
    assert confusion["total"] == sum(map(sum, confusion["counts"])) == 32
    wrong = [row["confidence"][0] for row in task["wrong"]]
    assert wrong == sorted(wrong, reverse=True)
    assert len(wrong) == min(ROWS, confusion["total"] - confusion["right"])
    assert len(task["rows"]) == len(found["inputs"]) == ROWS


def test_the_run_is_the_same_without_them(folder):
    one, other = folder.train(), folder.train("trainer.report=false")
    assert one.log == other.log
    weights = [(run.folder / "checkpoints" / "best.safetensors").read_bytes() for run in (one, other)]
    mine, theirs = (flowconf.load_run(run.folder).state_dict() for run in (one, other))
    assert len(weights[0]) == len(weights[1])
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not (other.folder / "predictions.json").exists()


def test_those_of_several_batches_are_counted_together():
    batches = [
        ({"logits": scores_of(0, 1, 2)}, {"x": torch.rand(3, 2), "label": torch.tensor([0, 2, 2])}),
        ({"logits": scores_of(1, 1)}, {"x": torch.rand(2, 2), "label": torch.tensor([2, 1])}),
    ]
    (task,) = tasks_of(losses.cross_entropy, batches)
    assert task.confusion.counts == [[1, 0, 0], [0, 1, 0], [0, 2, 1]]
    assert task.confusion.pairs == [(2, 1, 2)]
    assert [(row.target.text, row.predicted.text, row.right) for row in task.wrong] == [("2", "1", False)] * 2
    (shared,) = tasks_of(losses.cross_entropy, batches, dealt=True, add_up=lambda counts: 2 * counts)
    assert shared.confusion.total == 10


@pytest.mark.parametrize("room", [0, 100, 200])
def test_batches_that_are_held_count_as_others(room, monkeypatch):
    fields = [{"x": torch.rand(3, 2), "label": torch.randint(3, (3,)), "there": torch.rand(3) > 0.2} for _ in range(5)]
    batches = [({"logits": torch.rand(3, 3)}, batch) for batch in fields]
    held = gathered(losses.cross_entropy, batches, mask="there")
    monkeypatch.setattr(predictions, "MOST_HELD", room)
    assert gathered(losses.cross_entropy, batches, mask="there") == held


def test_what_a_compiled_graph_computes_may_be_overwritten_by_its_next_batch():
    logits, batch = scores_of(0, 1), {"x": torch.rand(2, 2), "label": torch.tensor([0, 1])}

    def batches():
        yield {"logits": logits}, batch
        yield {"logits": logits.zero_()}, batch

    (task,) = tasks_of(losses.cross_entropy, batches(), compiled=True)
    assert task.confusion.counts[1] == [1, 1, 0]


def test_classes_have_the_names_that_the_data_set_has_found():
    batch = {"logits": scores_of(0, 1, 2)}, {"x": torch.rand(3, 2), "label": torch.tensor([0, 2, 2])}
    (task,) = tasks_of(losses.cross_entropy, [batch], fitted={"label": {"categories": ["ant", "bee"]}})
    assert task.confusion.names == {"0": "ant", "1": "bee"}
    assert [(row.target.text, row.predicted.text) for row in task.wrong] == [("2", "bee")]
    (task,) = tasks_of(losses.cross_entropy, [batch], fitted={"label": ["mean"]})
    assert task.confusion.names == {}


def test_of_many_batches_the_most_confident_errors_are_kept():
    fields = {"x": torch.rand(1, 2), "label": torch.tensor([0])}
    sizes = [(7 * number) % 50 / 10 for number in range(50)]
    batches = [({"logits": torch.tensor([[0.0, 0.1 + size, 0.0]])}, fields) for size in sizes]
    (task,) = tasks_of(losses.cross_entropy, batches)
    expected = torch.tensor([[0.0, 5.0 - rank / 10, 0.0] for rank in range(ROWS)]).softmax(-1)[:, 1]
    assert [row.confidence[0] for row in task.wrong] == pytest.approx(expected.tolist(), abs=1e-4)
    assert task.confusion.pairs == [(0, 1, 50)]


def test_what_is_ignored_or_masked_does_not_count():
    scores = scores_of(0, 1, 2, 2).view(2, 2, 3)
    fields = {
        "x": torch.rand(2, 2),
        "label": torch.tensor([[0, -100], [1, 2]]),
        "there": torch.tensor([[1, 1], [0, 1]]),
    }
    (task,) = tasks_of(metrics.accuracy, [({"logits": scores}, fields)], dim=2)
    assert task.confusion.counts == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert [(row.target.text, row.predicted.text) for row in task.rows] == [("0 ·", "0 ·"), ("1 2", "2 2")]
    (masked,) = tasks_of(metrics.accuracy, [({"logits": scores}, fields)], dim=2, mask="there")
    assert masked.confusion.total == 2
    (ignored,) = tasks_of(metrics.accuracy, [({"logits": scores}, fields)], dim=2, ignore_index=2)
    assert ignored.confusion.total == 2


def test_probabilities_are_not_taken_for_scores():
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    (task,) = tasks_of(losses.nll, [({"logits": shares}, {"x": shares, "label": torch.tensor([0, 2])})])
    assert [row.confidence for row in task.rows] == [[0.7], [0.6]]


def test_many_classes_are_folded_and_more_are_not_counted():
    target = torch.arange(200)
    chosen = torch.where(target % 10 == 0, target + 1, target)
    fields = {"x": torch.rand(200, 2), "label": target}
    (task,) = tasks_of(losses.cross_entropy, [({"logits": scores_of(*chosen, classes=300)}, fields)])
    shown = task.confusion
    assert (len(shown.classes), shown.classes[-1], shown.total, shown.right) == (module.MOST_SHOWN, -1, 200, 180)
    assert sum(map(sum, shown.counts)) == 200
    assert len(shown.pairs) == module.MOST_PAIRS
    scores = torch.rand(4, MOST_CLASSES + 1)
    (task,) = tasks_of(losses.cross_entropy, [({"logits": scores}, {"x": torch.rand(4, 2), "label": torch.arange(4)})])
    assert task.confusion is None
    assert len(task.rows) == 4


def test_a_reconstruction_is_shown_beside_its_target():
    image = torch.rand(10, 1, 12, 12)
    values, fields = {"logits": image + 0.1}, {"x": image, "label": image}
    found = gathered(losses.mse, [(values, fields)] * 3)
    (task,) = found.tasks
    assert len(task.rows) == ROWS
    assert all(row.target.png and row.predicted.png for row in task.rows)
    assert all(row["x"].png for row in found.inputs)
    assert task.confusion is None
    (task,) = tasks_of(
        losses.mse, [({"logits": image[:, 0, 0, :2]}, {"x": image[:, 0, 0, :3], "label": image[:, 0, 0, :2]})]
    )
    assert len(task.rows[0].target.text.split()) == 2


def test_large_and_broken_pictures_are_small():
    shown = module.shown(torch.full((3, 500, 700), float("nan")))
    assert 0 < len(shown.png) < 2 * module.MOST_PIXELS
    assert module.shown(torch.rand(2, 900)).text.endswith("1,800 numbers")
    assert module.shown(torch.arange(3)).text == "0 1 2"


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"tasks": 1}', '{"tasks": [{"of": 1}]}', "[" * 100_000, '{"tasks": [{"predicted": "<script>"}]}'],
)
def test_a_file_that_is_none_is_passed_over(text, tmp_path):
    (tmp_path / module.FILE).write_text(text)
    assert read_predictions(tmp_path) is None


def test_what_is_written_reads_back_unless_it_is_a_link(tmp_path):
    batch = {"logits": scores_of(0, 1)}, {"x": torch.rand(2, 2), "label": torch.tensor([0, 2])}
    found = gathered(losses.cross_entropy, [batch])
    write_predictions(tmp_path, found)
    assert module.Shown.model_validate_json((tmp_path / module.FILE).read_text()) == found
    assert read_predictions(tmp_path) == json.loads((tmp_path / module.FILE).read_text())
    (tmp_path / module.FILE).rename(tmp_path / "other")
    (tmp_path / module.FILE).symlink_to(tmp_path / "other")
    assert read_predictions(tmp_path) is None
