"""What a run is going to do, in numbers, before it does it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from flowconf.train.job import Job


def arithmetic(job: Job) -> list[str]:
    """Lines that say what is trained, on what, for how long, where and how."""
    training = job.config.training
    epochs = job.total_steps / job.sampler.batches
    steps = f"{job.total_steps:,}"
    rows = [f"{len(job.train):,} train", *(f"{len(feed):,} {name}" for name, feed in job.held_out.items())]
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count > 1 else ''}" if job.device.type == "cpu" else ""
    name = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else str(job.device)
    groups = job.optimizer.param_groups
    fused = ", fused" if any(group.get("fused") for group in groups) else ""
    several = f", {len(groups)} groups" if len(groups) > 1 else ""
    compiled = ", compiled" if training.trainer.compile else ""
    schedule = training.schedule.name
    return [
        *parameter_table(job.graph.named_parameters()),
        f"data       {training.data.name}: {', '.join(rows)}",
        f"steps      {steps} of {training.data.batch_size} rows, {job.sampler.batches:,} an epoch: {epochs:.4g} epochs",
        f"optimizer  {training.optimizer.name}{fused}, lr {job.learning_rate.base[0]:g}{several}, {schedule} schedule",
        f"device     {name}{threads}, {training.trainer.precision}{compiled}",
        f"seed       {training.seed}",
    ]


def parameter_table(named: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Trainable and frozen parameters of each member at the top of the graph."""
    counts: dict[str, list[int]] = {}
    for name, parameter in named:
        row = counts.setdefault(name.split(".")[0], [0, 0])
        row[0 if parameter.requires_grad else 1] += parameter.numel()
    total = [sum(row[side] for row in counts.values()) for side in (0, 1)]
    width = max(len("parameters"), *(len(name) for name in counts))
    lines = [f"{'parameters'.ljust(width)}  {'trainable':>12}  {'frozen':>12}"]
    for name, row in [*counts.items(), ("total", total)]:
        lines.append(f"{name.ljust(width)}  {row[0]:>12,}  {row[1]:>12,}")
    return lines
