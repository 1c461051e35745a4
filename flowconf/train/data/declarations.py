"""The declarations of a data set about its rows and files, so that a config is checked before the data set is made."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from flowconf.language import registry
from flowconf.language.sections.data_sets import arguments, further_sets
from flowconf.language.training import TrainingConfig
from flowconf.report import (
    Advice,
    ConfigError,
    Diagnostic,
    FlowconfError,
    Suggestion,
    raised_at,
    raised_here,
    texts,
    why_not,
)
from flowconf.report.origins import Path as Keys
from flowconf.text.near_files import near_path
from flowconf.train.data.reading import RELATIVE
from flowconf.train.data.splits import Splits

Factory = TypeVar("Factory", bound=Callable[..., Splits])
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
    cacheable: bool = False,
) -> Callable[[Factory], Factory]:
    """Declares the fields of a data set, so that a config is checked against them before the data set is made.

    `paths` are the arguments that name files or folders, or patterns of files, which must exist. `shapes` is called
    with the data set's arguments and defaults, and returns what is known about the fields without reading data. It
    takes the arguments that it needs by name, and the others as `**others`. `masks` gives each field that may be
    missing or padded the field that is true where it has a value, as in `{"cost": "cost_present"}`, or is a function of
    the arguments that does; a loss of such a field without that mask is reported. `cacheable` says that rows depend on
    nothing but the arguments, the files that `paths` names, and the code of the package, so that `data.cache` may keep
    them. A split that reads other files names them in an attribute `read_from`.

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
        cast_any.rows, cast_any.reader, cast_any.cacheable = rows, reader, cacheable
        return factory

    return mark


@dataclass(frozen=True)
class DataSet:
    """A registered data set with its arguments, and what it declares by `provides`."""

    name: str
    args: Mapping[str, Any]

    @cached_property
    def factory(self) -> Callable[..., Any]:
        return registry.datasets.load(self.name)  # type: ignore[no-any-return]

    def takes(self, argument: str) -> bool:
        """Whether it has an argument of this name."""
        return argument in inspect.signature(self.factory).parameters

    def with_defaults(self) -> dict[str, Any]:
        """The arguments: those given, and the defaults of the others."""
        parameters = inspect.signature(self.factory).parameters.items()
        defaults = {name: known.default for name, known in parameters if known.default is not known.empty}
        return {**defaults, **self.args}

    def says(self, what: str) -> Any:
        """The arguments of `provides`; None without it."""
        return getattr(self.factory, what, None)

    @property
    def files(self) -> dict[str, str]:
        """The arguments that name files, folders or patterns of files."""
        return {name: self.args[name] for name in self.says("paths") or () if isinstance(self.args.get(name), str)}

    def refused_files(self) -> dict[str, tuple[str, Advice | None]]:
        """The arguments that name missing or unreadable files or folders, each with why and the advice."""
        found = {name: _refusal_of(path) for name, path in self.files.items()}
        return {name: why for name, why in found.items() if why is not None}

    def declared(self) -> Declared:
        """The fields that it declares before it is made, without those that have an open size.

        What the data set of a project declares must be valid. Those of flowconf declare nothing for invalid arguments,
        which are reported with a place when the data set is made. Raises `ConfigError`.
        """
        found = self._said("shapes")
        wrong = wrong_declaration(found)
        if wrong is not None:
            message = f"`shapes` of the data set `{self.name}` {wrong}"
            raise ConfigError(Diagnostic("FC0501", message, path="data.name", advice=DECLARATION))
        return of_known_size(found)

    def masks(self) -> Masks:
        """The masks that it declares before it is made, as `declared`. Raises `ConfigError`."""
        found = self._said("masks")
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for pair in found.items() for name in pair):
            message = f"`masks` of the data set `{self.name}` gives `{found!r}`, and must give a field for each field"
            raise ConfigError(Diagnostic("FC0501", message, path="data.name"))
        return found

    def _said(self, what: str) -> Any:
        """The `shapes` or `masks` that it declares for its arguments. Raises `ConfigError`."""
        says = self.says(what)
        if not callable(says):
            return {} if says is None else says
        if self.refused_files():
            return {}  # they are reported by `check_machine`
        try:
            return says(**self.with_defaults())
        except FlowconfError:
            raise
        except (OSError, EOFError):
            return {}  # the same files are refused with a place when the data set is made
        except Exception as problem:
            is_expected = isinstance(problem, TypeError | ValueError | ArithmeticError | LookupError)
            if is_expected and registry.datasets.is_built_in(self.name):
                return {}
            message = f"`{what}` of the data set `{self.name}` fails: {type(problem).__name__}: {problem}"
            advice = "it is called with the arguments of the data set: name those it needs, and add `**others`"
            is_call = isinstance(problem, TypeError) and raised_at(problem) is None
            refusal = Diagnostic("FC0501", message, path="data.name", labels=raised_here(problem))
            raise ConfigError(replace(refusal, advice=advice) if is_call else refusal) from problem


def data_sets(training: TrainingConfig) -> dict[Keys, DataSet]:
    """The data set of a config and its further sets, by the path at which each is written."""
    data = training.data
    found: dict[Keys, DataSet] = {("data",): DataSet(data.name, data.args)}
    for path, section in further_sets(training).items():
        found[path] = DataSet(section.name or data.name, arguments(training, section))
    return found


def _refusal_of(path: str) -> tuple[str, Advice | None] | None:
    """Why a file, folder or pattern cannot be read, and the advice; None if it can be read."""
    try:
        if Path(path).is_dir():
            os.scandir(path).close()
            return None
        files = [Path(path)] if Path(path).exists() else matching(path)
        if not files:
            close = near_path(path)
            advice = RELATIVE if close is None else Suggestion(close, instead_of=path)
            return f"there is no file or folder `{path}`", advice
        for file in files:
            if not file.is_file():
                return f"`{file}` is neither a file nor a folder", "write a file: it is read more than once"
        files[0].open("rb").close()
    except OSError as problem:
        return f"`{path}` cannot be read: {why_not(problem)}", None
    return None


def matching(pattern: str) -> list[Path]:
    """The files that match a pattern, sorted by name; only its last part may have wildcards."""
    parent = Path(pattern).parent
    return sorted(parent.glob(Path(pattern).name)) if parent.is_dir() else []


def of_known_size(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without those that have an open size, which differs between batches."""
    return {name: field for name, field in fields.items() if not any(_is_open(size) for size in field[0])}


DECLARATION = "give a mapping such as `{'image': ((1, 28, 28), torch.float32), 'label': ((), torch.int64, 10)}`"


def wrong_declaration(found: object, lengths: Collection[int] = (2, 3)) -> str | None:
    """Why this declares no fields, each by a shape and a dtype and, if 3 is one of the `lengths`, a number of classes.

    None if it does.
    """
    if not isinstance(found, Mapping):
        return f"gives a `{type(found).__name__}`, and must give a mapping of fields"
    for field, declared in found.items():
        if not isinstance(field, str) or not isinstance(declared, tuple | list) or len(declared) not in lengths:
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
