"""Fingerprints of what Python keeps between the steps of a run: different ones if a step has changed it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from hashlib import blake2b
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Fingerprint:
    """What an object was, to compare with what it is later."""

    digest: bytes
    held: list[object] = field(compare=False)
    """What is known by its address, so that nothing else gets this address."""


def fingerprint(value: object, device: torch.device) -> Fingerprint:
    """The fingerprint of a value in a run on a device: numbers, text and containers as they are, objects with what they
    hold. Of a module, and of a tensor on the device, only which one it is."""
    writer = _Writer(device)
    try:
        writer.dump(value)
    except Exception:  # noqa: BLE001 - an object of a project may raise anything here
        return Fingerprint(str(id(value)).encode(), [value])
    return Fingerprint(writer.hash.digest(), writer.held)


class _Writer(pickle.Pickler):
    """Pickles into a hash, without what is only meant to be the same one."""

    def __init__(self, device: torch.device) -> None:
        self.hash = blake2b()
        super().__init__(SimpleNamespace(write=self.hash.update), pickle.HIGHEST_PROTOCOL)
        self._device = device
        self.held: list[object] = []

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            elsewhere = value.device.type != self._device.type
            return self._address(value), value.data_ptr(), value._version if elsewhere else 0
        if isinstance(value, torch.Generator):
            return self._address(value), bytes(value.get_state().tolist())
        return self._address(value) if isinstance(value, nn.Module | ModuleType | type) else None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, FunctionType):
            return NotImplemented
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return tuple, ([self._address(value), cells, vars(value)],)

    def _address(self, value: object) -> int:
        self.held.append(value)
        return id(value)
