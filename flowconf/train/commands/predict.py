"""`predict`: values of a run's graph for the rows of a file, or for a split of its data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.build import build_graph
from flowconf.graph.graph import Graph
from flowconf.graph.views import inputs_for
from flowconf.graph.weights.sources import Which, find_run_folder
from flowconf.language.open_size import bound
from flowconf.language.plan import Input
from flowconf.language.sections.augmentations import views
from flowconf.language.training import FITTED
from flowconf.report import ConfigError, Diagnostic, FlowconfError, Place, dtype_name, printable, raised_here, suggest
from flowconf.train.commands.prediction_files import Columns, prediction_file
from flowconf.train.data.augmentation import with_views
from flowconf.train.data.batches import as_split, batch_of
from flowconf.train.data.builtin import ARRAYS, has_arrays, read_arrays
from flowconf.train.data.collate import Batch
from flowconf.train.data.declarations import DataSet, Reader, RowsOfFile
from flowconf.train.data.python import RunData
from flowconf.train.data.run_data import placed
from flowconf.train.data.splits import Split, classes_in, place_of_row
from flowconf.train.precision import on_device
from flowconf.train.recurrent import RecurrentState
from flowconf.train.runs.loading import FITTED_FILE, fitted_of, load_run, open_run
from flowconf.train.runs.resume import in_its_folder

BATCH_SIZE = 256
ROW, FILE = "row", "file"
"""The number of a row in the file that it comes from, or in its split; and that file."""
NAMED = 20
"""Classes of a field whose names are printed."""

Inputs = str | Path | Mapping[str, Tensor]
"""A split of the data of a run, a file, or tensors [rows, ...] by the names of the inputs."""
Take = Callable[[Columns], None]
"""Takes the results for a batch, on the CPU."""


@dataclass(frozen=True)
class Prediction:
    """What to compute with the graph of a run, in batches.

    `values` are references to any values of the graph (default: its outputs). `fields` are fields of the data to give
    beside them, as `data.NAME` if a value has that name; `row` is the number of each row in its file or split, and
    `file` is that file. `overrides` change the run's config, such as its data. `units` gives values and fields the
    units of a field that is standardized:
    `{"price": "cost"}` multiplies `price` by the standard deviation of `cost`, and adds its mean.
    """

    run: str | Path
    values: Sequence[str] = ()
    fields: Sequence[str] = ()
    overrides: Sequence[str] = ()
    batch_size: int = BATCH_SIZE
    which: Which = "best"
    units: Mapping[str, str] | None = None

    def write(self, inputs: Inputs, output: str) -> list[str]:
        """Write the results to a `.npz`, `.safetensors`, `.csv` or `.jsonl` file. Returns a line for each value.

        Raises `ConfigError` and `PathError`.
        """
        with prediction_file(output) as file:
            self.each(inputs, file.add)
        return file.summary

    def gathered(self, inputs: Inputs) -> dict[str, Any]:
        """The results as tensors on the CPU; those that are texts, such as `file`, are lists."""
        parts: list[Columns] = []
        self.each(inputs, parts.append)
        return joined(parts)

    def each(self, inputs: Inputs, take: Take) -> None:
        """Pass the results to `take`, batch by batch. Raises `ConfigError` and `PathError`."""
        if self.units:
            fitted = fitted_of(find_run_folder(self.run)) or {}
            scales = {value: _scale_of(field, fitted) for value, field in self.units.items()}
            take = partial(_in_units, scales, take)
        if isinstance(inputs, str):
            self._each_of_split(inputs, take)
            return
        if self.overrides:
            raise ConfigError(Diagnostic("FC0502", "`overrides` apply only to a split of the data"))
        if isinstance(inputs, Path) and not has_arrays(str(inputs)):
            self._each_of_file(inputs, take)
            return
        if self.fields:
            raise ConfigError(Diagnostic("FC0502", "`fields` apply only to a split of the data, or to rows of a file"))
        graph = load_run(self.run, self.which)
        file = str(inputs) if isinstance(inputs, Path) else None
        arrays = check_inputs(graph, inputs if file is None else read_arrays(file), self.values, file)
        for _, found in with_batches(graph, in_batches(arrays, self.batch_size), self.values):
            take(found)

    def read(self, file: str | Path) -> list[str]:
        """The lines of text that the data set of the run reads in a file with its graph: its `reader` in `provides`.

        Raises `ConfigError` for a data set that has none, and what the reader raises.
        """
        found = _Reading(self.run, self.which, file)
        if found.reader is None:
            raise found.refused("to write values for its rows: `-o FILE`" if found.rows else None)
        if not found.file.is_file():
            raise ConfigError(Diagnostic("FC0501", f"there is no file `{file}`", Place(str(file))))
        compute = partial(predict, load_run(found.folder, self.which), batch_size=self.batch_size)
        with in_its_folder(found.folder), refused_as(f"the reader of the data set `{found.name}`"):
            return list(found.reader(found.file, compute, **found.args))

    def _each_of_split(self, split: str, take: Take) -> None:
        folder, weights, walk = open_run(self.run, self.which, self.overrides)
        with in_its_folder(folder):
            feed = RunData(walk.to("machine").checked).named(split).feed
            graph = build_graph(walk.resolved, walk.inference)
            graph.load(weights)
            self._each(graph, feed.split, feed.in_order(self.batch_size), take)

    def _each_of_file(self, file: Path, take: Take) -> None:
        """The rows are those that the data set of the run reads in the file: its `rows` in `provides`."""
        reading = _Reading(self.run, self.which, file)
        graph = load_run(reading.folder, self.which)
        split = reading.split(
            [*inputs_for(graph, self.values), *(field for field in self.fields if field not in (ROW, FILE))]
        )
        generator = torch.Generator().manual_seed(0)
        with in_its_folder(reading.folder):
            rows = torch.split(torch.arange(len(split)), self.batch_size)
            self._each(graph, split, (batch_of(split, some, generator) for some in rows), take)

    def _each(self, graph: Graph, split: Split, batches: Iterable[Batch], take: Take) -> None:
        """Pass fields and values of the graph for all rows of a split to `take`."""
        kept = _kept(self.fields, split)
        start = 0
        for batch, found in with_batches(graph, batches, self.values):
            rows = range(start, start := start + len(next(iter(batch.values()))))
            beside = {field: kept[field](batch, rows) for field in self.fields}
            take({**{f"data.{name}" if name in found else name: field for name, field in beside.items()}, **found})


class _Reading:
    """The data set of a run, which is to read a file."""

    def __init__(self, run: str | Path, which: Which, file: str | Path) -> None:
        self.folder, _, walk = open_run(run, which)
        self.config = walk.to("sections").checked
        self.given, self.file = file, Path(file).absolute()
        data = self.config.training.data
        data_set = DataSet(data.name, data.args)
        self.name, self.args = data.name, data_set.with_defaults()
        if FITTED in self.args:
            self.args[FITTED] = fitted_of(self.folder)
        self.rows: RowsOfFile | None = data_set.says("rows")
        self.reader: Reader | None = data_set.says("reader")

    def split(self, wanted: Collection[str]) -> Split:
        """The rows of the file, with the needed fields and views. Raises `ConfigError`."""
        sources = views(self.config.training)
        needed = list(dict.fromkeys(sources.get(name, name) for name in wanted))
        if self.rows is None:
            raise self.refused("to print what it reads in the file: leave out `-o`" if self.reader else None)
        try:
            with in_its_folder(self.folder), refused_as(f"`rows` of the data set `{self.name}`"):
                is_near = Path(self.given).absolute() == self.file  # from the folder that the run was started in, too
                file = str(self.given if is_near else self.file)
                found: Split = as_split(self.rows(file, needed, **self.args))
        except ConfigError as error:
            told = (one if one.place.file else next(placed([one], self.config)) for one in error.diagnostics)
            shown = (replace(one, message=one.message.replace(str(self.file), str(self.given))) for one in told)
            raise ConfigError(*shown) from None
        for field in needed:
            if field not in found.fields:
                message = f"the rows of `{self.given}` have no field `{field}`"
                raise ConfigError(
                    Diagnostic("FC0502", message, Place(file), advice=suggest(field, found.fields, "fields"))
                )
        return with_views(self.config.training, found)

    def refused(self, way: str | None) -> ConfigError:
        """The error for a data set that does not read files in this way; `way` is another one, if there is any."""
        message = f"expected {ARRAYS}, got `{self.given}`"
        advice = way or f"the data set `{self.name}` of this run reads no other files"
        return ConfigError(Diagnostic("FC0501", message, Place(str(self.given)), advice=advice))


Scale = tuple[Tensor, Tensor]
"""The mean and the standard deviation of each column of a field: float64 [columns], or [] of a single one."""


def _scale_of(name: str, fitted: Mapping[str, Any]) -> Scale:
    """The scale of a field that the run has standardized. Raises `ConfigError` for another one."""
    known = {field: one for field, one in fitted.items() if isinstance(one, Mapping) and "std" in one}
    if name not in known:
        message = f"the run has no standardized field `{name}`"
        raise ConfigError(Diagnostic("FC0502", message, advice=suggest(name, known, "standardized fields")))
    mean, std = (torch.tensor(known[name][key], dtype=torch.float64) for key in ("mean", "std"))
    return (mean, std) if len(mean) > 1 else (mean[0], std[0])


def _in_units(scales: Mapping[str, Scale], take: Take, columns: Columns) -> None:
    """Pass results to `take`, some of them in the units of fields. Raises `ConfigError` for those that have none."""
    found = dict(columns)
    for name, (mean, std) in scales.items():
        values = found.get(name)
        if not isinstance(values, Tensor) or not values.is_floating_point():
            message = f"there are no numbers `{name}` among the results"
            raise ConfigError(Diagnostic("FC0502", message, advice=suggest(name, found, "results")))
        if mean.ndim and values.shape[-1] != len(mean):
            message = f"`{name}` has the shape {[*values.shape[1:]]}, and its units are those of {len(mean)} columns"
            raise ConfigError(Diagnostic("FC0502", message))
        found[name] = (values.double() * std + mean).to(values.dtype)
    take(found)


def names_of_classes(run: str | Path, fields: Sequence[str]) -> list[str]:
    """A line for each of the fields with classes that the run has names for, such as `label: 0 cat, 1 dog`."""
    known = classes_in(fitted_of(find_run_folder(run))) if fields else {}
    found = []
    for field in (field for field in fields if field in known):
        shown = [f"{number} {printable(name)}" for number, name in enumerate(known[field][:NAMED])]
        shown += [f"... ({len(known[field])} in `{FITTED_FILE}`)"] if len(known[field]) > NAMED else []
        found.append(f"{field}: {', '.join(shown)}")
    return found


@contextmanager
def refused_as(what: str) -> Iterator[None]:
    """A block that calls code of a project, whose exceptions become a `ConfigError`."""
    try:
        yield
    except FlowconfError:
        raise
    except Exception as problem:
        message = f"{what} fails: {type(problem).__name__}: {problem}"
        raise ConfigError(Diagnostic("FC0501", message, labels=raised_here(problem))) from problem


def predict(
    graph: Graph, inputs: Mapping[str, Tensor], values: Sequence[str] = (), batch_size: int = BATCH_SIZE
) -> dict[str, Tensor]:
    """The outputs of `graph` for `inputs` (name -> [rows, ...]), computed in batches and returned on the CPU."""
    return joined(found for _, found in with_batches(graph, in_batches(inputs, batch_size), values))


def joined(parts: Iterable[Columns]) -> dict[str, Any]:
    """The results for all batches: tensors, and lists of texts. Raises `ConfigError` if their shapes differ."""
    found: dict[str, list[Tensor]] = {}
    listed: dict[str, list[str]] = {}
    for part in parts:
        for name, values in part.items():
            if not isinstance(values, Tensor):
                listed.setdefault(name, []).extend(values)
                continue
            others = found.setdefault(name, [])
            if others and others[0].shape[1:] != values.shape[1:]:
                message = (
                    f"`{name}` is {list(others[0].shape[1:])} in the first row, and {list(values.shape[1:])} in others"
                )
                raise ConfigError(Diagnostic("FC0502", message, advice="pass rows of one shape at a time"))
            others.append(values)
    return {**listed, **{name: torch.cat(values) for name, values in found.items()}}


def in_batches(arrays: Mapping[str, Tensor], batch_size: int) -> Iterator[Batch]:
    """The rows of arrays in batches."""
    rows = len(next(iter(arrays.values())))
    for start in range(0, rows, batch_size):
        yield {name: array[start : start + batch_size] for name, array in arrays.items()}


def with_batches(graph: Graph, batches: Iterable[Batch], values: Sequence[str]) -> Iterator[tuple[Batch, Batch]]:
    """Each batch, and what the graph gives for it on the CPU: `values`, or its outputs. Raises `ConfigError`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph.to(device).eval()
    names = [name for name, _ in graph.plan.outputs]
    forward = graph.view(values) if values else graph
    unread = dict.fromkeys({*graph.inputs} - inputs_for(graph, values).keys())
    memory = RecurrentState(graph)
    with on_device(device, "fp32"), torch.inference_mode(), memory.aside():
        for batch in batches:
            inputs = check_inputs(graph, batch, values)
            memory.begin(len(next(iter(inputs.values()))))
            result = forward(**unread, **{name: tensor.to(device) for name, tensor in inputs.items()})
            found = result if isinstance(result, dict) else {names[0] if names else "output": result}
            yield batch, {name: tensor.cpu() for name, tensor in found.items()}


ReadField = Callable[[Batch, range], Tensor | list[str]]
"""A field of a batch with these rows of a split."""


def _kept(names: Sequence[str], split: Split) -> dict[str, ReadField]:
    """The fields to write beside the values of the graph. Raises `ConfigError` for an unknown one."""
    known: dict[str, ReadField] = {
        ROW: lambda batch, rows: torch.tensor([place_of_row(split, row)[1] for row in rows]),
        FILE: lambda batch, rows: [str(place_of_row(split, row)[0]) for row in rows],
    }
    if place_of_row(split, 0)[0] is None:
        del known[FILE]
    for name in split.fields:
        known[name] = partial(_field, name)
    for name in names:
        if name not in known:
            raise ConfigError(
                Diagnostic("FC0502", f"the data have no field `{name}`", advice=suggest(name, known, "fields"))
            )
    return {name: known[name] for name in names}


def _field(name: str, batch: Batch, rows: range) -> Tensor:
    return batch[name].cpu()


def check_inputs(
    graph: Graph, arrays: object, values: Sequence[str] = (), source: str | None = None
) -> dict[str, Tensor]:
    """The arrays for the inputs that `values` (default: the outputs) depend on, checked against the declared shapes.

    `source` is the file that they come from. Raises `ConfigError`, and `PathError` for an unknown value.
    """
    place = Place(source)
    if not isinstance(arrays, Mapping):
        name = next((given.name for given in graph.plan.inputs if not given.captured), "name")
        message = f"expected tensors by the names of the inputs, got a `{type(arrays).__name__}`"
        raise ConfigError(Diagnostic("FC0502", message, place, advice=f'write `{{"{name}": ...}}`'))
    found = {}
    for given in inputs_for(graph, values).values():
        if given.name not in arrays:
            message = f"there is no array for the input `{given.name}`"
            others = [f"`{name}`" for name in arrays if name not in graph.inputs]
            advice = f"rename {' or '.join(others)} to `{given.name}`" if others else None
            raise ConfigError(Diagnostic("FC0502", message, place, advice=advice))
        found[given.name] = array = arrays[given.name]
        if not isinstance(array, Tensor):
            message = f"the input `{given.name}` must be a tensor, got a `{type(array).__name__}`"
            raise ConfigError(Diagnostic("FC0502", message, place, advice="convert it by `torch.as_tensor`"))
        if not _fits(given, array):
            message = f"the input `{given.name}` is declared as {given.declared}, but the array is {list(array.shape)}"
            raise ConfigError(Diagnostic("FC0502", message, place))
        wanted = getattr(torch, given.dtype)
        if given.shape is not None and array.is_floating_point() != wanted.is_floating_point:
            kind = dtype_name(array.dtype)
            message = f"the input `{given.name}` is declared as {given.dtype}, but the array is {kind}"
            raise ConfigError(Diagnostic("FC0502", message, place, advice=f"save the array as {given.dtype}"))
        if given.shape is not None and wanted.is_floating_point:
            found[given.name] = array.to(wanted)
    rows = {name: len(tensor) for name, tensor in found.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise ConfigError(
            Diagnostic("FC0502", f"the inputs must have the same number of rows, at least 1, got {rows}", place)
        )
    return found


def _fits(given: Input, array: Tensor) -> bool:
    if given.shape is None:
        return array.ndim > 0
    symbols: dict[str, int] = {}
    sizes = zip(given.shape[1:], array.shape[1:], strict=False)
    return array.ndim == len(given.shape) and all(bound(want, have, symbols) for want, have in sizes)
