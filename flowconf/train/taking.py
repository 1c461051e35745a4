"""What takes the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from flowconf.train import loop
from flowconf.train.job import Job, Take
from flowconf.train.runs.folder import Run
from flowconf.train.screen import Screen


@contextmanager
def taking(job: Job, run: Run, screen: Screen) -> Iterator[Take]:
    """A block with `one_step`, or what replays, records, profiles or searches it, as the config asks for it."""
    trainer = job.config.training.trainer
    take: Take = loop.one_step
    with ExitStack() as block:
        if job.replays:
            from flowconf.train import replay

            take = block.enter_context(replay.replaying(job, screen.say))
        take = job.watchers.recording(job.train, take)
        if trainer.profile is not None and not trainer.find_nan:
            from flowconf.train.insight import profile

            measuring = profile.profiled(job, run.folder / profile.FOLDER, screen.say, take)
            take = block.enter_context(measuring)
        if trainer.find_nan:
            from flowconf.train.insight import nan_search

            take = nan_search.searching(take)
        yield take
