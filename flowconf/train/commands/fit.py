"""The memory that a training step needs (`flowconf summary`), and the largest batch (`flowconf train --fit`)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import torch

from flowconf.graph.shapes.inference import Inference
from flowconf.language.config import Config
from flowconf.report import Diagnostic, RunError, bytes_in_words, first_line
from flowconf.train.checks.first_step import declared_fields
from flowconf.train.checks.real_rows import RealRows
from flowconf.train.insight.memory import Fields, StepMemory, step_memory
from flowconf.train.precision import devices_of

SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kMGT]?B)")
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
SHARE = 0.9
"""The part of the free memory that a step may need: workspaces of kernels and gaps are not estimated."""
MOST = 2**24
"""Rows."""
LARGEST = 6
"""The paths whose values are listed."""


class MemoryUnknown(RunError):
    """A step whose memory cannot be computed from shapes."""


def memory_lines(config: Config, inference: Inference) -> list[str]:
    """The memory of a step of a config, and what is kept for its backward pass by path."""
    try:
        found = memory_of(config, inference)(config.training.data.batch_size)
    except MemoryUnknown as unknown:
        return [f"memory     {unknown.diagnostics[0].message}"]
    kept = sorted(found.found.kept.items(), key=lambda item: -item[1])
    by_path = [f"{path or 'outside of modules'} {bytes_in_words(size)}" for path, size in kept[:LARGEST]]
    more = f", {len(kept) - LARGEST} others" if len(kept) > LARGEST else ""
    return [f"memory     {in_words(found)}", f"kept       {', '.join(by_path)}{more}"]


def in_words(memory: StepMemory) -> str:
    """The memory of a step in one line."""
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "averages": memory.averages,
        "batch": memory.batch,
        "kept for the backward pass": memory.kept,
    }
    listed_parts = ", ".join(f"{bytes_in_words(size)} {name}" for name, size in parts.items() if size)
    return f"{bytes_in_words(memory.peak)} for a step of {memory.rows:,} rows: {listed_parts}"


def memory_of(config: Config, inference: Inference) -> Callable[[int], StepMemory]:
    """The memory of a step as a function of the rows of a batch. It raises `MemoryUnknown`."""
    fields = _fields(config, inference)
    device = devices_of(config)[0]

    def memory(rows: int) -> StepMemory:
        try:
            return step_memory(config, inference, fields, rows, device)
        except Exception as problem:
            message = f"not known before the first step: {type(problem).__name__}: {first_line(problem)}"
            raise MemoryUnknown(Diagnostic("FC0702", message)) from problem

    return memory


def largest_batch(peak: Callable[[int], int], limit: int) -> int:
    """The most rows whose step needs at most `limit` bytes, to within a fiftieth; 0 if one row needs more."""
    fits, least = 1, peak(1)
    if least > limit:
        return 0
    too_many, slope = MOST, max(1.0, (peak(256) - least) / 255)
    while too_many - fits > max(1, fits // 50) and least < 0.98 * limit:
        guess = min(max(fits + int(0.995 * (limit - least) / slope), fits + 1), too_many - 1)
        found = peak(guess)
        slope = max(1.0, (found - least) / (guess - fits))
        if found > limit:
            too_many = guess
        else:
            fits, least = guess, found
    return fits


def fit(config: Config, inference: Inference, size: str) -> list[str]:
    """The largest batch for a memory such as `8GB`, or `auto`: the free memory of the device. Raises `RunError`."""
    free = free_memory(config) if size == "auto" else bytes_of(size)
    limit = int(SHARE * free)
    memory = memory_of(config, inference)
    rows = largest_batch(lambda count: memory(count).peak, limit)
    room = f"{bytes_in_words(limit)}, {SHARE:.0%} of {bytes_in_words(free)}"
    if rows == 0:
        message = f"a step of one row needs {bytes_in_words(memory(1).peak)}, and there is {room}"
        raise RunError(Diagnostic("FC0702", message, advice="use a smaller graph, or `trainer.precision=bf16`"))
    several = config.training.trainer.accumulate
    parts = f", in {several} parts" if several > 1 else ""
    return [
        f"memory     {in_words(memory(config.training.data.batch_size))}",
        f"fits       {rows:,} rows{parts}, with {bytes_in_words(memory(rows).peak)} of {room}",
        f"write `data.batch_size={rows}`",
    ]


def bytes_of(size: str) -> int:
    """The bytes of a size such as `8GB`. Raises `ValueError`."""
    found = SIZE.fullmatch(size.strip())
    if found is None:
        raise ValueError(f"expected `auto` or a size such as `8GB`, got `{size}`")
    return int(float(found["number"]) * UNITS[found["unit"]])


def free_memory(config: Config) -> int:
    """The free bytes of the device of a config, or of the machine."""
    device = devices_of(config)[0]
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = Path("/proc/meminfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    return available or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _fields(config: Config, inference: Inference) -> Fields:
    """The shapes of the fields that a step reads: those that the data set declares, or those of its first rows.

    Raises `MemoryUnknown`.
    """
    fields = {name: (shape, dtype) for name, (shape, dtype, *_) in declared_fields(config).items()}
    wanted = {given.name for given in config.model.inputs}
    if not wanted <= fields.keys():
        batch = RealRows(config, inference).first_batch()
        if batch is None:
            message = f"not known before the data set `{config.training.data.name}` has been read"
            raise MemoryUnknown(Diagnostic("FC0702", message))
        fields = {name: (tuple(value.shape[1:]), value.dtype) for name, value in batch.items()}
    return fields
