"""Information for a bug report: versions, devices, the project, plug-ins, git, the run folder, the terminal.

Importing this module requires only the standard library and `report`, so that it works in a broken installation.
"""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flowconf
from flowconf.report import NOWHERE, Diagnostic, FlowconfError, Place, as_dict, bytes_in_words, shown_path
from flowconf.train.runs.environment import installed
from flowconf.train.runs.repository import git_state

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OF_THE_REPOSITORY = ("test", "dev", "docs")
"""Extras that are only needed to develop flowconf."""
VARIABLES = ("CUDA_", "FLOWCONF_", "HYDRA_", "MKL_", "NCCL_", "OMP_", "PYTHON", "PYTORCH_", "TORCH")
"""Prefixes of the environment variables that are reported."""

Facts = dict[str, Any]


@dataclass
class Examination:
    """The findings as plain data, and the problems."""

    findings: Facts = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def as_data(self) -> Facts:
        """Findings and problems as plain data."""
        return {**self.findings, "problems": [as_dict(problem) for problem in self.problems]}

    def missing(self, message: str, place: Place = NOWHERE, advice: str | None = None) -> None:
        """Add a problem with this machine."""
        self.problems.append(Diagnostic("FC0601", message, place, advice=advice))


def examine(folder: Path) -> Examination:
    """Examine the machine and the project around `folder`. Nothing is written; a failed part is reported."""
    found = Examination()
    for name, look in PARTS.items():
        try:
            found.findings[name] = look(folder, found)
        except Exception as problem:  # noqa: BLE001 - a broken installation may raise anything
            found.findings[name] = None
            found.missing(f"`{name}` cannot be examined: {type(problem).__name__}: {problem}")
    return found


def _versions(folder: Path, found: Examination) -> Facts:
    return {
        "flowconf": flowconf.__version__,
        "location": str(Path(flowconf.__file__).parent),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
    }


def _packages(folder: Path, found: Examination) -> Facts:
    """The version of every package that flowconf requires."""
    versions = {}
    for wanted in _requirements(""):
        there = versions[wanted.name] = installed(wanted.name)
        if there is None:
            found.missing(f"the package `{wanted.name}` is not installed", advice=f"run `pip install '{wanted}'`")
        elif not wanted.specifier.contains(there, prereleases=True):
            message = f"flowconf requires `{wanted.name}` `{wanted.specifier}`, got `{there}`"
            found.missing(message, advice=f"run `pip install '{wanted}'`")
    return versions


def _extras(folder: Path, found: Examination) -> Facts:
    """The versions of the packages of every optional extra; null if not installed."""
    extras = [extra for extra in metadata("flowconf").get_all("Provides-Extra") or [] if extra not in OF_THE_REPOSITORY]
    return {extra: {wanted.name: installed(wanted.name) for wanted in _requirements(extra)} for extra in extras}


def _requirements(extra: str) -> Iterator[Requirement]:
    """The requirements of an extra, or of flowconf itself if the name is empty."""
    from packaging.requirements import Requirement

    for text in requires("flowconf") or []:
        wanted = Requirement(text)
        plain = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if plain if not extra else wanted.marker is not None and not plain and wanted.marker.evaluate({"extra": extra}):
            yield wanted


def _devices(folder: Path, found: Examination) -> Facts:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpu = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "memory": bytes_in_words(memory)}
    devices: Facts = {"cpu": cpu}
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            devices[f"cuda:{number}"] = {
                "name": torch.cuda.get_device_name(number),
                "capability": ".".join(map(str, torch.cuda.get_device_capability(number))),
                "memory": bytes_in_words(total),
                "free": bytes_in_words(free),
            }
    if torch.backends.mps.is_available():
        devices["mps"] = {"memory": bytes_in_words(torch.mps.recommended_max_memory())}
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": cudnn, **devices}


def _project(folder: Path, found: Examination) -> Facts:
    """The project file, and whether each module that registers names can be imported."""
    from flowconf.language import projects

    file = projects.project_file(folder)
    modules = {}
    try:
        listed = projects.project_modules(folder)
    except FlowconfError as error:
        listed = []
        found.problems.extend(error.diagnostics)
    for name, place in listed:
        try:
            projects.import_registering(name, place)
        except FlowconfError as error:
            found.problems.extend(error.diagnostics)
            modules[name] = "cannot be imported"
        else:
            modules[name] = "can be imported"
    return {"file": file and str(file), "modules": modules}


def _plugins(folder: Path, found: Examination) -> Facts:
    from flowconf.text.hydra_bridge import plugins

    return dict(plugins())


def _runs(folder: Path, found: Examination) -> Facts:
    """Whether the default folder of runs is writable."""
    runs = folder / "runs"
    there = next(parent for parent in (runs, *runs.parents) if parent.exists())
    effective = os.access in os.supports_effective_ids
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK, effective_ids=effective)
    if not writable:
        message = f"runs cannot be written: `{shown_path(there)}` is not a writable folder"
        found.missing(message, Place(str(there)), advice="set another folder with `trainer.runs=...`")
    return {"folder": str(runs), "writable": writable, "free": bytes_in_words(shutil.disk_usage(there).free)}


def _terminal(folder: Path, found: Examination) -> Facts:
    return {
        "term": os.environ.get("TERM"),
        "terminal": sys.stdout.isatty(),
        "columns": shutil.get_terminal_size().columns,
        "encoding": sys.stdout.encoding,
        "files": sys.getfilesystemencoding(),
        "locale": ".".join(part or "?" for part in locale.getlocale()),
    }


PARTS: dict[str, Callable[[Path, Examination], Facts | None]] = {
    "versions": _versions,
    "packages": _packages,
    "extras": _extras,
    "devices": _devices,
    "project": _project,
    "plug-ins": _plugins,
    "git": lambda folder, found: git_state(folder),
    "runs": _runs,
    "terminal": _terminal,
    "variables": lambda folder, found: {
        name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)
    },
}
"""The parts of an examination: each returns its findings and adds its problems."""
