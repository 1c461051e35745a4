"""`eval`: losses and metrics of a run's weights, on its own data or other data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowconf.graph.weights.sources import Which
from flowconf.report import ConfigError, Diagnostic, prints_aside, texts
from flowconf.train.data.python import check_split
from flowconf.train.job import Job
from flowconf.train.loop import evaluate
from flowconf.train.precision import devices_of, on_device
from flowconf.train.prepare import prepare
from flowconf.train.runs.loading import open_run
from flowconf.train.runs.resume import in_its_folder


@prints_aside()
def evaluate_run(
    run: str | Path, overrides: Sequence[str] = (), splits: Sequence[str] = (), which: Which = "best"
) -> dict[str, float]:
    """The losses and metrics of some weights of a run, on `splits`.

    The default is validation and test, and only validation with `trainer.test: false`. `overrides` change the run's
    config, such as its data or metrics. Raises `ConfigError`.
    """
    splits = texts(splits, "splits")
    folder, file, walk = open_run(run, which, overrides)
    with in_its_folder(folder):
        config = walk.to("machine").checked
        trainer = config.training.trainer
        with on_device(devices_of(config)[0], trainer.precision, deterministic=trainer.deterministic):
            job = prepare(config, Path(config.training.trainer.runs), walk.inference, weights=False)
            job.graph.load(file)
            feeds = {**job.held_out, "train": job.train}
            for name in splits:
                check_split(name, feeds, config)
            found: dict[str, float] = {}
            for name in splits or _held_out(job):
                found |= evaluate(job, feeds[name], name)
    return found


def _held_out(job: Job) -> list[str]:
    """The splits to evaluate by default. Raises `ConfigError` if there is none."""
    section, trainer = job.config.training.data, job.config.training.trainer
    names = [name for name in job.held_out if name != "test" or trainer.test]
    if not names:
        other = "`trainer.test` is false" if "test" in job.held_out else "no test split"
        message = f"nothing to evaluate: the data set `{section.name}` has no validation split, and {other}"
        split = "test" if "test" in job.held_out else "train"
        raise ConfigError(Diagnostic("FC0502", message, advice=f"choose a split: `--split {split}`"))
    return names
