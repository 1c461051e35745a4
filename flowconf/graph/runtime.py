"""Functions that generated source calls.

They route rows, test halting conditions, keep state between calls, and operate on tuples, NamedTuples and dicts of
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from flowconf.report import Diagnostic, StepError

Values = Any
"""A tensor, or a tuple, NamedTuple, list, dict or dataclass of such values."""


def refuse(message: str, advice: str | None = None) -> NoReturn:
    """Raise `StepError`."""
    raise StepError(Diagnostic("FC0148", message, advice=advice))


def over(change: Callable[..., Any], values: Sequence[Values]) -> Values:
    """Apply `change` to the corresponding tensors of several values of the same structure."""
    first = values[0]
    if isinstance(first, dict):
        return {name: over(change, [value[name] for value in values]) for name in first}
    if isinstance(first, tuple | list):
        parts = [over(change, part) for part in zip(*values, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if is_dataclass(first) and not isinstance(first, type):
        return replace(first, **over(change, [fields_of(value) for value in values]))
    return change(*values)


def fields_of(value: Any) -> dict[str, Values]:
    """The fields of a dataclass that have a value."""
    named = {one.name: getattr(value, one.name) for one in fields(value)}
    return {name: part for name, part in named.items() if part is not None}


def tensors(value: Values) -> Iterable[Tensor]:
    """All tensors of a value."""
    if is_dataclass(value) and not isinstance(value, dict | type):
        value = fields_of(value)
    if isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)
    else:
        yield value


def stack_each(values: Sequence[Values], dim: int) -> Values:
    """Stack the values of all iterations along `dim`, 0-d tensors along 0. No values are an error."""
    if not values:
        refuse("the loop ran no iterations, so there is nothing to stack", "use the value of the loop itself")
    return over(lambda *parts: torch.stack(parts, min(dim, parts[0].dim())), values)


def cat_each(values: Sequence[Values], dim: int) -> Values:
    """Concatenate values of the same structure along `dim`."""
    return over(lambda *parts: torch.cat(parts, dim), values)


def unflatten_each(value: Values, shape: Sequence[int], dim: int = 1) -> Values:
    """Split the slices of a map from the batch: [B * slices, ...] -> [B, ..., slices, ...], with slices along `dim`."""
    return over(lambda part: part.unflatten(0, shape).movedim(1, dim), [value])


def unbind_each(value: Values, dim: int) -> list[Values]:
    """The slices of a value along `dim`."""
    count = next(iter(tensors(value))).shape[dim]
    return [over(lambda part, i=i: part.select(dim, i), [value]) for i in range(count)]


def iteration_of(values: Sequence[Values], index: int, name: str) -> Values:
    """The value of one iteration, by index. An index out of range is an error."""
    if not -len(values) <= index < len(values):
        refuse(f"`{name}` has no iteration {index}: {len(values)} ran")
    return values[index]


def one_for_each(weights: Tensor, experts: int) -> None:
    """Check that a gate has one weight for each of its experts, along the last dimension."""
    if weights.shape[-1] != experts:
        refuse(f"the router must return one weight for each of {experts} experts, got {weights.shape[-1]}")


def element_of(value: Values, name: str) -> Values:
    """A part of a dict, NamedTuple or dataclass."""
    return arguments_of(value, name)[name]


def arguments_of(value: Values, *names: str) -> dict[str, Values]:
    """Parts of a dict, NamedTuple or dataclass, as the arguments of a call. A missing part is an error."""
    held = value._asdict() if hasattr(value, "_asdict") else value
    if is_dataclass(value) and not isinstance(value, dict | type):
        held = fields_of(value)
    if not isinstance(held, dict):
        refuse(f"cannot get `{names[0]}` from a `{type(value).__name__}`, which has no named parts")
    for name in names:
        if name not in held:
            refuse(f"missing `{name}` in the input, got {', '.join(f'`{key}`' for key in held)}")
    return {name: held[name] for name in names}


def route(
    x: Values, index: Tensor, branches: Sequence[Callable[..., Values]], names: Sequence[str], *besides: Values
) -> Values:
    """Apply the branch selected by `index` to each row; only selected branches run.

    `index` is one integer for the batch, or one for each row of `x`. Rows of the same branch are passed in one call,
    and the order of the rows is preserved. Any other count and an index out of range are errors. `besides` are further
    inputs of the branches.
    """
    chosen = index.flatten().tolist()
    rows = next(iter(tensors(x))).shape[0]
    if len(chosen) not in (1, rows):
        refuse(f"the router must return 1 or {rows} indices for {rows} rows, got {len(chosen)}")
    for row, number in enumerate(chosen):
        if number not in range(len(branches)):
            listed = ", ".join(f"{i} `{name}`" for i, name in enumerate(names))
            where = f"row {row}" if len(chosen) > 1 else "the batch"
            refuse(f"the router returned {number:g} for {where}, but the branches are {listed}")
    used = sorted({int(number) for number in chosen})
    if len(used) == 1:
        return branches[used[0]](x, *besides)
    flat = index.flatten()
    groups = [(flat == number).nonzero().flatten() for number in used]
    outputs = []
    for number, group in zip(used, groups, strict=True):  # errors inside are reported with the rows of `group`
        given = [over(lambda part, group=group: part[group], [value]) for value in (x, *besides)]
        outputs.append(branches[number](*given))
    order = torch.cat(groups).argsort()
    return over(lambda *parts: torch.cat(parts)[order], outputs)


def top_experts(
    x: Values,
    weights: Tensor,
    count: int,
    experts: Sequence[Callable[..., Values]],
    names: Sequence[str],
    *besides: Values,
) -> Tensor:
    """The outputs of the `count` experts with the largest weights for each row, weighted and added.

    `weights` is [..., experts]; the dimensions before the last are those of the rows of `x`. An expert gets its rows as
    [rows, ...] in one call, and an expert without rows is not called. `besides` are further inputs of the experts.
    """
    one_for_each(weights, len(names))
    chosen = torch.zeros_like(weights, dtype=torch.bool).scatter(-1, weights.topk(count, -1).indices, True)
    total: Tensor | None = None
    for number, expert in enumerate(experts):
        rows = chosen[..., number].nonzero(as_tuple=True)
        if not len(rows[0]):
            continue
        value = expert(*(over(lambda part, rows=rows: part[rows], [given]) for given in (x, *besides)))
        term = weights[..., number][rows].view(-1, *[1] * (value.dim() - 1)) * value
        if total is None:
            total = term.new_zeros(*weights.shape[:-1], *term.shape[1:])
        total = total.index_put(rows, total[rows] + term)
    if total is None:
        refuse("a gate with `top` needs at least one row")
    return total


class Reached(Exception):
    """Ends a forward pass in which no more values are needed."""


def with_inner(
    module: nn.Module, paths: Sequence[str], *args: Values, **kwargs: Values
) -> tuple[Values, dict[str, Values]]:
    """The output of a module, and those of modules inside of it, by path. Each of these must run once."""
    seen: dict[str, Values] = {}
    with watched(module, paths, seen, ends=False):
        output = module(*args, **kwargs)
    return output, seen


def only_inner(module: nn.Module, paths: Sequence[str], *args: Values, **kwargs: Values) -> dict[str, Values]:
    """The outputs of modules inside of a module, by path; the module runs no further than these."""
    seen: dict[str, Values] = {}
    with suppress(Reached), watched(module, paths, seen, ends=True):
        module(*args, **kwargs)
    return seen


@contextmanager
def watched(module: nn.Module, paths: Sequence[str], seen: dict[str, Values], ends: bool) -> Iterator[None]:
    """A block in which the outputs of modules inside of a module are noted; with `ends`, the last raises `Reached`."""

    def note(path: str, output: Values) -> None:
        if path in seen:
            refuse(f"`{path}` runs several times, so it has no single value")
        seen[path] = output
        if ends and len(seen) == len(paths):
            raise Reached

    hooks = [
        module.get_submodule(path).register_forward_hook(lambda part, given, output, path=path: note(path, output))
        for path in paths
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for path in paths:
        if path not in seen:
            refuse(f"`{path}` did not run, so it has no value")


def halts(value: Tensor) -> bool:
    """Whether the condition of a loop is positive, which ends the loop. More than one element is an error."""
    if value.numel() != 1:
        message = f"the condition of a loop must return a single number, got shape {list(value.shape)}"
        refuse(message, "reduce it, for example with a mean")
    return bool(value > 0)


def recall(state: dict[str, Values], name: str, like: Values) -> Values:
    """The state `name` of the previous call; zeros like `like` in the first. Another batch size is an error."""
    before = state.get(name)
    if before is None:
        return over(torch.zeros_like, [like])
    kept, given = next(iter(tensors(before))), next(iter(tensors(like)))
    if kept.shape[:1] != given.shape[:1]:
        message = f"the state `{name}` has {kept.shape[0]} rows, but this batch has {given.shape[0]}"
        refuse(message, "call `reset_state()` between sequences")
    return before


ADAPTED = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)
"""The modules that adapters extend, if they do not say so themselves."""


def adapted(module: nn.Module, make: Callable[..., nn.Module], **options: Any) -> None:
    """Extend the weights of each linear map, convolution and attention at and below a module by adapters.

    Wherever such a module reads a weight, it gets the adapted one; `make(weight, **options)` gives the adapter of one.
    The names of the weights do not change, and the adapters are below the name of `make`. A module that has adapters
    is not extended again.
    """
    kind, wanted = make.__name__, getattr(make, "adapts", ADAPTED)
    for part in list(module.modules()):
        if isinstance(part, wanted) and not hasattr(part, "adapter"):
            own = {name: weight for name, weight in part.named_parameters(recurse=False) if weight.dim() > 1}
            part.add_module(kind, nn.ModuleDict({name: make(weight, **options) for name, weight in own.items()}))
            base: Any = type(part)
            part.__class__ = adapted_class(base, kind, tuple(own))


@cache
def adapted_class(base: Any, kind: str, weights: tuple[str, ...]) -> type[nn.Module]:
    """The class of modules of `base` that read adapted weights; the adapters are in a dict at the name `kind`."""

    def read(name: str) -> property:
        return property(lambda module: module._modules[kind][name](module._parameters[name]))

    def reduced(module: nn.Module, protocol: object) -> tuple[Any, ...]:
        return new_adapted, (base, kind, weights), module.__dict__

    own = {"adapter": kind, "__reduce_ex__": reduced, "__module__": base.__module__}
    return type(base.__name__, (base,), own | {name: read(name) for name in weights})


def adapted_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The modules at and below a module that have adapters: their paths, and the names below which these are."""
    for path, part in module.named_modules(remove_duplicate=False):
        kind = getattr(type(part), "adapter", None)
        if isinstance(kind, str):
            yield path, part, kind


def new_adapted(base: Any, kind: str, weights: tuple[str, ...]) -> nn.Module:
    """An empty module of an adapted class, for copies and unpickling."""
    made = adapted_class(base, kind, weights)
    return made.__new__(made)
