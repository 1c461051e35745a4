"""Checks that this machine has what a run needs: data files, packages of loggers, and a graph that FSDP can shard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.sections.data_sets import further_sets
from flowconf.report import Reporter
from flowconf.report.origins import Path
from flowconf.train.checks.fsdp import check_shardable
from flowconf.train.data.declarations import refused_paths
from flowconf.train.runs.loggers import check_packages

CACHE: Path = ("data", "cache")


def check_machine(config: Config, parameters: Mapping[str, tuple[int, ...]], reporter: Reporter) -> None:
    """Report what is missing; `parameters` are the graph's, by name, with their sizes. Raises `MachineError`."""
    check_shardable(config, parameters, reporter)
    _check_data(config, reporter)
    if not reporter.errors:
        check_packages(config)


def _check_data(config: Config, reporter: Reporter) -> None:
    """Report data files and folders that do not exist or cannot be read."""
    data = config.training.data
    written: dict[Path, tuple[str, Mapping[str, Any]]] = {("data",): (data.name, data.args)}
    further = further_sets(config.training)
    written |= {path: (section.name or data.name, section.args) for path, section in further.items()}
    for path, (name, args) in written.items():
        if data.cache is not None:
            _check_cache(data.cache, name, args, reporter)
        for argument, (message, advice) in refused_paths(registry.datasets.load(name), args).items():
            reporter.error("FC0501", message, at=(*path, argument), advice=advice)


def _check_cache(folder: str, name: str, args: Mapping[str, Any], reporter: Reporter) -> None:
    """Report a data set whose rows cannot be kept, and a cache in the folder of the data, which would change it."""
    factory = registry.datasets.load(name)
    if not getattr(factory, "cacheable", False):
        message = f"`cache` does not apply to `{name}`, which does not declare that its rows can be kept"
        reporter.error("FC0501", message, reporter.key(CACHE), at=CACHE, advice=_to_keep(name))
    for argument in getattr(factory, "paths", ()):
        if isinstance(args.get(argument), str) and os.path.realpath(args[argument]) == os.path.realpath(folder):
            message = f"`cache` is the folder of the data, `{argument}`"
            reporter.error("FC0501", message, at=CACHE, advice="write another folder, such as `rows`")


def _to_keep(name: str) -> str:
    """What to write for a data set whose rows cannot be kept."""
    if registry.datasets.is_built_in(name):
        return "remove it"
    return "write `@flowconf.provides(..., cacheable=True)` if its rows depend on its arguments and files alone"
