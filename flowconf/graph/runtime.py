"""What generated source calls where plain expressions would not do: routing rows, halting, and state between calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from flowconf.diagnostics import Diagnostic, StepError

Values = Any
"""A tensor, or a dict of tensors, with the rows of a batch along dimension 0."""


def refuse(message: str, help: str | None = None) -> NoReturn:
    """Raise `StepError`."""
    raise StepError(Diagnostic("FC0148", message, help=help))


def route(x: Values, index: Tensor, branches: Sequence[Callable[[Values], Values]], names: Sequence[str]) -> Values:
    """Each row through the branch that `index` names; only chosen branches run.

    `index` holds one number for the whole batch, or one for each row of `x`. Rows that agree make one call, and the
    order of the rows is kept. Any other count is refused, and a number that names no branch.
    """
    chosen = index.flatten().tolist()
    rows = _rows(x)
    if len(chosen) not in (1, rows):
        message = f"the router gives {len(chosen)} numbers for {rows} rows, and must give 1 or {rows}"
        refuse(message)
    for row, number in enumerate(chosen):
        if number != int(number) or not 0 <= number < len(branches):
            listed = ", ".join(f"{i} `{name}`" for i, name in enumerate(names))
            where = f"row {row}" if len(chosen) > 1 else "the batch"
            message = f"the router gives {number:g} for {where}, and the branches are {listed}"
            refuse(message)
    used = sorted({int(number) for number in chosen})
    if len(used) == 1:
        return branches[used[0]](x)
    flat = index.flatten()
    groups = [(flat == number).nonzero().flatten() for number in used]
    outputs = []
    for number, group in zip(used, groups, strict=True):  # what fails inside is told with the rows of `group`
        outputs.append(branches[number](_pick(x, group)))
    order = torch.cat(groups).argsort()
    return _joined(outputs, order)


def halts(value: Tensor) -> bool:
    """Whether a loop's condition says stop: its one number is positive. More than one number is refused."""
    if value.numel() != 1:
        message = f"a loop's condition must give one number, and gives {list(value.shape)}"
        refuse(message, "reduce it, for example by a mean")
    return bool(value > 0)


def recall(memory: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    """What the last call kept as `name`; zeros like `like` in the first. Another batch size is refused."""
    before = memory.get(name)
    if before is None:
        return torch.zeros_like(like)
    if before.shape[:1] != like.shape[:1]:
        message = f"the state `{name}` is kept for {before.shape[0]} rows, and this batch has {like.shape[0]}"
        refuse(message, "call `reset_state()` between sequences")
    return before


def _rows(x: Values) -> int:
    first = next(iter(x.values())) if isinstance(x, dict) else x
    return int(first.shape[0])


def _pick(x: Values, rows: Tensor) -> Values:
    return {name: value[rows] for name, value in x.items()} if isinstance(x, dict) else x[rows]


def _joined(outputs: Sequence[Values], order: Tensor) -> Values:
    if isinstance(outputs[0], dict):
        return {name: torch.cat([output[name] for output in outputs])[order] for name in outputs[0]}
    return torch.cat(list(outputs))[order]
