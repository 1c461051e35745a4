"""A run as Python sees it: its folder, its numbers, its graph, and what that gives for data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.graph.graph import Graph
from flowconf.graph.weights.sources import chosen, known_record
from flowconf.report import shown_path, texts
from flowconf.report.html import html_table
from flowconf.train.data.splits import classes_in
from flowconf.train.runs.loading import fitted_of, load_run
from flowconf.train.runs.lock import LINES
from flowconf.train.runs.log_reader import lines_in, text_of
from flowconf.train.screen import number


class TrainedRun:
    """A run that has been trained, in its folder.

    Example:
        run = flowconf.train("configs/digits.yaml", ["trainer.epochs=3"])
        run.metrics["val/accuracy"]
        run.predict({"image": images})["logits"]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    @property
    def metrics(self) -> dict[str, float]:
        """The losses and metrics of its best weights, such as `val/loss`, `val/accuracy` and `test/accuracy`."""
        return dict(known_record(self.folder).get("metrics", {}))

    @property
    def classes(self) -> dict[str, list[str]]:
        """The names of classes by field, in the order of their numbers: of folders, categories and characters.

        Example:
            names = run.classes["label"]
            labels = [names[number] for number in run.predict(Path("new"))["logits"].argmax(1)]
        """
        return classes_in(fitted_of(self.folder))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Everything that was logged, in order: `step` and `epoch`, and losses of training or values of a split."""
        return [*lines_in(text_of(self.folder / LINES).encode())]

    @cached_property
    def graph(self) -> Graph:
        """The graph with its best weights, in evaluation mode, on the CPU."""
        return load_run(self.folder)

    def evaluate(self, *splits: str, last: bool = False, step: int | None = None) -> dict[str, float]:
        """The losses and metrics of the best (or `last`) weights, or of those kept of a `step`; without `splits`, of
        `val` and `test` (only of `val` with `trainer.test: false`).

        Raises `ConfigError` for a split that the data set does not have.
        """
        from flowconf.train.commands.evaluate import evaluate_run

        return evaluate_run(self.folder, (), splits, chosen(last, step))

    def predict(
        self,
        inputs: str | Path | Mapping[str, Tensor],
        values: Sequence[str] = (),
        batch_size: int = 256,
        *,
        fields: Sequence[str] = (),
        units: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """What the graph gives for `inputs`, tensors [rows, ...] by name, or for a split: `train`, `val` or `test`.

        A `Path` is a file with arrays, or one that the data set reads, such as a table.

        `values` are references to any values of the graph; without them its outputs are given. The rows of a split come
        in their own order; `fields` of its data, such as the targets, are given as well, and so are `row`, its number,
        and `file`, a list with the file of each. `units` gives values the units of standardized fields, as in
        `{"price": "cost"}`. Raises `ConfigError` for inputs that do not fit, and `PathError` for
        an unknown value.
        """
        from flowconf.train.commands.predict import Prediction, check_inputs, predict

        if isinstance(inputs, str | Path) or fields or units:
            named = texts(fields, "fields")
            return Prediction(self.folder, values, named, batch_size=batch_size, units=units).gathered(inputs)
        found = predict(self.graph, check_inputs(self.graph, inputs, values), values, batch_size)
        self.graph.cpu()
        return found

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        record = known_record(self.folder)
        settings = [("status", str(record.get("status", ""))), ("config", shown_path(str(record["config"])))]
        settings += [("overrides", " ".join(record["overrides"]))] if record.get("overrides") else []
        numbers = [(name, number(value)) for name, value in self.metrics.items()]
        return html_table(shown_path(self.folder), ("run", ""), [*settings, *numbers])
