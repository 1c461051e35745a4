"""What generated source calls where plain expressions would not do.

Routing rows, halting, state between calls, and values that are several tensors: tuples, NamedTuples and dicts of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from flowconf.report import Diagnostic, StepError

Values = Any
"""A tensor, or a tuple, NamedTuple, list or dict of such values."""


def refuse(message: str, advice: str | None = None) -> NoReturn:
    """Raise `StepError`."""
    raise StepError(Diagnostic("FC0148", message, advice=advice))


def over(change: Callable[..., Any], values: Sequence[Values]) -> Values:
    """`change` on the tensors of several values of one form, place by place."""
    first = values[0]
    if isinstance(first, dict):
        return {name: over(change, [value[name] for value in values]) for name in first}
    if isinstance(first, tuple | list):
        parts = [over(change, part) for part in zip(*values, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return change(*values)


def tensors(value: Values) -> Iterable[Tensor]:
    """Every tensor of a value."""
    if isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)
    else:
        yield value


def stack_each(values: Sequence[Values], dim: int) -> Values:
    """Values of one form, one for each iteration, stacked along `dim`; single numbers along 0. None are refused."""
    if not values:
        refuse("the loop ran no iteration, and there is nothing to stack", "ask for the loop's own value")
    return over(lambda *parts: torch.stack(parts, min(dim, parts[0].dim())), values)


def cat_each(values: Sequence[Values], dim: int) -> Values:
    """Values of one form, one behind the other along `dim`."""
    return over(lambda *parts: torch.cat(parts, dim), values)


def unflatten_each(value: Values, shape: Sequence[int], dim: int = 1) -> Values:
    """The slices of a map out of the batch again: [B * slices, ...] -> [B, ..., slices, ...], slices along `dim`."""
    return over(lambda part: part.unflatten(0, shape).movedim(1, dim), [value])


def unbind_each(value: Values, dim: int) -> list[Values]:
    """The slices of a value along `dim`."""
    count = next(iter(tensors(value))).shape[dim]
    return [over(lambda part, i=i: part.select(dim, i), [value]) for i in range(count)]


def iteration_of(values: Sequence[Values], index: int, name: str) -> Values:
    """One iteration's value, by its index. One that never ran is refused."""
    if not -len(values) <= index < len(values):
        refuse(f"`{name}` has no iteration {index}: {len(values)} ran")
    return values[index]


def one_for_each(weights: Tensor, experts: int) -> None:
    """Refuse weights of a gate that are not one for each of its experts, along the last dimension."""
    if weights.shape[-1] != experts:
        refuse(f"the router gives {weights.shape[-1]} weights, and there are {experts} experts")


def element_of(value: Values, name: str) -> Values:
    """A part of a dict or NamedTuple."""
    return arguments_of(value, name)[name]


def arguments_of(value: Values, *names: str) -> dict[str, Values]:
    """Parts of a dict or NamedTuple, as the arguments of a call. One that is not there is refused."""
    held = value._asdict() if hasattr(value, "_asdict") else value
    if not isinstance(held, dict):
        refuse(f"`{names[0]}` cannot be taken of a {type(value).__name__}: it has no names")
    for name in names:
        if name not in held:
            refuse(f"there is no `{name}` in what arrives: it holds {', '.join(f'`{key}`' for key in held)}")
    return {name: held[name] for name in names}


def route(
    x: Values,
    index: Tensor,
    branches: Sequence[Callable[..., Values]],
    names: Sequence[str],
    *besides: Values,
) -> Values:
    """Each row through the branch that `index` names; only chosen branches run.

    `index` holds one whole number for the batch, or one for each row of `x`. Rows that agree make one call, and the
    order of the rows is kept. Any other count is refused, and a number that names no branch. `besides` are further
    values that the branches read.
    """
    chosen = index.flatten().tolist()
    rows = next(iter(tensors(x))).shape[0]
    if len(chosen) not in (1, rows):
        refuse(f"the router gives {len(chosen)} numbers for {rows} rows, and must give 1 or {rows}")
    for row, number in enumerate(chosen):
        if number not in range(len(branches)):
            listed = ", ".join(f"{i} `{name}`" for i, name in enumerate(names))
            where = f"row {row}" if len(chosen) > 1 else "the batch"
            refuse(f"the router gives {number:g} for {where}, and the branches are {listed}")
    used = sorted({int(number) for number in chosen})
    if len(used) == 1:
        return branches[used[0]](x, *besides)
    flat = index.flatten()
    groups = [(flat == number).nonzero().flatten() for number in used]
    outputs = []
    for number, group in zip(used, groups, strict=True):  # what fails inside is told with the rows of `group`
        given = [over(lambda part, group=group: part[group], [value]) for value in (x, *besides)]
        outputs.append(branches[number](*given))
    order = torch.cat(groups).argsort()
    return over(lambda *parts: torch.cat(parts)[order], outputs)


def halts(value: Tensor) -> bool:
    """Whether a loop's condition says stop: its one number is positive. More than one number is refused."""
    if value.numel() != 1:
        message = f"a loop's condition must give one number, and gives {list(value.shape)}"
        refuse(message, "reduce it, for example by a mean")
    return bool(value > 0)


def recall(state: dict[str, Values], name: str, like: Values) -> Values:
    """What the last call kept as `name`; zeros like `like` in the first. Another batch size is refused."""
    before = state.get(name)
    if before is None:
        return over(torch.zeros_like, [like])
    kept, given = next(iter(tensors(before))), next(iter(tensors(like)))
    if kept.shape[:1] != given.shape[:1]:
        message = f"the state `{name}` is kept for {kept.shape[0]} rows, and this batch has {given.shape[0]}"
        refuse(message, "call `reset_state()` between sequences")
    return before
