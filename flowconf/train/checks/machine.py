"""Checks that this machine has what a run needs: data files, packages of loggers, and a graph that FSDP can shard."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.report import Reporter
from flowconf.report.origins import Path
from flowconf.train.checks.fsdp import check_shardable
from flowconf.train.data.declarations import DataSet, data_sets
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
    for path, data_set in data_sets(config.training).items():
        if config.training.data.cache is not None:
            _check_cache(config.training.data.cache, data_set, reporter)
        for argument, (message, advice) in data_set.refused_files().items():
            if reporter.origins.at((*path, argument)) is not None:  # a further set has those of the main one as well
                reporter.error("FC0501", message, at=(*path, argument), advice=advice)


def _check_cache(folder: str, data_set: DataSet, reporter: Reporter) -> None:
    """Report a data set whose rows cannot be kept, and a cache in the folder of the data, which would change it."""
    name = data_set.name
    if not data_set.says("cacheable"):
        message = f"`cache` does not apply to `{name}`, which does not declare that its rows can be kept"
        advice = "write `@flowconf.provides(..., cacheable=True)` if its rows depend on its arguments and files alone"
        advice = "remove it" if registry.datasets.is_built_in(name) else advice
        reporter.error("FC0501", message, reporter.key(CACHE), at=CACHE, advice=advice)
    for argument, file in data_set.files.items():
        if os.path.realpath(file) == os.path.realpath(folder):
            message = f"`cache` is the folder of the data, `{argument}`"
            reporter.error("FC0501", message, at=CACHE, advice="write another folder, such as `rows`")
