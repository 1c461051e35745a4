"""The tables of names that a config can use: modules, losses, metrics, data sets, and so on.

A name comes from flowconf itself, from `torch.nn`, or from code that the project or an installed package registers.
A config cannot add names. Names and arguments are checked before their code is imported.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import keyword
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, TypeVar, overload

from flowconf.language import confined, foreign, projects, signatures
from flowconf.language.advice import other_tools
from flowconf.language.foreign import Foreign, NotOffered
from flowconf.language.signatures import ClassSource, Signature
from flowconf.report import NOWHERE, Advice, Available, ConfigError, Diagnostic, Place, Suggestion, shortened, texts

T = TypeVar("T", bound=Callable[..., Any])
Sources = str | Sequence[str]

BUILT_IN = "flowconf.offers"
"""The module that offers the names of flowconf, like the module of a project."""

GRAMMAR_WORDS = frozenset({
    "_", "true", "false", "none", "null", "bool", "choice", "float", "glob", "int", "interval", "range", "shuffle",
    "sort", "str", "tag", "extend_list",
})  # fmt: skip
"""Functions of the override grammar, which cannot be registered: on the command line the grammar would call them."""


@cache
def _offer_built_ins() -> None:
    """Import the module with the names of flowconf, before any others."""
    importlib.import_module(BUILT_IN)


@dataclass
class Table:
    """A table of names.

    Attributes:
        kind: the kind of its names, in messages.
        code: the error code for unknown names.
        registered: name -> the class or function itself.
        offered: name -> the module that defines it, of offers that were read.
        unread: modules that offer their names, with the patterns of excluded names.
        of_functions: whether its names are functions, and no classes.
        leading: the number of arguments that the trainer passes, the first ones.
        first: the name of the first of them, where another one would be a misunderstanding.
        filled: arguments that the trainer fills in unless the config sets them.
        hidden: arguments that only the trainer passes.
    """

    kind: str
    code: str
    registered: dict[str, Any] = field(default_factory=dict)
    offered: dict[str, str] = field(default_factory=dict)
    unread: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    of_functions: bool = False
    leading: int = 0
    first: str = ""
    filled: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def locations(self) -> dict[str, str]:
        """Name -> the module that defines it, which is imported only if a config uses the name.

        Raises `ConfigError` (FC0126) for a name that two modules offer, or that is not allowed in a config.
        """
        _offer_built_ins()
        while self.unread:
            source, without = self.unread[0]
            for name in signatures.public_names(source):
                if not any(fnmatchcase(name, pattern) for pattern in without):
                    home = signatures.home(source, name)
                    known = self.registered[name].__module__ if name in self.registered else self.offered.get(name, "")
                    self._check_usable(name, "" if known == home else known, home)
                    self.offered[name] = home
            del self.unread[0]
        return self.offered

    @property
    def one(self) -> str:
        """The kind with its article: `an optimizer`."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    @property
    def plural(self) -> str:
        return f"{self.kind}es" if self.kind.endswith("s") else f"{self.kind}s"

    def names(self) -> list[str]:
        """All names of the table."""
        return list(dict.fromkeys([*self.registered, *self.locations]))

    def __contains__(self, name: object) -> bool:
        return name in self.registered or name in self.locations

    def home(self, name: str) -> str:
        """The module that defines `name`; empty for an unknown name."""
        if name in self.registered:
            return str(self.registered[name].__module__)
        return self.locations.get(name, "")

    def is_built_in(self, name: str) -> bool:
        """Whether `name` is defined by flowconf."""
        return self.home(name).startswith("flowconf.")

    def unknown(self, name: str, place: Place, path: str = "", advice: Advice | None = None) -> Diagnostic:
        """The diagnostic for a name that is not in the table."""
        advice = projects.advice_for(name, place) or advice or self.advice_for(name)
        message = f"unknown {self.kind} `{shortened(name)}`"
        return Diagnostic(self.code, message, place, path, advice=advice)

    def advice_for(self, name: str, also: Iterable[str] = ()) -> Advice | None:
        """The advice for a name that is not in the table; `also` are further allowed names."""
        return other_tools.for_name(self.kind, self.plural, name, [*also, *self.names()])

    def signature(self, name: str) -> Signature:
        """The signature of a function, or of the constructor of a class."""
        if name in self.registered:
            return signatures.of_function(self.registered[name])
        return signatures.read_function(self.locations[name], name)

    def passed(self, name: str) -> set[str]:
        """The arguments that only the trainer passes."""
        return {*self.signature(name).positional[: self.leading], *self.hidden}

    def missing(self, name: str, given: Collection[str]) -> list[str]:
        """The required arguments without a value, if a config gives the arguments `given`."""
        return self.signature(name).missing(self.leading, {*given, *self.filled, *self.hidden})

    def summary(self, name: str) -> str:
        """The first sentence of the docstring, or empty."""
        if name in self.registered:
            return signatures.first_sentence(inspect.getdoc(self.registered[name]) or "")
        return signatures.first_sentence(signatures.read_docstring(self.locations[name], name))

    def declared(self, name: str, what: str) -> tuple[Any, ...] | None:
        """What a function declares by its decorator `what(...)`, or an attribute; read from source before an import."""
        if name in self.registered:
            found = getattr(self.registered[name], what, None)
            return found if isinstance(found, tuple | None) else (found,)
        for call in signatures.decorators(self.locations[name], name):
            if ast.unparse(call.func).split(".")[-1] == what:
                return tuple(ast.literal_eval(argument) for argument in call.args)
        return None

    def load(self, name: str) -> Any:
        """Import the class or function of a name. Raises `KeyError` for a name that is not in the table."""
        if name in self.registered:
            return self.registered[name]
        return getattr(importlib.import_module(self.locations[name]), name)

    def register(self, item: T, name: str | None = None) -> T:
        """Register `item` by its name. Raises `ConfigError` (FC0126) for a name that is taken or not allowed."""
        if not hasattr(item, "__qualname__"):
            kind = type(item).__name__
            advice = f'a name is written as `name="{item}"`' if kind == "str" else None
            message = f"only a class or a function can be registered as a {self.kind}, got a `{kind}`"
            raise ConfigError(Diagnostic("FC0123", message, advice=advice))
        if self.of_functions and isinstance(item, type):
            message = f"a {self.kind} is a function of tensors, got the class `{item.__name__}`"
            advice = "register a function that returns one value for each row"
            raise ConfigError(Diagnostic("FC0123", message, advice=advice))
        if self.first and not isinstance(item, type):
            self._check_first(item)
        name = name or item.__name__
        known = self.registered.get(name)
        if known is None:
            is_same = self.home(name) == item.__module__
        else:
            is_same = (known.__module__, known.__qualname__) == (item.__module__, item.__qualname__)
        self._check_usable(name, "" if is_same else self.home(name))
        self.registered[name] = item
        return item

    def _check_first(self, function: Any) -> None:
        """Reject a function that takes something else than the trainer gives. Raises `ConfigError` (FC0133)."""
        takes = signatures.of_function(function).positional
        if takes[:1] != [self.first]:
            name, got = function.__name__, f"`{takes[0]}`" if takes else "none"
            message = f"the first argument of the {self.kind} `{name}` must be `{self.first}`, got {got}"
            raise ConfigError(Diagnostic("FC0133", message, advice=f"write `def {name}({self.first}, ...)`"))

    def offer(self, source: str, without: Iterable[str] = ()) -> None:
        """Offer the public names of the module `source`, except those that match a pattern of `without`.

        Its source is read when the table is first used. Raises `ConfigError` (FC0132) if there is none.
        """
        if not signatures.has_source(source):
            raise ConfigError(Diagnostic("FC0132", f"the source of the module `{source}` was not found"))
        _offer_built_ins()
        self.unread.append((source, tuple(without)))

    def _check_usable(self, name: str, taken_by: str, home: str | None = None) -> None:
        """Reject a name that is not allowed in a config, or taken by another module; `home` defines it."""
        if taken_by:
            message = f"the name `{name}` is taken by `{taken_by}`"
        elif name in GRAMMAR_WORDS or not name.isidentifier() or keyword.iskeyword(name):
            message = f"the name `{name}` is not allowed in a config"
        else:
            return
        place = NOWHERE if home is None else signatures.place(home, name)
        raise ConfigError(Diagnostic("FC0126", message, place, advice="choose another name"))


class CallTable(Table):
    """A table of names that are called in a text, as in `Linear(64, 10)`."""

    def is_of_package(self, name: str) -> bool:
        """Whether a name begins with a package whose names can be called."""
        return False

    def class_source(self, name: str) -> ClassSource:
        """The signatures of a class, or of a function that returns an object."""
        item = self.registered.get(name)
        if item is not None:
            return signatures.of_class(item) if isinstance(item, type) else signatures.of_factory(item)
        return signatures.read_class(self.locations[name], name)


class ModuleTable(CallTable):
    """The table of modules that a step can call: registered names, and dotted ones of packages that a project lists."""

    def is_of_package(self, name: str) -> bool:
        """Whether a name begins with a package that a project lists."""
        return any(name.startswith(f"{package}.") for package in projects.packages())

    def is_opened(self, name: str) -> bool:
        """Whether references may lead into modules of this name: they are neither flowconf's nor torch's."""
        return not self.home(name).startswith(("flowconf.", "torch."))

    def foreign(self, name: str) -> Foreign | None:
        """What a listed package offers as a dotted name; None for other names. Raises `NotOffered`."""
        within = [package for package in projects.packages() if name.startswith(f"{package}.")]
        return foreign.find(max(within, key=len), name) if within else None

    def _offered_by_package(self, name: str) -> Foreign | None:
        try:
            return self.foreign(name) if "." in name else None
        except NotOffered:
            return None

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and "." in name:
            return self._offered_by_package(name) is not None
        return super().__contains__(name)

    def home(self, name: str) -> str:
        """The module that defines `name`; empty for an unknown name."""
        known = self._offered_by_package(name)
        return known.home if known is not None else super().home(name)

    def load(self, name: str) -> Any:
        """Import the class or function of a name; one of a listed package constructs in confinement."""
        known = self._offered_by_package(name)
        return confined.in_confinement(known.load()) if known is not None else super().load(name)

    def unknown(self, name: str, place: Place, path: str = "", advice: Advice | None = None) -> Diagnostic:
        """The diagnostic for a name that is not in the table, or that its package does not offer."""
        try:
            self.foreign(name)
        except NotOffered as problem:
            message = f"unknown module `{name}`: {problem.message}"
            found = problem.advice.within(name) if isinstance(problem.advice, Suggestion) else problem.advice
            return Diagnostic(self.code, message, place, path, advice=found)
        return super().unknown(name, place, path, advice)

    def advice_for(self, name: str, also: Iterable[str] = ()) -> Advice | None:
        """The advice for a name that is not in the table."""
        if name.startswith("Lazy") and name[4:] in self:
            return Suggestion(f"{name[4:]}(_, ...)", why=": `_` is inferred from the shape of the input")
        known = other_tools.for_module(name, self.names())
        if known is not None:
            return known
        advice = super().advice_for(name, also)
        if isinstance(advice, Suggestion):
            return advice
        summary = "the modules are those of torch.nn, flowconf's blocks, and what your project registers"
        return Available(self.plural, tuple(self.names()), summary=summary)

    def class_source(self, name: str) -> ClassSource:
        """The signatures of the class of a module, or of a function that returns it."""
        known = self._offered_by_package(name)
        return known.source if known is not None else super().class_source(name)


class AugmentationTable(CallTable):
    """The table of augmentations: those of `torchvision.transforms.v2`, and what a project registers."""

    def advice_for(self, name: str, also: Iterable[str] = ()) -> Advice | None:
        """The advice for a name that is not in the table."""
        advice = super().advice_for(name, also)
        if advice is None or (not isinstance(advice, Suggestion) and not signatures.has_source("torchvision")):
            return "those of torchvision require it: run `pip install 'flowconf[vision]'`"
        return advice


modules = ModuleTable("module", "FC0132")
losses = Table("loss", "FC0401", of_functions=True, hidden=("reduction",))
metrics = Table("metric", "FC0401", of_functions=True, hidden=("reduction",))
optimizers = Table("optimizer", "FC0401", leading=1)
schedules = Table("schedule", "FC0401", leading=1, first="progress")
datasets = Table("data set", "FC0501", filled=("seed",), hidden=("fitted",))
loggers = Table("logger", "FC0401", leading=1)
adapters = Table("adapter", "FC0132", leading=1)
callbacks = Table("callback", "FC0401")
augmentations = AugmentationTable("augmentation", "FC0132")

TABLES: dict[str, Table] = {
    table.plural.replace(" ", ""): table
    for table in (
        modules, losses, metrics, optimizers, schedules, datasets, loggers, adapters, callbacks, augmentations,
    )
}  # fmt: skip
"""All tables, by the names of the arguments of `offer`."""


def _registrar(table: Table) -> Any:
    @overload
    def register(item: T) -> T: ...
    @overload
    def register(item: None = None, *, name: str) -> Callable[[T], T]: ...
    def register(item: T | None = None, *, name: str | None = None) -> T | Callable[[T], T]:
        if item is not None:
            return table.register(item, name)
        return lambda later: table.register(later, name)

    register.__doc__ = f"Register a {table.kind} by its name, or by `name`, for use in configs."
    return register


register = _registrar(modules)
register_loss = _registrar(losses)
register_metric = _registrar(metrics)
register_optimizer = _registrar(optimizers)
register_schedule = _registrar(schedules)
register_dataset = _registrar(datasets)
register_logger = _registrar(loggers)
register_adapter = _registrar(adapters)
register_callback = _registrar(callbacks)
register_augmentation = _registrar(augmentations)


def offer(
    *,
    modules: Sources = (),
    losses: Sources = (),
    metrics: Sources = (),
    optimizers: Sources = (),
    schedules: Sources = (),
    datasets: Sources = (),
    loggers: Sources = (),
    adapters: Sources = (),
    callbacks: Sources = (),
    augmentations: Sources = (),
    without: Iterable[str] = (),
) -> None:
    """Make the public names of other modules usable in configs, without importing them.

    Each argument is the name of a module, or a list of them. Their source is read for names (`__all__`, or their public
    classes and functions) and arguments, so that a config is checked before anything is imported. `without` excludes
    names that match a pattern such as `Lazy*`.

        flowconf.offer(losses="my_package.losses", datasets=["my_package.images", "my_package.sounds"])

    Raises `ConfigError` (FC0132) for a module whose source was not found.
    """
    given = (modules, losses, metrics, optimizers, schedules, datasets, loggers, adapters, callbacks, augmentations)
    for (name, table), sources in zip(TABLES.items(), given, strict=True):
        for source in [sources] if isinstance(sources, str) else texts(sources, name):
            table.offer(source, texts(without, "without"))
