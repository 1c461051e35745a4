"""Values of the data that are not finite, where a loss or metric is not finite because of them.

A NaN by itself is no mistake: a graph may replace what is missing, and masked elements may have any value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowconf.language.config import Config
from flowconf.report import Diagnostic, Label, Place
from flowconf.report.origins import Path, dotted
from flowconf.train.data.run_data import placed
from flowconf.train.data.splits import SPLIT_NAMES, Resident, Split, place_of_row
from flowconf.train.objective.terms import Operand, Term, Values, spread

MOST = 64
"""Rows that are computed to see whether a loss or metric is finite."""
CHUNK = 2**24
"""Elements of a field that are examined at once."""

Terms = dict[Path, Term]
"""Losses and metrics that are means over elements, by their path in the config."""


@dataclass
class Spoiled:
    """A value of a batch that is not finite, and the terms that are not finite because of it."""

    field: str
    row: int
    """Its row in the batch."""
    element: tuple[int, ...]
    """Its place in the row."""
    value: str
    paths: list[Path]
    masks: set[str]
    """The fields that leave out all such values if they are the mask of these terms."""
    can_be_masked: bool
    mask: str | None
    """The mask of the terms, which does not leave out this value."""


def spoiled(terms: Terms, inputs: Sequence[str], values: Values | None, batch: Values) -> list[Spoiled]:
    """For each field of a batch, the first value because of which terms are not finite.

    `values` are those of the graph for this batch. None: the terms are known not to be finite.
    """
    found: dict[str, Spoiled] = {}
    for path, term in terms.items():
        rows = None if values is None else _rows_not_finite(term, values, batch)
        if rows is not None and not bool(rows.any()):
            continue
        for name, wrong in not_finite(term, inputs, batch):
            masks = {field for field in batch if _leaves_out(field, term, inputs, batch)}
            can_be_masked = term.mask is None and name not in inputs
            if name in found:
                found[name].paths.append(path)
                found[name].masks &= masks
                found[name].can_be_masked &= can_be_masked
                continue
            here = _by_row(wrong) if rows is None or not bool((_by_row(wrong) & rows).any()) else _by_row(wrong) & rows
            row = int(here.nonzero()[0])
            element = tuple(wrong[row].nonzero()[0].tolist()) if wrong.ndim > 1 else ()
            value = "NaN" if bool(batch[name][(row, *element)].isnan()) else "infinite"
            mask = None if term.mask is None or name in inputs else term.mask.name
            found[name] = Spoiled(name, row, element, value, [path], masks, can_be_masked, mask)
    return list(found.values())


def not_finite(term: Term, inputs: Sequence[str], batch: Values) -> Iterator[tuple[str, Tensor]]:
    """The fields that a term depends on with values that are not finite, and which (boolean, of the field's shape).

    What a mask of the batch leaves out does not count; where the graph computes the mask, only its inputs are examined.
    """
    own = [operand.name for operand in term.operands if operand.in_batch]
    mask = None if term.mask is None or not term.mask.in_batch else batch[term.mask.name]
    for name in dict.fromkeys([*inputs, *([] if mask is None and term.mask is not None else own)]):
        field = batch[name]
        if not field.is_floating_point() or not field.ndim:
            continue
        wrong = field.isfinite().logical_not_()
        if mask is not None and name not in inputs and mask.shape == field.shape[: mask.ndim]:
            wrong &= spread(mask != 0, field)
        if bool(wrong.any()):
            yield name, wrong


def find_spoiled(
    config: Config,
    terms: Terms,
    inputs: Sequence[str],
    split: Split,
    use: str,
    first: int,
    batch_of: Callable[[Tensor], Values | None],
    values_of: Callable[[Values], Values | None],
) -> list[Diagnostic]:
    """Values of a split because of which terms are not finite, in suspicious rows of data in memory, or the first rows.

    `batch_of` gives a batch of some rows, and `values_of` those of the graph for it; None if they cannot be made.
    """
    rows = torch.arange(min(first, len(split)))
    if isinstance(split, Resident) and split.augment is None:
        rows = rows_not_finite(terms, inputs, split)
    batch = batch_of(rows[:MOST]) if len(rows) else None
    if batch is None or not any(True for term in terms.values() for _ in not_finite(term, inputs, batch)):
        return []
    values = values_of(batch)
    found = [] if values is None else spoiled(terms, inputs, values, batch)
    return diagnosed(found, config, split, use, rows, len(rows))


def rows_not_finite(terms: Terms, inputs: Sequence[str], split: Resident) -> Tensor:
    """The rows of data in memory with values that are not finite and count in some term: int64 [rows]."""
    widest = max((field[0].numel() for field in split.tensors.values()), default=1)
    chunk = max(1, CHUNK // max(1, widest))
    found = []
    for start in range(0, len(split), chunk):
        part = {name: field[start : start + chunk] for name, field in split.tensors.items()}
        wrong = [_by_row(which) for term in terms.values() for _, which in not_finite(term, inputs, part)]
        if wrong:
            found.append(torch.stack(wrong).any(0).nonzero().flatten().cpu() + start)
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)


def diagnosed(
    found: Sequence[Spoiled], config: Config, split: Split, use: str, rows: Tensor, count: int = 1
) -> list[Diagnostic]:
    """The diagnostics for values of a batch with these `rows` of a split, of which `count` have such values."""
    return list(placed([_diagnostic(one, config, split, use, rows, count) for one in found], config))


def _diagnostic(found: Spoiled, config: Config, split: Split, use: str, rows: Tensor, count: int) -> Diagnostic:
    name = f"{found.field}[{', '.join(map(str, found.element))}]" if found.element else found.field
    file, row = place_of_row(split, int(rows[found.row]))
    where = f"`{file}`" if file is not None else f"the {SPLIT_NAMES.get(use, f'`{use}`')} data"
    origins = config.origins
    labels = [
        Label(f"`{dotted(path)}` is not finite because of it", origins.value((*path, "input"))) for path in found.paths
    ]
    labels += [Label(f"{count:,} of {len(split):,} rows have such values", Place())] if count > 1 else []
    advice = "replace such values in the data, or remove their rows"
    if found.mask is not None:
        advice = f"leave such elements out in `{found.mask}`, or remove their rows"
    if found.can_be_masked:
        mask = f"`mask: {next(iter(found.masks))}`" if len(found.masks) == 1 else "a `mask`"
        terms = " and ".join(f"`{dotted(path)}`" for path in found.paths)
        advice = f"leave such elements out with {mask} in {terms}, or remove their rows"
    message = f"`{name}` is {found.value} in row {row:,} of {where}"
    return Diagnostic("FC0503", message, Place(file), "data.name", tuple(labels), advice=advice)


def _rows_not_finite(term: Term, values: Values, batch: Values) -> Tensor:
    """The rows with an element of the term that is not finite; all of them, if its elements are not by row."""
    rows = len(next(iter(batch.values())))
    elements, _ = term.elements(values, batch)
    wrong = elements.isfinite().logical_not()
    if elements.ndim and len(elements) == rows:
        return _by_row(wrong)
    return wrong.any().expand(rows)


def _by_row(wrong: Tensor) -> Tensor:
    return wrong.flatten(1).any(1) if wrong.ndim > 1 else wrong


def _leaves_out(field: str, term: Term, inputs: Sequence[str], batch: Values) -> bool:
    """Whether a field would be a mask of the term that selects some elements, and none of those that are not finite."""
    mask = batch[field]
    own = [batch[operand.name] for operand in term.operands if operand.in_batch]
    is_mask = bool(((mask == 0) | (mask == 1)).all()) and (mask.dtype == torch.bool or bool(mask.any()))
    if not is_mask or any(mask.shape != one.shape[: mask.ndim] for one in own):
        return False
    return not any(True for _ in not_finite(replace(term, mask=Operand(field, in_batch=True)), inputs, batch))
