"""Whether the values that a sweep searches make valid configs: each is tried, with the others as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec

from flowconf.language.config import Config
from flowconf.language.sections.sweeps import OVER
from flowconf.report import ConfigError, Diagnostic, FlowconfError, Label, MachineError, Place, Reporter
from flowconf.text.ranges import Range, moved, ranges_in
from flowconf.train.precision import devices_of

Check = Callable[[Sequence[str]], object]
"""Checks the config with these words. Raises `FlowconfError`."""


def ranges_of(config: Config) -> list[Range]:
    """The ranges of a config's `sweep`, which have been checked before."""
    section = config.origins.at(OVER)
    return [] if section is None else ranges_in(section, OVER, Reporter())


def check_search(config: Config, ranges: Sequence[Range], check: Check, reporter: Reporter) -> None:
    """Report values of `ranges` that make an invalid config, and what a search cannot do with a valid config.

    Raises `MachineError` without Optuna.
    """
    _check_section(config, ranges, reporter)
    origins = config.origins
    for one in ranges:
        words = [word for word in config.composition.overrides if not word.startswith(f"{one.key}=")]
        name = origins.key((*OVER, one.key)) if one.place.word is None else one.place
        for value, place in one.ends():
            found = _problems(one, value, place, name, words, check)
            reporter.diagnostics += found
            if any(diagnostic.place == name for diagnostic in found):
                break  # the key itself is wrong, for every value
    if find_spec("optuna") is None:
        message = "`sweep` requires optuna, which is not installed"
        advice = "install it with `pip install 'flowconf[optuna]'`"
        raise MachineError(Diagnostic("FC0601", message, origins.key(("sweep",)), advice=advice))


def _check_section(config: Config, ranges: Sequence[Range], reporter: Reporter) -> None:
    sweep, trainer = config.training.sweep, config.training.trainer
    assert sweep is not None
    origins = config.origins
    if not ranges:
        message, advice = "`sweep` has no values to try", "write `over: {KEY: [VALUE, VALUE]}`"
        reporter.error("FC0122", message, origins.key(("sweep",)), at=OVER, advice=advice)
    count = len(devices_of(config))
    if sweep.prune is not None and (count > 1 or trainer.nodes > 1):
        key = "devices" if count > 1 else "nodes"
        label = Label("a run has several processes", origins.value(("trainer", key)))
        message, place = "`sweep.prune` requires runs of one process", origins.key(("sweep", "prune"))
        advice = f"remove `prune`, or write `trainer.{key}: 1`"
        reporter.error("FC0123", message, place, path="sweep.prune", labels=(label,), advice=advice)


def _problems(
    one: Range, value: object, place: Place, name: Place, words: Sequence[str], check: Check
) -> list[Diagnostic]:
    """The errors of the config with one of the values."""
    word = one.word(value)
    try:
        check([*words, word])
    except ConfigError as error:
        found = moved(error, word, place, name)
        is_whole = isinstance(value, float) and value.is_integer() and one.step is None
        if is_whole and _is_valid([*words, one.word(int(one.low))], check):
            interval = f"interval({one.low:g}, {one.high:g})"
            advice = f"for whole numbers, write `int({f'tag(log, {interval})' if one.log else interval})`"
            found = [replace(at, advice=advice) for at in found]
        return found
    return []


def _is_valid(words: Sequence[str], check: Check) -> bool:
    try:
        check(words)
    except FlowconfError:
        return False
    return True
