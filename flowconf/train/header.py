"""The header of a run, printed before it starts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from flowconf.graph.sharded import held
from flowconf.language.training import listed, schedules
from flowconf.report import bytes_in_words, listing
from flowconf.train.job import Job
from flowconf.train.optim.groups import by_selector, rate_in_words, state_bytes, taken


def header(job: Job, verbose: bool) -> list[str]:
    """Lines with the parameters, data, steps and device; `verbose`: also by member, and optimizer, memory and seed."""
    reports = [str(report) if verbose else report.brief() for report in job.reports]
    unused = [f"unused     {', '.join(names)}"] if (names := job.unused()) else []
    first = parameter_table(job.graph.named_parameters()) if verbose else [f"model      {parameters(job.graph)}"]
    by_part = optimizer_lines(job) if _has_parts(job) else []
    more = _details(job) if verbose else []
    return [*reports, *first, *_size(job), *by_part, *turn_lines(job), *unused, *more]


def _size(job: Job) -> list[str]:
    training, trainer = job.config.training, job.config.training.trainer
    epochs = job.total_steps / job.sampler.batches
    length = f"{epochs:.4g} epoch{'' if epochs == 1 else 's'}"
    steps, batch = f"{job.total_steps:,}", min(training.data.batch_size, job.sampler.rows)
    rows = [f"{len(job.train):,} train", *(f"{len(feed):,} {name}" for name, feed in job.held_out.items())]
    rows[-1] += " (not evaluated)" if "test" in job.held_out and not trainer.test else ""
    count = torch.get_num_threads()
    each = " each" if job.team.size > 1 else ""
    threads = f", {count} thread{'s' if count > 1 else ''}{each}" if job.device.type == "cpu" else ""
    several = f"{job.team.size} processes, {training.trainer.strategy}, " if job.team.size > 1 else ""
    name = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else str(job.device)
    settings = {"deterministic": trainer.deterministic, "channels last": trainer.channels_last}
    how = [trainer.precision, *(name for name, is_set in settings.items() if is_set), *_compiled(trainer.compile)]
    return [
        f"data       {training.data.name}: {', '.join(rows)}",
        *(f"cache      {line}" for line in job.cached),
        f"steps      {steps} of {batch} rows, {job.sampler.batches:,} an epoch: {length}",
        f"device     {several}{name}{threads}, {', '.join(how)}",
    ]


def _details(job: Job) -> list[str]:
    return [
        *([] if _has_parts(job) else optimizer_lines(job)),
        *(f"sizes      {note}" for note in job.graph.__dict__["_notes"]),
        f"memory     {memory(job)}",
        f"seed       {job.config.training.seed}",
    ]


def _has_parts(job: Job) -> bool:
    """Whether parameters differ in their learning rates or optimizers."""
    optimizer = job.config.training.optimizer
    return bool(optimizer.groups) or optimizer.layer_decay is not None


def turn_lines(job: Job) -> list[str]:
    """A line for each turn: its steps, its terms, and the parameters that it moves."""
    lines: list[str] = []
    for name, turn in job.config.training.turns.items():
        whom = listing(listed(turn.updates)) or "all parameters"
        steps = f"{turn.steps} step{'s' * (turn.steps > 1)}"
        lines.append(f"{'' if lines else 'turns':11}{name}: {steps} of {', '.join(listed(turn.loss))} for {whom}")
    return lines


def optimizer_lines(job: Job) -> list[str]:
    """A line for each selector of parameters: their optimizer, learning rate and schedule; without any, one line."""
    section, schedule = job.config.training.optimizer, job.config.training.schedule
    lines: dict[str | None, str] = {}
    for selector, members in by_selector(job.groups, section).items():
        settings = [job.learning_rate.groups[job.groups.index(group)] for group in members]
        how = "fused" if any(group.get("fused") for group in settings) else "not fused"
        rate = rate_in_words(job.learning_rate.base[job.groups.index(group)] for group in members)
        names = " then ".join(one.name for one in schedules(members[0].section.schedule or schedule))
        lines[selector] = f"{members[0].section.name or section.name}, {how}, {rate}, {names} schedule"
        if section.groups:
            lines[selector] += f": {taken(members)}"
    idle = [selector for selector in section.groups if selector not in lines]
    found = [*lines.values(), *(f"no trainable parameters by `{selector}`" for selector in idle)]
    return [f"{'' if number else 'optimizer':11}{line}" for number, line in enumerate(found)]


def group_records(job: Job) -> list[dict[str, object]]:
    """The parameters of each selector, as plain data for the record of the run."""
    return [
        {
            "selector": selector,
            "optimizer": groups[0].section.name or job.config.training.optimizer.name,
            "parameters": [name for group in groups for name in group.named],
        }
        for selector, groups in by_selector(job.groups, job.config.training.optimizer).items()
    ]


def memory(job: Job) -> str:
    """The memory of a process without batches: weights, gradients, optimizer state and averages."""
    there = [*job.graph.parameters(), *job.graph.buffers()]
    learned = [parameter for group in job.groups for parameter in group.named.values()]
    parts = {
        "weights": sum(held(tensor).nbytes for tensor in there),
        "gradients": sum(held(parameter).nbytes for parameter in learned),
        "optimizer": sum(state_bytes(group, job.config.training.optimizer) for group in job.groups),
        "averages": sum(held(value).nbytes for value in job.averages.values),
    }
    listed = " + ".join(f"{bytes_in_words(number)} {name}" for name, number in parts.items() if number)
    room = f" of {bytes_in_words(torch.cuda.mem_get_info(job.device)[1])}" if job.device.type == "cuda" else ""
    return f"{bytes_in_words(sum(parts.values()))}{room}: {listed}, plus a batch (see `flowconf summary --memory`)"


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
