"""What may be said to Hydra: the closed list of groups and keys that reach it from a config or the command line.

Hydra instantiates what its own section names, configures logging from it, sets the environment, and resolves
interpolations in it. So nothing gets there but the search path, the names of installed sweepers and launchers, and
arguments of these that are plain numbers, truths and words. A key that is not in the tables is refused (FC0108).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowconf.report import Advice, Place, Reporter, suggest
from flowconf.report.origins import Node, Path, dotted, from_plain
from flowconf.text.source import shown

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as Parsed

HYDRA = "hydra"
GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")
"""The groups of which a defaults list or a word may choose an installed option."""

PLAIN, MAPPING, FOLDERS = "a plain value", "plain values by name", "a list of folders"
FORMS = {
    PLAIN: "write a number, `true`, `false`, or a text of one line without `${...}`",
    MAPPING: "write the values to sweep by their keys, as in `seed: 0,1`",
    FOLDERS: "write a list of folders, without `${...}`",
}
Table = Mapping[str, Any]
"""Key -> what may stand there: one of the three, or a table."""

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

Left out is whatever names code, a command, a file or an address: `custom_search_space`, `storage`, `setup`, and so on.
"""


def concerns(parsed: Parsed) -> bool:
    """Whether a word says something to Hydra: by its key, its group, or the package where a group goes."""
    return is_hydras(parsed.key_or_group.split(".")[0]) or is_hydras(parsed.package or "")


def is_hydras(path: str) -> bool:
    """Whether a group or a package leads into what is Hydra's."""
    return HYDRA in path.replace(".", "/").split("/")


def check_word(parsed: Parsed, place: Place, reporter: Reporter) -> None:
    """Note what is not in the lists of a word that `concerns` Hydra."""
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
    """Note a group of Hydra's that is not chosen, or a package where no config goes."""
    if is_hydras(package):
        message = f"no config can go to `{shown(package)}`, which is Hydra's"
        reporter.error("FC0108", message, place, path=group, advice="remove it")
    elif package:
        message = f"`{shown(group)}` goes where Hydra looks for it, not to `{shown(package)}`"
        reporter.error("FC0108", message, place, path=group, advice=f"write `{group}`")
    elif group.lstrip("/") not in GROUPS:
        message = f"`{shown(group)}` cannot be chosen"
        advice = f"of Hydra's groups a config chooses {', '.join(f'`{one}`' for one in GROUPS)}"
        reporter.error("FC0108", message, place, path=group, advice=advice)


def check_options(group: str, options: Mapping[str, Place], reporter: Reporter) -> None:
    """Note an option that is not a plain name."""
    for option, place in options.items():
        if not option.replace("_", "").isalnum():
            message = f"`{shown(option)}` is not the name of a {group.rpartition('/')[2]}"
            reporter.error("FC0108", message, place, path=group, advice="write the name of an installed one")


def check_section(section: Node, reporter: Reporter) -> None:
    """Note everything in a `hydra` section that is not in the list."""
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
                _refuse(f"`{shown(key)}` cannot be swept", child.key, (*path, key), "remove it", reporter)
            _check(child, (*path, key), PLAIN, reporter)
    elif allowed == FOLDERS and isinstance(value, list):
        for child in value:
            _check(child, path, PLAIN, reporter)
    elif isinstance(allowed, Mapping) or not _is_plain(value):
        message = f"`{dotted(path)}` cannot be `{shown(str(node.plain()))}`"
        _refuse(message, node.place, path, FORMS.get(str(allowed), "write its keys below it"), reporter)


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return value.isprintable() and "${" not in value
    return isinstance(value, bool | int | float)


def _refuse(message: str, place: Place, path: Path, advice: Advice | None, reporter: Reporter) -> None:
    reporter.error("FC0108", message, place, path=dotted(path), advice=advice)
