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
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn, optim

from flowconf.graph import Graph
from flowconf.graph.sharded import like
from flowconf.graph.weights import loading as weights
from flowconf.graph.weights.sources import LAST
from flowconf.language.resolve.reserved_names import STATE
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
    rest["optimizer"] = _optimizer_state(graph, optimizer, found)
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

    What the optimizer keeps is matched by the names of parameters; another kind of optimizer begins anew. Raises
    `ConfigError` when the weights do not fit the graph, `RunError` when the file is of another version.
    """
    file = folder / LAST
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as found:
        rest = _rest(found.metadata(), file)
        names = [name for name in found.keys() if name.startswith(MARK)]  # noqa: SIM118 - not a mapping
        kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("own", "optimizer", "random", "memory")}
        for name in names:
            kind, _, rest_of_name = name.removeprefix(MARK).partition("/")
            kinds[kind][rest_of_name] = found.get_tensor(name)
    graph.load(file)
    _restore_optimizer(graph, optimizer, rest["optimizer"], kinds["optimizer"])
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


def optimizer_begins_anew(file: Path, optimizer: optim.Optimizer) -> bool:
    """Whether a checkpoint holds the state of another kind of optimizer, which cannot be taken over."""
    with safe_open(file, framework="pt") as found:
        return not _is_of_the_kind(optimizer, _rest(found.metadata(), file)["optimizer"])


def check_version(file: Path) -> None:
    """Raise `RunError` for a checkpoint of another version; one that cannot be read is refused with its weights."""
    with suppress(SafetensorError), safe_open(file, framework="pt") as found:
        _rest(found.metadata(), file)


def _rest(metadata: Mapping[str, str] | None, file: Path) -> dict[str, Any]:
    """What a checkpoint holds as JSON. Raises `RunError` when it is of another version."""
    rest: dict[str, Any] = json.loads((metadata or {}).get("state", "{}"))
    if rest.get("format") != FORMAT:
        message = f"the checkpoint is of another version: {rest.get('format')}, not {FORMAT}"
        raise RunError(Diagnostic("FC0702", message, Place(str(file))))
    return rest


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


def _optimizer_state(graph: nn.Module, optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    full = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for at, values in full["state"].items():
        plain[str(at)] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{MARK}optimizer/{at}/{name}"] = value
            else:
                plain[str(at)][name] = value
    return {
        "names": _names(graph, optimizer),
        "defaults": {name: value for name, value in optimizer.defaults.items() if not isinstance(value, Tensor)},
        "state": plain,
        "param_groups": full["param_groups"],
    }


def _names(graph: nn.Module, optimizer: optim.Optimizer) -> list[str]:
    """The name of each parameter of an optimizer, in its order."""
    named = {parameter: name for name, parameter in graph.named_parameters()}
    return [named[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _is_of_the_kind(optimizer: optim.Optimizer, saved: Mapping[str, Any]) -> bool:
    """Whether saved state is that of such an optimizer: its groups then hold the same settings."""
    return set(saved["param_groups"][0]) == set(optimizer.param_groups[0])


def _restore_optimizer(
    graph: nn.Module, optimizer: optim.Optimizer, saved: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Put the state of each parameter back that the optimizer still trains; settings that were changed are kept."""
    if not _is_of_the_kind(optimizer, saved):
        return
    names = _names(graph, optimizer)
    before: list[str] = saved.get("names", names)
    positions = {old: names.index(name) for old, name in enumerate(before) if name in names}
    state: dict[int, dict[str, Any]] = {}
    for at, values in saved["state"].items():
        if int(at) in positions:
            state[positions[int(at)]] = dict(values)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        at, _, name = key.partition("/")
        if int(at) in positions:
            parameter = parameters[positions[int(at)]]
            value = like(parameter, tensor) if tensor.shape == parameter.shape else tensor
            state.setdefault(positions[int(at)], {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": _groups(optimizer, saved, positions)})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)  # fused kernels rely on it


def _groups(optimizer: optim.Optimizer, saved: Mapping[str, Any], positions: Mapping[int, int]) -> list[dict[str, Any]]:
    """The groups of an optimizer, with the saved settings of those that have the same parameters as before.

    A setting that the config says otherwise than before keeps what it says now.
    """
    defaults = saved.get("defaults", {})
    changed = {name for name, value in defaults.items() if _plain(optimizer.defaults.get(name)) != value}
    found = []
    for group in optimizer.state_dict()["param_groups"]:
        same = (old for old in saved["param_groups"] if [positions.get(at) for at in old["params"]] == group["params"])
        before: Mapping[str, Any] = next(same, {})
        kept = {name: value for name, value in before.items() if name not in changed and name != "params"}
        found.append({**group, **kept})
    return found


def _plain(value: Any) -> Any:
    """A setting as it comes back from JSON."""
    return list(value) if isinstance(value, tuple) else value


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
