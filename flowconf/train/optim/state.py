"""The state of an optimizer by parameter name, restored for every parameter that it matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn, optim

from flowconf.graph.sharded import like
from flowconf.report import listing

Make = Callable[[list[dict[str, Any]]], optim.Optimizer]
Kept = Mapping[str, Any]
"""Name of a value -> the value, a tensor or plain data."""
FEW = 4


def state_of(optimizer: optim.Optimizer, names: Mapping[nn.Parameter, str]) -> dict[str, dict[str, Any]]:
    """The state of every parameter of the optimizer, by the parameter's name; possibly empty."""
    return {names[parameter]: dict(optimizer.state.get(parameter, {})) for parameter in _parameters(optimizer)}


def restore_state(
    optimizer: optim.Optimizer, names: Mapping[nn.Parameter, str], saved: Mapping[str, Kept], make: Make
) -> list[str]:
    """Restore `state_of`; settings such as learning rates stay those of `optimizer`. Returns notes for the user.

    The state of a parameter is restored if it has the values and shapes that the optimizer has for it with its current
    settings. `make` makes such an optimizer for other parameter groups.
    """
    groups = optimizer.state_dict()["param_groups"]
    state: dict[int, dict[str, Any]] = {}
    anew, joining, number = [], [], 0
    for group in optimizer.param_groups:
        expected: dict[int, Mapping[str, tuple[int, ...]] | None] = {}
        for parameter in group["params"]:
            name = names[parameter]
            found = saved.get(name)
            if found is None:
                joining.append(name)
            elif found:
                if parameter.ndim not in expected:
                    expected[parameter.ndim] = _kept_for(parameter, group, make)
                if _fits(found, parameter, expected[parameter.ndim]):
                    state[number] = {key: _as_held(parameter, value) for key, value in found.items()}
                else:
                    anew.append(name)
            number += 1
    kept = dict(optimizer.state)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter in _parameters(optimizer):
        if parameter not in optimizer.state and parameter in kept:
            optimizer.state[parameter] = kept[parameter]  # initialized by the optimizer before the first step
        _lay_out(optimizer, parameter)
    leaving = sorted(saved.keys() - {names[parameter] for parameter in _parameters(optimizer)})
    return [
        *_said(anew, "optimizer state starts fresh for", "with these settings the optimizer stores other values"),
        *_said(joining, "optimizer state starts with this step for", "not trained before"),
        *_said(leaving, "optimizer state is dropped for", "no longer trained"),
    ]


def _parameters(optimizer: optim.Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _said(names: list[str], what: str, why: str) -> list[str]:
    return [f"{what} {listing(names, FEW)}: {why}"] if names else []


def _kept_for(parameter: nn.Parameter, group: Mapping[str, Any], make: Make) -> Mapping[str, tuple[int, ...]] | None:
    """The names and shapes of an optimizer's state for a parameter of the same rank, with all dimensions of size 2.

    Determined by a step with a small parameter; None if the optimizer fails on it.
    """
    small = nn.Parameter(torch.zeros([2] * parameter.ndim, dtype=parameter.dtype, device=parameter.device))
    small.grad = torch.zeros_like(small)
    try:
        optimizer = make([{**group, "params": [small]}])
        optimizer.step()
    except Exception:  # noqa: BLE001 - a registered optimizer may want another shape, or a closure
        return None
    return {name: tuple(getattr(value, "shape", ())) for name, value in optimizer.state.get(small, {}).items()}


def _fits(saved: Kept, parameter: nn.Parameter, expected: Mapping[str, tuple[int, ...]] | None) -> bool:
    like_it = (2,) * parameter.ndim
    if expected is None:
        return all(_shape(value) in ((), tuple(parameter.shape)) for value in saved.values())
    return saved.keys() == expected.keys() and all(
        _shape(saved[name]) == tuple(parameter.shape) if shape == like_it else len(_shape(saved[name])) == len(shape)
        for name, shape in expected.items()
    )


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


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
