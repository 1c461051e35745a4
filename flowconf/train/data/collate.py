"""Collates rows into batches, identically in a worker and in the training process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

from flowconf.report import dtype_name

LARGEST = 1 << 25
"""Bytes of the tensors of a batch that are copied on their way from a worker."""
Batch = dict[str, Tensor]
Field = tuple[tuple[int, ...], torch.dtype]
"""The shape of one row's value, without the batch dimension, and its dtype."""


def put_together(items: Sequence[Any]) -> Any:
    """Items of nested mappings and lists collated by torch's rules, except that all dtypes must be the same."""
    return collate(list(items), collate_fn_map=_RULES)


def typed_shape(dtype: torch.dtype, shape: Sequence[int]) -> str:
    """A field in words: `float32 [3, 32, 32]`."""
    return f"{dtype_name(dtype)} {list(shape)}"


def scaled(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values in the type of their field: integers of a floating-point field are bytes, which are scaled to [0, 1]."""
    if dtype.is_floating_point and not values.is_floating_point():
        return values.to(dtype).div_(255)
    return values.to(dtype)


def tensor_of(value: Any) -> Tensor:
    """A value of a row as a tensor. Raises `TypeError`, `ValueError` or `RuntimeError` if it cannot be converted."""
    if isinstance(value, numpy.ndarray) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return torch.as_tensor(value)


def dtype_of(value: Any) -> torch.dtype:
    """The dtype of a value of a row in a batch."""
    dtype: torch.dtype = torch.as_tensor(put_together([value])).dtype
    return dtype


def _stacked(values: Sequence[Any], **known: Any) -> Tensor:
    plain = all(type(value) is Tensor and not value.requires_grad for value in values)
    tensors = values if plain else [tensor_of(value).detach() for value in values]
    if len({tensor.dtype for tensor in tensors}) > 1:
        raise TypeError("the values of a field must have the same dtype")
    first = tensors[0]
    if first.layout is torch.strided and not first.is_nested and len(tensors) * first.nbytes <= LARGEST:
        return torch.stack(list(tensors))
    stacked: Tensor = collate_tensor_fn(tensors, **known)  # in a worker, in a file in shared memory
    return stacked


_RULES = {**default_collate_fn_map, Tensor: _stacked, numpy.ndarray: _stacked}
