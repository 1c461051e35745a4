"""The training loop: one file, one road, from a prepared job to its best weights.

Nothing is read from the device between two readings of the losses (`trainer.log_every` steps), so that the device
never waits. An evaluation leaves no trace in the random numbers: how often it happens changes nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from flowconf.diagnostics import Diagnostic, RunError
from flowconf.graph.sources import BEST
from flowconf.language.check_training import direction
from flowconf.train.data import Feed
from flowconf.train.job import Job
from flowconf.train.objective import Average, total_of
from flowconf.train.runs import Run
from flowconf.train.screen import Screen, shown
from flowconf.train.seeds import undisturbed
from flowconf.train.state import load_checkpoint, save_checkpoint, save_weights, saved_step
from flowconf.train.stopping import Interrupted, Stop


def fit(job: Job, run: Run, screen: Screen) -> dict[str, float]:
    """Train, evaluate and save until the last step, then test the best weights, which the graph is left with.

    A run whose folder holds a checkpoint goes on from there as if it had never ended. Gives the best evaluation's
    metrics and the test's. Raises `Interrupted` when it is asked to end, with everything saved.
    """
    trainer = job.config.training.trainer
    inputs = job.graph.inputs
    best = Best(job, run)
    window: list[list[Tensor]] = []
    step = restore(job, run, best, window)
    first, began = step, time.perf_counter()

    screen.start(job.total_steps, step)
    job.graph.train()
    with Stop(lambda: screen.say("ending after this step; once more ends at once")) as stop:
        while step < job.total_steps:
            for rows in job.sampler.rest_of_epoch():
                job.learning_rate.set(step)
                batch = job.train.batch(rows, step)
                with job.precision.forward():
                    values = job.training_view(**{name: batch[name] for name in inputs})
                    loss, means = total_of(job.terms, values, batch)
                job.optimizer.zero_grad()
                job.precision.update(loss, job.optimizer, job.trained, trainer.clip)
                step += 1

                window.append([loss.detach(), *(mean.detach() for mean in means)])
                screen.step(step)
                if step % trainer.log_every == 0 or step == job.total_steps:
                    log_losses(job, run, screen, step, window)
                    window.clear()
                better = False
                evaluates = due(job, trainer.evaluate_every, step)
                if evaluates and "val" in job.held_out:
                    found = evaluate(job, job.held_out["val"], "val")
                    better = best.offer(step, found)
                    report(job, run, screen, step, found, "best" if better else "")
                saves = evaluates if trainer.checkpoint_every == 0 else due(job, trainer.checkpoint_every, step)
                if saves or better or stop.asked:
                    save(job, run, step, best, window)
                if better:
                    best.keep()
                if stop.asked and step < job.total_steps:
                    raise Interrupted
                if step == job.total_steps:
                    break
    screen.stop()
    screen.say(f"{step - first:,} steps in {time.perf_counter() - began:,.1f} s")

    best.load()
    results = dict(best.metrics)
    if "test" in job.held_out:
        found = evaluate(job, job.held_out["test"], "test")
        report(job, run, screen, best.step or step, found, f"weights of step {best.step or step:,}")
        results |= found
    return results


def evaluate(job: Job, feed: Feed, split: str) -> dict[str, float]:
    """The loss, its terms and the metrics over all rows of a split, under names such as `val/accuracy`."""
    section = job.config.training.data
    terms = [Average(term) for term in job.terms]
    meters = {metric.name: metric.new_meter() for metric in job.metrics}
    job.graph.eval()
    with torch.no_grad(), undisturbed(job.device), job.precision.forward():
        for batch in feed.in_order(section.evaluation_batch_size or 4 * section.batch_size):
            values = job.evaluation_view(**{name: batch[name] for name in job.graph.inputs})
            for meter in (*terms, *meters.values()):
                meter.update(values, batch)
    job.graph.train()
    means = {average.term.name: average.compute() for average in terms}
    total = sum(average.term.weight * means[average.term.name] for average in terms)
    return {
        f"{split}/loss": total,
        **{f"{split}/loss/{name}": mean for name, mean in means.items()},
        **{f"{split}/{name}": meter.compute() for name, meter in meters.items()},
    }


def log_losses(job: Job, run: Run, screen: Screen, step: int, window: Sequence[Sequence[Tensor]]) -> None:
    """Read the last steps' losses from the device and log their means. Raises `RunError` when one is not finite."""
    means = table(window).mean(0).tolist()
    names = ["train/loss", *(f"train/loss/{term.name}" for term in job.terms)]
    values = dict(zip(names, means, strict=True))
    run.log(step, {**values, "lr": job.optimizer.param_groups[0]["lr"]}, epoch=epoch_at(job, step))
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        first = step - len(window) + 1
        message = f"`{wrong[-1]}` is not finite between steps {first:,} and {step:,}"
        advice = "lower `optimizer.lr`, limit the gradient with `trainer.clip`, or look at the data"
        raise RunError(Diagnostic("FC0702", message, path=wrong[-1], help=advice))
    screen.reading(step, job.total_steps, {"loss": values["train/loss"]})


def table(window: Sequence[Sequence[Tensor]]) -> Tensor:
    """The losses of some steps: [steps, 1 + terms]."""
    return torch.stack([value for row in window for value in row]).view(len(window), -1)


def report(job: Job, run: Run, screen: Screen, step: int, found: dict[str, float], note: str) -> None:
    """Log an evaluation and say it; the terms of the loss are in the logs only."""
    run.log(step, found, epoch=epoch_at(job, step))
    run.flush()
    said = {name: value for name, value in found.items() if name.count("/") == 1}
    where = f"epoch {epoch_at(job, step):g}".ljust(12) + f"step {step:,}".ljust(14)
    screen.say(f"{where}{shown(said)}" + (f"  ({note})" if note else ""))


def due(job: Job, every: int, step: int) -> bool:
    """Whether something happens after this step: every so many steps or epochs (0), and at the end."""
    at_edge = step % every == 0 if every else job.sampler.epoch_is_over
    return at_edge or step == job.total_steps


def epoch_at(job: Job, step: int) -> float:
    """Epochs done after `step` steps, with two decimals."""
    return round(step / job.sampler.batches, 2)


def save(job: Job, run: Run, step: int, best: Best, window: Sequence[Sequence[Tensor]]) -> None:
    """Save the weights and all that going on from here needs, as one file that replaces the last one."""
    progress = {
        "step": step,
        "epoch": job.sampler.epoch,
        "position": job.sampler.position,
        "best": {"step": best.step, "latest": best.latest, "metrics": best.metrics},
        "log": run.size(),
    }
    tensors = {"window": table(window)} if window else {}
    save_checkpoint(run.checkpoints, job.graph, job.optimizer, job.precision.scaler, progress, tensors)
    run.flush()


def restore(job: Job, run: Run, best: Best, window: list[list[Tensor]]) -> int:
    """Put everything back as `save` found it; gives the steps done, 0 for a run without a checkpoint."""
    found = load_checkpoint(run.checkpoints, job.graph, job.optimizer, job.precision.scaler)
    if found is None:
        run.rewind(0, 0)
        return 0
    progress, tensors = found
    step: int = progress["step"]
    job.sampler.epoch, job.sampler.position = progress["epoch"], progress["position"]
    if "window" in tensors:
        window += [list(row) for row in tensors["window"].to(job.device)]
    run.rewind(progress["log"], step)
    best.step, best.latest, best.metrics = (progress["best"][name] for name in ("step", "latest", "metrics"))
    if best.step == step and saved_step(best.file) != step:
        best.keep()
    return step


class Best:
    """The best weights so far by one value of the validation split; the last ones where there is no such split.

    The checkpoint that knows of new best weights is saved before they are: it holds the same weights, so that a run
    that ends in between finds them there.
    """

    def __init__(self, job: Job, run: Run) -> None:
        self.job = job
        self.file = run.checkpoints / BEST
        self.name = job.config.training.trainer.best
        self.sign = 1 if direction(job.config.training) == "max" else -1
        self.step = 0
        self.latest = 0
        self.metrics: dict[str, float] = {}

    def offer(self, step: int, found: dict[str, float]) -> bool:
        """Whether these weights are better than all before; a value that is not a number is never better."""
        self.latest = step
        before = self.metrics.get(self.name, math.nan)
        better = math.isnan(before) or self.sign * found[self.name] > self.sign * before
        if better:
            self.step, self.metrics = step, found
        return better

    def keep(self) -> None:
        """Save the graph's weights as the best ones. Raises `RunError`."""
        save_weights(self.job.graph, self.file, self.step)

    def load(self) -> None:
        """Put the best weights into the graph."""
        if not self.metrics:
            self.step = self.job.total_steps
            self.keep()
        elif self.step != self.latest:
            self.job.graph.load(self.file)
