"""The rest of a run's state beside its weights: optimizer, scaler, random numbers, and where it is in its data.

Tensors go to a safetensors file, everything else as JSON into that file's metadata: no pickle. Saving is atomic.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, optim

from flowconf.graph.files import save_tensors


def save_state(
    file: Path, optimizer: optim.Optimizer, scaler: torch.amp.GradScaler | None, progress: Mapping[str, Any]
) -> None:
    """Write the state; `progress` is plain data such as step, epoch and position."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {"progress": dict(progress), "optimizer": _optimizer_state(optimizer, tensors)}
    if scaler is not None:
        rest["scaler"] = scaler.state_dict()
    rest["random"] = _random_state(tensors)
    save_tensors(file, tensors, {"state": json.dumps(rest)})


def load_state(file: Path, optimizer: optim.Optimizer, scaler: torch.amp.GradScaler | None) -> dict[str, Any]:
    """Put the state back, random numbers included, and return `progress`."""
    with safe_open(file, framework="pt") as found:
        rest = json.loads(found.metadata()["state"])
        tensors = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 - not a mapping
    groups = rest["optimizer"]["param_groups"]
    state: dict[int, dict[str, Any]] = {int(at): dict(values) for at, values in rest["optimizer"]["state"].items()}
    for name, tensor in tensors.items():
        kind, _, key = name.partition("/")
        if kind == "optimizer":
            at, _, value = key.partition("/")
            state.setdefault(int(at), {})[value] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if scaler is not None and "scaler" in rest:
        scaler.load_state_dict(rest["scaler"])
    _restore_random(rest["random"], tensors)
    progress: dict[str, Any] = rest["progress"]
    return progress


def _optimizer_state(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    full = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for at, values in full["state"].items():
        plain[str(at)] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{at}/{name}"] = value
            else:
                plain[str(at)][name] = value
    return {"state": plain, "param_groups": full["param_groups"]}


def _random_state(tensors: dict[str, Tensor]) -> dict[str, Any]:
    tensors["random/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random/cuda/{number}"] = state
    states: dict[str, Any] = {"python": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states["numpy"] = list(numpy.random.get_state())
        states["numpy"][1] = states["numpy"][1].tolist()
    return states


def _restore_random(states: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/torch"])
    cuda = [name for name in tensors if name.startswith("random/cuda/")]
    if cuda and torch.cuda.is_available():
        for name in cuda:
            torch.cuda.set_rng_state(tensors[name], int(name.rpartition("/")[2]))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "numpy" in states:
        import numpy

        numpy.random.set_state(tuple(states["numpy"]))
