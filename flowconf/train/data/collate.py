"""Rows put together: the same batch whether a worker does it or the process that trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

Batch = dict[str, Tensor]
Field = tuple[tuple[int, ...], torch.dtype]
"""The shape of one row's value, without the batch, and its type."""


def put_together(items: Sequence[Any]) -> Any:
    """Items of nested mappings and lists as one of tensors, by torch's rules, but for types, which must be the same."""
    return collate(list(items), collate_fn_map=_RULES)


def tensor_of(value: Any) -> Tensor:
    """A value of a row as a tensor. Raises `TypeError`, `ValueError` or `RuntimeError` for what is none."""
    if isinstance(value, numpy.ndarray) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return torch.as_tensor(value)


def dtype_of(value: Any) -> torch.dtype:
    """The type that a value of a row has in a batch."""
    dtype: torch.dtype = torch.as_tensor(put_together([value])).dtype
    return dtype


def _stacked(values: Sequence[Any], **known: Any) -> Tensor:
    tensors = [tensor_of(value).detach() for value in values]
    if any(tensor.dtype != tensors[0].dtype for tensor in tensors):
        raise TypeError("the values of one field have several types")
    stacked: Tensor = collate_tensor_fn(tensors, **known)
    return stacked


_RULES = {**default_collate_fn_map, Tensor: _stacked, numpy.ndarray: _stacked}
