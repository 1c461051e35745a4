"""`profile`: the cost of a training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.graph.weights.sources import find_run_folder, weights_of
from flowconf.language.training import ProfileSection
from flowconf.report import read_json
from flowconf.train.checks import road
from flowconf.train.job import Job
from flowconf.train.loop import one_step
from flowconf.train.precision import devices_of, on_device
from flowconf.train.prepare import prepare
from flowconf.train.prerequisites import config_file
from flowconf.train.runs.loading import walk_run
from flowconf.train.runs.lock import refuse_links
from flowconf.train.runs.resume import in_its_folder


def profile(
    source: str | Path, overrides: Sequence[str] = (), output: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Profile some training steps of a config, or of a run with its best weights; the result is discarded.

    The steps are those of `trainer.profile`, by default the first ones, in a single process. Returns the folder with
    the report (`output`, or `profile` in the run folder, or beside the runs of the config) and its numbers. Raises
    `ConfigError`.
    """
    from flowconf.draw.heat import NUMBERS
    from flowconf.train.insight.profile import FOLDER, profiled

    run = find_run_folder(source).absolute() if Path(source).is_dir() else None
    file = None if run is None else weights_of(run)
    walk = road.begin(source, overrides, trained=True) if run is None else walk_run(run, overrides, file)
    with in_its_folder(run) if run is not None else nullcontext():
        config = walk.to("machine").checked
    before = config.training.trainer
    section = before.profile or ProfileSection(wait=0)
    trainer = before.model_copy(update={"profile": section, "epochs": None, "steps": section.end})
    config = replace(config, training=config.training.model_copy(update={"trainer": trainer}))
    if run is not None and output is None:
        refuse_links(run)
    folder = (output or (run or Path(trainer.runs) / config_file(config).stem) / FOLDER).absolute()
    device = on_device(devices_of(config)[0], trainer.precision, deterministic=trainer.deterministic)
    with in_its_folder(run) if run is not None else nullcontext(), device:
        job = prepare(config, Path(trainer.runs), walk.inference, weights=False)
        if file is not None:
            job.graph.load(file)
        job.graph.train()
        folder.parent.mkdir(parents=True, exist_ok=True)
        coming = job.train.ahead(job.sampler, 0, section.end, trainer.accumulate)
        taking = profiled(job, folder, lambda text: None, one_step)
        with coming, taking as take:
            for step, rows in zip(range(section.end), _batches(job), strict=False):
                if step >= job.phases.due and job.phases.advance(step):
                    job.enter(job.phases.current)
                job.take_turn(step)
                take(job, rows, step)
    return folder, read_json(folder / NUMBERS)


def _batches(job: Job) -> Iterator[Tensor]:
    while True:
        yield from job.sampler.rest_of_epoch()
