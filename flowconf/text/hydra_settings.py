"""The closed list of groups and keys that a config or the command line may pass to Hydra.

Hydra instantiates what its own section names, configures logging from it, sets the environment, and resolves
interpolations in it. So only the search path, the names of installed sweepers and launchers, and their arguments that
are plain numbers, booleans and strings are passed on. Any other key is refused (FC0108).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowconf.report import Advice, Place, Reporter, shortened, suggest
from flowconf.report.origins import Node, Path, dotted, from_plain

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as Parsed

HYDRA = "hydra"
GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")
"""The groups of which a defaults list or the command line may choose an installed option."""

PLAIN, MAPPING, FOLDERS = "a plain value", "plain values by name", "a list of folders"
FORMS = {
    PLAIN: "write a number, `true`, `false`, or a string in one line without `${...}`",
    MAPPING: "write the values to sweep under their keys, such as `seed: 0,1`",
    FOLDERS: "write a list of folders, without `${...}`",
}
Table = Mapping[str, Any]
"""Key -> the form of its value, or the table of the keys below it."""

SWEEPERS = "max_batch_size direction max_failure_rate n_jobs n_trials"
SAMPLERS = """
    consider_endpoints consider_magic_clip consider_prior consider_pruned_trials crossover_prob inc_popsize multivariate
    mutation_prob n_ehvi_candidates n_ei_candidates n_startup_trials population_size prior_weight seed sigma0
    swapping_prob use_separable_cma warn_independent_sampling
"""
JOBLIB = "batch_size n_jobs timeout verbose"
SLURM = """
    account array_parallelism comment constraint cpus_per_gpu cpus_per_task exclude gpus_per_node gpus_per_task gres
    max_num_timeout mem_gb mem_per_cpu mem_per_gpu name nodes partition qos signal_delay_s stderr_to_stdout
    tasks_per_node timeout_min
"""
RAY = "num_cpus num_gpus"


def _each(keys: str, allowed: str | Table) -> Table:
    return dict.fromkeys(keys.split(), allowed)


SETTINGS: Table = {
    "searchpath": FOLDERS,
    "sweeper": {**_each(SWEEPERS, PLAIN), "params": MAPPING, "sampler": _each(SAMPLERS, PLAIN)},
    "launcher": {**_each(JOBLIB, PLAIN), **_each(SLURM, PLAIN), "ray": _each("init remote", _each(RAY, PLAIN))},
}
"""The keys below `hydra`, of every sweeper and launcher; Hydra refuses those that the chosen one does not have.

Keys that name code, a command, a file or an address are left out: `custom_search_space`, `storage`, `setup`, and so on.
"""


def concerns(parsed: Parsed) -> bool:
    """Whether an override sets something of Hydra: by its key, its group, or its package."""
    return is_hydras(parsed.key_or_group.split(".")[0]) or is_hydras(parsed.package or "")


def is_hydras(path: str) -> bool:
    """Whether a group or a package belongs to Hydra."""
    return HYDRA in path.replace(".", "/").split("/")


def check_word(parsed: Parsed, place: Place, reporter: Reporter) -> None:
    """Report what an override that `concerns` Hydra sets and is not in the lists."""
    key = parsed.key_or_group
    if "/" in key or parsed.package is not None:
        chosen = parsed.value()
        options = chosen if isinstance(chosen, list) else [chosen]
        check_choice(key, parsed.package or "", place, reporter)
        check_options(key, {str(option): place for option in options if option is not None}, reporter)
        return
    value = parsed.get_value_string() if parsed.is_sweep_override() else parsed.value()
    for step in reversed(key.split(".")[1:]):
        value = {step: value}
    check_section(from_plain(value, place), reporter)


def check_choice(group: str, package: str, place: Place, reporter: Reporter) -> None:
    """Report a group of Hydra that cannot be chosen, or a package that no config can have."""
    if is_hydras(package):
        message = f"the package `{shortened(package)}` belongs to Hydra"
        reporter.error("FC0108", message, place, path=group, advice="remove it")
    elif package:
        message = f"`{shortened(group)}` cannot have the package `{shortened(package)}`"
        reporter.error("FC0108", message, place, path=group, advice=f"write `{group}`")
    elif group.lstrip("/") not in GROUPS:
        message = f"`{shortened(group)}` cannot be chosen"
        advice = f"the groups of Hydra that can be chosen are {', '.join(f'`{one}`' for one in GROUPS)}"
        reporter.error("FC0108", message, place, path=group, advice=advice)


def check_options(group: str, options: Mapping[str, Place], reporter: Reporter) -> None:
    """Report an option that is not a plain name."""
    for option, place in options.items():
        if not option.replace("_", "").isalnum():
            message = f"`{shortened(option)}` is not the name of a {group.rpartition('/')[2]}"
            reporter.error("FC0108", message, place, path=group, advice="write the name of an installed one")


def check_section(section: Node, reporter: Reporter) -> None:
    """Report everything in a `hydra` section that is not in the list."""
    _check(section, (HYDRA,), SETTINGS, reporter)


def _check(node: Node, path: Path, allowed: str | Table, reporter: Reporter) -> None:
    value = node.value
    if value is None:
        return
    if isinstance(allowed, Mapping) and isinstance(value, dict):
        for key, child in value.items():
            if key in allowed:
                _check(child, (*path, key), allowed[key], reporter)
            else:
                advice = suggest(key, allowed, "keys")
                _refuse(f"`{dotted((*path, key))}` cannot be set", child.key, (*path, key), advice, reporter)
    elif allowed == MAPPING and isinstance(value, dict):
        for key, child in value.items():
            if is_hydras(key.lstrip("+~").split(".")[0]) or not key.isprintable() or "@" in key:
                _refuse(f"`{shortened(key)}` cannot be swept", child.key, (*path, key), "remove it", reporter)
            _check(child, (*path, key), PLAIN, reporter)
    elif allowed == FOLDERS and isinstance(value, list):
        for child in value:
            _check(child, path, PLAIN, reporter)
    elif isinstance(allowed, Mapping) or not _is_plain(value):
        message = f"`{dotted(path)}` cannot be `{shortened(str(node.plain()))}`"
        _refuse(message, node.place, path, FORMS.get(str(allowed), "write its keys below it"), reporter)


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return value.isprintable() and "${" not in value
    return isinstance(value, bool | int | float)


def _refuse(message: str, place: Place, path: Path, advice: Advice | None, reporter: Reporter) -> None:
    reporter.error("FC0108", message, place, path=dotted(path), advice=advice)
