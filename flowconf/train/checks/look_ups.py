"""Whether the numbers of classes in the data are rows of the tables in which the graph looks them up."""

from __future__ import annotations

import torch
from torch import Tensor

from flowconf.graph.shapes.inference import Arrival, Inference
from flowconf.language.config import Config
from flowconf.report import Advice, Label, Place, Reporter, Suggestion
from flowconf.train.checks.first_step import declared_fields
from flowconf.train.data.declarations import Declared
from flowconf.train.data.splits import Resident, Splits


def check_classes(config: Config, inference: Inference, known: Declared, reporter: Reporter) -> None:
    """Report fields with more classes than a table has rows, by what the data set declares."""
    for arrival in _look_ups(inference):
        classes = known.get(arrival.input, ())[2:]
        if classes and classes[0] > arrival.rows:
            has = f"has {classes[0]:,} classes, 0 to {classes[0] - 1:,}"
            _report(arrival, has, int(classes[0]), config, reporter)


def check_numbers(config: Config, inference: Inference, splits: Splits, reporter: Reporter) -> None:
    """The same with what the training rows determine, and with all numbers that are in memory."""
    known = declared_fields(config, splits.fitted)
    check_classes(config, inference, known, reporter)
    reported = {one.place for one in reporter.errors}
    for arrival in (one for one in _look_ups(inference) if one.place not in reported):
        for name, split in splits.named():
            numbers = split.tensors.get(arrival.input) if isinstance(split, Resident) else None
            if numbers is None or not numbers.numel() or numbers.is_floating_point():
                continue
            wrong = _outside(numbers, arrival.rows)
            if wrong is not None:
                needed = 0 if wrong < 0 else int(numbers.max()) + 1
                _report(arrival, f"holds {wrong:,} in the split `{name}`", needed, config, reporter)
                break


def _look_ups(inference: Inference) -> list[Arrival]:
    """Where inputs are looked up: each table once."""
    found = {(one.input, one.place, one.rows): one for one in inference.arrivals if one.rows}
    return [*found.values()]


def _outside(numbers: Tensor, rows: int) -> int | None:
    """The largest number that is no row of a table, or else the smallest; None if there is none."""
    if numbers.dtype == torch.bool:
        return None
    smallest, largest = (int(one) for one in torch.aminmax(numbers))
    return largest if largest >= rows else smallest if smallest < 0 else None


def place_of_field(field: str, reporter: Reporter) -> Place:
    """Where a field of the data set is written, or else the data set."""
    written = ("data", "fields", field)
    is_written = reporter.origins.at(written) is not None
    return reporter.key(written) if is_written else reporter.value(("data", "name"))


def _report(arrival: Arrival, has: str, needed: int, config: Config, reporter: Reporter) -> None:
    """Report a table that lacks rows; `needed` is how many it must have, 0 if no table has them."""
    message = f"`{arrival.input}` {has}, and `{arrival.module}` has rows for 0 to {arrival.rows - 1:,}"
    label = Label(
        f"`{arrival.input}` of the data set `{config.training.data.name}` {has}",
        place_of_field(arrival.input, reporter),
    )
    advice: Advice = f"it must have {needed:,} rows" if needed else "number the classes from 0"
    if needed and arrival.place != arrival.module.place:
        advice = Suggestion(str(needed), instead_of=str(arrival.rows))
    reporter.error("FC0502", message, arrival.place, path=arrival.path, labels=(label,), advice=advice)
