"""The state of optimizers by parameter name, restored for every parameter that it matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn, optim

from flowconf.graph.sharded import like
from flowconf.report import listing

Make = Callable[[list[dict[str, Any]]], optim.Optimizer]
SavedValues = Mapping[str, Any]
"""Name of a value -> the value: a tensor, plain data, or containers of both."""
Kind = tuple[int, ...] | type
"""The shape of a tensor, the type of any other value."""
FEW = 4
SIZES = (2, 3, 5, 7, 11, 13, 17, 19)
"""The sizes of a parameter that an optimizer is tried with, all different."""
SAVEABLE = "give tensors, numbers, strings, and lists and mappings of them"
TENSOR = "@"
"""The key of a tensor's name where plain data has a tensor."""


def state_of(optimizer: optim.Optimizer, names: Mapping[nn.Parameter, str]) -> dict[str, dict[str, Any]]:
    """The state of every parameter of the optimizer, by the parameter's name; possibly empty."""
    return {names[parameter]: dict(optimizer.state.get(parameter, {})) for parameter in _parameters(optimizer)}


def packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON has it, with its tensors in `tensors`, by names that begin with `name`.

    Raises `TypeError` for what is neither plain data nor a tensor.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [packed(one, f"{name}[{number}]", tensors) for number, one in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != TENSOR for key in value):
        return {key: packed(one, f"{name}.{key}", tensors) for key, one in value.items()}
    what = "a mapping with keys that are no strings" if isinstance(value, Mapping) else f"`{type(value).__name__}`"
    raise TypeError(f"`{name}` is {what}")


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `packed` has packed. Raises `KeyError` for a tensor that is not there."""
    if isinstance(value, Mapping):
        if value.keys() == {TENSOR}:
            return tensors[str(value[TENSOR])]
        return {key: unpacked(one, tensors) for key, one in value.items()}
    return [unpacked(one, tensors) for one in value] if isinstance(value, list) else value


def restore_state(
    optimizer: optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    saved: Mapping[str, SavedValues],
    make: Make | None,
) -> list[str]:
    """Restore `state_of`; settings such as learning rates stay those of `optimizer`. Returns notes for the user.

    The state of a parameter is restored if it has the values and shapes that the optimizer has for it with its current
    settings. `make` makes such an optimizer for other parameter groups; None: the state is restored as it is.
    """
    groups = optimizer.state_dict()["param_groups"]
    state: dict[int, dict[str, Any]] = {}
    fresh, joining, number = [], [], 0
    for group in optimizer.param_groups:
        expected: dict[int, Mapping[str, Kind] | None] = {}
        for parameter in group["params"]:
            name = names[parameter]
            found = saved.get(name)
            if found is None:
                joining.append(name)
            elif found:
                if make is not None and parameter.ndim not in expected:
                    expected[parameter.ndim] = state_shapes(parameter, group, make)
                if make is None or _fits(found, parameter, expected[parameter.ndim]):
                    state[number] = {key: _as_held(parameter, value) for key, value in found.items()}
                else:
                    fresh.append(name)
            number += 1
    kept = dict(optimizer.state)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter in _parameters(optimizer):
        if parameter not in optimizer.state and parameter in kept:
            optimizer.state[parameter] = kept[parameter]  # initialized by the optimizer before the first step
        _lay_out(optimizer, parameter)
    return [
        *note_on(fresh, "optimizer state starts fresh for", "with these settings the optimizer stores other values"),
        *note_on(joining, "optimizer state starts with this step for", "not trained before"),
    ]


def _parameters(optimizer: optim.Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def note_on(names: list[str], what: str, why: str) -> list[str]:
    """A note on some parameters, if there are any."""
    return [f"{what} {listing(names, FEW)}: {why}"] if names else []


def state_shapes(parameter: Tensor, group: Mapping[str, Any], make: Make) -> Mapping[str, Kind] | None:
    """The names and kinds of an optimizer's state for a parameter of the same rank, with `SIZES`.

    Determined by a step with a small parameter; None if the optimizer fails on it.
    """
    sizes = SIZES[: parameter.ndim]
    small = nn.Parameter(torch.zeros(sizes, dtype=parameter.dtype, device=parameter.device))
    small.grad = torch.zeros_like(small)
    try:
        optimizer = make([{**group, "params": [small]}])
        optimizer.step()
    except Exception:  # noqa: BLE001 - a registered optimizer may want another shape, or a closure
        return None
    return {name: _kind(value) for name, value in optimizer.state.get(small, {}).items()}


def _fits(saved: SavedValues, parameter: nn.Parameter, expected: Mapping[str, Kind] | None) -> bool:
    if expected is None:
        tensors = [value for value in saved.values() if isinstance(value, Tensor)]
        return all(_kind(value) in ((), tuple(parameter.shape)) for value in tensors)
    sizes = dict(zip(SIZES, parameter.shape, strict=False))
    return saved.keys() == expected.keys() and all(
        _kind(saved[name]) == (tuple(sizes.get(size, size) for size in kind) if isinstance(kind, tuple) else kind)
        for name, kind in expected.items()
    )


def _kind(value: object) -> Kind:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value)


def _as_held(parameter: nn.Parameter, value: Any) -> Any:
    """A value in the layout of this process, sharded like its parameter if it has the same shape."""
    if not isinstance(value, Tensor):
        return value
    return like(parameter, value) if value.shape == parameter.shape else value


def _lay_out(optimizer: optim.Optimizer, parameter: nn.Parameter) -> None:
    """Give the state the strides of its parameter, which fused kernels require."""
    for name, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
            optimizer.state[parameter][name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
