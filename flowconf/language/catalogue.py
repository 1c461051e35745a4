"""The names that a config can use, with their arguments and a summary: the data of `flowconf list`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from flowconf.language import registry, value_types
from flowconf.language.registry import Table
from flowconf.language.signatures import Parameter


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One name of a table."""

    name: str
    parameters: tuple[Parameter, ...]
    summary: str
    """The first sentence of its docstring."""
    module: str
    """The Python module that defines it."""

    @property
    def call(self) -> str:
        """The name with its signature: `linear(*, final: float = 0.0)`."""
        return f"{self.name}({', '.join(_written(self.parameters))})"

    def as_data(self) -> dict[str, Any]:
        """The entry as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A table of names, and how a config uses them."""

    table: Table
    use: str

    def entries(self) -> list[CatalogueEntry]:
        """All names of the table, sorted. Reads source text and imports nothing."""
        return [self._entry(name) for name in sorted(set(self.table.names()), key=str.lower)]

    def _entry(self, name: str) -> CatalogueEntry:
        table = self.table
        signature = table.class_source(name).init if table is registry.modules else table.signature(name)
        shown = (p for p in signature.parameters[table.leading :] if not p.name.startswith("_"))
        parameters = tuple(p for p in shown if p.name not in table.hidden)
        return CatalogueEntry(name, parameters, table.summary(name), table.home(name))


SHELVES = {
    "modules": Shelf(registry.modules, "in the calls of a graph, as in `stem: Linear(64, 10)`"),
    "losses": Shelf(
        registry.losses,
        "as the `fn` of a loss or metric; `input` and `target` are passed first, other arguments under `args`",
    ),
    "metrics": Shelf(registry.metrics, "as the `fn` of a metric, like any loss and any class of torchmetrics"),
    "optimizers": Shelf(registry.optimizers, "as the `name` under `optimizer`, with the arguments beside it"),
    "schedules": Shelf(registry.schedules, "as the `name` under `schedule`, with the arguments beside it"),
    "data": Shelf(registry.datasets, "as the `name` under `data`, with the arguments beside it"),
    "loggers": Shelf(registry.loggers, "as a key under `loggers`, with the arguments below it"),
    "adapters": Shelf(registry.adapters, "as the `name` under `adapt`, with the arguments beside it"),
    "callbacks": Shelf(registry.callbacks, "as the `name` of a member of `callbacks`, with the arguments beside it"),
    "augmentations": Shelf(registry.augmentations, "in calls under `data.augment`"),
}
"""The tables, by their names on the command line."""


def ranges(entries: Iterable[CatalogueEntry]) -> dict[str, str]:
    """The types of numbers in the arguments, such as `Share`, with a description of their ranges."""
    types = " ".join(parameter.type for entry in entries for parameter in entry.parameters)
    return value_types.ranges_in(types)


def _written(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    starred = False
    for parameter in parameters:
        if parameter.kind == "keyword" and not starred:
            starred = True
            yield "*"
        starred = starred or parameter.kind == "*"
        stars = parameter.kind if parameter.kind in ("*", "**") else ""
        typed = f": {parameter.type}" if parameter.type else ""
        equals = " = " if typed else "="
        default = "" if parameter.required or stars else f"{equals}{parameter.default}"
        yield f"{stars}{parameter.name}{typed}{default}"
