"""The data of a run: the splits of its data set, moved to the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.sections import augmentations
from flowconf.language.sections.data_sets import MAIN, check_buckets, evaluated_fields, further_sets
from flowconf.language.training import FITTED, listed
from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    MachineError,
    Place,
    Reporter,
    RunError,
    raised_here,
    suggest,
)
from flowconf.report.origins import Path as Keys
from flowconf.report.origins import dotted
from flowconf.train.data.augmentation import as_trained, with_views
from flowconf.train.data.batches import RowStream, as_split
from flowconf.train.data.cache import Cache
from flowconf.train.data.collate import Field, typed_shape
from flowconf.train.data.declarations import DataSet, data_sets
from flowconf.train.data.feed import Feed
from flowconf.train.data.joined import column_of, joined
from flowconf.train.data.recipe import recipe_of
from flowconf.train.data.sampling import Buckets, Groups, Sampler, by_value, by_weight
from flowconf.train.data.splits import Resident, Split, Splits
from flowconf.train.out_of_memory import is_out_of_memory, room_for
from flowconf.train.seeds import undisturbed
from flowconf.train.team.distributed import Team


def make_data(config: Config, device: torch.device, writes: bool = False) -> Splits:
    """The splits of the data set that the config names, and its further sets; `writes` those that `data.cache` lacks.

    Raises `FlowconfError` if they cannot be made, or if their fields differ.
    """
    data = config.training.data
    cache = None if data.cache is None else Cache(Path(data.cache), writes, data.workers)
    making = partial(_made, config, device, cache)
    main = making(("data",), DataSet(data.name, data.args), config.fitted)
    sets = {name: _further(config, making, main, ("data", "evaluate", name)) for name in data.evaluate}
    mixed = [_further(config, making, main, ("data", "mixture", name)) for name in data.mixture]
    reporter = Reporter(config.origins)
    augmentations.check_fields(config.training, main.train.fields, reporter)
    reporter.stop_on_errors()
    train = main.train
    if mixed:
        with _at(config, ("data", "mixture")):
            train = joined([train, *mixed])
    groups = _mixture(config, [main.train, *mixed]) if mixed else _groups(config, train)
    buckets = _buckets(config, train)
    warnings = () if cache is None else tuple(placed(cache.warnings, config))
    viewed = partial(with_views, config.training)
    return replace(
        main,
        train=as_trained(config, train),
        validation=None if main.validation is None else viewed(main.validation),
        test=None if main.test is None else viewed(main.test),
        sets={name: viewed(split) for name, split in sets.items()},
        groups=groups,
        buckets=buckets,
        warnings=warnings,
        cached=() if cache is None else tuple(cache.written),
    )


def sampler_of(config: Config, feed: Feed, splits: Splits) -> Sampler:
    """The order of the training rows of a config."""
    data, seed, groups = config.training.data, config.training.seed, splits.groups
    rows = data.sample.rows or len(feed)
    if groups is None and rows != len(feed):
        groups = Groups(torch.zeros(len(feed), dtype=torch.int64), (1.0,))
    return Sampler(rows, data.batch_size, seed, feed.home, data.drop_last, groups=groups, buckets=splits.buckets)


def _further(config: Config, making: Callable[..., Splits], main: Splits, path: Keys) -> Split:
    """The rows of a further set. Raises `ConfigError` if its fields differ from those of the data set itself."""
    data_set = data_sets(config.training)[path]
    fitted = main.fitted if data_set.name == config.training.data.name else None
    wanted = further_sets(config.training)[path].split or ("train" if path[1] == "mixture" else None)
    named = dict(making(path, data_set, fitted, wanted).named())
    origins = config.origins
    if wanted is not None and wanted not in named:
        message, there = f"the set `{path[-1]}` has no split `{wanted}`", ", ".join(f"`{name}`" for name in named)
        place = origins.value((*path, "split"))
        raise ConfigError(Diagnostic("FC0501", message, place, dotted(path), advice=f"available splits: {there}"))
    with _at(config, path):
        found = joined([named[wanted]] if wanted is not None else [*named.values()])
    reporter = Reporter(origins)
    check_fields(config, path, found.fields, main.train.fields, reporter)
    reporter.stop_on_errors()
    return found


def check_fields(
    config: Config, path: Keys, mine: Mapping[str, Field | None], known: Mapping[str, Field | None], reporter: Reporter
) -> None:
    """Report fields of a further set that differ from the `known` ones of the data set itself, or that it lacks.

    A set to evaluate on needs the inputs of the graph and what is evaluated on it, one of a mixture all fields.
    """
    needed = [given.name for given in config.model.inputs] + evaluated_fields(config.training, str(path[-1]))
    sources = augmentations.views(config.training, known)
    for name in dict.fromkeys(sources.get(name, name) for name in needed) if path[1] == "evaluate" else known:
        other, field = mine.get(name), known.get(name)
        if name in known and name not in mine:
            message, advice = f"the set `{path[-1]}` has no field `{name}`", suggest(name, mine, "fields")
            reporter.error("FC0502", message, reporter.key(path), at=path, advice=advice)
        elif other is not None and field is not None and other != field:
            kinds = [typed_shape(dtype, shape) for shape, dtype in (other, field)]
            message = f"`{name}` is {kinds[0]} in the set `{path[-1]}`, but {kinds[1]} in the training data"
            reporter.error("FC0502", message, reporter.key(path), at=path)


def _mixture(config: Config, parts: Sequence[Split]) -> Groups:
    """The sets of a mixture as groups of rows."""
    mixture = config.training.data.mixture
    of = torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
    return Groups(of, (1.0, *(section.weight for section in mixture.values())), (MAIN, *mixture))


def _groups(config: Config, train: Split) -> Groups | None:
    """The groups that `data.sample` draws rows by. Raises `ConfigError` for a field that has none."""
    sample = config.training.data.sample
    name = sample.by or sample.weight
    if name is None:
        return None
    path = ("data", "sample", "by" if sample.by is not None else "weight")
    with _at(config, path):
        if name not in train.fields:
            advice = suggest(name, train.fields, "fields")
            raise ConfigError(Diagnostic("FC0502", f"the data has no field `{name}`", path=dotted(path), advice=advice))
        if isinstance(train, RowStream):
            raise ValueError("the rows of an iterable data set cannot be drawn: it determines their order")
        values = column_of(train, name)
        return by_value(values, name) if sample.by is not None else by_weight(values, name)


def _buckets(config: Config, train: Split) -> Buckets | None:
    """The lengths of training rows, if `data.buckets` asks for them. Raises `ConfigError` for wrong fields."""
    section, origins = config.training.data.buckets, config.origins
    if section is None or isinstance(train, RowStream):  # `as_trained` refuses iterable ones
        return None
    reporter = Reporter(origins)
    check_buckets(config.training, tuple(train.fields), reporter)
    reporter.stop_on_errors()
    shape, dtype = train.fields[section.mask]
    if dtype != torch.bool or len(shape) != 1:
        kind = typed_shape(dtype, shape)
        message = f"a mask is true where a row has items, bool [length], and `{section.mask}` is {kind}"
        advice = "name the mask of a padded field, such as `NAME_present`"
        reporter.error("FC0501", message, at=("data", "buckets", "mask"), advice=advice)
        reporter.stop_on_errors()
    for name in listed(section.cut):
        own = train.fields[name][0]
        if own[:1] != shape:
            message = f"`{section.mask}` has {shape[0]} items, and `{name}` has the shape {list(own)}"
            advice = "cut fields of the same length as their mask"
            reporter.error("FC0501", message, at=("data", "buckets", "cut"), advice=advice)
    reporter.stop_on_errors()
    mask = column_of(train, section.mask).cpu()
    return Buckets((mask * torch.arange(1, shape[0] + 1)).amax(1), section.pool)


@contextmanager
def _at(config: Config, path: Keys) -> Iterator[None]:
    """A block whose errors are about the value at a path of the config."""
    try:
        yield
    except ValueError as problem:
        place = config.origins.value(path)
        raise ConfigError(Diagnostic("FC0501", str(problem), place, dotted(path))) from None
    except ConfigError as error:
        raise ConfigError(*placed(error.diagnostics, config)) from None


def _made(
    config: Config,
    device: torch.device,
    cache: Cache | None,
    path: Keys,
    data_set: DataSet,
    fitted: Mapping[str, Any] | None,
    wanted: str | None = None,
) -> Splits:
    """The splits of the data set that is written at a path of the config; `wanted` is the only one that is used."""
    name, args = data_set.name, dict(data_set.args)
    if data_set.takes("seed"):
        args.setdefault("seed", config.training.seed)
    if data_set.takes(FITTED):
        args[FITTED] = fitted
    data_set, origins = replace(data_set, args=args), config.origins
    place = origins.value((*path, "name")) if origins.at((*path, "name")) is not None else origins.key(path)
    making = room_for(f"the data set `{name}`", (), torch.device("cpu"), _less(data_set))
    with _refusing(config, path, name, place), undisturbed(device), making:
        if cache is None:
            splits = _called(data_set, place)
        else:
            recipe = recipe_of(replace(data_set, args={**args, FITTED: None}), cache.folder)
            splits = cache.splits(recipe, args.get(FITTED), partial(_called, data_set, place))
        for part, split in splits.named():
            if wanted in (None, part) and isinstance(split, Resident):
                split.make()
        empty = [name for name, split in splits.named() if not len(split)]
    if empty:
        raise ConfigError(Diagnostic("FC0501", f"the split `{empty[0]}` of `{name}` has no rows", place, "data"))
    return splits


@contextmanager
def _refusing(config: Config, path: Keys, name: str, place: Place) -> Iterator[None]:
    """A block that makes the data set of a path of the config, where its exceptions become errors."""
    try:
        yield
    except (ConfigError, RunError) as error:
        raise ConfigError(*placed(error.diagnostics, config, path)) from None
    except MachineError as error:
        raise MachineError(*placed(error.diagnostics, config, path)) from None
    except (Exception, SystemExit) as problem:  # a data set of a project may raise anything
        if isinstance(problem, FlowconfError) or is_out_of_memory(problem):
            raise
        if isinstance(problem, PermissionError):
            message = f"the data set `{name}` cannot read `{problem.filename}`: permission denied"
        elif isinstance(problem, TypeError | ValueError | SystemExit):
            message = f"invalid arguments for the data set `{name}`: {problem}"
        elif isinstance(problem, OSError):
            raise
        else:
            message = f"the data set `{name}` cannot be made: {type(problem).__name__}: {problem}"
        raise ConfigError(Diagnostic("FC0501", message, place, "data", raised_here(problem))) from problem


def _called(data_set: DataSet, place: Place) -> Splits:
    """The splits that a data set gives for its arguments. Raises `ConfigError` if it gives something else."""
    found = data_set.factory(**data_set.args)
    if not isinstance(found, Splits):
        message = f"the data set `{data_set.name}` must return `flowconf.Splits`, got `{type(found).__name__}`"
        advice = "return `flowconf.Splits(train, validation)`"
        raise ConfigError(Diagnostic("FC0501", message, place, "data", advice=advice))
    train, held, tested = (as_split(part) for part in (found.train, found.validation, found.test))
    return Splits(train, held, tested, found.fitted)


def feeds(splits: Splits, config: Config, team: Team) -> dict[str, Feed]:
    """A feed for each split, by its name in logs."""
    section, seed = config.training.data, config.training.seed
    channels_last = config.training.trainer.channels_last
    less, found = _less(DataSet(section.name, section.args)), {}
    for name, split in splits.named():
        stays = [*split.tensors.values()] if isinstance(split, Resident) else []
        with room_for(f"the split `{name}` of the data", stays, team.device, less):
            found[name] = Feed(split, team.device, seed, name, team, section.workers, section.prefetch, channels_last)
    return found


def placed(diagnostics: Iterable[Diagnostic], config: Config, base: Keys = ("data",)) -> Iterator[Diagnostic]:
    """Diagnostics with their place in the config, where they have none or only that of a data file.

    `base` is where the data set is written; it takes the place of `data` in their paths.
    """
    origins = config.origins
    for one in diagnostics:
        path: Keys = _argument_of(one.place.file, config, base) or path_of(one.path)
        if path[0] == "data" and path[: len(base)] != base:
            path = (*base, *path[1:]) if origins.at((*base, *path[1:2])) is not None else path
        node = origins.at(path)
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


def _argument_of(file: str | None, config: Config, base: Keys) -> Keys | None:
    """The argument of the data set that names a file, a folder above it, or a pattern that matches it."""
    if file is None:
        return None
    above = (file, *(str(folder) for folder in Path(file).parents))
    section = config.training.data if base == ("data",) else further_sets(config.training)[base]
    args = {name: given for name, given in section.args.items() if isinstance(given, str)}
    named = (name for name, given in args.items() if os.path.normpath(given) in above or fnmatch(file, given))
    return next(((*base, name) for name in named), None)


def _less(data_set: DataSet) -> str:
    """Advice that reduces the memory of a data set."""
    return "set `data.resident=false`" if data_set.takes("resident") else "use fewer rows"
