"""Checks of the section `sweep` that need no other config: the form of its ranges."""

from __future__ import annotations

from collections.abc import Sequence

from flowconf.language.training import TrainingConfig
from flowconf.report import Place, Reporter

OVER = ("sweep", "over")


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report values of a sweep that cannot be read; those that make an invalid config are found by trying them."""
    section = reporter.origins.at(OVER)
    if training.sweep is not None and section is not None:
        from flowconf.text.ranges import ranges_in

        ranges_in(section, OVER, reporter)


def refuse_unused(words: Sequence[str]) -> None:
    """Raise `ConfigError` for words of a command without `-m` that change the section, which it does not use."""
    reporter = Reporter()
    for word in words:
        if word.lstrip("+~").partition("=")[0].partition(".")[0] == OVER[0]:
            message = f"`{word}` applies only to sweeps (`-m`)"
            reporter.error("FC0103", message, Place(word=word), advice="remove it, or add `-m` to sweep")
    reporter.stop_on_errors()
