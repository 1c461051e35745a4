"""Every name that a config may use, with its arguments and one line about it: the data of `flowconf list`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from flowconf.language import registry, value_types
from flowconf.language.registry import Table
from flowconf.language.signatures import Parameter


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a table."""

    name: str
    parameters: tuple[Parameter, ...]
    summary: str
    """The first sentence of its docstring."""
    module: str
    """Where it is defined."""

    @property
    def call(self) -> str:
        """The name with its arguments as Python writes them: `linear(*, final: float = 0.0)`."""
        return f"{self.name}({', '.join(_written(self.parameters))})"

    def as_data(self) -> dict[str, Any]:
        """The entry as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A table with the place of its names in a config."""

    table: Table
    use: str
    """Where a config names them."""
    passed: int = 0
    """How many leading arguments the trainer passes; a config cannot."""
    hidden: tuple[str, ...] = ()
    """Further arguments that only the trainer passes."""

    def entries(self) -> list[Entry]:
        """Every name of the table, sorted. Reads source text; imports nothing."""
        return [self._entry(name) for name in sorted(set(self.table.names()), key=str.lower)]

    def _entry(self, name: str) -> Entry:
        table = self.table
        signature = table.class_source(name).init if table is registry.modules else table.signature(name)
        shown = (p for p in signature.parameters[self.passed :] if not p.name.startswith("_"))
        parameters = tuple(p for p in shown if p.name not in self.hidden)
        return Entry(name, parameters, table.summary(name), table.home(name))


SHELVES = {
    "modules": Shelf(registry.modules, "in the calls of a graph, as in `stem: Linear(64, 10)`"),
    "losses": Shelf(
        registry.losses,
        "as the `fn` of a loss or metric: `input` and `target` are passed first, the rest goes under `args`",
        hidden=("reduction",),
    ),
    "metrics": Shelf(
        registry.metrics, "as the `fn` of a metric, like any loss and any class of torchmetrics", hidden=("reduction",)
    ),
    "optimizers": Shelf(registry.optimizers, "as the `name` under `optimizer`, with the arguments beside it", 1),
    "schedules": Shelf(registry.schedules, "as the `name` under `schedule`, with the arguments beside it", 1),
    "data": Shelf(registry.datasets, "as the `name` under `data`, with the arguments beside it"),
    "loggers": Shelf(registry.loggers, "as a key under `loggers`, with the arguments below it", 1),
}
"""Every table, by its name on the command line."""


def ranges(entries: Iterable[Entry]) -> dict[str, str]:
    """The kinds of numbers that the arguments name, such as `Share`, with their ranges in words."""
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
