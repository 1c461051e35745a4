"""`predict`: values of a run's graph for the rows of a file, or for a split of its data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.build import build_graph
from flowconf.graph.graph import Graph
from flowconf.graph.weights.sources import Which, find_run_folder, weights_of
from flowconf.language import registry
from flowconf.language.open_size import bound
from flowconf.language.plan import Input
from flowconf.language.training import FITTED
from flowconf.report import ConfigError, Diagnostic, FlowconfError, Place, printable, raised_here, suggest, texts
from flowconf.train.commands.prediction_files import Columns, prediction_file
from flowconf.train.data.builtin import ARRAYS, has_arrays, read_arrays
from flowconf.train.data.collate import Batch
from flowconf.train.data.python import RunData
from flowconf.train.data.run_data import placed
from flowconf.train.data.splits import Reader, RowsOfFile, Split, classes_in, place_of_row, with_defaults
from flowconf.train.data.streams import as_split, batch_of
from flowconf.train.recurrent import RecurrentState
from flowconf.train.runs.loading import FITTED_FILE, fitted_of, load_run, walk_run
from flowconf.train.runs.resume import in_its_folder

BATCH_SIZE = 256
ROW, FILE = "row", "file"
"""The number of a row in the file that it comes from, or in its split; and that file."""
NAMED = 20
"""Classes of a field whose names are printed."""

Take = Callable[[Columns], None]
"""Takes the results for a batch, on the CPU."""


def predict_file(
    run: str | Path,
    source: str,
    output: str,
    values: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    which: Which = "best",
) -> list[str]:
    """Write values of a run's graph for the arrays in `source` to `output`.

    `values` are references to any values of the graph (default: its outputs). The suffix of `output` is `.npz`,
    `.safetensors`, `.csv` or `.jsonl`. Returns the names that were written. Raises `ConfigError`, `PathError`.
    """
    with prediction_file(output) as file:
        graph = load_run(find_run_folder(run), which)
        arrays = check_inputs(graph, read_arrays(source), source)
        for _, found in with_batches(graph, in_batches(arrays, batch_size), values):
            file.add(found)
    return file.summary


def predict_rows(
    run: str | Path,
    source: str,
    output: str,
    values: Sequence[str] = (),
    fields: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    which: Which = "best",
) -> list[str]:
    """The same for the rows of a file that the data set of the run reads: its `rows` in `provides`.

    `fields` are as in `predict_split`. Raises `ConfigError` for a data set that reads no such files, too.
    """
    with prediction_file(output) as file:
        each_of_file(file.add, run, source, values, fields, batch_size, which)
    return file.summary


def read_file(run: str | Path, file: str | Path, batch_size: int = BATCH_SIZE, which: Which = "best") -> list[str]:
    """The lines of text that the data set of a run reads in a file with the run's graph: its `reader` in `provides`.

    Raises `ConfigError` for a data set that has none, and what the reader raises.
    """
    found = _Reading(run, which, file)
    if found.reader is None:
        raise found.refused("to write values for its rows: `-o FILE`" if found.rows else None)
    if not found.file.is_file():
        raise ConfigError(Diagnostic("FC0501", f"there is no file `{file}`", Place(str(file))))
    compute = partial(predict, load_run(found.folder, which), batch_size=batch_size)
    with in_its_folder(found.folder), refused_as(f"the reader of the data set `{found.name}`"):
        return list(found.reader(found.file, compute, **found.args))


class _Reading:
    """The data set of a run, which is to read a file."""

    def __init__(self, run: str | Path, which: Which, file: str | Path) -> None:
        self.folder = find_run_folder(run).absolute()
        walk = walk_run(self.folder, weights=weights_of(self.folder, which))
        self.config = walk.to("sections").checked
        self.given, self.file = file, Path(file).absolute()
        data = self.config.training.data
        self.name, factory = data.name, registry.datasets.load(data.name)
        self.args = with_defaults(factory, data.args)
        if FITTED in self.args:
            self.args[FITTED] = fitted_of(self.folder)
        self.rows: RowsOfFile | None = getattr(factory, "rows", None)
        self.reader: Reader | None = getattr(factory, "reader", None)

    def split(self, needed: Collection[str]) -> Split:
        """The rows of the file, with the needed fields. Raises `ConfigError`."""
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
        return found

    def refused(self, way: str | None) -> ConfigError:
        """The error for a data set that does not read files in this way; `way` is another one, if there is any."""
        message = f"expected {ARRAYS}, got `{self.given}`"
        advice = way or f"the data set `{self.name}` of this run reads no other files"
        return ConfigError(Diagnostic("FC0501", message, Place(str(self.given)), advice=advice))


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


def predict_split(
    run: str | Path,
    split: str,
    output: str,
    values: Sequence[str] = (),
    fields: Sequence[str] = (),
    overrides: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    which: Which = "best",
) -> list[str]:
    """The same for a split of a run's data, `train`, `val` or `test`, in the order of its rows.

    `fields` are fields of the data to write beside the values; `row` is the number of each row in its file or split,
    and `file` is that file. `overrides` change the run's config, such as its data.
    """
    with prediction_file(output) as file:
        each_of_split(file.add, run, split, values, fields, overrides, batch_size, which)
    return file.summary


def each_of_split(
    take: Take,
    run: str | Path,
    split: str,
    values: Sequence[str] = (),
    fields: Sequence[str] = (),
    overrides: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    which: Which = "best",
) -> None:
    """Pass what `predict_split` writes to `take`, batch by batch."""
    folder = find_run_folder(run).absolute()
    weights = weights_of(folder, which)
    walk = walk_run(folder, overrides, weights)
    with in_its_folder(folder):
        feed = RunData(walk.to("machine").checked).named(split).feed
        assert walk.plan is not None
        graph = build_graph(walk.plan, walk.inference)
        graph.load(weights)
        _each(take, graph, feed.split, feed.in_order(batch_size), values, fields)


def each_of_file(
    take: Take,
    run: str | Path,
    source: str | Path,
    values: Sequence[str] = (),
    fields: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    which: Which = "best",
) -> None:
    """Pass what `predict_rows` writes to `take`, batch by batch."""
    reading = _Reading(run, which, source)
    graph = load_run(reading.folder, which)
    inputs = [given.name for given in graph.plan.inputs if not given.captured]
    split = reading.split([*inputs, *(field for field in fields if field not in (ROW, FILE))])
    generator = torch.Generator().manual_seed(0)
    with in_its_folder(reading.folder):
        rows = torch.split(torch.arange(len(split)), batch_size)
        _each(take, graph, split, (batch_of(split, some, generator) for some in rows), values, fields)


def _each(
    take: Take, graph: Graph, split: Split, batches: Iterable[Batch], values: Sequence[str], fields: Sequence[str]
) -> None:
    """Pass fields and values of the graph for all rows of a split to `take`, batch by batch."""
    kept = _kept(fields, values or [name for name, _ in graph.plan.outputs], split)
    start = 0
    for batch, found in with_batches(graph, batches, values):
        rows = range(start, start := start + len(next(iter(batch.values()))))
        take({**{field: kept[field](batch, rows) for field in fields}, **found})


def predict_run(
    run: str | Path,
    inputs: str | Path | Mapping[str, Tensor],
    values: Sequence[str] = (),
    fields: Sequence[str] = (),
    overrides: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
    which: Which = "best",
) -> dict[str, Any]:
    """The same as tensors on the CPU: for a split, for a file, or for `inputs`: tensors [rows, ...] by name.

    `file` is a list of texts.
    """
    fields = texts(fields, "fields")
    if overrides and not isinstance(inputs, str):
        raise ConfigError(Diagnostic("FC0502", "`overrides` apply only to a split of the data"))
    if isinstance(inputs, Path) and has_arrays(str(inputs)):
        inputs = read_arrays(str(inputs))
    if isinstance(inputs, str | Path):
        parts: list[Columns] = []
        if isinstance(inputs, str):
            each_of_split(parts.append, run, inputs, values, fields, overrides, batch_size, which)
        else:
            each_of_file(parts.append, run, inputs, values, fields, batch_size, which)
        return joined(parts)
    if fields:
        raise ConfigError(Diagnostic("FC0502", "`fields` apply only to a split of the data, or to rows of a file"))
    graph = load_run(find_run_folder(run), which)
    return predict(graph, check_inputs(graph, inputs), values, batch_size)


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
    memory = RecurrentState(graph)
    with torch.inference_mode(), memory.aside():
        for batch in batches:
            inputs = check_inputs(graph, batch)
            memory.begin(len(next(iter(inputs.values()))))
            result = forward(**{name: tensor.to(device) for name, tensor in inputs.items()})
            found = result if isinstance(result, dict) else {names[0] if names else "output": result}
            yield batch, {name: tensor.cpu() for name, tensor in found.items()}


Field = Callable[[Batch, range], Tensor | list[str]]
"""A field of a batch with these rows of a split."""


def _kept(names: Sequence[str], values: Sequence[str], split: Split) -> dict[str, Field]:
    """The fields to write beside the values of the graph. Raises `ConfigError` for an unknown one."""
    known: dict[str, Field] = {
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
        if name in values:
            raise ConfigError(Diagnostic("FC0502", f"`{name}` is both a field of the data and a value of the graph"))
    return {name: known[name] for name in names}


def _field(name: str, batch: Batch, rows: range) -> Tensor:
    return batch[name].cpu()


def check_inputs(graph: Graph, arrays: object, source: str | None = None) -> dict[str, Tensor]:
    """The arrays for the graph's inputs, checked against the declared shapes. Raises `ConfigError`.

    `source` is the file that they come from.
    """
    place = Place(source)
    if not isinstance(arrays, Mapping):
        name = next((given.name for given in graph.plan.inputs if not given.captured), "name")
        message = f"expected tensors by the names of the inputs, got a `{type(arrays).__name__}`"
        raise ConfigError(Diagnostic("FC0502", message, place, advice=f'write `{{"{name}": ...}}`'))
    found = {}
    for given in graph.plan.inputs:
        if given.captured:
            continue
        if given.name not in arrays:
            message = f"there is no array for the input `{given.name}`"
            raise ConfigError(Diagnostic("FC0502", message, place, advice=suggest(given.name, arrays, "arrays")))
        found[given.name] = array = arrays[given.name]
        if not isinstance(array, Tensor):
            message = f"the input `{given.name}` must be a tensor, got a `{type(array).__name__}`"
            raise ConfigError(Diagnostic("FC0502", message, place, advice="convert it by `torch.as_tensor`"))
        if not _fits(given, array):
            shape = f"[{', '.join(str(size) for size in given.shape or ())}]"
            message = (
                f"the input `{given.name}` is declared as {shape}, but the array is {list(arrays[given.name].shape)}"
            )
            raise ConfigError(Diagnostic("FC0502", message, place))
        wanted = getattr(torch, given.dtype)
        if given.shape is not None and array.is_floating_point() != wanted.is_floating_point:
            kind = str(array.dtype).removeprefix("torch.")
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
