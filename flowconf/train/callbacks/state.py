"""What a callback saves, as plain data and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowconf.report import Diagnostic, Place, RunError
from flowconf.train.optim.state import TENSOR


def pack(value: Any, name: str, place: Place, tensors: dict[str, Tensor], path: str = "") -> Any:
    """A value as JSON has it, with its tensors in `tensors`; `optim.state.unpacked` reads it.

    Raises `RunError` for what is neither plain data nor a tensor.
    """
    if isinstance(value, Tensor):
        key = f"{name}/{len(tensors)}"
        tensors[key] = value
        return {TENSOR: key}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [pack(one, name, place, tensors, f"{path}[{number}]") for number, one in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != TENSOR for key in value):
        return {key: pack(one, name, place, tensors, f"{path}.{key}") for key, one in value.items()}
    what = "a mapping with keys that are no strings" if isinstance(value, Mapping) else f"`{type(value).__name__}`"
    message = f"the state of the callback `{name}` cannot be saved: `state_dict(){path}` is {what}"
    advice = "give tensors, numbers, strings, and lists and mappings of them"
    raise RunError(Diagnostic("FC0702", message, place, f"callbacks.{name}", advice=advice))
