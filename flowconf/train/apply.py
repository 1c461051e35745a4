"""What configs and runs are for besides training: `eval`, `predict`, and what a step of training costs (`profile`)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.graph import Graph
from flowconf.graph.weights.files import save_tensors, write_atomically
from flowconf.graph.weights.sources import best_checkpoint, find_run_folder
from flowconf.language.plan import Input
from flowconf.language.training import ProfileSection
from flowconf.report import ConfigError, Diagnostic, Place, suggest
from flowconf.train.chain import config_file
from flowconf.train.checks import road
from flowconf.train.data.named import read_arrays
from flowconf.train.job import Job
from flowconf.train.loop import evaluate, one_step
from flowconf.train.memory import Memory
from flowconf.train.precision import numbers
from flowconf.train.prepare import prepare
from flowconf.train.runs.loading import load_run, walk_run, weights_of
from flowconf.train.runs.resume import in_its_folder


def evaluate_run(
    run: str | Path, overrides: Sequence[str] = (), splits: Sequence[str] = (), last: bool = False
) -> dict[str, float]:
    """The losses and metrics of a run's best (or last) weights; without `splits`, of validation and test.

    `overrides` change the run's config: other data, other metrics. Raises `ConfigError`.
    """
    folder = find_run_folder(run).absolute()
    file = weights_of(folder, last)
    walk = walk_run(folder, overrides, file)
    with in_its_folder(folder):
        config = walk.to("machine").checked
        job = prepare(config, Path(config.training.trainer.runs), walk.inference, weights=False)
        job.graph.load(file)
        feeds = {**job.held_out, "train": job.train}
        for name in splits:
            if name not in feeds:
                message = f"the data set `{config.training.data.name}` has no split `{name}`"
                raise ConfigError(Diagnostic("FC0502", message, advice=suggest(name, feeds, "splits")))
        found: dict[str, float] = {}
        with numbers(config.training.trainer.precision, job.device):
            for name in splits or job.held_out:
                found |= evaluate(job, feeds[name], name)
    return found


def profile(
    source: str | Path, overrides: Sequence[str] = (), output: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Measure some training steps of a config, or of a run with its best weights; nothing is trained by them.

    The steps are those of `trainer.profile`, without it the first ones. One process is measured. Gives the folder with
    the report (`output`, or `profile` in the run folder, or beside the runs of the config) and its numbers. Raises
    `ConfigError`.
    """
    from flowconf.draw.heat import NUMBERS
    from flowconf.train.insight.profile import FOLDER, profiled

    run = find_run_folder(source).absolute() if Path(source).is_dir() else None
    file = None if run is None else best_checkpoint(run)
    walk = road.begin(source, overrides, trained=True) if run is None else walk_run(run, overrides, file)
    with in_its_folder(run) if run is not None else nullcontext():
        config = walk.to("machine").checked
    before = config.training.trainer
    section = before.profile or ProfileSection(wait=0)
    trainer = before.model_copy(update={"profile": section, "epochs": None, "steps": section.end})
    config = replace(config, training=config.training.model_copy(update={"trainer": trainer}))
    folder = (output or (run or Path(trainer.runs) / config_file(config).stem) / FOLDER).absolute()
    with in_its_folder(run) if run is not None else nullcontext():
        job = prepare(config, Path(trainer.runs), walk.inference, weights=False)
        if file is not None:
            job.graph.load(file)
        job.graph.train()
        coming = job.train.ahead(job.sampler, 0, section.end, trainer.accumulate)
        taking = profiled(job, folder, lambda text: None, one_step)
        with numbers(trainer.precision, job.device), coming, taking as take:
            for step, rows in zip(range(section.end), _batches(job), strict=False):
                if step >= job.phases.due and job.phases.advance(step):
                    job.enter(job.phases.current)
                take(job, rows, step)
    return folder, json.loads((folder / NUMBERS).read_text(encoding="utf-8"))


def _batches(job: Job) -> Iterator[Tensor]:
    while True:
        yield from job.sampler.rest_of_epoch()


def predict_file(
    run: str | Path,
    source: str,
    output: str,
    values: Sequence[str] = (),
    batch_size: int = 256,
    last: bool = False,
) -> dict[str, Tensor]:
    """Write what a run's graph gives for the rows in `source` to `output`; both are `.npz` or `.safetensors` files.

    `values` are references to any values of the graph; without them its outputs are written. Gives what was written.
    Raises `ConfigError`, `PathError`.
    """
    if Path(output).suffix not in (".npz", ".safetensors"):
        message = f"results are written to `.npz` and `.safetensors` files, and this is `{output}`"
        raise ConfigError(Diagnostic("FC0501", message, Place(word=output)))
    graph = load_run(find_run_folder(run), last)
    found = predict(graph, _inputs(graph, read_arrays(source), source), values, batch_size)
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
    """What `graph` gives for `inputs` (name -> [rows, ...]), computed in batches, on the CPU afterwards."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph.to(device).eval()
    names = [name for name, _ in graph.plan.outputs]
    forward = graph.view(values) if values else graph
    memory = Memory(graph)
    parts: list[dict[str, Tensor]] = []
    with torch.inference_mode(), memory.aside():
        for start in range(0, len(next(iter(inputs.values()))), batch_size):
            batch = {name: tensor[start : start + batch_size].to(device) for name, tensor in inputs.items()}
            memory.begin(len(next(iter(batch.values()))))
            result = forward(**batch)
            found = result if isinstance(result, dict) else {names[0] if names else "output": result}
            parts.append({name: tensor.cpu() for name, tensor in found.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _inputs(graph: Graph, arrays: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The arrays that the graph takes, held against the shapes it declares. Raises `ConfigError`."""
    place = Place(source)
    found = {}
    for given in graph.plan.inputs:
        if given.captured:
            continue
        if given.name not in arrays:
            message = f"the graph needs the input `{given.name}`, and the file has no such array"
            raise ConfigError(Diagnostic("FC0502", message, place, advice=suggest(given.name, arrays, "arrays")))
        found[given.name] = array = arrays[given.name]
        if not _fits(given, array):
            shape = f"[{', '.join(str(size) for size in given.shape or ())}]"
            message = (
                f"the input `{given.name}` is declared as {shape}, and the array is {list(arrays[given.name].shape)}"
            )
            raise ConfigError(Diagnostic("FC0502", message, place))
    rows = {name: len(tensor) for name, tensor in found.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise ConfigError(
            Diagnostic("FC0502", f"the inputs need the same number of rows, and these have {rows}", place)
        )
    return found


def _fits(given: Input, array: Tensor) -> bool:
    if given.shape is None:
        return array.ndim > 0
    sizes = zip(given.shape[1:], array.shape[1:], strict=False)
    return array.ndim == len(given.shape) and all(isinstance(want, str) or want == have for want, have in sizes)
