"""The rows of the data that make a loss or metric not finite, found before the first step, or after the fact."""

from __future__ import annotations

import torch

from flowconf.report import ConfigError, Diagnostic
from flowconf.train.checks.finite import Terms, diagnosed, find_spoiled, spoiled
from flowconf.train.data.batches import RowStream
from flowconf.train.data.feed import Feed
from flowconf.train.job import Job
from flowconf.train.objective.gradients import MARK, gradients_for
from flowconf.train.objective.terms import Average, Values


def check_data(job: Job) -> None:
    """Raise `ConfigError` for values that make a loss or metric not finite, in the first rows or in data in memory."""
    found = [one for feed in (job.train, *job.held_out.values()) for one in _in_feed(job, feed)]
    if found:
        raise ConfigError(*found)


def in_step(job: Job, step: int) -> list[Diagnostic]:
    """The values in the batch of a training step because of which its loss was not finite, if there are any."""
    made = job.train.again(job.sampler, step)
    if made is None:
        return []
    batch, rows = made
    return diagnosed(spoiled(_losses(job), job.inputs, None, batch), job.config, job.train.split, "train", rows)


def in_split(job: Job, feed: Feed) -> list[Diagnostic]:
    """The first values of a split because of which its loss is not finite, if there are any."""
    size = job.config.training.data.batch_size
    for start in () if isinstance(feed.split, RowStream) else range(0, len(feed), size):
        rows = torch.arange(start, min(start + size, len(feed)))
        found = spoiled(_losses(job), job.inputs, None, feed.rows(rows))
        if found:
            return diagnosed(found, job.config, feed.split, feed.use, rows)
    return []


def _in_feed(job: Job, feed: Feed) -> list[Diagnostic]:
    terms = _losses(job) | _means(job)

    def values_of(batch: Values) -> Values:
        with job.evaluating():
            return job.values(job.evaluation_view, batch)

    first = 2 if feed.use == "train" else 0
    with gradients_for(terms.values()):
        return find_spoiled(job.config, terms, job.inputs, feed.split, feed.use, first, feed.rows, values_of)


def _losses(job: Job) -> Terms:
    return {("loss", term.name): term for term in job.terms if not getattr(term.function, MARK, False)}


def _means(job: Job) -> Terms:
    """The metrics that are means over elements."""
    means = [metric.term for metric in job.metrics if isinstance(metric.new_meter(False), Average)]
    return {("metrics", term.name): term for term in means}
