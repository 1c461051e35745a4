"""The data of a run: the splits of its data set, moved to the device."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import torch

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.training import FITTED
from flowconf.report import ConfigError, Diagnostic, FlowconfError, Place, RunError, raised_here
from flowconf.report.origins import Path as Keys
from flowconf.train.data.splits import Feed, Resident, Splits
from flowconf.train.data.streams import as_split
from flowconf.train.out_of_memory import is_out_of_memory, room_for
from flowconf.train.seeds import undisturbed
from flowconf.train.team.distributed import Team


def make_data(config: Config, device: torch.device) -> Splits:
    """The splits of the data set that the config names. Raises `FlowconfError` if they cannot be made."""
    section = config.training.data
    factory = registry.datasets.load(section.name)
    args = dict(section.args)
    if "seed" in inspect.signature(factory).parameters:
        args.setdefault("seed", config.training.seed)
    if FITTED in inspect.signature(factory).parameters:
        args[FITTED] = config.fitted
    place = config.composition.document.origins.value(("data", "name"))
    making = room_for(f"the data set `{section.name}`", (), torch.device("cpu"), _less(section.name))
    try:
        with undisturbed(device), making:
            found = factory(**args)
            if not isinstance(found, Splits):
                raise _no_splits(section.name, found, place)
            train, held, tested = (as_split(part) for part in (found.train, found.validation, found.test))
            splits = Splits(train, held, tested, found.fitted)
    except (ConfigError, RunError) as error:
        raise ConfigError(*placed(error.diagnostics, config)) from None
    except FlowconfError:
        raise
    except PermissionError as problem:
        message = f"the data set `{section.name}` cannot read `{problem.filename}`: permission denied"
        raise ConfigError(Diagnostic("FC0501", message, place, "data", raised_here(problem))) from problem
    except (TypeError, ValueError, SystemExit) as problem:
        message = f"invalid arguments for the data set `{section.name}`: {problem}"
        raise ConfigError(Diagnostic("FC0501", message, place, "data", raised_here(problem))) from problem
    except OSError:
        raise
    except Exception as problem:  # a data set of a project may raise anything
        if is_out_of_memory(problem):
            raise
        message = f"the data set `{section.name}` cannot be made: {type(problem).__name__}: {problem}"
        raise ConfigError(Diagnostic("FC0501", message, place, "data", raised_here(problem))) from problem
    empty = [name for name, split in splits.named() if not len(split)]
    if empty:
        raise ConfigError(
            Diagnostic("FC0501", f"the split `{empty[0]}` of `{section.name}` has no rows", place, "data")
        )
    return splits


def feeds(splits: Splits, config: Config, team: Team) -> dict[str, Feed]:
    """A feed for each split, by its name in logs."""
    section, seed = config.training.data, config.training.seed
    channels_last = config.training.trainer.channels_last
    found = {}
    for name, split in splits.named():
        stays = [*split.tensors.values()] if isinstance(split, Resident) else []
        with room_for(f"the split `{name}` of the data", stays, team.device, _less(section.name)):
            found[name] = Feed(split, team.device, seed, name, team, section.workers, section.prefetch, channels_last)
    return found


def placed(told: Iterable[Diagnostic], config: Config) -> Iterator[Diagnostic]:
    """Diagnostics with their place in the config, where they have none or only that of a data file."""
    origins = config.composition.document.origins
    for one in told:
        path: Keys = _argument_of(one.place.file, config) or path_of(one.path)
        node = origins.root.at(path)
        is_key = one.is_about_key or (node is not None and isinstance(node.value, dict))
        place = origins.key(path) if is_key else origins.value(path)
        known = one.place.line or one.place.word is not None or origins.root.child(path[0]) is None
        yield one if known else replace(one, place=place)


def path_of(text: str) -> Keys:
    """The path that a dotted text means; numbers are those of items in lists."""
    return tuple(int(step) if step.isdigit() else step for step in text.split("."))


def how_to_get(split: str, config: Config) -> str:
    """What to write so that a data set has a split: the argument for it, if there is one that takes a share."""
    name = config.training.data.name
    types = {parameter.name: parameter.type for parameter in registry.datasets.signature(name).parameters}
    if "Share" in types.get(split, ""):
        return f"write `{split}: 0.1` in `data`"
    return f"give `{name}` one: `flowconf.Splits(train, {split}=...)`"


def _argument_of(file: str | None, config: Config) -> tuple[str, str] | None:
    """The argument of the data set that names a file, a folder above it, or a pattern that matches it."""
    if file is None:
        return None
    above = (file, *(str(folder) for folder in Path(file).parents))
    args = {name: given for name, given in config.training.data.args.items() if isinstance(given, str)}
    named = (name for name, given in args.items() if os.path.normpath(given) in above or fnmatch(file, given))
    return next((("data", name) for name in named), None)


def _no_splits(name: str, found: object, place: Place) -> ConfigError:
    message = f"the data set `{name}` must return `flowconf.Splits`, got `{type(found).__name__}`"
    return ConfigError(
        Diagnostic("FC0501", message, place, "data", advice="return `flowconf.Splits(train, validation)`")
    )


def _less(data_set: str) -> str:
    """Advice that reduces the memory of a data set."""
    arguments = inspect.signature(registry.datasets.load(data_set)).parameters
    return "set `data.resident=false`" if "resident" in arguments else "use fewer rows"
