"""Whose code is imported: that of installed packages, and of the project that a command is called in.

A project is a folder with a `pyproject.toml`; it lists modules under `[tool.flowconf] modules`, which register names,
and under `packages` those of others, whose classes a call may name. They are imported when the current folder is in
that project, or when it was trusted explicitly; an editor, which opens any folder, has to name those it trusts.
Everywhere else a config, and a run folder at any place, are
data: what was left out is reported, and none of it runs.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import cast

from flowconf.report import (
    Advice,
    ConfigError,
    Diagnostic,
    FlowconfError,
    Place,
    nearest,
    prints_aside,
    raised_here,
    read_from,
    shell_word,
    shown_path,
)
from flowconf.text.documents import read

PROJECT, RUN = "pyproject.toml", ("run.json", "config.yaml")
MODULES, PACKAGES = "modules", "packages"
MOST_SOURCES = 1000
"""Files that are searched for a name that is registered in none of the imported modules."""
EXAMPLES = {MODULES: 'modules = ["package.module"]', PACKAGES: 'packages = ["torchvision.models"]'}


@dataclass
class Trust:
    """The modules that this process imports besides installed packages."""

    given: set[Path] = field(default_factory=set)
    """Projects (their files) that are imported wherever the command is called."""
    below: tuple[Path, ...] | None = None
    """Folders whose projects alone are imported, wherever the command is called; None: it is not restricted to any."""
    imported: dict[Path, None] = field(default_factory=dict)
    """Projects that were imported, in that order."""
    packages: dict[str, Place] = field(default_factory=dict)
    """Packages that these projects list, and where."""
    withheld: dict[Path, Path] = field(default_factory=dict)
    """Folder that was asked for -> its project, which was not imported."""
    asked: Path | None = None
    """The folder that was asked for last."""
    called_in: Path | None = None
    """The folder that the command was called in, where the current one is another."""


_trust = Trust()


def trust(start: Path) -> None:
    """From here on, import what the project around the folder `start` registers."""
    project = project_file(start)
    if project is not None:
        _trust.given.add(project)


def trust_only(folders: Iterable[Path]) -> None:
    """From here on, import only what projects in these folders register; being called in a project is not enough."""
    _trust.below = tuple(Path(os.path.realpath(folder)) for folder in folders)


def import_project(start: Path, config: Path | None = None) -> tuple[Diagnostic, ...]:
    """Import what installed packages register, and the project around the folder `start` where it is trusted.

    Gives a warning (FC0109) for a project that is not; `config` is the folder of the config that is read, where it is
    another one. Raises `ConfigError` for a module that cannot be imported.
    """
    project = project_file(start)
    _trust.asked = config or start
    warnings: tuple[Diagnostic, ...] = ()
    if project is not None and _is_trusted(project):
        _import_listed(project)
    elif project is not None:
        warnings = tuple(_withhold(config or start, project))
    for name, place in _offered():
        import_registering(name, place)
    return warnings


def imported() -> tuple[Path, ...]:
    """The projects that this process has imported, for `import_again` in another process that takes part."""
    return tuple(_trust.imported)


def packages() -> tuple[str, ...]:
    """The packages whose modules a call may name, as the imported projects list them."""
    return tuple(_trust.packages)


def import_again(projects: Iterable[Path]) -> None:
    """Import what another process of the same command has imported."""
    for project in projects:
        _trust.given.add(project)
        if project not in _trust.imported:
            _import_listed(project)


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """A block in another folder, which changes nothing about where the command was called and what is trusted."""
    before = _trust.called_in
    _trust.called_in = _called_in()
    try:
        with read_from(str(_trust.called_in)), chdir(folder):
            yield
    finally:
        _trust.called_in = before


def advice_for(name: str, place: Place) -> str | None:
    """What to do about a name that is unknown at `place`, if a project registers it in a module that was not imported.

    Either the project was not imported, or it does not list the module.
    """
    for start, project in reversed(_trust.withheld.items()):
        if project in _trust.imported:
            continue
        folders = (start, project.parent)
        file = None if place.file is None else Path(os.path.realpath(place.file))
        if start == _trust.asked if file is None else any(file.is_relative_to(folder) for folder in folders):
            return f"the project `{shown_path(project)}` registers modules that were not imported: {_way(project)}"
    own = None if _trust.asked is None else project_file(_trust.asked)
    return None if own is None or own not in _trust.imported else next(_unlisted(name, own), None)


def _unlisted(name: str, project: Path) -> Iterator[str]:
    """The advice to list a module of a project, for each that registers a name and was not imported."""
    word = re.escape(name)
    decorated = rf".*\n(?:@.*\n)*(?:def|class) {word}\b"
    registers = re.compile(rf"^@.*\bregister\w*(?:\((?:name=)?[\"']{word}[\"']|{decorated})", re.MULTILINE)
    sources = (file for folder in sorted(project.parent.iterdir()) for file in _sources(folder))
    for file in islice(sources, MOST_SOURCES):
        module = ".".join(file.relative_to(project.parent).with_suffix("").parts).removesuffix(".__init__")
        if module not in sys.modules and registers.search(file.read_text(encoding="utf-8", errors="replace")):
            yield f"`{shown_path(file)}` registers it: add `{module}` to `modules` in `{shown_path(project)}`"


def _sources(entry: Path) -> list[Path]:
    """The Python files at or below an entry of the folder of a project, of which hidden ones are none of its own."""
    if entry.name.startswith(".") or (entry / "pyvenv.cfg").exists():
        return []
    return sorted(entry.rglob("*.py")) if entry.is_dir() else [entry] * (entry.suffix == ".py")


def project_file(start: Path) -> Path | None:
    """The `pyproject.toml` at or above a folder. A run folder is none, whatever is in it."""
    start = Path(os.path.realpath(start))
    return next(
        (
            folder / PROJECT
            for folder in (start, *start.parents)
            if (folder / PROJECT).is_file() and not all((folder / name).exists() for name in RUN)
        ),
        None,
    )


def _called_in() -> Path:
    return _trust.called_in or Path(os.path.realpath(Path.cwd()))


def _is_trusted(project: Path) -> bool:
    if _trust.below is not None:
        return any(project.is_relative_to(folder) for folder in _trust.below)
    return project in _trust.given or _called_in().is_relative_to(project.parent)


def _withhold(start: Path, project: Path) -> Iterator[Diagnostic]:
    """Note that a project is not imported, and say so, unless it lists nothing or all of it was imported by others."""
    missing = [(name, place) for name, place in _listed(project, MODULES) if name not in sys.modules]
    missing += [(name, place) for name, place in _listed(project, PACKAGES) if name not in _trust.packages]
    if missing:
        _trust.withheld[start] = project
        verb = "is" if len(missing) == 1 else "are"
        names = ", ".join(f"`{name}`" for name, _ in missing)
        why = "the command was not called in this project" if _trust.below is None else "this project is not trusted"
        message = f"{names} {verb} not imported: {why}"
        yield Diagnostic("FC0109", message, missing[0][1], advice=_way(project), severity="warning")


def _way(project: Path) -> str:
    if _trust.below is not None:
        return f"if you trust it, start the server with `flowconf lsp --trust {shlex.quote(str(project.parent))}`"
    return f"if you trust it, add `--trust` (in Python `trust=True`), or `cd {shell_word(project.parent)}`"


def _import_listed(project: Path) -> None:
    for name, place in _importable(project):
        import_registering(name, place)
    _trust.packages |= _listed(project, PACKAGES)
    _trust.imported[project] = None


def project_modules(start: Path) -> list[tuple[str, Place]]:
    """The modules that register names for the project around `start`, and where each of them is listed.

    Those under `[tool.flowconf] modules` in its `pyproject.toml`, whose folder they may be imported from after this
    call, then the entry points of the group `flowconf.modules`. Raises `ConfigError` for a list that cannot be read.
    """
    project = project_file(start)
    return [*(_importable(project) if project is not None else ()), *_offered()]


def import_registering(name: str, place: Place) -> None:
    """Import a module that registers names; `place` is where it is listed. Raises `ConfigError` when that fails."""
    try:
        with prints_aside():
            importlib.import_module(name)
    except (Exception, SystemExit) as problem:  # the project's own code may raise anything
        reason, labels = f"{type(problem).__name__}: {problem}", raised_here(problem)
        advice: Advice | None = _near_attribute(problem)
        if isinstance(problem, FlowconfError):
            reason, advice = problem.diagnostics[0].message, problem.diagnostics[0].advice
        if name.endswith(".py"):
            advice = f"write `{name[:-3]}`: a module is named without `.py`"
        message = f"the module `{name}` cannot be imported: {reason}"
        raise ConfigError(Diagnostic("FC0132", message, place, labels=labels, advice=advice)) from problem


def _near_attribute(problem: BaseException) -> str | None:
    """The advice for a name that a module does not have: the nearest one that it has."""
    found = re.search(r"cannot import name '(\w+)'", str(problem))
    if isinstance(problem, ImportError) and found is not None:
        wanted, home = found[1], cast(object, sys.modules.get(problem.name or ""))
    elif isinstance(problem, AttributeError):
        wanted, home = problem.name, problem.obj
    else:
        return None
    close = nearest(wanted, dir(home)) if isinstance(home, ModuleType) else None
    return None if close is None else f"write `{close}`"


def _offered() -> list[tuple[str, Place]]:
    """The modules of installed packages, from the entry points of the group `flowconf.modules`."""
    found = sorted(entry_points(group="flowconf.modules"), key=lambda entry: entry.name)
    return [(entry.module, Place(f"entry point {entry.name}")) for entry in found]


def _importable(project: Path) -> list[tuple[str, Place]]:
    """The modules that a project lists; they and its packages may be imported from its folder after this call."""
    listed = _listed(project, MODULES)
    if (listed or _listed(project, PACKAGES)) and str(project.parent) not in sys.path:
        sys.path.insert(0, str(project.parent))
    return listed


def _listed(project: Path, key: str) -> list[tuple[str, Place]]:
    """The names that a project lists under a key, and where. Raises `ConfigError`."""
    tool = read(project).origins.root.child("tool")
    section = tool.child("flowconf") if tool is not None and isinstance(tool.value, dict) else tool
    if section is None:
        return []
    strangers = [node for name, node in section.members() if name not in (MODULES, PACKAGES)]
    if strangers or not isinstance(section.value, dict):
        place = strangers[0].key if strangers else section.key
        message = "`[tool.flowconf]` has only `modules` and `packages`, two lists of names"
        raise ConfigError(Diagnostic("FC0121", message, place, advice=f"write `{EXAMPLES[MODULES]}`"))
    listed = section.child(key)
    if listed is None:
        return []
    if not isinstance(listed.value, list) or not all(isinstance(item.value, str) for item in listed.value):
        message, advice = f"`{key}` must be a list of module names", f"write `{EXAMPLES[key]}`"
        raise ConfigError(Diagnostic("FC0123", message, listed.place, advice=advice))
    found = [(item.value, item.place) for item in listed.value]
    for name, place in found:
        if key == PACKAGES and not all(part.isidentifier() for part in name.split(".")):
            message = f"`{name}` is not the name of a package"
            raise ConfigError(Diagnostic("FC0123", message, place, advice=f"write `{EXAMPLES[key]}`"))
    return found
