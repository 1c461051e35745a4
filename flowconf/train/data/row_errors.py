"""Errors for rows that cannot be loaded or collated: the row, the field, and the line of the data set that failed.

An error is plain data, so a worker can send it to the training process, which adds its place in the config.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from flowconf.report import Diagnostic, FlowconfError, RunError, dtype_name, raised_here
from flowconf.train.data.collate import Field, dtype_of, tensor_of, typed_shape
from flowconf.train.out_of_memory import is_out_of_memory

ADVICE = "return a mapping of named tensors or numbers for each row"


def worker_died(problem: RuntimeError) -> RunError:
    """The error for a DataLoader worker that died."""
    signalled = re.search(r"killed by signal: (\w[\w ]*)", str(problem))
    how = f" ({signalled[1].lower()})" if signalled else ""
    advice = "if it ran out of memory, reduce `data.workers` or `data.prefetch`"
    message = f"a data worker died{how}"
    return RunError(Diagnostic("FC0501", message, path="data.workers", advice=advice))


def refusal(problem: BaseException, what: str) -> RunError:
    """The error for an exception in a data set's own code while it loaded `what`, with the line that raised it.

    Raises the exception unchanged if it is a `FlowconfError` or out of memory.
    """
    if isinstance(problem, FlowconfError) or is_out_of_memory(problem):
        raise problem
    words = str(problem).strip().splitlines()
    message = f"{what} cannot be loaded: {type(problem).__name__}{f': {words[0]}' if words else ''}"
    return RunError(Diagnostic("FC0501", message, path="data.name", labels=raised_here(problem)))


def batch_in_words(rows: Tensor) -> str:
    """A batch, by its first rows."""
    first = ", ".join(str(row) for row in rows[:4].tolist())
    return f"the batch of rows {first}{', ...' if len(rows) > 4 else ''}"


def wrong_in_batch(batch: Any, rows: Tensor, fields: Mapping[str, Field]) -> RunError | None:
    """Why a batch that a split's own code gives for these rows does not have its fields; None if it does.

    Sizes may differ between batches, but not the number of dimensions.
    """
    if not isinstance(batch, Mapping):
        return _refused(f"{batch_in_words(rows)} must be a mapping of named tensors, got {_kind(batch)}")
    for name, (shape, dtype) in fields.items():
        if name not in batch:
            return _refused(f"{batch_in_words(rows)} has no field `{name}`, but `fields` of the split has one")
        value = batch[name]
        if not isinstance(value, Tensor):
            return _refused(f"`{name}` of {batch_in_words(rows)} must be a tensor, got {_kind(value)}")
        if value.ndim != len(shape) + 1 or len(value) != len(rows) or value.dtype != dtype:
            found, wanted = typed_shape(value.dtype, value.shape), typed_shape(dtype, (len(rows), *shape))
            return _refused(f"`{name}` of {batch_in_words(rows)} is {found}, but {wanted} in `fields` of the split")
    return None


def apart(
    rows: Sequence[int], items: Sequence[Any], fields: Mapping[str, Field], problem: Exception | None = None
) -> RunError:
    """Why items cannot be collated into a batch with these fields: the first wrong row, and the field."""
    if not items:
        return _refused("the data set has no rows")
    for row, item in zip(rows, items, strict=False):
        error = _wrong_in(row, item, fields) or _unlike(row, item, rows[0], items[0])
        if error is not None:
            return error
    for row, item in zip(rows, items, strict=False):
        error = _of_another_type(row, item, fields)
        if error is not None:
            return error
    return _refused(f"the rows cannot be collated: {problem}")


def _of_another_type(row: int, item: Mapping[Any, Any], fields: Mapping[str, Field]) -> RunError | None:
    """The first field of a row whose dtype differs from that of the first row of the data set."""
    for name, (_, dtype) in fields.items():
        found = dtype_of(item[name])
        if found != dtype:
            mine, theirs = (dtype_name(one) for one in (found, dtype))
            message = f"`{name}` is {mine} in row {row}, but {theirs} in the first row of the data set"
            return _refused(message, "use one type for all values of a field")
    return None


def _wrong_in(row: int, item: Any, fields: Mapping[str, Field]) -> RunError | None:
    """The error in a single row, which requires these fields."""
    if not isinstance(item, Mapping):
        return _refused(f"row {row} must be a mapping of named tensors, got {_kind(item)}", ADVICE)
    lacks = next((name for name in fields if name not in item), None)
    if lacks is not None:
        return _refused(f"row {row} has no field `{lacks}`, but the first row of the data set has one")
    for name, value in item.items():
        try:
            tensor_of(value)
        except (TypeError, ValueError, RuntimeError):
            shown = f"the string `{value[:40]}`" if isinstance(value, str) else f"a `{type(value).__name__}`"
            return _refused(f"`{name}` of row {row} must be a tensor or numbers, got {shown}", ADVICE)
    return None


def _unlike(row: int, item: Mapping[Any, Any], first_row: int, first: Mapping[Any, Any]) -> RunError | None:
    """The first field that a row lacks, or has with a shape different from that of the first row."""
    for name, value in first.items():
        if name not in item:
            return _refused(f"row {row} has no field `{name}`, but row {first_row} has one")
        shape, expected = (list(tensor_of(one).shape) for one in (item[name], value))
        if shape != expected:
            message = f"`{name}` is {shape} in row {row}, but {expected} in row {first_row}"
            return _refused(message, "the rows of a batch require the same shape: crop or pad them")
        mine, theirs = (dtype_name(dtype_of(one)) for one in (item[name], value))
        if mine != theirs:
            message = f"`{name}` is {mine} in row {row}, but {theirs} in row {first_row}"
            return _refused(message, "use one type for all values of a field")
    return None


def _kind(value: Any) -> str:
    return "`None`" if value is None else f"a `{type(value).__name__}`"


def _refused(message: str, advice: str | None = None) -> RunError:
    return RunError(Diagnostic("FC0501", message, path="data.name", advice=advice))
