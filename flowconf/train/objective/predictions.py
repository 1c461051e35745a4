"""Predictions beside their targets, for the report of a run: gathered while an evaluation computes them anyway.

What is compared follows from the losses and metrics: a term with one value of the graph and one field of the batch
compares scores with class indices if the field lacks only the dimension of the classes, and numbers if both have the
same shape. Small evaluations are held as they are, and counted only if a report shows them. Nothing is read from the
device until then, and the memory does not grow with the rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowconf.language.training import LATEST, TrainingConfig, evaluated_on
from flowconf.train.objective.metering import Metric
from flowconf.train.objective.terms import Operand, Term, Values, spread
from flowconf.train.runs.predictions import Compared, Shown, confusion_of, inputs_of, row_of

ROWS = 8
"""The number of rows that are shown, and of wrong ones."""
MOST_TASKS = 6
LONGEST = 24
"""Characters of the name of a class."""
MOST_PARTS = 16
"""The batches whose wrong rows are kept until they are compared."""
MOST_CLASSES = 1000
"""Confusions of more classes are not counted."""
MOST_HELD = 1 << 23
"""The bytes of the batches of an evaluation that are held; of more, they are counted while it runs."""


@dataclass(frozen=True)
class Task:
    """A value of the graph that is compared with a field of the batch."""

    terms: list[str]
    """The losses and metrics that compare them, such as `loss.label` and `metrics.accuracy`."""
    predicted: Operand
    target: Operand
    mask: Operand | None
    dim: int
    """The dimension of the classes, if there are any."""
    ignored: int | None
    names: Sequence[str]
    """Those of the classes, if the data set has determined them."""

    def read(self, values: Values, batch: Values) -> dict[str, Tensor]:
        """The compared tensors: `predicted` and `target`, and the `mask` if there is one."""
        found = {"predicted": self.predicted.read(values, batch).detach(), "target": self.target.read(values, batch)}
        return found if self.mask is None else found | {"mask": self.mask.read(values, batch)}

    def counted(self, target: Tensor, classes: int, mask: Tensor | None) -> Tensor:
        """Which class indices [...] count."""
        found = (target >= 0) & (target < classes)
        if self.ignored is not None:
            found &= target != self.ignored
        return found if mask is None or mask.ndim > target.ndim else found & (spread(mask, target) != 0)


@dataclass
class Tally:
    """The counts of a task in an evaluation, on the device."""

    counts: Tensor | None = None
    """How often each class was predicted for each target, [classes * classes], and the number that does not count."""
    first: dict[str, Tensor] = field(default_factory=dict)
    """The first rows: `target`, `predicted`, and of classes the `confidence`."""
    wrong: list[dict[str, Tensor]] = field(default_factory=list)
    """The wrong rows with the highest confidence of some batches, with their inputs as `input NAME`; `rank` is the
    logarithm of the confidence, and lowest for right ones."""


class Evaluation:
    """The predictions of one evaluation: batches that are held, and the counts of those before them."""

    def __init__(self, tasks: Sequence[Task], inputs: Sequence[str], dealt: bool = False) -> None:
        self.dealt = dealt
        self.tallies: list[Tally] = []
        self.first: dict[str, Tensor] = {}
        """The inputs of the first rows."""
        self._tasks, self._inputs = tasks, inputs
        self._held: list[tuple[Values, Values]] = []
        self._room = 0

    def add(self, values: Values, batch: Values) -> None:
        """Hold a batch, or count it and those that are held if there is no room for as many."""
        if not self._held:
            self._room = MOST_HELD // (1 + sum(value.nbytes for part in (values, batch) for value in part.values()))
        self._held.append((values, batch))
        if len(self._held) > self._room:
            self.count()

    @torch.no_grad()
    def count(self) -> None:
        """Count what is held."""
        self.tallies = self.tallies or [Tally() for _ in self._tasks]
        for values, batch in self._held:
            self._count(values, batch)
        self._held = []

    def _count(self, values: Values, batch: Values) -> None:
        inputs = {f"input {name}": batch[name] for name in self._inputs if name in batch}
        if not self.first:
            self.first = _rows(slice(ROWS), inputs)
        for task, tally in zip(self._tasks, self.tallies, strict=True):
            part = task.read(values, batch)
            predicted, target = part["predicted"], part["target"]
            if _are_scores(predicted, target, task.dim):
                scores = predicted.movedim(task.dim, -1)
                counted = task.counted(target, scores.shape[-1], part.get("mask"))
                _add_classes(tally, scores, target.long(), counted, inputs)
            elif predicted.shape == target.shape and not tally.first:
                tally.first = _rows(slice(ROWS), {"target": target, "predicted": predicted})


class Predictions:
    """Gathers predictions of the split that chooses the best weights, and keeps those of the best weights."""

    def __init__(
        self,
        training: TrainingConfig,
        terms: Sequence[Term],
        metrics: Sequence[Metric],
        inputs: Sequence[str],
        add_up: Callable[[Tensor], Tensor],
        fitted: Mapping[str, Any] | None = None,
    ) -> None:
        self._inputs, self._add_up = inputs, add_up
        self._copies = training.trainer.compile is not False
        self._split = "val" if training.trainer.best == LATEST else training.trainer.best.split("/")[0]
        self._tasks = list(_tasks(training, terms, metrics, fitted or {}, self._split))
        self._latest = Evaluation(self._tasks, inputs)
        self._kept: tuple[int, Evaluation] | None = None

    def begin(self, split: str, dealt: bool) -> None:
        """Begin the evaluation of a split; `dealt`: this process gets a part of its batches."""
        if split == self._split:
            self._latest = Evaluation(self._tasks, self._inputs, dealt)

    def add(self, split: str, values: Values, batch: Values) -> None:
        """Add a batch of an evaluation."""
        if split == self._split and self._tasks:
            if self._copies:  # the memory of what a compiled graph computes is used again by the next batch
                values = {name: value.clone() for name, value in values.items()}
            if torch.is_grad_enabled():
                values = {name: value.detach() for name, value in values.items()}
            self._latest.add(values, batch)

    @torch.no_grad()
    def keep(self, step: int) -> None:
        """Keep what the evaluation after `step` steps has gathered: its weights are the best so far. Collective."""
        if self._latest.dealt:
            self._latest.count()
            for tally in self._latest.tallies:
                if tally.counts is not None:
                    tally.counts = self._add_up(tally.counts)
        self._kept = step, self._latest

    @torch.no_grad()
    def take(self) -> Shown | None:
        """The gathered predictions, as plain data; None if they have been taken."""
        if self._kept is None:
            return None
        (step, found), self._kept = self._kept, None
        found.count()
        pairs = zip(self._tasks, found.tallies, strict=True)
        tasks = [_compared(task, tally) for task, tally in pairs if tally.first]
        inputs = [inputs_of(row) for row in _each(found.first)]
        return Shown(split=self._split, step=step, inputs=inputs, tasks=tasks)


def _add_classes(tally: Tally, scores: Tensor, target: Tensor, counted: Tensor, inputs: Mapping[str, Tensor]) -> None:
    """Add scores [..., classes] for class indices [...], of which some are `counted`."""
    classes = scores.shape[-1]
    if not tally.first:
        confidence, chosen = _confidences(scores[:ROWS]).max(-1)
        shown = {"target": target, "predicted": chosen, "confidence": confidence, "counted": counted}
        tally.first = _rows(slice(ROWS), shown)
    if classes > MOST_CLASSES:
        return
    best, chosen = scores.max(-1)
    places = torch.where(counted, target * classes + chosen, classes * classes).flatten()
    if tally.counts is None:
        tally.counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=places.device)
    tally.counts.index_add_(0, places, torch.ones_like(places))
    if target.ndim == 1:
        rank = torch.where(counted & (chosen != target), best - scores.logsumexp(-1), -torch.inf)
        shown = {"target": target, "predicted": chosen, "scores": scores, "counted": counted, "rank": rank}
        tally.wrong.append(_highest({**inputs, **shown}))
        if len(tally.wrong) == MOST_PARTS:
            tally.wrong = [_merged(tally.wrong)]


def _highest(of: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows with the highest rank."""
    return _rows(of["rank"].topk(min(ROWS, len(of["rank"]))).indices, of)


def _merged(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The rows of all parts with the highest rank."""
    return _highest({name: torch.cat([part[name] for part in parts]) for name in parts[0]}) if parts else {}


def _rows(rows: slice | Tensor, of: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of some rows."""
    return {name: value[rows].detach().clone() for name, value in of.items()}


def _tasks(
    training: TrainingConfig, terms: Sequence[Term], metrics: Sequence[Metric], fitted: Mapping[str, Any], split: str
) -> Iterator[Task]:
    """The pairs that the losses and metrics of a split compare, each once."""
    named = {f"loss.{term.name}": term for term in terms if evaluated_on(training.loss[term.name], split)}
    measured = (metric for metric in metrics if evaluated_on(training.metrics[metric.name], split))
    named |= {f"metrics.{metric.name}": metric.term for metric in measured}
    pairs: dict[tuple[str, str], list[str]] = {}
    for name, term in named.items():
        if len(term.operands) == 2 and not term.operands[0].in_batch and term.operands[1].in_batch:
            pairs.setdefault((term.operands[0].name, term.operands[1].name), []).append(name)
    for names in list(pairs.values())[:MOST_TASKS]:
        term = next((named[name] for name in names if named[name].mask is not None), named[names[0]])
        predicted, target = term.operands
        dim, ignored = _option(term, "dim", 1), _option(term, "ignore_index", None)
        known = fitted.get(target.name, {})
        categories = known.get("categories", ()) if isinstance(known, Mapping) else ()
        yield Task(names, predicted, target, term.mask, dim, ignored, [str(name)[:LONGEST] for name in categories])


def _option(term: Term, name: str, otherwise: Any) -> Any:
    """An argument of a term, or its default in the function."""
    parameter = inspect.signature(term.function).parameters.get(name)
    default = otherwise if parameter is None or parameter.default is parameter.empty else parameter.default
    return term.args.get(name, default)


def _are_scores(predicted: Tensor, target: Tensor, dim: int) -> bool:
    """Whether `predicted` has the dimension of the classes besides those of class indices."""
    if target.is_floating_point() or target.is_complex() or not predicted.is_floating_point():
        return False
    shape = list(predicted.shape)
    if not -len(shape) <= dim < len(shape):
        return False
    del shape[dim]
    return shape == list(target.shape) != []


def _confidences(scores: Tensor) -> Tensor:
    """Scores [..., classes] as probabilities; those that are probabilities already stay as they are."""
    scores = scores.float()
    are_probabilities = (scores.amin() >= 0) & ((scores.sum(-1) - 1).abs().amax() < 1e-3)
    return torch.where(are_probabilities, scores, scores.softmax(-1))


def _compared(task: Task, tally: Tally) -> Compared:
    """The gathered predictions of a task, as plain data."""
    wrong = _merged(tally.wrong)
    if wrong:
        wrong["confidence"] = _confidences(wrong.pop("scores")).amax(-1)
    found = Compared(
        of=task.terms,
        predicted=task.predicted.name,
        target=task.target.name,
        rows=[row_of(row, task.names) for row in _each(tally.first)],
        wrong=[row_of(row, task.names) for row in _each(wrong) if row["rank"] > -torch.inf],
    )
    return found if tally.counts is None else confusion_of(found, tally.counts[:-1].cpu(), task.names)


def _each(parts: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Rows one by one."""
    held = {name: part.cpu() for name, part in parts.items()}
    for at in range(min(map(len, held.values()), default=0)):
        yield {name: part[at] for name, part in held.items()}
