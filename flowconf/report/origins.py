"""Plain data with the place where each part of it was written.

A `Node` has a value and the places of its key and its value. Trees of nodes are immutable: merging and overriding
create new nodes along the changed path and share the others, so that nothing is copied. Other parts of flowconf see
such a tree as `Origins` or as a `Document`.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flowconf.report.diagnostic import Diagnostic
from flowconf.report.errors import ConfigError
from flowconf.report.places import NOWHERE, Place

Path = tuple[str | int, ...]

MAX_DEPTH = 64
"""The maximum nesting, in files and in composed data."""

MAX_VALUES = 60_000
"""The maximum number of values in a file or dict, with aliases expanded."""


@dataclass(frozen=True, slots=True)
class MountOrigin:
    """A mapping from a graph file or group: its name, its file, and the place that refers to it."""

    name: str
    file: str
    place: Place


@dataclass(frozen=True, slots=True)
class Node:
    """One value and its places.

    `value` is a dict or list of nodes, or a leaf. `history` has the places of earlier values, oldest first, and `gone`
    those of members that were deleted from this mapping. `referred`: an interpolation refers to this value.
    `reference` is the interpolation that read this value from the environment: it may be a secret.
    """

    value: Any
    place: Place = NOWHERE
    key: Place = NOWHERE
    history: tuple[Place, ...] = ()
    mount: MountOrigin | None = None
    gone: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    referred: bool = False
    reference: str | None = None

    def child(self, step: str | int) -> Node | None:
        """The member `step`, or None."""
        value = self.value
        found: Node | None = None
        if isinstance(value, dict):
            found = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            found = value[step]
        return found

    def at(self, path: Path) -> Node | None:
        """The node at `path` below this one, or None."""
        found: Node | None = self
        for step in path:
            if found is None:
                return None
            found = found.child(step)
        return found

    def all(self) -> Iterator[Node]:
        """This node and all below it, in no order."""
        pending = [self]
        while pending:
            one = pending.pop()
            yield one
            if isinstance(one.value, dict):
                pending += one.value.values()
            elif isinstance(one.value, list):
                pending += one.value

    def members(self) -> Iterator[tuple[str | int, Node]]:
        """The members of a mapping or list with their keys; a leaf has none."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)

    def plain(self, keeps_references: bool = False) -> Any:
        """The value as plain dicts, lists and leaves."""
        if keeps_references and self.reference is not None:
            return self.reference
        if isinstance(self.value, dict):
            return {key: child.plain(keeps_references) for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain(keeps_references) for child in self.value]
        return self.value

    def written(self) -> Any:
        """The same as it is kept on disk: texts of the environment are the references to them."""
        return self.plain(keeps_references=True)


def dotted(path: Path) -> str:
    """A path with dots: `model.flow.stem`."""
    return ".".join(str(step) for step in path)


def from_plain(value: Any, place: Place) -> Node:
    """A tree with one `place` for everything: a word of the command line, or Python.

    Keys become strings, tuples lists, and numbers of NumPy those of Python; leaves of any other type are kept.

    Raises `ConfigError`: FC0005 for data that contains itself, FC0006 for data that is nested too deeply or too large.
    """
    return _Importer(place).node(value, ())


class _Importer:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.count = 0
        self.open: set[int] = set()

    def node(self, value: Any, path: Path) -> Node:
        self.count += 1
        if len(path) > MAX_DEPTH:
            self.refuse("FC0006", f"nested deeper than {MAX_DEPTH} levels", path[:3])
        if self.count > MAX_VALUES:
            self.refuse("FC0006", f"more than {MAX_VALUES:,} values", path[:3])
        if not isinstance(value, Mapping | list | tuple):
            is_foreign = isinstance(value, numbers.Real) and not isinstance(value, int | float)  # one of NumPy
            value = (int if isinstance(value, numbers.Integral) else float)(value) if is_foreign else value
            return Node(value, self.place, self.place)
        if id(value) in self.open:
            self.refuse("FC0005", "data that contains itself", path[:3])
        self.open.add(id(value))
        inner: Any
        if isinstance(value, Mapping):
            inner = {str(key): self.node(member, (*path, str(key))) for key, member in value.items()}
        else:
            inner = [self.node(member, (*path, index)) for index, member in enumerate(value)]
        self.open.discard(id(value))
        return Node(inner, self.place, self.place)

    def refuse(self, code: str, message: str, path: Path) -> None:
        raise ConfigError(Diagnostic(code, message, self.place, dotted(path)))


class Origins:
    """The places of all keys and values of a document."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._owners: dict[Path, Node | None] = {(): root}

    def at(self, path: Path) -> Node | None:
        """The node at `path`, or None. The nodes that have others below them are looked up once."""
        if not path:
            return self.root
        if path[:-1] not in self._owners:
            self._owners[path[:-1]] = self.at(path[:-1])
        owner = self._owners[path[:-1]]
        return None if owner is None else owner.child(path[-1])

    def value(self, path: Path) -> Place:
        """The place of the value at `path`, or of its nearest known ancestor."""
        return self._nearest(path).place

    def key(self, path: Path) -> Place:
        """The place of the last key of `path`; if unknown, the place of the nearest known value."""
        node = self.at(path)
        return node.key if node is not None and node.key != NOWHERE else self.value(path)

    def history(self, path: Path) -> tuple[Place, ...]:
        """The places of earlier values at `path`, oldest first, and the place of a removal."""
        node = self.at(path)
        if node is not None:
            return node.history
        parent = self.at(path[:-1]) if path else None
        return parent.gone.get(str(path[-1]), ()) if parent is not None else ()

    def removals(self, path: Path) -> tuple[Place, ...]:
        """The places of null members in the mapping at `path`."""
        node = self.at(path)
        members = node.value.values() if node is not None and isinstance(node.value, dict) else ()
        return tuple(member.place for member in members if member.value is None)

    def is_referred(self, path: Path) -> bool:
        """Whether an interpolation refers to `path` or to a mapping around it."""
        nodes = (self.at(path[:length]) for length in range(len(path) + 1))
        return any(node is not None and node.referred for node in nodes)

    @cached_property
    def mounts(self) -> dict[Path, MountOrigin]:
        """The mappings from graph files and groups."""
        if all(node.mount is None for node in self.root.all()):
            return {}
        return {path: node.mount for path, node in self.items() if node.mount is not None}

    @cached_property
    def secrets(self) -> tuple[Node, ...]:
        """The nodes with values from the environment, in the order of the text."""
        return tuple(node for _, node in self.items() if node.reference is not None)

    def below(self, path: Path) -> Origins:
        """The origins below `path`, or below its nearest known ancestor."""
        return Origins(self._nearest(path))

    def items(self) -> Iterator[tuple[Path, Node]]:
        """Every path with its node, parents first, in the order of the text."""
        pending: list[tuple[Path, Node]] = [((), self.root)]
        while pending:
            path, node = pending.pop()
            yield path, node
            pending += [((*path, step), child) for step, child in reversed(list(node.members()))]

    def _nearest(self, path: Path) -> Node:
        node = self.at(path)
        return node if node is not None else self._nearest(path[:-1])


NO_ORIGINS = Origins(Node(None))
"""The origins of data without places."""


@dataclass(frozen=True)
class Document:
    """Plain data with its origins. `warnings` are the FC0008 diagnostics of all files read for it."""

    data: dict[str, Any]
    origins: Origins
    file: str | None
    warnings: tuple[Diagnostic, ...] = ()

    def at(self, path: Path) -> Any:
        """The data at a path; None where there is none."""
        found: Any = self.data
        for key in path:
            found = found[key] if isinstance(found, Mapping) and key in found else None
        return found

    def written(self, path: Path) -> Any:
        """The data at a path as it is stored: texts of the environment are the references to them."""
        if path not in self._written:
            self._written[path] = self.written(path[:-1])[path[-1]]
        return self._written[path]

    @cached_property
    def _written(self) -> dict[Path, Any]:
        """Path -> the data there, as far as it was looked up."""
        return {(): self.origins.root.written()}

    @classmethod
    def of(cls, root: Node, file: str | None, warnings: tuple[Diagnostic, ...] = ()) -> Document:
        """The document of a tree whose root is a mapping."""
        return cls(root.plain(), Origins(root), file, warnings)
