"""A run's checkpoint: the weights and everything else that going on from there needs, in one file.

The weights stand under their own names, so that the file is a file of weights to everyone else; the rest (optimizer,
random numbers, averages, what calls keep) stands under names that begin with `@`, which readers of weights pass over,
and as JSON in the file's metadata. No pickle. The file is replaced in one step: its parts always belong together.
"""

from __future__ import annotations

import errno
import json
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn, optim

from flowconf.graph import Graph
from flowconf.graph.sharded import like
from flowconf.graph.weights import loading as weights
from flowconf.graph.weights.sources import LAST
from flowconf.language.names import STATE
from flowconf.report import Diagnostic, Place, RunError, why_not

MARK = weights.NOT_A_WEIGHT
FORMAT = 1


def save_checkpoint(
    folder: Path,
    graph: Graph,
    optimizer: optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    progress: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    writes: bool = True,
) -> None:
    """Replace the checkpoint in `folder`. `progress` is plain data with at least `step`, `tensors` goes with it.

    All processes of a team call this, and one `writes`.
    Raises `RunError` when it cannot be written; the earlier checkpoint is then untouched.
    """
    found = {f"{MARK}own/{name}": tensor for name, tensor in tensors.items()}
    rest: dict[str, Any] = {"format": FORMAT, "progress": dict(progress)}
    rest["optimizer"] = _optimizer_state(optimizer, found)
    if scaler is not None:
        rest["scaler"] = scaler.state_dict()
    rest["random"] = _random_state(found)
    for path, name, tensor in _kept(graph):
        found[f"{MARK}memory/{path}/{name}"] = tensor
    texts = {"step": str(progress["step"]), "state": json.dumps(rest)}
    try:
        weights.save(graph, graph.plan, folder / LAST, texts, found, writes=writes)
    except OSError as problem:
        raise _not_saved(folder, progress["step"], problem) from problem


def load_checkpoint(
    folder: Path, graph: Graph, optimizer: optim.Optimizer, scaler: torch.amp.GradScaler | None
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Put weights, optimizer, random numbers and kept values back; gives `progress` and `tensors`, None without a file.

    Raises `ConfigError` when the weights do not fit the graph, `RunError` when the file is of another version.
    """
    file = folder / LAST
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as found:
        rest = json.loads((found.metadata() or {}).get("state", "{}"))
        if rest.get("format") != FORMAT:
            message = f"the checkpoint is of another version: {rest.get('format')}, not {FORMAT}"
            raise RunError(Diagnostic("FC0702", message, Place(str(file))))
        names = [name for name in found.keys() if name.startswith(MARK)]  # noqa: SIM118 - not a mapping
        kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("own", "optimizer", "random", "memory")}
        for name in names:
            kind, _, rest_of_name = name.removeprefix(MARK).partition("/")
            kinds[kind][rest_of_name] = found.get_tensor(name)
    graph.load(file)
    _restore_optimizer(optimizer, rest["optimizer"], kinds["optimizer"])
    if scaler is not None and "scaler" in rest:
        scaler.load_state_dict(rest["scaler"])
    _restore_kept(graph, kinds["memory"], next(graph.parameters()).device)
    _restore_random(rest["random"], kinds["random"])
    return rest["progress"], kinds["own"]


def save_weights(graph: Graph, file: Path, step: int, writes: bool = True) -> None:
    """Save the weights alone. Raises `RunError`; the earlier file is then untouched.

    All processes of a team call this, and one `writes`.
    """
    try:
        weights.save(graph, graph.plan, file, {"step": str(step)}, writes=writes)
    except OSError as problem:
        raise _not_saved(file.parent, step, problem) from problem


def saved_step(file: Path) -> int | None:
    """The step whose weights a file holds, None when there is no such file."""
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as found:
        return int((found.metadata() or {}).get("step", 0))


def _not_saved(folder: Path, step: int, problem: OSError) -> RunError:
    before = saved_step(folder / LAST)
    message = f"cannot save the checkpoint of step {step:,}: {why_not(problem)}"
    first = "make room" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "let it be written"
    whole = f"{first}, then go on from step {before:,}, whose checkpoint is whole" if before is not None else None
    return RunError(Diagnostic("FC0702", message, Place(str(folder / LAST)), advice=whole))


def _kept(graph: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Values that calls keep for the next one: the path of the graph that keeps it, its name there, and the tensor."""
    for path, module in graph.named_modules():
        for name, tensor in module.__dict__.get(STATE, {}).items():
            yield path, name, tensor.detach().clone()


def _restore_kept(graph: nn.Module, kept: Mapping[str, Tensor], device: torch.device) -> None:
    for at, tensor in kept.items():
        path, _, name = at.partition("/")
        graph.get_submodule(path).__dict__[STATE][name] = tensor.to(device)


def _optimizer_state(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    full = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for at, values in full["state"].items():
        plain[str(at)] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{MARK}optimizer/{at}/{name}"] = value
            else:
                plain[str(at)][name] = value
    return {"state": plain, "param_groups": full["param_groups"]}


def _restore_optimizer(optimizer: optim.Optimizer, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {int(at): dict(values) for at, values in plain["state"].items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        at, _, name = key.partition("/")
        parameter = parameters[int(at)]
        state.setdefault(int(at), {})[name] = like(parameter, tensor) if tensor.shape == parameter.shape else tensor
    optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)  # fused kernels rely on it


def _random_state(tensors: dict[str, Tensor]) -> dict[str, Any]:
    tensors[f"{MARK}random/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"{MARK}random/cuda/{number}"] = state
    states: dict[str, Any] = {"python": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states["numpy"] = list(numpy.random.get_state())
        states["numpy"][1] = states["numpy"][1].tolist()
    return states


def _restore_random(states: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["torch"])
    cuda = [name for name in tensors if name.startswith("cuda/")]
    if cuda and torch.cuda.is_available():
        for name in cuda:
            torch.cuda.set_rng_state(tensors[name], int(name.rpartition("/")[2]))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "numpy" in states:
        import numpy

        numpy.random.set_state(tuple(states["numpy"]))
