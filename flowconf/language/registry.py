"""The closed tables of names that a config may use: modules, losses, metrics, data sets, and so on.

A name comes from flowconf itself, from `torch.nn`, or from code that the project or an installed package registers.
A config can never add one. Names are known, and their arguments checked, before the code behind them is imported.
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, overload

from flowconf.language import builtins, signatures
from flowconf.language.advice import habits
from flowconf.language.signatures import ClassSource, Signature
from flowconf.report import Advice, ConfigError, Diagnostic, FlowconfError, Place, Suggestion, suggest
from flowconf.text import read

T = TypeVar("T", bound=Callable[..., Any])

GRAMMAR_WORDS = frozenset(
    {
        "_",
        "true",
        "false",
        "none",
        "null",
        "bool",
        "choice",
        "float",
        "glob",
        "int",
        "interval",
        "range",
        "shuffle",
        "sort",
        "str",
        "tag",
        "extend_list",
    }
)
"""Functions of the override grammar: a call of such a name on the command line would not reach the registry."""


@dataclass
class Table:
    """One closed table of names; `sources` are the modules whose public names it offers."""

    kind: str
    code: str
    sources: tuple[str, ...]
    torch_nn: bool = False
    registered: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def locations(self) -> dict[str, str]:
        """Name -> the module that defines it, in order of precedence; what is registered stands beside it."""
        found: dict[str, str] = {}
        for source in self.sources:
            for name in signatures.public_names(source):
                found.setdefault(name, source)
        if self.torch_nn:
            for name, source in signatures.imported_names(builtins.TORCH_NN).items():
                if name not in builtins.NOT_CALLABLE and not name.startswith("Lazy"):
                    found.setdefault(name, source)
        return found

    @property
    def plural(self) -> str:
        return f"{self.kind}es" if self.kind.endswith("s") else f"{self.kind}s"

    def names(self) -> list[str]:
        """Every name that a config may use here."""
        return [*self.registered, *self.locations]

    def __contains__(self, name: object) -> bool:
        return name in self.registered or name in self.locations

    def unknown(self, name: str, place: Place, path: str = "", advice: Advice | None = None) -> Diagnostic:
        """The diagnostic for a name that is not in the table."""
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        return Diagnostic(
            self.code, f"unknown {self.kind} `{shown}`", place, path, advice=advice or self.advice_for(name)
        )

    def advice_for(self, name: str, also: Iterable[str] = ()) -> Advice | None:
        """What to write instead of a name that is not in the table; `also` are names that may stand there too."""
        if name.startswith("Lazy") and name[4:] in self:
            return Suggestion(f"{name[4:]}(_, ...)", why=": `_` is filled in from the shape that arrives")
        if self.torch_nn and (known := habits.for_module(name, self.names())):
            return known
        advice = suggest(name, [*also, *self.names()], self.plural)
        if self.torch_nn and not isinstance(advice, Suggestion):
            return "names are those of torch.nn, of flowconf's blocks, and of what your project registers"
        return advice

    def class_source(self, name: str) -> ClassSource:
        """The signatures of a module class."""
        if name in self.registered:
            return signatures.of_class(self.registered[name])
        return signatures.read_class(self.locations[name], name)

    def signature(self, name: str) -> Signature:
        """The signature of a function, or of a class's constructor."""
        if name in self.registered:
            return signatures.of_function(self.registered[name])
        return signatures.read_function(self.locations[name], name)

    def summary(self, name: str) -> str:
        """The first sentence of the docstring; empty where there is none."""
        if name in self.registered:
            return signatures.first_sentence(inspect.getdoc(self.registered[name]) or "")
        return signatures.first_sentence(signatures.read_docstring(self.locations[name], name))

    def home(self, name: str) -> str:
        """The module that defines the name."""
        return str(self.registered[name].__module__) if name in self.registered else self.locations[name]

    def load(self, name: str) -> Any:
        """Import what the name stands for. Raises `KeyError` for a name that is not in the table."""
        if name in self.registered:
            return self.registered[name]
        return getattr(importlib.import_module(self.locations[name]), name)

    def register(self, item: T, name: str | None = None) -> T:
        """Make `item` usable by its name. Raises `ConfigError` when the name is taken or cannot be used."""
        name = name or item.__name__
        known = self.registered.get(name)
        same = known is not None and (known.__module__, known.__qualname__) == (item.__module__, item.__qualname__)
        taken = name in self and not same
        if taken or name in GRAMMAR_WORDS or not name.isidentifier() or keyword.iskeyword(name):
            why = "is taken" if taken else "cannot be used in a config"
            message = f"the name `{name}` {why}"
            raise ConfigError(Diagnostic("FC0126", message, advice="register it under another name"))
        self.registered[name] = item
        return item


modules = Table("module", "FC0132", builtins.MODULES, torch_nn=True)
losses = Table("loss", "FC0401", builtins.LOSSES)
metrics = Table("metric", "FC0401", builtins.METRICS)
optimizers = Table("optimizer", "FC0401", builtins.OPTIMIZERS)
schedules = Table("schedule", "FC0401", builtins.SCHEDULES)
datasets = Table("data set", "FC0501", builtins.DATASETS)
loggers = Table("logger", "FC0401", builtins.LOGGERS)


def _registrar(table: Table) -> Any:
    @overload
    def register(item: T) -> T: ...
    @overload
    def register(item: None = None, *, name: str) -> Callable[[T], T]: ...
    def register(item: T | None = None, *, name: str | None = None) -> T | Callable[[T], T]:
        if item is not None:
            return table.register(item, name)
        return lambda later: table.register(later, name)

    register.__doc__ = f"Make a {table.kind} usable by its name in configs; `name=` gives it another one."
    return register


register = _registrar(modules)
register_loss = _registrar(losses)
register_metric = _registrar(metrics)
register_dataset = _registrar(datasets)
register_logger = _registrar(loggers)


def import_project(start: Path) -> None:
    """Import what the project around `start` and installed packages register.

    Raises `ConfigError` when one of these modules cannot be imported.
    """
    for name, place in project_modules(start):
        import_registering(name, place)


def project_file(start: Path) -> Path | None:
    """The nearest `pyproject.toml` at or above `start`."""
    files = (folder / "pyproject.toml" for folder in (start, *start.parents))
    return next((file for file in files if file.is_file()), None)


def project_modules(start: Path) -> list[tuple[str, Place]]:
    """The modules that register names for the project around `start`, and where each of them is listed.

    Those under `[tool.flowconf] modules` in its `pyproject.toml`, whose folder they may be imported from after this
    call, then the entry points of the group `flowconf.modules`. Raises `ConfigError` for a list that cannot be read.
    """
    file = project_file(start)
    listed = _listed(file) if file is not None else []
    if file is not None and listed and str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    offered = sorted(entry_points(group="flowconf.modules"), key=lambda entry: entry.name)
    return [*listed, *((entry.module, Place(f"entry point {entry.name}")) for entry in offered)]


def _listed(project: Path) -> list[tuple[str, Place]]:
    tool = read(project).origins.root.child("tool")
    section = tool.child("flowconf") if tool is not None and isinstance(tool.value, dict) else tool
    if section is None:
        return []
    strangers = [node for key, node in section.members() if key != "modules"]
    if strangers or not isinstance(section.value, dict):
        place = strangers[0].key if strangers else section.key
        message = "`[tool.flowconf]` holds `modules`, a list of module names, and nothing else"
        raise ConfigError(Diagnostic("FC0121", message, place, advice='write `modules = ["package.module"]`'))
    modules = section.child("modules")
    if modules is None:
        return []
    if not isinstance(modules.value, list) or not all(isinstance(item.value, str) for item in modules.value):
        message = "`modules` must be a list of module names"
        raise ConfigError(Diagnostic("FC0123", message, modules.place, advice='write `modules = ["package.module"]`'))
    return [(item.value, item.place) for item in modules.value]


def import_registering(name: str, place: Place) -> None:
    """Import a module that registers names; `place` is where it is listed. Raises `ConfigError` when that fails."""
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as problem:  # the project's own code may raise anything
        told = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, FlowconfError):
            told = problem.diagnostics[0].message
        advice = f"write `{name[:-3]}`: a module is named without `.py`" if name.endswith(".py") else None
        message = f"the module `{name}` cannot be imported: {told}"
        raise ConfigError(Diagnostic("FC0132", message, place, advice=advice)) from problem
