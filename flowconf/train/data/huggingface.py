"""Data sets of the library `datasets`: a local folder, or the name of one on the hub."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from flowconf.language.value_types import Count, Positive, Share
from flowconf.report import ConfigError, Diagnostic, first_line, suggest
from flowconf.train.data.collate import Batch, Field, scaled
from flowconf.train.data.declarations import provides
from flowconf.train.data.reading import required
from flowconf.train.data.splits import Splits, classes_in, shares_of

__all__ = ["huggingface"]

NAMES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""The usual names of the splits of a data set."""

Classes = Mapping[str, Sequence[str]]
"""Field -> the names of its classes in the order of their numbers."""


def _of_file(
    path: str,
    needed: Collection[str],
    /,
    fields: Mapping[str, str] | None,
    subset: str | None,
    fitted: Mapping[str, Any] | None,
    **others: object,
) -> _Rows:
    """The rows of a data set with one split, of the columns that are needed."""
    parts = _loaded(path, subset, None, False)
    if len(parts) > 1:
        there = " and ".join(f"`{name}`" for name in parts)
        raise _refused(f"`{path}` has the splits {there}", "data.path", "give the folder of one of them")
    (part,) = parts.values()
    return _Rows(part, {name: (fields or {}).get(name, name) for name in needed}, path, classes_in(fitted))


@provides(rows=_of_file)
def huggingface(
    *,
    path: str,
    fields: Mapping[str, str] | None = None,
    subset: str | None = None,
    revision: str | None = None,
    train: str = "train",
    validation: str | Share | None = None,
    test: str | Share | None = None,
    split_seed: Count = 0,
    streaming: bool = False,
    rows: Positive | None = None,
    shuffle: Count = 1000,
    seed: int = 0,
    fitted: Mapping[str, Any] | None = None,
) -> Splits:
    """A data set of the library `datasets`: a folder that it has saved or can read, or a name on the hub.

    `fields` maps fields to columns (null: all columns but texts); images become floats [channels, H, W] in [0, 1].
    `subset` is the configuration of the data set and `revision` its version on the hub. `validation` and `test` are
    names of its splits (null: the usual ones, if there are any), or shares of `train`. With `streaming`, rows are read
    one after the other, shuffled in a buffer of `shuffle` rows that depends on the seed and the epoch; `rows` is their
    number, if the data set does not say it. The names of classes are kept with the run, and keep their numbers.
    """
    parts, known = _loaded(path, subset, revision, streaming), classes_in(fitted)
    chosen = {"validation": validation, "test": test}
    usual = {key: next((name for name in names if name in parts), None) for key, names in NAMES.items()}
    named = {key: usual[key] if given is None else given for key, given in chosen.items()}
    training = _part(parts, train, "train", path)
    shares = [part if isinstance(part, float | int) else 0.0 for part in named.values()]
    if streaming:
        if any(shares):
            message = "rows that are streamed cannot be divided into shares"
            raise _refused(message, "data.streaming", "name a split for `validation` and `test`")
        held = {key: None if name is None else _part(parts, str(name), key, path) for key, name in named.items()}
        streams = [
            None if part is None else _Stream(part, fields, None, 0, seed, path, known) for part in held.values()
        ]
        train_stream = _Stream(training, fields, rows, shuffle, seed, path, known)
        return Splits(train_stream, streams[0], streams[1], train_stream.columns.fitted)  # type: ignore[arg-type]
    *taken, rest = shares_of(len(training), shares, split_seed)
    found: list[_Rows | None] = []
    for (key, name), own in zip(named.items(), taken, strict=True):
        if isinstance(name, str):
            found.append(_Rows(_part(parts, name, key, path), fields, path, known))
        else:
            found.append(_Rows(training.select(own.tolist()), fields, path, known) if len(own) else None)
    kept = training.select(rest.sort().values.tolist()) if any(map(len, taken)) else training
    train_rows = _Rows(kept, fields, path, known)
    return Splits(train_rows, found[0], found[1], train_rows.columns.fitted)


class _Columns(dict[str, str]):
    """The column of each field, with the numbers that its classes have in the run."""

    def __init__(
        self, features: Mapping[str, Any], fields: Mapping[str, str] | None, path: str, known: Classes
    ) -> None:
        super().__init__(_columns(features, fields, path))
        self.features = features
        names = {field: _class_names(features[column]) for field, column in self.items()}
        self.classes = {field: list(known.get(field, own)) for field, own in names.items() if own}
        self.fitted = {field: {"categories": names} for field, names in self.classes.items()} or None
        self.numbers = {
            field: _renumbered(names[field], classes, field, path)
            for field, classes in self.classes.items()
            if names[field] != classes
        }

    def value(self, field: str, value: Tensor) -> Tensor:
        """A value of a column as one of its field: images are floats in [0, 1], other numbers float32 or int64."""
        if type(self.features[self[field]]).__name__ == "Image":
            return scaled(value)
        if value.is_floating_point() or value.dtype == torch.bool:
            return value.float() if value.is_floating_point() else value
        return self.numbers[field][value.long()] if field in self.numbers else value.long()


class _Rows:
    """Rows of a table of Arrow, gathered batch by batch."""

    def __init__(self, data: Any, fields: Mapping[str, str] | None, path: str, known: Classes) -> None:
        self.columns = _Columns(data.features, fields, path, known)
        self.data = data.with_format("torch", columns=list(self.columns.values()))
        self.path = path
        self.fields: Mapping[str, Field] = {}
        first = self.batch(torch.zeros(1, dtype=torch.int64), torch.Generator())
        self.fields = {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in first.items()}

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        found = self.data[rows.tolist()]
        for name, column in self.columns.items():
            if not isinstance(found[column], Tensor):
                message = f"`{column}` has different shapes in the rows {', '.join(map(str, rows[:4].tolist()))}, ..."
                raise _refused(f"{message} of `{self.path}`", "data.path", f"leave the field `{name}` out of `fields`")
        return {name: self.columns.value(name, found[column]) for name, column in self.columns.items()}

    def column(self, name: str) -> Tensor:
        """The values of a field in all rows."""
        column = self.columns[name]
        return self.columns.value(name, self.data.with_format("torch", columns=[column])[:][column])


class _Stream(IterableDataset[dict[str, Tensor]]):
    """Rows that are read one after the other, in an order that depends on the seed and the epoch."""

    def __init__(
        self,
        data: Any,
        fields: Mapping[str, str] | None,
        rows: int | None,
        shuffle: int,
        seed: int,
        path: str,
        known: Classes,
    ) -> None:
        self.rows: int = rows or _count(data)
        if not self.rows:
            message = f"`{path}` does not say how many rows one of its splits has"
            raise _refused(message, "data.streaming", "write `rows: ...`, the number of rows in an epoch")
        if data.features is None:
            raise _refused(f"`{path}` does not say which columns it has", "data.path", "write `streaming: false`")
        self.columns = _Columns(data.features, fields, path, known)
        self.data = data.select_columns(list(self.columns.values())).with_format("torch")
        if shuffle:
            self.data = self.data.shuffle(seed=seed, buffer_size=shuffle)

    def __len__(self) -> int:
        return self.rows

    def set_epoch(self, epoch: int) -> None:
        """Another order in each epoch."""
        self.data.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for row in self.data:
            yield {
                name: self.columns.value(name, torch.as_tensor(row[column])) for name, column in self.columns.items()
            }


def _loaded(path: str, subset: str | None, revision: str | None, streaming: bool) -> Mapping[str, Any]:
    """The splits of a data set by name. Raises `ConfigError`, and `MachineError` without the library."""
    datasets = required("datasets", "the data set `huggingface` requires the package `datasets`", "huggingface")
    if path.isidentifier() and find_spec(f"datasets.packaged_modules.{path}") is not None:  # one reads pickles
        advice = "write a folder, as in `./FOLDER`, or a name on the hub, as in `ORGANIZATION/NAME`"
        raise _refused(f"`{path}` is a reader of the library `datasets`, not a data set", "data.path", advice)
    datasets.disable_progress_bars()
    saved = any((Path(path) / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(path, subset, revision=revision, streaming=streaming)
    except Exception as problem:  # noqa: BLE001 - the library raises many kinds, also of its own dependencies
        raise _refused(f"`{path}` cannot be loaded: {first_line(problem)}", "data.path") from None
    parts: Mapping[str, Any] = found if isinstance(found, Mapping) else {"train": found}
    if saved and streaming:
        streams = {name: part.to_iterable_dataset() for name, part in parts.items()}
        for name, stream in streams.items():
            stream.rows = len(parts[name])  # which it does not know itself
        return streams
    return parts


def _count(stream: Any) -> int:
    """The number of rows of a stream; 0 if it is not known."""
    known = (stream.info.splits or {}).get(str(stream.split))
    return getattr(stream, "rows", None) or getattr(known, "num_examples", None) or 0


def _part(parts: Mapping[str, Any], name: str, key: str, path: str) -> Any:
    if name not in parts:
        raise _refused(f"`{path}` has no split `{name}`", f"data.{key}", suggest(name, parts, "splits"))
    return parts[name]


def _columns(features: Mapping[str, Any], fields: Mapping[str, str] | None, path: str) -> dict[str, str]:
    """The column of each field. Raises `ConfigError` for one that the data set does not have, and for texts."""
    if fields is None:
        return {name: name for name, feature in features.items() if not _is_text(feature) and name.isidentifier()}
    for name, column in fields.items():
        if column not in features:
            advice = suggest(str(column), features, "columns")
            raise _refused(f"`{path}` has no column `{column}`", f"data.fields.{name}", advice)
        if _is_text(features[column]):
            message = f"`{column}` of `{path}` is text, and a field has numbers"
            raise _refused(message, f"data.fields.{name}", "save its tokens as a column, or use the data set `tokens`")
    return dict(fields)


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", "") in ("string", "large_string", "binary")


def _class_names(feature: Any) -> list[str]:
    """The names of the classes of a column, or of the items of its lists."""
    return list(getattr(getattr(feature, "feature", feature), "names", None) or ())


def _renumbered(names: Sequence[str], classes: Sequence[str], field: str, path: str) -> Tensor:
    """The number in the run of each class of a column, and last -1, for no class. Raises `ConfigError`."""
    unknown = next((name for name in names if name not in classes), None)
    if unknown is not None:
        message = f"the class `{unknown}` of `{field}` in `{path}` is not in the training rows"
        raise _refused(message, "data.path", suggest(unknown, classes, "classes"))
    return torch.tensor([*(classes.index(name) for name in names), -1])


def _refused(message: str, path: str, advice: Any = None) -> ConfigError:
    return ConfigError(Diagnostic("FC0501", message, path=path, advice=advice))
