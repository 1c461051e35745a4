"""Whether the graph can be trained on a batch, or part of a batch, of one row: batch normalisation cannot."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from flowconf.language.config import Config
from flowconf.report import ConfigError, Diagnostic, Label
from flowconf.report.origins import Path, dotted
from flowconf.train.checks.accumulation import WHERE, batch_norms
from flowconf.train.checks.first_step import first_step
from flowconf.train.data.sampling import Sampler

BATCH = ("data", "batch_size")


def check_single_rows(config: Config, modules: Mapping[str, nn.Module]) -> Diagnostic | None:
    """The mistake that every batch, or every part of one, has a single row, which batch normalisation refuses."""
    parts, rows = config.training.trainer.accumulate, config.training.data.batch_size
    if _smallest(rows, parts) > 1 or not batch_norms(config, modules):
        return None
    if rows == 1:
        advice = "write at least `2`, or a norm of each row, such as `GroupNorm` or `LayerNorm`"
        return _refused(config, "a batch has one row", BATCH, advice)
    message = f"the last of the {parts} parts of a batch of {rows} rows has one row"
    return _refused(config, message, WHERE, f"write at most `{rows // 2}`" if rows > 3 else "write `accumulate: 1`")


def check_last_batch(config: Config, sampler: Sampler, total: int) -> None:
    """Raise `ConfigError` if the last batch of an epoch, or the last part of it, has a single row, which is refused."""
    rows, size, parts = sampler.rows, config.training.data.batch_size, config.training.trainer.accumulate
    last = rows % size
    if not last or sampler.drop_last or total < sampler.batches or _smallest(last, parts) > 1:
        return
    part = "batch" if last == 1 else "part of the last batch"
    message = f"the last {part} of {rows:,} rows in batches of {size:,} has one row"
    found = _refused(config, message, BATCH, "write `drop_last: true`, or another `batch_size`")
    if found is not None:
        raise ConfigError(found)


def _smallest(rows: int, parts: int) -> int:
    """The rows of the smallest part of a batch."""
    size = -(-rows // parts)
    return rows % size or size


def _refused(config: Config, what: str, at: Path, advice: str) -> Diagnostic | None:
    """The diagnostic for one row, if the graph cannot be trained on it."""
    try:
        first_step(config, rows=1)
    except ConfigError as error:
        why = error.diagnostics[0]
        labels = (Label("more rows are required here", why.place),)
        message = f"{what}, and {why.message}"
        return Diagnostic("FC0502", message, config.origins.value(at), dotted(at), labels=labels, advice=advice)
    return None
