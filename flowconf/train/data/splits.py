"""The interface of a data set, the order of its rows, and the seeds of its randomness.

A batch is a function of the data set, the rows and a generator seeded with (seed, step). It does not depend on earlier
batches, so the position in a run is three numbers (seed, epoch, position), and a run can be resumed from them.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from flowconf.report import ConfigError, Diagnostic, FlowconfError, raised_at, raised_here, texts, why_not
from flowconf.train.data.collate import Batch, Field
from flowconf.train.data.sampling import Buckets, Groups, Sampler
from flowconf.train.data.streams import Order, Pass, RowStream, batch_of, closing_stream, read_again, stream
from flowconf.train.seeds import seed_for
from flowconf.train.team.distributed import Team
from flowconf.train.team.shares import Idle

Factory = TypeVar("Factory", bound=Callable[..., "Splits"])


@runtime_checkable
class Split(Protocol):
    """Rows that are gathered into batches of named tensors."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Name -> (shape without the batch dimension, dtype) of every field of a batch."""

    def __len__(self) -> int:
        """The number of rows."""

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """The given rows (int64 [B]); `generator` is for noise and augmentation, seeded for this batch."""


SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
"""The names of splits in logs and on the command line, and in messages."""


@dataclass(frozen=True)
class Splits:
    """The parts of a data set: for training, for choosing the best weights, and for the final test.

    `fitted` is what the training rows determine (categories, means), as plain data for JSON. It is kept with the run,
    and a data set that takes an argument `fitted` gets it when the run is resumed, evaluated or used for predictions.
    `{"label": {"categories": ["cat", "dog"]}}` names the classes of the field `label`.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None
    fitted: Mapping[str, Any] | None = None
    sets: Mapping[str, Split] = dataclasses.field(default_factory=dict)
    """Further sets to evaluate on: those of `data.evaluate`."""
    groups: Groups | None = None
    """The groups by which training rows are drawn, if `data` says so."""
    buckets: Buckets | None = None
    """The lengths of training rows, if batches are made of similar ones."""

    @property
    def classes(self) -> dict[str, list[str]]:
        """The names of the classes of each field that has some, in the order of their numbers."""
        return classes_in(self.fitted)

    def named(self) -> Iterator[tuple[str, Split]]:
        """The splits that are not None, and the further sets, by their names in logs."""
        for name, split in (("train", self.train), ("val", self.validation), ("test", self.test)):
            if split is not None:
                yield name, split
        yield from self.sets.items()


def classes_in(fitted: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """The names of classes by field in what a data set has fitted: those under `categories`."""
    found = {name: known.get("categories") for name, known in (fitted or {}).items() if isinstance(known, Mapping)}
    return {name: [str(one) for one in names] for name, names in found.items() if isinstance(names, list)}


@dataclass(frozen=True)
class Source:
    """Where the rows of a split come from: their numbers in a file, or the file of each of them."""

    file: str | Sequence[str]
    rows: Tensor | None = None

    def of(self, row: int) -> tuple[str | None, int]:
        """The file of a row, and its number there."""
        file = self.file if isinstance(self.file, str) else self.file[row]
        return file, row if self.rows is None else int(self.rows[row])


class RowSource(Protocol):
    """Where the rows of a split come from."""

    def of(self, row: int) -> tuple[str | None, int]:
        """The file of a row, if there is one, and its number there."""


class Resident:
    """A split whose tensors stay on the device: a batch is one `index_select` per field.

    `augment` is applied to each gathered batch, on the same device, with the batch's generator. It may add fields or
    change shapes; `fields` then describes its output (default: the fields of the tensors). `source` is where the rows
    come from, for messages and predictions.

    `tensors` may be a function that makes them. With `fields` and the number of `rows`, it is not called before the
    first batch, so that a set that uses one split of a data set does not wait for the others.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]],
        augment: Callable[[Batch, torch.Generator], Batch] | None = None,
        fields: Mapping[str, Field] | None = None,
        source: RowSource | None = None,
        rows: int | None = None,
    ) -> None:
        self._make = tensors if callable(tensors) else partial(dict, tensors)
        self._rows = rows
        self.augment = augment
        self.source = source
        self.fields: Mapping[str, Field] = fields or {
            name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in self.tensors.items()
        }
        if rows is None:
            self.make()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The rows of every field. Raises `ValueError` if their numbers differ from each other, or from `rows`."""
        tensors = dict(self._make())
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        given = {} if self._rows is None else {"rows": self._rows}
        if len({*lengths.values(), *given.values()}) != 1:
            raise ValueError(f"the fields of a split must have the same number of rows, got {lengths | given}")
        return tensors

    def make(self) -> None:
        """Make the tensors now, so that a function that cannot make them fails here."""
        self.tensors  # noqa: B018 - made when it is read

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values()))) if self._rows is None else self._rows

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        batch = {name: tensor.index_select(0, rows) for name, tensor in self.tensors.items()}
        return batch if self.augment is None else self.augment(batch, generator)

    def to(self, device: torch.device) -> Resident:
        """The same split with its tensors on `device`."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return Resident(moved, self.augment, self.fields, self.source)


def place_of_row(split: Split, row: int) -> tuple[str | None, int]:
    """The file of a row and its number there; without a file, its number in the split."""
    source: RowSource | None = getattr(split, "source", None)
    return (None, row) if source is None else source.of(row)


LONGEST = 100_000
"""Rows of a stream that are read once more to find one of them."""


def shares_of(rows: int, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Random rows for each of the shares, determined by `seed`, and last the remaining rows. Raises `ValueError`."""
    if any(share < 0 for share in shares) or sum(shares) >= 1:
        raise ValueError(f"the shares must not be negative and must sum to less than 1, got {list(shares)}")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed_for(seed, "split")))
    counts = [round(rows * share) for share in shares]
    return list(torch.split(order, [*counts, rows - sum(counts)]))


def in_parts(rows: Tensor, parts: int) -> Sequence[Tensor]:
    """The rows of a batch in at most `parts` parts of nearly the same size."""
    return (rows,) if parts == 1 else torch.split(rows, -(-len(rows) // parts))


class Feed:
    """Feeds the batches of a split to the device: the split is resident there, or is moved batch by batch.

    `home` is the device of row numbers and of the generator, which is seeded for every batch. With several processes
    (`team`), each gets its own rows of a training batch, and its own batches of an evaluation. With `workers`, or for
    an iterable data set, batches are made by worker processes, each with `prefetch` batches ahead: for training within
    the block `ahead`. With `channels_last`, four-dimensional tensors use this memory format.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        seed: int,
        use: str,
        team: Team | None = None,
        workers: int = 0,
        prefetch: int = 2,
        channels_last: bool = False,
    ) -> None:
        resident = isinstance(split, Resident)
        self.split: Split = split.to(device) if isinstance(split, Resident) else split
        self.home = device if resident else torch.device("cpu")
        self.device = device
        self.seed = seed
        self.use = use
        self.team = team or Team(device)
        self.generator = torch.Generator(self.home)
        self.flows = isinstance(split, RowStream)
        self.draws = not (type(split) is Resident and split.augment is None)
        """Whether batches may depend on their seed."""
        self.augments = hasattr(split, "augmented")
        """Whether rows are augmented, each with its own seed."""
        self.workers = 0 if resident else max(workers, int(self.flows))
        self.prefetch = prefetch
        self.layout = torch.channels_last if channels_last else torch.preserve_format
        self.moves = self.home != device or channels_last
        self.seen: list[Batch] | None = None
        """Where every `batch` is noted; None: nowhere."""
        self._coming: Iterator[Batch] | None = None
        self._streams = ExitStack()

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, rows: Tensor, number: int, part: int = 0) -> Batch:
        """The given rows as (a part of) batch `number`: a function of the rows, the number, the seed and the process.

        A process without rows in this batch gets one row with zero weight (`Idle`).
        """
        own, counts = self.team.part(rows, number)
        if self._coming is not None:
            batch = self._moved(next(self._coming))
        else:
            batch = self._batch(own, self._seed(number, self.team.rank, part), self._row_seeds(rows, number, part))
        found = batch if counts else Idle(batch)
        if self.seen is not None:
            self.seen.append(found)
        return found

    def rows(self, rows: Tensor) -> Batch:
        """Some rows, to try something on them: the same in every process, and at any time."""
        return self._batch(rows.to(self.home), self._seed(0))

    def first_rows(self, count: int) -> Batch:
        """The first rows, as `rows` gives them."""
        return self.rows(torch.arange(min(count, len(self))))

    def again(self, sampler: Sampler, step: int) -> tuple[Batch, Tensor] | None:
        """The whole batch of a training step, made once more, and its rows; None if a long stream precedes it."""
        epoch, start, rows = sampler.batch_of(step)
        if not isinstance(self.split, RowStream):
            return self._batch(rows.to(self.home), self._seed(step), self._row_seeds(rows, step, 0)), rows
        if start > LONGEST:
            return None
        seed, stop = seed_for(self.seed, self.use, "epoch", epoch), start + len(rows)
        return self._moved(read_again(self.split, epoch, seed, start, stop)), torch.arange(start, stop)

    def dealt(self, batch_size: int) -> bool:
        """Whether `in_order` distributes batches over the processes, if there are enough; otherwise each gets all."""
        return 1 < self.team.size <= -(-len(self) // batch_size)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All rows once, in order; if they are `dealt`, the batches are distributed round-robin over the processes.

        Each process gets the same number of batches: if none is left for one, its last batch has zero weight (`Idle`).
        """
        rows = torch.arange(len(self), device=self.home)
        batches = list(enumerate(torch.split(rows, batch_size)))
        dealt = self.dealt(batch_size)
        mine = [(some, self._seed(number)) for number, some in batches if not dealt or self.team.mine(number)]
        lacks = dealt and len(mine) * self.team.size < len(batches)
        if lacks:
            mine.append((rows[:1], self._seed(0)))
        for number, batch in enumerate(self._in_turn(mine), 1):
            yield Idle(batch) if lacks and number == len(mine) else batch

    def _in_turn(self, mine: Sequence[tuple[Tensor, int]]) -> Iterator[Batch]:
        """Batches of these rows and seeds."""
        if not self.workers:
            yield from (self._batch(some, seed) for some, seed in mine)
            return
        spans = [(int(some[0]), int(some[-1]) + 1) for some, _ in mine]
        passes = [(0, self._seed(0), spans)]
        if len(spans) > 1 and spans[-1] < spans[-2]:  # one more batch, with zero weight
            passes = [(0, self._seed(0), spans[:-1]), (0, self._seed(0), spans[-1:])]
        orders = [(some.tolist(), seed) for some, seed in mine]
        with closing_stream(self._stream(passes if self.flows else orders)) as batches_of_workers:
            yield from (self._moved(batch) for batch in batches_of_workers)

    @contextmanager
    def ahead(self, sampler: Sampler, step: int, last_step: int, parts: int) -> Iterator[None]:
        """A block in which `batch` is called for the batches of `sampler` from `step` on, each in `parts` parts."""
        with ExitStack() as self._streams:
            self._read_ahead(sampler, step, last_step, parts)
            yield
        self._coming = None

    def redrawn(self, sampler: Sampler, step: int, last_step: int, parts: int) -> Tensor:
        """The rows of the current batch after a change of weights; batches made in advance are discarded."""
        self._streams.close()
        self._read_ahead(replace(sampler, position=sampler.start), step, last_step, parts)
        return sampler.current()

    def _read_ahead(self, sampler: Sampler, step: int, last_step: int, parts: int) -> None:
        """Start the workers, if there are any."""
        if self.workers:
            copy = replace(sampler)
            orders = self._passes(copy, parts) if self.flows else self._orders(copy, step, last_step, parts)
            self._coming = self._streams.enter_context(closing_stream(self._stream(orders)))

    def _orders(self, sampler: Sampler, step: int, last_step: int, parts: int) -> Iterator[Order]:
        while step < last_step:
            for rows in sampler.rest_of_epoch():
                for part, some in enumerate(in_parts(rows, parts)):
                    own, _ = self.team.part(some, step)
                    order: Order = (own.tolist(), self._seed(step, self.team.rank, part))
                    seeds = self._row_seeds(some, step, part)
                    yield order if seeds is None else (*order, seeds)
                step += 1

    def _passes(self, sampler: Sampler, parts: int) -> Iterator[Pass]:
        while True:
            epoch, start, spans = sampler.epoch, sampler.position, []
            for rows in sampler.rest_of_epoch():
                for some in in_parts(rows, parts):
                    own, _ = self.team.part(torch.arange(start, start + len(some)), 0)
                    spans.append((int(own[0]), int(own[-1]) + 1))
                    start += len(some)
            yield epoch, seed_for(self.seed, self.use, "epoch", epoch), spans

    def _stream(self, orders: Iterable[Any]) -> Iterator[Batch]:
        return stream(self.split, orders, self.workers, self.prefetch, self.device)

    def _seed(self, number: int, rank: int = 0, part: int = 0) -> int:
        if not self.draws:
            return 0
        own = (rank, part) if part else (rank,) if rank else ()  # nothing is added for rank 0 and a single part
        return seed_for(self.seed, self.use, number, *own)

    def _row_seeds(self, rows: Tensor, number: int, part: int) -> list[int] | None:
        """The seed of each own row in a part of a training batch, if the rows are augmented."""
        if not self.augments:
            return None
        places, _ = self.team.part(torch.arange(len(rows)), number)
        return [seed_for(self.seed, "augment", number, part, place) for place in places.tolist()]

    def _batch(self, rows: Tensor, seed: int, seeds: Sequence[int] | None = None) -> Batch:
        generator = self.generator.manual_seed(seed) if self.draws else self.generator
        return self._moved(batch_of(self.split, rows, generator, seeds))

    def _moved(self, batch: Batch) -> Batch:
        if not self.moves:
            return batch
        return {
            name: tensor.to(self.device, memory_format=self.layout if tensor.ndim == 4 else torch.preserve_format)
            for name, tensor in batch.items()
        }


Declared = Mapping[str, tuple[Any, ...]]
"""Field -> (shape without the batch dimension, dtype), and the number of classes for class indices.

A size that differs between batches is a symbol such as `"T"`, None or -1; such a field is checked when data is read.
"""


Masks = Mapping[str, str]
"""Field -> the boolean field that is true where it has a value."""
Compute = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Gives the outputs of a graph by name, [rows, ...], for inputs by name."""
RowsOfFile = Callable[..., Any]
"""Reads a file (`str`) with the arguments of a data set, and gives its rows with the fields that are needed."""
Reader = Callable[..., Iterable[str]]
"""Reads a file (`Path`) with a graph (`Compute`) and the arguments of a data set, and gives lines of text."""


def provides(
    *fields: str,
    shapes: Callable[..., Declared] | None = None,
    masks: Callable[..., Masks] | Masks | None = None,
    paths: Sequence[str] = (),
    rows: RowsOfFile | None = None,
    reader: Reader | None = None,
) -> Callable[[Factory], Factory]:
    """Declares the fields of a data set, so that a config is checked against them before the data set is made.

    `paths` are the arguments that name files or folders, or patterns of files, which must exist. `shapes` is called
    with the data set's arguments and defaults, and returns what is known about the fields without reading data. It
    takes the arguments that it needs by name, and the others as `**others`. `masks` gives each field that may be
    missing or padded the field that is true where it has a value, as in `{"cost": "cost_present"}`, or is a function of
    the arguments that does; a loss of such a field without that mask is reported.

    So do two functions for `flowconf predict RUN --input FILE` with files other than arrays. `rows`, after a file and
    the names of the fields that are needed, returns the rows of that file: a split, or a torch data set; it needs no
    other fields, such as targets. `reader`, after a file (`Path`) and a function from inputs of the graph to its
    outputs, both by name, returns lines of text, which are printed.
    """

    places = tuple(texts(paths, "paths"))

    def mark(factory: Factory) -> Factory:
        cast_any: Any = factory
        cast_any.provides, cast_any.shapes, cast_any.paths = fields or None, shapes, places
        cast_any.masks = masks
        cast_any.rows, cast_any.reader = rows, reader
        return factory

    return mark


def refused_paths(factory: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, tuple[str, str | None]]:
    """The arguments of a data set that name missing or unreadable files or folders, each with why and the advice."""
    given = {name: args[name] for name in getattr(factory, "paths", ()) if isinstance(args.get(name), str)}
    found = {name: _refusal_of(path) for name, path in given.items()}
    return {name: why for name, why in found.items() if why is not None}


def _refusal_of(path: str) -> tuple[str, str | None] | None:
    """Why a file, folder or pattern cannot be read, and the advice; None if it can be read."""
    try:
        if Path(path).is_dir():
            os.scandir(path).close()
        elif Path(path).exists():
            Path(path).open("rb").close()
        elif not matching(path):
            return f"there is no file or folder `{path}`", "data paths are relative to the current folder"
    except OSError as problem:
        return f"`{path}` cannot be read: {why_not(problem)}", None
    return None


def matching(pattern: str) -> list[Path]:
    """The files that match a pattern, sorted by name; only its last part may have wildcards."""
    parent = Path(pattern).parent
    return sorted(parent.glob(Path(pattern).name)) if parent.is_dir() else []


def declared(factory: Callable[..., Any], args: Mapping[str, Any], of_project: str = "") -> Declared:
    """The fields that a data set declares before it is made, without those that have an open size.

    `of_project` is the name of a data set that a project registers, whose `shapes` must be valid. Those of flowconf
    declare nothing for invalid arguments, which are reported with a place when the data set is made. Raises
    `ConfigError`.
    """
    found = _said("shapes", factory, args, of_project)
    wrong = _wrong_declaration(found)
    if wrong is not None:
        message = f"`shapes` of the data set `{of_project}` {wrong}"
        raise ConfigError(Diagnostic("FC0501", message, path="data.name", advice=DECLARATION))
    return {field: declared for field, declared in found.items() if not any(_is_open(size) for size in declared[0])}


def masks_of(factory: Callable[..., Any], args: Mapping[str, Any], of_project: str = "") -> Masks:
    """The masks that a data set declares before it is made; see `declared`. Raises `ConfigError`."""
    found = _said("masks", factory, args, of_project)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for pair in found.items() for name in pair):
        message = f"`masks` of the data set `{of_project}` gives `{found!r}`, and must give a field for each field"
        raise ConfigError(Diagnostic("FC0501", message, path="data.name"))
    return found


def _said(what: str, factory: Callable[..., Any], args: Mapping[str, Any], of_project: str) -> Any:
    """What a data set declares as `shapes` or `masks` for its arguments. Raises `ConfigError`."""
    says = getattr(factory, what, None)
    if not callable(says):
        return {} if says is None else says
    try:
        return says(**with_defaults(factory, args))
    except FlowconfError:
        raise
    except (OSError, EOFError):
        return {}  # the same files are refused with a place when the data set is made
    except Exception as problem:
        if not of_project and isinstance(problem, TypeError | ValueError | ArithmeticError | LookupError):
            return {}
        message = f"`{what}` of the data set `{of_project}` fails: {type(problem).__name__}: {problem}"
        advice = "it is called with the arguments of the data set: name those it needs, and add `**others`"
        is_call = isinstance(problem, TypeError) and raised_at(problem) is None
        refusal = Diagnostic("FC0501", message, path="data.name", labels=raised_here(problem))
        raise ConfigError(replace(refusal, advice=advice) if is_call else refusal) from problem


def with_defaults(factory: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a data set: those given, and the defaults of the others."""
    parameters = inspect.signature(factory).parameters.items()
    defaults = {name: known.default for name, known in parameters if known.default is not known.empty}
    return {**defaults, **args}


DECLARATION = "give a mapping such as `{'image': ((1, 28, 28), torch.float32), 'label': ((), torch.int64, 10)}`"


def _wrong_declaration(found: object) -> str | None:
    """Why this declares no fields; None if it does."""
    if not isinstance(found, Mapping):
        return f"gives a `{type(found).__name__}`, and must give a mapping of fields"
    for field, declared in found.items():
        if not isinstance(field, str) or not isinstance(declared, tuple | list) or len(declared) not in (2, 3):
            return f"gives `{declared!r}` for the field `{field}`, and must give its shape and dtype"
        shape, dtype, *classes = declared
        if not isinstance(shape, tuple | list) or not all(_is_open(size) or _is_count(size) for size in shape):
            return f"gives the shape `{shape!r}` for the field `{field}`, and must give one size for each dimension"
        if not isinstance(dtype, torch.dtype):
            return f"gives the dtype `{dtype!r}` for the field `{field}`, and must give one of torch"
        if not all(_is_count(count) for count in classes):
            return f"gives `{classes[0]!r}` classes for the field `{field}`, and must give their number"
    return None


def _is_count(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _is_open(size: object) -> bool:
    """Whether a declared size differs between batches: a symbol, or what NumPy and ONNX write for one."""
    return size is None or size == -1 or (isinstance(size, str) and size.isidentifier())
