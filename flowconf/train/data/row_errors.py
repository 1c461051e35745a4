"""What is told of rows that cannot be made or put together: which row, which field, and where the data set failed.

A refusal is plain data, so that a worker can give it to the process that trains. Where it stands in the config is added
there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flowconf.report import Diagnostic, FlowconfError, Label, RunError, raised_at
from flowconf.train.data.collate import Field, dtype_of, tensor_of
from flowconf.train.out_of_memory import is_out_of_memory

ADVICE = "give a mapping of named tensors or numbers for each row"


def worker_died(problem: RuntimeError) -> RunError:
    """The end of a process that makes batches. Raises what is something else."""
    words = str(problem)
    if "DataLoader worker" not in words:
        raise problem
    signalled = re.search(r"killed by signal: (\w[\w ]*)", words)
    how = f" ({signalled[1].lower()})" if signalled else ""
    advice = "if it ran out of memory, reduce `data.workers` or `data.prefetch`"
    message = f"a data worker died{how}"
    return RunError(Diagnostic("FC0501", message, path="data.workers", advice=advice))


def refusal(problem: BaseException, what: str) -> RunError:
    """An exception of a data set's own code, which was about to make `what`, with the line that raised it.

    Raises the exception as it is when it is a refusal, or says that memory is missing.
    """
    if isinstance(problem, FlowconfError) or is_out_of_memory(problem):
        raise problem
    words = str(problem).strip().splitlines()
    message = f"{what} cannot be made: {type(problem).__name__}{f': {words[0]}' if words else ''}"
    place = raised_at(problem)
    labels = (Label("raised here", place),) if place is not None else ()
    return RunError(Diagnostic("FC0501", message, path="data.name", labels=labels))


def apart(
    rows: Sequence[int], items: Sequence[Any], fields: Mapping[str, Field], problem: Exception | None = None
) -> RunError:
    """Why items are no batch with these fields: the first row that is at fault, and the field."""
    if not items:
        return _refused("the data set has no rows to begin with")
    for row, item in zip(rows, items, strict=False):
        told = _wrong_in(row, item, fields) or _unlike(row, item, rows[0], items[0])
        if told is not None:
            return told
    for row, item in zip(rows, items, strict=False):
        told = _of_another_type(row, item, fields)
        if told is not None:
            return told
    return _refused(f"the rows cannot be put together: {problem}")


def _of_another_type(row: int, item: Mapping[Any, Any], fields: Mapping[str, Field]) -> RunError | None:
    """What of a row has another type than the first row of the data set."""
    for name, (_, dtype) in fields.items():
        found = dtype_of(item[name])
        if found != dtype:
            mine, theirs = (str(one).removeprefix("torch.") for one in (found, dtype))
            message = f"`{name}` is {mine} in row {row}, and {theirs} in the first row of the data set"
            return _refused(message, "use one type for all values of a field")
    return None


def _wrong_in(row: int, item: Any, fields: Mapping[str, Field]) -> RunError | None:
    """What is wrong with a row by itself, which needs these fields."""
    if not isinstance(item, Mapping):
        kind = "`None`" if item is None else f"a `{type(item).__name__}`"
        return _refused(f"row {row} is {kind}, and must be a mapping of named tensors", ADVICE)
    lacks = next((name for name in fields if name not in item), None)
    if lacks is not None:
        return _refused(f"row {row} has no field `{lacks}`, and the first row of the data set has one")
    for name, value in item.items():
        try:
            tensor_of(value)
        except (TypeError, ValueError, RuntimeError):
            shown = f"the string `{value[:40]}`" if isinstance(value, str) else f"a `{type(value).__name__}`"
            return _refused(f"`{name}` of row {row} is {shown}, and must be a tensor or numbers", ADVICE)
    return None


def _unlike(row: int, item: Mapping[Any, Any], first_row: int, first: Mapping[Any, Any]) -> RunError | None:
    """What a row lacks, or has otherwise, of what the first one has."""
    for name, value in first.items():
        if name not in item:
            return _refused(f"row {row} has no field `{name}`, and row {first_row} has one")
        shape, expected = (list(tensor_of(one).shape) for one in (item[name], value))
        if shape != expected:
            message = f"`{name}` is {shape} in row {row}, and {expected} in row {first_row}"
            return _refused(message, "the rows of a batch need one shape: cut them, or fill them up")
        mine, theirs = (str(dtype_of(one)).removeprefix("torch.") for one in (item[name], value))
        if mine != theirs:
            message = f"`{name}` is {mine} in row {row}, and {theirs} in row {first_row}"
            return _refused(message, "use one type for all values of a field")
    return None


def _refused(message: str, advice: str | None = None) -> RunError:
    return RunError(Diagnostic("FC0501", message, path="data.name", advice=advice))
