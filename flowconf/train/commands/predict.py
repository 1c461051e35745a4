"""`predict`: the outputs of a run's graph for the arrays in a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.graph import Graph
from flowconf.graph.weights.files import save_tensors, write_atomically
from flowconf.graph.weights.sources import find_run_folder
from flowconf.language.open_size import bound
from flowconf.language.plan import Input
from flowconf.report import ConfigError, Diagnostic, Place, suggest
from flowconf.train.data.builtin import read_arrays
from flowconf.train.recurrent import RecurrentState
from flowconf.train.runs.loading import load_run


def predict_file(
    run: str | Path,
    source: str,
    output: str,
    values: Sequence[str] = (),
    batch_size: int = 256,
    last: bool = False,
) -> dict[str, Tensor]:
    """Write the outputs of a run's graph for the rows in `source` to `output`, both `.npz` or `.safetensors` files.

    `values` are references to any values of the graph (default: its outputs). Returns the written tensors. Raises
    `ConfigError`, `PathError`.
    """
    if Path(output).suffix not in (".npz", ".safetensors"):
        message = f"the output file must end in `.npz` or `.safetensors`, got `{output}`"
        raise ConfigError(Diagnostic("FC0501", message, Place(word=output)))
    graph = load_run(find_run_folder(run), last)
    found = predict(graph, check_inputs(graph, read_arrays(source), source), values, batch_size)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    if output.endswith(".safetensors"):
        save_tensors(Path(output), found, {})
    else:
        import numpy

        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in found.items()}
        numpy.savez(buffer, **arrays)
        write_atomically(Path(output), buffer.getvalue())
    return found


def predict(
    graph: Graph, inputs: Mapping[str, Tensor], values: Sequence[str] = (), batch_size: int = 256
) -> dict[str, Tensor]:
    """The outputs of `graph` for `inputs` (name -> [rows, ...]), computed in batches and returned on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph.to(device).eval()
    names = [name for name, _ in graph.plan.outputs]
    forward = graph.view(values) if values else graph
    memory = RecurrentState(graph)
    parts: list[dict[str, Tensor]] = []
    with torch.inference_mode(), memory.aside():
        for start in range(0, len(next(iter(inputs.values()))), batch_size):
            batch = {name: tensor[start : start + batch_size].to(device) for name, tensor in inputs.items()}
            memory.begin(len(next(iter(batch.values()))))
            result = forward(**batch)
            found = result if isinstance(result, dict) else {names[0] if names else "output": result}
            parts.append({name: tensor.cpu() for name, tensor in found.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def check_inputs(graph: Graph, arrays: Mapping[str, Tensor], source: str | None = None) -> dict[str, Tensor]:
    """The arrays for the graph's inputs, checked against the declared shapes. Raises `ConfigError`.

    `source` is the file that they come from.
    """
    place = Place(source)
    found = {}
    for given in graph.plan.inputs:
        if given.captured:
            continue
        if given.name not in arrays:
            message = f"there is no array for the input `{given.name}`"
            raise ConfigError(Diagnostic("FC0502", message, place, advice=suggest(given.name, arrays, "arrays")))
        found[given.name] = array = arrays[given.name]
        if not _fits(given, array):
            shape = f"[{', '.join(str(size) for size in given.shape or ())}]"
            message = (
                f"the input `{given.name}` is declared as {shape}, but the array is {list(arrays[given.name].shape)}"
            )
            raise ConfigError(Diagnostic("FC0502", message, place))
        wanted = getattr(torch, given.dtype)
        if given.shape is not None and array.is_floating_point() != wanted.is_floating_point:
            kind = str(array.dtype).removeprefix("torch.")
            message = f"the input `{given.name}` is declared as {given.dtype}, but the array is {kind}"
            raise ConfigError(Diagnostic("FC0502", message, place, advice=f"save the array as {given.dtype}"))
    rows = {name: len(tensor) for name, tensor in found.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise ConfigError(
            Diagnostic("FC0502", f"the inputs must have the same number of rows, at least 1, got {rows}", place)
        )
    return found


def _fits(given: Input, array: Tensor) -> bool:
    if given.shape is None:
        return array.ndim > 0
    symbols: dict[str, int] = {}
    sizes = zip(given.shape[1:], array.shape[1:], strict=False)
    return array.ndim == len(given.shape) and all(bound(want, have, symbols) for want, have in sizes)
