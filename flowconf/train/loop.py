"""The training loop: from a prepared job to its best weights, in one file.

Nothing is read from the device except the losses, every `trainer.log_every` steps, so there are no other
synchronizations. An evaluation does not change the random state, so its frequency does not affect training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.sharded import held
from flowconf.graph.weights.sources import LAST
from flowconf.language.training import LATEST, evaluated_on
from flowconf.report import Diagnostic, RunError, render_text, shell_word
from flowconf.train.callbacks.watcher import Watcher
from flowconf.train.data.feed import Feed, in_parts
from flowconf.train.insight import spoiled_rows
from flowconf.train.job import Job, Take
from flowconf.train.objective.gradients import gradients_for
from flowconf.train.objective.metering import named_numbers
from flowconf.train.objective.parts import have_one_shape, unchanged, whole, wholes_of_fields
from flowconf.train.objective.terms import Average, Sums, Values, Wholes, means_of
from flowconf.train.runs.best import Best
from flowconf.train.runs.folder import Run
from flowconf.train.runs.progress import Window, check_progress, loss_of, progress_of, restore_window
from flowconf.train.runs.resources import ResourceMeter
from flowconf.train.runs.state import load_checkpoint, restoring, whole_state
from flowconf.train.screen import Screen, headline, shown
from flowconf.train.seeds import seed_for, seed_torch, undisturbed
from flowconf.train.stopping import Interrupted, Stop
from flowconf.train.team.shares import Idle


def fit(job: Job, run: Run, screen: Screen, take: Take) -> dict[str, float]:
    """Train, evaluate and save until the last step, then load the best weights into the graph and test them.

    `take` takes a step: `one_step`, or what `flowconf.train.taking` makes of it.

    A run with a checkpoint in its folder is resumed from it, with the same results as without interruption. Returns the
    metrics of the best evaluation and of the test. Raises `Interrupted` on SIGINT or SIGTERM, after saving everything.
    """
    trainer = job.config.training.trainer
    best, window = Best(job, run), Window()
    logs_every, evaluates_every, saves_every = (
        job.length.steps_before(every)
        for every in (trainer.log_every, trainer.evaluate_every, trainer.checkpoint_every)
    )
    job.watchers.tell(Watcher.begin, run, partial(where, job))
    step = restore(job, run, screen, best, window)
    first, meter = step, ResourceMeter(job.device)

    screen.start(job.total_steps, step)
    job.graph.train()
    job.watchers.tell(Watcher.start, step)
    coming = job.train.ahead(job.sampler, step, job.total_steps, trainer.accumulate)
    stop = Stop(lambda: screen.say("ending after this step; once more ends at once"), job.team.parent)
    with stop.listening(), coming:
        while step < job.total_steps and not best.gives_up:
            if job.sampler.position == 0:
                job.memory.forget()
            for rows in job.sampler.rest_of_epoch():
                if step >= job.phases.due and job.phases.advance(step):
                    weights = job.sampler.weights
                    change_phase(job, run, screen, step, window)
                    if job.sampler.weights != weights:
                        rows = job.train.redrawn(job.sampler, step, job.total_steps, trainer.accumulate)
                job.take_turn(step)
                window.append(job.in_columns(take(job, rows, step)))
                step += 1

                screen.step(step)
                if step % logs_every == 0 or step == job.total_steps:
                    log_losses(job, run, screen, step, window)
                    job.watchers.tell(Watcher.logged, step)
                job.watchers.tell(Watcher.step, step)
                better = False
                evaluates = due(job, evaluates_every, step)
                found: dict[str, float] = {}
                if evaluates and job.watched:
                    with job.averages.applied():
                        for name in job.watched:
                            found |= evaluate(job, job.held_out[name], name)
                    for name in job.watched:
                        refuse_data(job, job.held_out[name], found[f"{name}/loss"])
                    better = best.offer(step, found)
                    if better and job.predictions is not None:
                        job.predictions.keep(step)
                    job.phases.observe(step, found)
                    job.learning_rate.observe(found)
                if evaluates:
                    note = "best" if better and trainer.best != LATEST else ""
                    report(job, run, screen, step, found, note, recent_loss(job, step, window))
                if found:
                    job.watchers.tell(Watcher.evaluated, step, found)
                ends = step == job.total_steps or best.gives_up
                if ends:
                    log_losses(job, run, screen, step, window)
                saves = due(job, saves_every, step) if saves_every else evaluates
                stops = job.team.agree(stop.asked)
                if saves or best.keeps(step) or stops or ends:
                    save(job, run, screen, step, best, window)
                if ends:
                    break
                if stops:
                    run.wait()
                    raise Interrupted
                run.check()
    screen.close()
    ended = "pruned" if run.pruned else f"nothing better for {best.waited} evaluations"
    early = f": {ended}" if step < job.total_steps else ""
    steps = f"{step - first:,} step{'' if step - first == 1 else 's'}"
    run.record["resources"] = meter.read(step - first, job.config.training.data.batch_size)
    screen.say(f"{steps} in {meter.seconds:,.1f} s{early}")

    best.load(step)
    results = dict(best.metrics)
    if "test" in job.held_out and trainer.test and not run.pruned:
        found = evaluate(job, job.held_out["test"], "test")
        report(job, run, screen, best.step, found, f"weights of step {best.step:,}")
        results |= found
        job.watchers.tell(Watcher.evaluated, best.step, found)
        if not math.isfinite(found["test/loss"]):
            causes = spoiled_rows.in_split(job, job.held_out["test"])
            screen.say(render_text([replace(cause, severity="warning") for cause in causes]))
    job.watchers.tell(Watcher.end, step)
    return results


def one_step(job: Job, rows: Tensor, step: int) -> list[Tensor]:
    """Forward, backward and optimizer step for one batch; returns its loss and the terms of it."""
    job.learning_rate.set(step)
    losses = gradients(job, rows, step)
    job.watchers.tell(Watcher.gradients, step + 1)
    update(job, rows, step, losses)
    job.watchers.tell(Watcher.updated, step + 1)
    if job.memory.kept:
        job.memory.cut()
    return losses


def update(job: Job, rows: Tensor, step: int, losses: list[Tensor]) -> None:
    """Change the weights by their gradients in a step that has these losses, and then what follows the weights."""
    active, trainer = job.active, job.config.training.trainer
    job.precision.step(active.optimizers, active.trained, trainer.clip, trainer.clip_value)
    for optimizer in active.repeating:
        optimizer.step(computed_again(job, rows, step, losses))
    job.averages.update(step, job.precision.skipped)
    job.followers.update(step, job.length, job.precision.skipped)


def gradients(job: Job, rows: Tensor, step: int) -> list[Tensor]:
    """Forward and backward for one batch, in its parts; returns its loss and the terms of it."""
    active, trainer = job.active, job.config.training.trainer
    weights = active.kept or active.weights_at(step, job.length)
    parts = in_parts(rows, trainer.accumulate)
    losses: list[Tensor] = []
    counts = len(parts) > 1 and active.counts
    counted = [job.train.batch(some, step, number) for number, some in enumerate(parts)] if counts else []
    wholes = wholes_of_graph(job, counted) if counted else ()
    for number, some in enumerate(parts):
        batch = counted[number] if counted else job.train.batch(some, step, number)
        job.memory.begin(some.numel())
        adds_up = number < len(parts) - 1  # before the processes of a team average their gradients
        with job.team.holding(active.view) if adds_up else nullcontext():
            values = job.values(active.view, batch)
            if counted and not wholes:
                wholes = wholes_of_fields(active.terms, active.weighing, values, counted)
            means = means_of(active.terms, values, batch, wholes, some.numel() / rows.numel())
            total, lots = active.routes.total(means, weights)
            found = [loss.detach() for loss in (total, *means)]
            del values, means, total  # so that the backward pass alone holds what it needs
            if number == 0:
                for optimizer in (*job.optimizers, *job.repeating):
                    optimizer.zero_grad()  # so late that the new gradients take the memory of the old ones
            active.routes.backward(lots, job.precision.scaled)
        losses = [before + now for before, now in zip(losses, found, strict=True)] if losses else found
    if active.averages_after:
        job.team.average_gradients(active.trained, active.used)
    return losses


def computed_again(job: Job, rows: Tensor, step: int, losses: list[Tensor]) -> Callable[[], Any]:
    """The loss of a batch for an optimizer that computes it several times: the first time it is known already."""
    known, trainer = [losses], job.config.training.trainer

    def closure() -> Tensor:
        if known:
            found = known.pop()
        else:
            found = gradients(job, rows, step)
            job.precision.clip(job.active.trained, trainer.clip, trainer.clip_value)
        return job.team.average(found[0].clone())

    return closure


def wholes_of_graph(job: Job, batches: Sequence[Values]) -> Wholes:
    """The sums of each term over all parts of a batch, if only a forward pass of each part tells them; else none."""
    active = job.active
    if not job.team.agree("graph" in active.weighing or not have_one_shape(batches)):
        return ()
    found: list[list[Sums]] = [[] for _ in active.terms]
    with undisturbed(job.device), unchanged(job.graph), job.team.holding(active.view):
        for batch in batches:
            values = job.values(active.view, batch)
            for sums, term in zip(found, active.terms, strict=True):
                sums.append(term.sums(values, batch).detached())
    return [whole(term, sums) for term, sums in zip(active.terms, found, strict=True)]


def evaluate(job: Job, feed: Feed, split: str) -> dict[str, float]:
    """The loss, its terms and the metrics over all rows of a split, with names such as `val/accuracy`.

    Random numbers of the graph are the same in each evaluation of a split, so that equal weights have equal values.
    """
    training = job.config.training
    batch_size = training.data.rows_of_evaluations
    dealt = feed.dealt(batch_size)
    terms = [Average(term) for term in job.terms if evaluated_on(training.loss[term.name], split)]
    measured = [metric for metric in job.metrics if evaluated_on(training.metrics[metric.name], split)]
    meters = {metric.name: metric.new_meter(dealt) for metric in measured}
    predictions = job.predictions
    if predictions is not None:
        predictions.begin(split, dealt)
    job.team.equalize(job.graph)
    with gradients_for(job.terms), job.evaluating():
        seed_torch(seed_for(training.seed, "evaluation", split, job.team.rank), job.device)
        for batch in feed.in_order(batch_size):
            job.memory.begin(len(next(iter(batch.values()))))
            values = job.values(job.evaluation_view, batch)
            if isinstance(batch, Idle):
                continue
            for term in terms:
                term.update(values, batch)
            with torch.no_grad():
                for meter in meters.values():
                    meter.update(values, batch)
            if predictions is not None:
                predictions.add(split, values, batch)
    if dealt:
        job.team.pool([*terms, *(meter for meter in meters.values() if isinstance(meter, Average))])
    means = {average.term.name: average.compute() for average in terms}
    total = sum(average.term.weight * means[average.term.name] for average in terms)
    results = {name: meter.compute() for name, meter in meters.items()}
    return {
        f"{split}/loss": total,
        **{f"{split}/loss/{name}": mean for name, mean in means.items()},
        **{name: value for own, found in results.items() for name, value in named_numbers(f"{split}/{own}", found)},
    }


def change_phase(job: Job, run: Run, screen: Screen, step: int, window: Window) -> None:
    """Enter the current phase of `job.phases`, after logging the losses of the previous one."""
    log_losses(job, run, screen, step, window)
    job.enter(job.phases.current)
    name = f"phase `{job.phases.current}`" if job.phases.current else "no phase any more"
    screen.say(_at(job, step) + name)
    if unused := job.unused():
        screen.say(f"unused     {', '.join(unused)}")


def log_losses(job: Job, run: Run, screen: Screen, step: int, window: Window) -> None:
    """Log the mean losses of the steps in `window`, and clear it.

    Raises `RunError` if one is not finite.
    """
    if not window:
        return
    first = step - len(window) + 1
    losses = job.team.average(table(window)).cpu()
    window.add_up(job.sums(losses[window.reported :], first - 1 + window.reported))
    window.reported = 0
    window.clear()
    values = {"train/loss": loss_of(job.sums(losses, first - 1))}
    means = losses.mean(0).tolist()[1:]
    for name, mean, steps in zip(job.columns, means, job.steps_of(first - 1, step), strict=True):
        if steps:
            values[f"train/{name}"] = mean if steps == len(losses) else mean * (len(losses) / steps)
    run.log(step, {**values, **job.learning_rates(), **job.changing(step - 1)}, **where(job, step))
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        begun = first - 1 + int(losses.isfinite().all(1).logical_not().nonzero()[0])
        if causes := spoiled_rows.in_step(job, begun):
            raise RunError(*causes)
        message = f"`{wrong[-1]}` is not finite between steps {first:,} and {step:,}"
        path = wrong[-1].removeprefix("train/").replace("/", ".")
        raise RunError(Diagnostic("FC0702", message, path=path, advice=advice_on_nan(run)))
    job.learning_rate.observe(values)
    screen.reading(step, job.total_steps, {"loss": values["train/loss"]})


def refuse_data(job: Job, feed: Feed, loss: float) -> None:
    """Raise `RunError` if the loss of a split is not finite because of a value of the data."""
    if not math.isfinite(loss) and (causes := spoiled_rows.in_split(job, feed)):
        raise RunError(*causes)


def advice_on_nan(run: Run) -> str:
    """Advice for values that are not finite."""
    search = f"flowconf train --resume {shell_word(run.folder)} trainer.find_nan=true"
    return f"lower `optimizer.lr`, limit the gradient with `trainer.clip`; `{search}` tells where they come from"


def table(window: Sequence[Sequence[Tensor]]) -> Tensor:
    """The losses of some steps: [steps, 1 + terms]."""
    return torch.stack([value for row in window for value in row]).view(len(window), -1)


def recent_loss(job: Job, step: int, window: Window) -> dict[str, float]:
    """The training loss after `step` steps, over those since the last evaluation."""
    fresh = len(window) - window.reported
    if fresh:
        window.add_up(job.sums(job.team.average(table(window[-fresh:])), step - fresh))
    found, window.logged, window.reported = window.logged, {}, len(window)
    return {"train/loss": loss_of(found)} if found else {}


def _at(job: Job, step: int) -> str:
    """The columns with the epoch and the step; longer numbers move what follows."""
    return f"epoch {epoch_at(job, step):g}".ljust(11) + f" step {step:,}".ljust(14) + " "


def report(
    job: Job,
    run: Run,
    screen: Screen,
    step: int,
    found: dict[str, float],
    note: str,
    trained: Mapping[str, float] | None = None,
) -> None:
    """Log and print an evaluation, beside the training loss; what is longer than a line is only logged."""
    if found:
        run.log(step, found, **where(job, step))
        run.flush()
    at = _at(job, step)
    screen.say(f"{at}{shown({**(trained or {}), **headline(found)})}" + (f"  ({note})" if note else ""))


def due(job: Job, every: int, step: int) -> bool:
    """Whether something is due after this step: every `every` steps (0: every epoch), and at the end."""
    at_edge = step % every == 0 if every else job.sampler.epoch_is_over
    return at_edge or step == job.total_steps


def epoch_at(job: Job, step: int) -> float:
    """The number of epochs after `step` steps, with two decimals."""
    return round(step / job.sampler.batches, 2)


def where(job: Job, step: int) -> dict[str, object]:
    """The epoch and phase of a log entry."""
    phase = {"phase": job.active.phase} if job.phases.sections else {}
    return {"epoch": epoch_at(job, step), **phase}


def save(job: Job, run: Run, screen: Screen, step: int, best: Best, window: Window) -> None:
    """Save the weights and everything needed to resume, as one file that replaces the previous one.

    The state is copied, and written while training continues; the next save waits for that. Raises `RunError` if a
    weight or a loss is not finite; the previous checkpoint is then kept to find the cause.
    """
    run.wait()
    tensors = {"window": job.team.average(table(window))} if window else {}
    if job.team.agree(not all_finite([*tensors.values(), *map(held, job.graph.parameters())])):
        log_losses(job, run, screen, step, window)
        raise RunError(Diagnostic("FC0702", f"weights are not finite after step {step:,}", advice=advice_on_nan(run)))
    seen, tensors_seen = job.watchers.state()
    tensors |= job.averages.state() | tensors_seen
    job.team.equalize(job.graph)
    state = whole_state(job, run.id, progress_of(job, run, step, best, seen), tensors)
    write_best = best.writing(step)

    def write() -> None:
        state.write(run.checkpoints / LAST)
        write_best(state)

    run.save(write)
    run.flush()


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no element is infinite or NaN. Synchronizes with the device once."""
    reals = (torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors)
    checked = (real.detach() for real in reals if real.is_floating_point() and real.numel())
    extremes = [extreme for real in checked for extreme in real.aminmax()]
    return not extremes or all(map(math.isfinite, torch.stack(extremes).tolist()))


def restore(job: Job, run: Run, screen: Screen, best: Best, window: Window) -> int:
    """Restore everything that `save` has saved; returns the number of steps done, 0 without a checkpoint.

    The run starts once everything is restored. Raises `FlowconfError` before that, without changing the folder.
    """
    file = run.checkpoints / LAST
    if not file.is_file():
        run.begin()
        return 0
    progress, tensors, notes = load_checkpoint(file, run.id, job)
    check_progress(job, run, progress)
    step = progress.step
    job.sampler.epoch, job.sampler.position = progress.epoch, progress.position
    job.team.restore_shares(progress.shares)
    notes += job.phases.restore(progress.phases.model_dump())
    job.enter(job.phases.current)
    with restoring(file, "state of schedules"):
        notes += job.learning_rate.restore(progress.schedules)
        job.learning_rate.set(step - 1)
    with restoring(file, "average and log"):
        notes += job.averages.restore(tensors)
        notes += restore_window(job, progress, tensors, window)
    with restoring(file, "state of callbacks"):
        notes += job.watchers.restore(progress.callbacks, tensors)
    best.restore(progress.best, step)
    window.reported = max(0, len(window) - (step - best.latest))
    notes += run.begin(progress.log, step)
    best.catch_up(step)
    for line in [f"resuming after step {step:,}", *notes]:
        screen.say(line)
    return step
