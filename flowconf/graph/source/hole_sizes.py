"""The sizes of `_` in generated classes: numbers, or arguments of the classes of a file that is mounted several times.

A file that is mounted with different sizes is one class, which takes the sizes that differ: `Block(conv_in=8)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from flowconf.language.paths import above, join
from flowconf.language.plan import GraphPlan, Mount
from flowconf.language.resolve.reserved_names import RUNTIME

HolePlace = tuple[str, int]
"""The path of a call below a mounted file, and the number of the `_` in it."""


@dataclass
class HoleSizes:
    """The sizes of all `_` of a graph as text, in terms of the class in which they are written.

    `sizes`: path of a call -> the sizes of its `_`. The *home* of a graph is the nearest mounted file at or around it.
    """

    graph: GraphPlan
    sizes: Mapping[str, tuple[int, ...]]
    homes: dict[str, str] = field(default_factory=dict)
    """Path of a graph -> the path of its home."""
    labels: dict[str, frozenset[str]] = field(default_factory=dict)
    """Path of a home -> the labels of all mounts of its file with the same holes."""
    common: dict[str, dict[str, object]] = field(default_factory=dict)
    """Path of a home -> the values of parameters that all these mounts give."""
    names: dict[str, dict[HolePlace, str]] = field(default_factory=dict)
    """Path of a home -> the names of the sizes that differ between the mounts of its file."""

    def __post_init__(self) -> None:
        mounted: dict[str, Mount] = {}
        self._walk(self.graph, "", "", mounted)
        holes: dict[str, dict[HolePlace, int]] = {home: {} for home in mounted}
        for path, sizes in self.sizes.items():
            for home in above(path):
                if home in holes:
                    holes[home] |= {(path[len(home) + 1 :], number): size for number, size in enumerate(sizes)}
        files: dict[object, list[str]] = {}
        for home, mount in mounted.items():
            files.setdefault((mount.graph.source_name, mount.graph.params, frozenset(holes[home])), []).append(home)
        taken = set(_reserved(self.graph))
        for several in files.values():
            differ = [hole for hole in holes[several[0]] if len({holes[home][hole] for home in several}) > 1]
            together = [mounted[home] for home in several]
            self.names |= dict.fromkeys(several, _named(differ, taken))
            self.labels |= dict.fromkeys(several, frozenset(mount.graph.label for mount in together))
            self.common |= dict.fromkeys(several, _common(together))

    def texts(self, path: str, call: str) -> Iterator[str]:
        """The sizes of the `_` of a call in the graph at `path`, in the order in which they are written."""
        at = join(path, call)
        for number, size in enumerate(self.sizes.get(at, ())):
            yield self._text(self.homes[path], at, number, size)

    def parameters(self, path: str) -> list[str]:
        """The sizes that the class of the graph at `path` takes."""
        home = self.homes[path]
        inner = f"{path}."
        return [name for (call, _), name in self.names.get(home, {}).items() if f"{join(home, call)}".startswith(inner)]

    def given(self, path: str, child: str) -> list[str]:
        """The arguments for these sizes where the graph at `path` makes the nested graph `child`."""
        below, home = join(path, child), self.homes[path]
        if self.homes[below] == home:
            return [f"{name}={name}" for name in self.parameters(below)]
        sizes = ((join(below, call), number, name) for (call, number), name in self.names[below].items())
        return [f"{name}={self._text(home, at, number, self.sizes[at][number])}" for at, number, name in sizes]

    def default(self, path: str, name: str, declared: object) -> object:
        """The default of a parameter: the value that all mounts give, which the numbers in the class are made for."""
        return self.common.get(path, {}).get(name, declared)

    def label(self, path: str, graph: GraphPlan) -> str:
        """The name of the class of a graph: its label, or its file if that is mounted under several labels."""
        several = len(self.labels.get(path, ())) > 1
        return PurePosixPath(graph.source_name or "").stem if several else graph.label

    def _text(self, home: str, at: str, number: int, size: int) -> str:
        local = at[len(home) + 1 :] if home else at
        return self.names.get(home, {}).get((local, number), str(size))

    def _walk(self, graph: GraphPlan, path: str, home: str, mounted: dict[str, Mount]) -> None:
        self.homes[path] = home
        for child, mount in graph.mounts():
            below = join(path, child)
            if mount.graph.source_name is not None:
                mounted[below] = mount
                self._walk(mount.graph, below, below, mounted)
            else:
                self._walk(mount.graph, below, home, mounted)


def _named(holes: list[HolePlace], taken: set[str]) -> dict[HolePlace, str]:
    """A name for each size, such as `conv_in`."""
    named: dict[HolePlace, str] = {}
    for call, number in holes:
        name = f"{call.replace('.', '_')}_in{number + 1 if number else ''}"
        while name in taken or name in named.values():
            name += "_"
        named[call, number] = name
    return named


def _common(mounts: Sequence[Mount]) -> dict[str, object]:
    """The plain values of the parameters that all mounts of a file give, by name."""
    given: dict[str, dict[str, object]] = {}
    for mount in mounts:
        for name, literal in (dict(mount.graph.params) | dict(mount.params)).items():
            given.setdefault(name, {})[repr(literal.value)] = literal.value
    single = {name: next(iter(values.values())) for name, values in given.items() if len(values) == 1}
    return {name: value for name, value in single.items() if isinstance(value, bool | int | float | str)}


def _reserved(graph: GraphPlan) -> Iterator[str]:
    """The names that `__init__` uses in any class of a graph."""
    yield from ("self", "torch", "nn", *RUNTIME)
    for _, inner in graph.graphs():
        yield from (*inner.shares, *(name for name, _ in inner.params))
        yield from (step.index for step in inner.steps if step.index)
