"""The header of a run, printed before it starts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn, optim

from flowconf.graph.sharded import held
from flowconf.language import registry
from flowconf.language.training import OptimizerSection
from flowconf.report import bytes_in_words
from flowconf.train.job import Job


def header(job: Job, verbose: bool) -> list[str]:
    """Lines with the parameters, data, steps and device; `verbose`: also by member, and optimizer, memory and seed."""
    reports = [str(report) if verbose else report.brief() for report in job.reports]
    unused = [f"unused     {', '.join(names)}"] if (names := job.unused()) else []
    first = parameter_table(job.graph.named_parameters()) if verbose else [f"model      {parameters(job.graph)}"]
    more = _details(job) if verbose else []
    return [*reports, *first, *_size(job), *unused, *more]


def _size(job: Job) -> list[str]:
    training, trainer = job.config.training, job.config.training.trainer
    epochs = job.total_steps / job.sampler.batches
    length = f"{epochs:.4g} epoch{'' if epochs == 1 else 's'}"
    steps = f"{job.total_steps:,}"
    rows = [f"{len(job.train):,} train", *(f"{len(feed):,} {name}" for name, feed in job.held_out.items())]
    rows[-1] += " (not evaluated)" if "test" in job.held_out and not trainer.test else ""
    count = torch.get_num_threads()
    each = " each" if job.team.size > 1 else ""
    threads = f", {count} thread{'s' if count > 1 else ''}{each}" if job.device.type == "cpu" else ""
    several = f"{job.team.size} processes, {training.trainer.strategy}, " if job.team.size > 1 else ""
    name = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else str(job.device)
    how = [trainer.precision, *(["channels last"] if trainer.channels_last else []), *_compiled(trainer.compile)]
    return [
        f"data       {training.data.name}: {', '.join(rows)}",
        f"steps      {steps} of {training.data.batch_size} rows, {job.sampler.batches:,} an epoch: {length}",
        f"device     {several}{name}{threads}, {', '.join(how)}",
    ]


def _details(job: Job) -> list[str]:
    training, groups = job.config.training, job.optimizer.param_groups
    fused = ", fused" if any(group.get("fused") for group in groups) else ", not fused"
    grouped = f", {len(groups)} groups" if len(groups) > 1 else ""
    rate, schedule = job.learning_rate.base[0], training.schedule.name
    return [
        f"optimizer  {training.optimizer.name}{fused}, lr {rate:g}{grouped}, {schedule} schedule",
        *(f"sizes      {note}" for note in job.graph.__dict__["_notes"]),
        f"memory     {memory(job)}",
        f"seed       {training.seed}",
    ]


def memory(job: Job) -> str:
    """The memory of a process without batches: weights, gradients, optimizer state and averages."""
    there = [*job.graph.parameters(), *job.graph.buffers()]
    learned = [parameter for group in job.optimizer.param_groups for parameter in group["params"]]
    trained = sum(held(parameter).nbytes for parameter in learned)
    parts = {
        "weights": sum(held(tensor).nbytes for tensor in there),
        "gradients": trained,
        "optimizer": trained * state_copies(job.config.training.optimizer),
        "averages": sum(held(value).nbytes for value in job.averages.values),
    }
    listed = " + ".join(f"{bytes_in_words(number)} {name}" for name, number in parts.items() if number)
    room = f" of {bytes_in_words(torch.cuda.mem_get_info(job.device)[1])}" if job.device.type == "cuda" else ""
    return f"{bytes_in_words(sum(parts.values()))}{room}: {listed}, plus what a batch needs"


def state_copies(section: OptimizerSection) -> int:
    """The number of tensors that an optimizer keeps per parameter, determined by a step with a small one."""
    probe = nn.Parameter(torch.zeros(2))
    probe.grad = torch.zeros(2)
    small: optim.Optimizer = registry.optimizers.load(section.name)([{"params": [probe]}], **section.args)
    small.step()
    return sum(isinstance(value, torch.Tensor) and value.shape == probe.shape for value in small.state[probe].values())


def _compiled(mode: bool | str) -> list[str]:
    if isinstance(mode, str) and mode != "default":
        return [f"compiled for {mode}"]
    return ["compiled"] if mode else []


def parameters(graph: nn.Module) -> str:
    """The number of trained and frozen parameters, and the members that are frozen."""
    counts = _by_member(graph.named_parameters())
    trained, frozen = (sum(row[side] for row in counts.values()) for side in (0, 1))
    if not frozen:
        return f"{trained:,} parameters"
    members = ", ".join(name for name, row in counts.items() if not row[0])
    return f"{trained:,} parameters, and {frozen:,} frozen" + (f" ({members})" if members else "")


def parameter_table(named: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """The number of trainable and frozen parameters of each top-level member of the graph."""
    counts = _by_member(named)
    total = [sum(row[side] for row in counts.values()) for side in (0, 1)]
    width = max(len("parameters"), *(len(name) for name in counts))
    lines = [f"{'parameters'.ljust(width)}  {'trainable':>12}  {'frozen':>12}"]
    for name, row in [*counts.items(), ("total", total)]:
        lines.append(f"{name.ljust(width)}  {row[0]:>12,}  {row[1]:>12,}")
    return lines


def _by_member(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}
    for name, parameter in named:
        row = counts.setdefault(name.split(".")[0], [0, 0])
        row[0 if parameter.requires_grad else 1] += parameter.numel()
    return counts
