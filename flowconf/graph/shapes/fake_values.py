"""The values of the shape check: fake tensors, containers of them, or `UNKNOWN`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    unset_fake_temporarily,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from flowconf.graph.runtime import fields_of, over


@contextmanager
def faked(grad: bool = False, mode: FakeTensorMode | None = None) -> Iterator[FakeTensorMode]:
    """A block in which new tensors are fake: with a shape, a type and, with `grad`, autograd history, but without data.

    To use the tensors of an earlier block, pass the `mode` that it returned.
    """
    mode = mode or FakeTensorMode(allow_non_fake_inputs=True)
    with quiet(), torch.random.fork_rng(devices=[]), torch.set_grad_enabled(grad), mode:
        yield mode


WantsNumbers = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)
"""Exceptions of code that fake tensors cannot run."""


def wants_numbers(problem: Exception) -> bool:
    """Whether code failed because fake tensors have no numbers, NumPy's included."""
    return isinstance(problem, WantsNumbers) or str(problem).startswith(".numpy() is not supported")


real = unset_fake_temporarily
"""A block inside `faked` in which new tensors are real."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs and warnings of torch about fake tensors; errors are reported as diagnostics."""
    loggers = [
        logging.getLogger(name) for name in ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):  # such as data pointers of fake tensors
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _KnownNumbers(TorchFunctionMode):
    """Within `faked`, ranges of numbers are real, and so is what is computed from them alone.

    A constructor may need their values, such as the rate of each layer in `torch.linspace(0, 0.1, depth).tolist()`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if func in RANGES or (given and not any(isinstance(one, FakeTensor | nn.Parameter) for one in given)):
            with real():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def _untruncated() -> Iterator[None]:
    """A block in which truncated normal values are not drawn until they are in range, which needs their values."""
    drawn: Any = nn.init
    before = drawn._no_grad_trunc_normal_
    drawn._no_grad_trunc_normal_ = lambda tensor, *args, **kwargs: tensor
    try:
        yield
    finally:
        drawn._no_grad_trunc_normal_ = before


RANGES = (torch.linspace, torch.arange, torch.logspace)


def constructed(constructor: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The module that a constructor makes within `faked`, also if it needs the values of numbers that it computes."""
    try:
        return constructor(*args, **kwargs)
    except WantsNumbers:
        with _KnownNumbers(), _untruncated():
            return constructor(*args, **kwargs)


class Unknown:
    """The type of `UNKNOWN`, a value that is not known."""


UNKNOWN = Unknown()


def each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Apply `change` to every tensor of a value; anything else in it is unknown."""
    return over(lambda part: change(part) if isinstance(part, Tensor) else UNKNOWN, [value])


def kind_of(value: Any) -> str:
    """The kind of a value: "tensor", "number" (0-d), "dict", "named" (a NamedTuple or dataclass), "tuple", or ""."""
    if isinstance(value, Tensor):
        return "tensor" if value.dim() else "number"
    if isinstance(value, tuple | list):
        return "named" if hasattr(value, "_fields") else "tuple"
    if isinstance(value, dict):
        return "dict"
    return "named" if is_dataclass(value) and not isinstance(value, type) else ""


def parts_of(value: Any) -> dict[str, Any] | None:
    """The named parts of a dict, NamedTuple or dataclass, None for other values."""
    if isinstance(value, dict):
        return value
    if kind_of(value) != "named":
        return None
    found: dict[str, Any] = value._asdict() if hasattr(value, "_asdict") else fields_of(value)
    return found


def called(built: nn.Module, stream: Any, using: dict[str, Any]) -> Any:
    """Call a module on fake values. Recurrent modules run on two time steps instead of a thousand."""
    dim = 1 if getattr(built, "batch_first", False) else 0
    if (
        not isinstance(built, nn.RNNBase)
        or not isinstance(stream, Tensor)
        or stream.dim() != 3
        or stream.shape[dim] < 3
    ):
        return built(stream, **using)
    steps, state = built(stream.narrow(dim, 0, 2), **using)
    sizes = [*steps.shape]
    sizes[dim] = stream.shape[dim]
    return steps.narrow(dim, 0, 1).expand(sizes).contiguous(), state


def part_at(value: Any, name: str) -> Any:
    """A part of a value by its name, or by its position in a tuple."""
    parts = parts_of(value)
    return value[int(name)] if parts is None else parts[name]


def difference(a: Any, b: Any) -> str | None:
    """None if both have the same structure and shape, else the part that differs ("" for the whole)."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return None if a.shape == b.shape else ""
    mine, theirs = parts_of(a), parts_of(b)
    if mine is not None and theirs is not None:
        for name, value in theirs.items():
            known = name in mine and value is not UNKNOWN and mine[name] is not UNKNOWN
            if known and difference(mine[name], value) is not None:
                return str(name)
        return None
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((str(number) for number, (one, other) in pairs if difference(one, other) is not None), None)
    return None if a is UNKNOWN or b is UNKNOWN else "" if kind_of(a) != kind_of(b) or kind_of(a) == "tuple" else None


def stacked(value: Tensor, dim: int, count: int) -> Tensor:
    """A value repeated along a new dimension."""
    shape = list(value.shape)
    shape.insert(dim if dim >= 0 else len(shape) + 1 + dim, count)
    return value.unsqueeze(dim).expand(shape).contiguous()


def repeat_rows(value: Any, times: int) -> Any:
    if times == 1 or value is UNKNOWN:
        return value
    return each(value, lambda tensor: tensor.repeat_interleave(times, 0))
