"""What flowconf takes from Hydra beside its grammars: defaults lists with their packages, sweepers and launchers.

Merging is not among them (see `merge`), nor is `instantiate` ever called on user data. The private parts of Hydra that
are used here and in `grammars` are pinned by `tests/text/test_upstream_hydra.py`. Importing this module imports Hydra.
"""

from __future__ import annotations

import copy
import math
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path as File
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep, ValueType
from hydra.core.override_parser.types import Override as Parsed
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from flowconf.report import ConfigError, Diagnostic, Place, Reporter, shortened
from flowconf.report.origins import Document
from flowconf.text import defaults, hydra_settings
from flowconf.text.defaults import Composed, Included
from flowconf.text.grammars import VERSION_BASE, as_choice, parse_override, quote
from flowconf.text.library import Library, has_configs, opened

HYDRA_ERRORS = (HydraException, OmegaConfBaseException)
MOST_JOBS = 10_000
"""The runs of a sweep, all of which are checked before the first one starts."""
MAX_LOADS = 2_000
"""Configs that all defaults lists together may include, counted as often as they are included."""


# how Hydra looks configs up


@dataclass
class FlowResult(ConfigResult):
    """Hydra's result with the document it came from."""

    document: Document | None = None


class FlowSource(ConfigSource):
    """One config root of a library. Hydra is shown only the defaults list and the `hydra` section of a file."""

    def __init__(self, library: Library, root: File, provider: str) -> None:
        super().__init__(provider, f"flowconf://{root}")
        self.library = library
        self.root = root

    def __deepcopy__(self, memo: object) -> FlowSource:
        return self

    @staticmethod
    def scheme() -> str:
        return "flowconf"

    def load_config(self, config_path: str) -> FlowResult:
        file = self.library.find(self.root, config_path)
        if file is None:
            raise ConfigLoadError(f"no config `{config_path}` in {self.root}")
        document = self.library.read(file)
        header = header_of(file, self.library.head(file))
        if hydra_settings.is_hydras(posixpath.dirname(config_path)) or hydra_settings.is_hydras(
            header["package"] or ""
        ):
            message, advice = "a config of Hydra's own cannot be brought", "write its keys below `hydra`"
            raise ConfigError(Diagnostic("FC0108", message, Place(str(file), 1, 1), advice=advice))
        defaults.check(document)
        shown = {key: document.data[key] for key in ("defaults", "hydra") if document.data.get(key) is not None}
        if isinstance(shown.get("hydra"), dict):
            shown["hydra"] = {key: value for key, value in shown["hydra"].items() if key != "searchpath"}
        config = OmegaConf.create(shown)
        return FlowResult(self.provider, self.full_path(), config, header, document=document)

    def available(self) -> bool:
        return self.root.is_dir()

    def is_group(self, config_path: str) -> bool:
        return bool(config_path) and ".." not in config_path and has_configs(opened(self.root / config_path))

    def is_config(self, config_path: str) -> bool:
        return self.library.find(self.root, config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return self.library.options(config_path) if results_filter != ObjectType.GROUP else []


def header_of(file: File, text: str) -> dict[str, str | None]:
    """The `# @package` line at the beginning of a file's text, as Hydra reads it."""
    try:
        return ConfigSource._get_header_dict(text)
    except ValueError as error:
        advice = "write `# @package _global_`, or no `# @` in the first lines"
        place = Place(str(file), 1, 1)
        raise ConfigError(Diagnostic("FC0104", "the `# @` line cannot be read", place, advice=advice)) from error


class FlowRepository(ConfigRepository):
    """The roots of a library, then Hydra's own configs and those of its plugins."""

    def __init__(self, library: Library) -> None:
        self.loaded: dict[str, ConfigResult | None] = {}
        """The configs that defaults lists have included; as the library reads files once, nothing is loaded again."""
        self.search_path = _own_search_path()
        super().__init__(self.search_path)
        roots = enumerate(library.roots)
        self.sources[0:0] = [FlowSource(library, root, f"root{index}" if index else "main") for index, root in roots]


def _own_search_path() -> ConfigSearchPathImpl:
    version.setbase(VERSION_BASE)
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    for plugin in Plugins.instance().discover(SearchPathPlugin):
        assert issubclass(plugin, SearchPathPlugin)
        plugin().manipulate_search_path(search_path)
    search_path.append("schema", "structured://")
    return search_path


def plugins() -> dict[str, list[str]]:
    """The sweepers and launchers that are installed, by the names that `hydra/sweeper=` and `hydra/launcher=` take."""
    repository = ConfigRepository(_own_search_path())
    kinds = ("sweeper", "launcher")
    return {f"{kind}s": repository.get_group_options(f"hydra/{kind}", ObjectType.CONFIG) for kind in kinds}


class _Loads(CachingConfigRepository):
    """Counts loads, because lists that include each other twice at every level grow without end."""

    def __init__(self, repository: FlowRepository) -> None:
        self.delegate = repository  # Hydra copies it, for callers that change it
        self.cache = repository.loaded
        self.count = 0

    def load_config(self, config_path: str) -> ConfigResult | None:
        self.count += 1
        if self.count > MAX_LOADS:
            raise TooManyLoads(f"more than {MAX_LOADS} configs are included")
        return super().load_config(config_path)


class TooManyLoads(HydraException):
    """Defaults lists that include too many configs."""


class Lists:
    """Defaults lists over one library."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.repository = FlowRepository(library)

    def chooses(self, override: Parsed) -> bool:
        """Whether an override chooses options of a config group that exists, or none of a listed one."""
        value, group = override.value(), override.key_or_group
        names = not any(isinstance(one, dict | list) for one in (value if isinstance(value, list) else [value]))
        is_group = names and bool(self.repository.group_exists(group))
        return (is_group and not self.removes_section(override)) or (value is None and self.lists_without_folder(group))

    def lists_without_folder(self, group: str) -> bool:
        """Whether the defaults lists have an entry for a group that has no folder, such as `pivot: null`."""
        if "." in group or group in self.library.rules.tops or self.repository.group_exists(group):
            return False
        return group in (self.choices or ())

    def removes_section(self, override: Parsed) -> bool:
        """Whether `~schedule` or `schedule=null` is about the section, because no defaults list has a group for it."""
        if override.value() is not None or override.is_add() or override.key_or_group not in self.library.rules.tops:
            return False
        return self.choices is not None and override.key_or_group not in self.choices

    @cached_property
    def choices(self) -> dict[str, Any] | None:
        """The options that the defaults lists choose by themselves; None if they have mistakes."""
        try:
            return (defaults.alone(self.library) or self.compose([])).choices
        except (*HYDRA_ERRORS, ValueError, OSError, RecursionError):
            return None  # the lists are composed next, which reports this

    def options(self, group: str) -> list[str]:
        """The options of a group, Hydra's own groups as well."""
        return list(self.repository.get_group_options(group, ObjectType.CONFIG))

    def compose(self, overrides: Sequence[Parsed]) -> Composed:
        """The configs that the main file and the group overrides include.

        Raises `HydraException`, `ValueError` and `RecursionError`: from Hydra; `compose` turns them into diagnostics.
        """
        repository = _Loads(self.repository)
        made = create_defaults_list(repository, self.library.main.name, list(overrides), True, skip_missing=False)
        included = []
        for default in made.defaults:
            assert default.config_path is not None
            loaded = repository.load_config(default.config_path)
            if isinstance(loaded, FlowResult) and loaded.document is not None:
                package = default.package or ""
                included.append(Included(default.config_path, package, default.parent, loaded.document))
        chosen = {**made.overrides.known_choices, **made.overrides.override_choices}
        choices = {key: value for key, value in chosen.items() if not key.startswith("hydra/")}
        return Composed(tuple(included), choices)


# sweeps


SweepCheck = Callable[[Sequence[str]], Callable[[str | None], object]]
"""Composes a job's config from its overrides, and returns the check that needs the sweeper's direction."""


def refuse_uncountable(overrides: Sequence[Parsed]) -> None:
    """Raise `ConfigError` for no combination, and for more than `MOST_JOBS`, before they are listed."""
    swept = [one for one in overrides if one.is_sweep_override()]
    empty = next((one for one in swept if not _number_of_values(one)), None)
    if empty is not None:
        message = f"`{shortened(str(empty.input_line))}` has no values to try"
        advice = f"write a list of values, such as `{empty.key_or_group}=VALUE,VALUE`"
        raise ConfigError(Diagnostic("FC0103", message, Place(word=str(empty.input_line)), advice=advice))
    if math.prod(map(_number_of_values, swept)) > MOST_JOBS:
        word = str(max(swept, key=_number_of_values).input_line)
        message = f"the sweep has more than {MOST_JOBS:,} runs"
        raise ConfigError(Diagnostic("FC0103", message, Place(word=word), advice="write fewer values"))


def _number_of_values(override: Parsed) -> float:
    values = override.value()
    if isinstance(values, RangeSweep):
        assert values.start is not None
        assert values.stop is not None
        count = (values.stop - values.start) / values.step if values.step else math.inf
        return max(0, count)  # 0 if it is not a number, too
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return sum(1 for _ in override.sweep_iterator())
    return len(values.list) if isinstance(values, ChoiceSweep) else 1


class SweepLoader(ConfigLoaderImpl):
    """Hydra's loader for a sweep: Hydra composes its own section, flowconf checks that each job composes."""

    def __init__(self, library: Library, check: SweepCheck, settings: Sequence[str]) -> None:
        self.lists = Lists(library)
        self.check = check
        self.settings = settings
        self.total: int | None = None
        """The number of jobs, if the sweeper is known to make that many."""
        self.repository = self.lists.repository
        self.config_search_path = self.repository.search_path
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        """Hydra's own section by the words that it is composed from, which most jobs of a sweep share."""

    def _process_config_searchpath(self, *unused: object) -> None:
        """The library has the search path already."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        parsed = [_parsed(word) for word in overrides]
        self.refuse_settings(parsed)
        task = [one for one in parsed if not one.is_hydra_override()]
        look = self.check([str(one.input_line) for one in task]) if run_mode == RunMode.RUN else None
        words = [str(one.input_line) for one in parsed if one.is_hydra_override()]
        words += [str(as_choice(one).input_line) for one in task if self.lists.chooses(one)]
        key = (run_mode.name, *words)
        if key not in self.composed:
            self.composed[key] = super().load_configuration(
                config_name, words, run_mode, from_shell, validate_sweep_overrides
            )
        config = copy.deepcopy(self.composed[key])
        if run_mode == RunMode.MULTIRUN:
            self.total = self.planned(config.hydra.sweeper, [str(one.input_line) for one in task])
        if look is not None:
            direction = config.hydra.sweeper.get("direction")
            look(None if direction is None else getattr(direction, "name", str(direction)))
        with open_dict(config.hydra):
            config.hydra.overrides.task = [one.input_line for one in task]
            config.hydra.job.override_dirname = get_overrides_dirname(task, [], ",", "=")
        return config

    def planned(self, sweeper: DictConfig, words: Sequence[str]) -> int | None:
        """The number of jobs that Hydra's sweeper and Optuna's make; None for others."""
        trials: int | None = sweeper.get("n_trials")
        kind = str(sweeper.get("_target_"))
        on_grid = "GridSampler" in str((sweeper.get("sampler") or {}).get("_target_"))
        if not on_grid and not kind.endswith(BasicSweeper.__name__):
            return trials
        params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
        parsed = OverridesParser.create(config_loader=self).parse_overrides([*params, *words])
        refuse_uncountable(parsed)
        (combinations,) = BasicSweeper.split_arguments(parsed, None)
        return min(len(combinations), trials or len(combinations))

    def refuse_settings(self, overrides: Sequence[Parsed]) -> None:
        """Refuse what must not reach Hydra in the words that a sweeper makes."""
        notes = Reporter()
        for one in overrides:
            if hydra_settings.concerns(one) and one.input_line not in self.settings:
                hydra_settings.check_word(one, Place(word=str(one.input_line)), notes)
        notes.stop_on_errors()


def _parsed(word: str) -> Parsed:
    """A word that a sweeper has made of a parsed one. Raises `ConfigError` if that cannot be parsed again."""
    try:
        return parse_override(word)
    except ValueError:
        message = f"the sweeper makes `{shortened(word)}` of it, which is not a valid override"
        raise ConfigError(Diagnostic("FC0103", message, Place(word=word), advice="quote the value")) from None


SweepJob = Callable[[Sequence[str], int, int | None], object]
"""Runs a job, given its overrides, its number from 1, and the number of all, if it is known."""


def sweep(library: Library, folder: File, words: Sequence[str], check: SweepCheck, job: SweepJob) -> None:
    """Runs `job` once for each combination, through the sweeper and launcher that the config or `words` choose.

    The files of Hydra go to `folder`, and it leaves logging alone.
    """
    settings = ["hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null"]
    settings += ["hydra.sweep.subdir=.", f"hydra.sweep.dir={quote(str(folder))}"]
    loader = SweepLoader(library, check, settings)
    Hydra(task_name=library.main.stem, config_loader=loader).multirun(
        library.main.name, partial(_run, job, loader), [*settings, *words], with_log_configuration=False
    )


def _run(job: SweepJob, loader: SweepLoader, config: object) -> object:
    """The task of Hydra for the job that it has configured."""
    running = HydraConfig.get()
    return job([str(word) for word in running.overrides.task], running.job.num + 1, loader.total)
