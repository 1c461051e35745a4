"""The differences between two composed configs: steps of the graph by label path, and all other keys.

The result is a list of `Change`s. A step that moved is a single change. Nested graphs are compared step by step, so
that a change inside one is reported at its own path.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowconf.language.paths import join
from flowconf.language.schema import VERBS
from flowconf.report import NOWHERE, Place
from flowconf.report.origins import Document, Origins, Path, dotted


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `kind` is "added", "removed", "moved" or "changed"; `path` a label path, or a config key.

    `key` is the key of a step that changed. `before` and `after` are the values as plain data, or None, and the places
    are where they were written.
    """

    kind: str
    path: str
    before: Any = None
    after: Any = None
    before_place: Place = NOWHERE
    after_place: Place = NOWHERE
    member: bool = False
    key: str | None = None


@dataclass(frozen=True)
class _Side:
    """One of the two documents at the current path."""

    data: Any
    origins: Origins
    at: Path

    def __getitem__(self, key: str) -> _Side:
        inner = self.data.get(key) if isinstance(self.data, Mapping) else None
        return _Side(inner, self.origins, (*self.at, key))

    def place(self) -> Place:
        return self.origins.value(self.at)

    def key(self) -> Place:
        return self.origins.key(self.at)


def compare(before: Document, after: Document) -> list[Change]:
    """The changes from one composed document (a training config or a graph document) to another, in document order."""
    old, new = (_Side(document.origins.root.written(), document.origins, ()) for document in (before, after))
    changes: list[Change] = []
    if "flow" in before.data and "flow" in after.data:
        return list(_graphs(old, new, ""))
    if "model" in before.data and "model" in after.data:
        changes += _graphs(old["model"], new["model"], "")
    others = [key for key in dict.fromkeys([*before.data, *after.data]) if key != "model"]
    for key in others:
        changes += _values(old[key], new[key])
    return changes


def _graphs(old: _Side, new: _Side, prefix: str) -> Iterator[Change]:
    """Two graph documents, or bodies with a flow."""
    for key in dict.fromkeys([*_keys(old), *_keys(new)]):
        if key != "flow":
            yield from _values(old[key], new[key])
    yield from _flows(old["flow"], new["flow"], prefix)


def _flows(old: _Side, new: _Side, prefix: str) -> Iterator[Change]:
    mine, theirs = _members(old.data), _members(new.data)
    moved = _moved([name for name in mine if name in theirs], [name for name in theirs if name in mine])
    for name in dict.fromkeys([*mine, *theirs]):
        a, b = old[name], new[name]
        path = join(prefix, _label(b.data if name in theirs else a.data, name))
        if name not in theirs:
            yield Change("removed", path, a.data, None, a.key(), b.place(), True)
        elif name not in mine:
            yield Change("added", path, None, b.data, NOWHERE, b.key(), True)
        else:
            if name in moved:
                yield Change("moved", path, mine[name], theirs[name], a.key(), b.key(), True)
            yield from _steps(a, b, path)


def _steps(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    if old.data == new.data:
        return
    old, new = _spelled_out(old, new), _spelled_out(new, old)
    nested = _nested(old.data), _nested(new.data)
    if nested[0] is None or nested[0] != nested[1]:
        yield from _keys_of_member(old, new, path, leave_out=None)
        return
    inner_old, inner_new = old, new
    for key in nested[0]:
        yield from _keys_of_member(inner_old, inner_new, path, leave_out=key)
        inner_old, inner_new = inner_old[key], inner_new[key]
    yield from _graphs(inner_old, inner_new, path)


def _spelled_out(side: _Side, other: _Side) -> _Side:
    """A call in its long form, if the other side is a mapping with `through`."""
    short = isinstance(side.data, str) and isinstance(other.data, Mapping) and "through" in other.data
    return _Side({"through": side.data}, side.origins, side.at) if short else side


def _keys_of_member(old: _Side, new: _Side, path: str, leave_out: str | None) -> Iterator[Change]:
    """The keys of a step one by one, or the whole step if one side is not a mapping."""
    if not (isinstance(old.data, Mapping) and isinstance(new.data, Mapping)):
        yield Change("changed", path, old.data, new.data, old.place(), new.place(), True)
        return
    for key in dict.fromkeys([*old.data, *new.data]):
        a, b = old[key], new[key]
        if key != leave_out and a.data != b.data:
            yield Change("changed", path, a.data, b.data, a.place(), b.place(), True, key)


def _values(old: _Side, new: _Side) -> Iterator[Change]:
    """Two values outside any flow, down to their leaves."""
    if old.data == new.data:
        return
    if isinstance(old.data, Mapping) and isinstance(new.data, Mapping):
        for key in dict.fromkeys([*old.data, *new.data]):
            yield from _values(old[key], new[key])
        return
    kind = "added" if old.data is None else "removed" if new.data is None else "changed"
    yield Change(kind, dotted(new.at), old.data, new.data, old.place(), new.place())


def _members(flow: object) -> dict[str, str | None]:
    """The members of a flow in order, each with the one before it."""
    names = [name for name, step in flow.items() if step is not None] if isinstance(flow, Mapping) else []
    return dict(zip(names, [None, *names], strict=False))


def _keys(side: _Side) -> list[str]:
    return list(side.data) if isinstance(side.data, Mapping) else []


def _nested(step: object) -> tuple[str, ...] | None:
    """The keys from a step to its nested flow, or None without one."""
    if not isinstance(step, Mapping):
        return None
    if "flow" in step:
        return ()
    verb = next((verb for verb in VERBS if verb in step), None)
    below = _nested(step[verb]) if verb is not None else None
    return None if below is None or verb is None else (verb, *below)


def _label(step: object, name: str) -> str:
    """The name of a step in paths."""
    if not isinstance(step, Mapping):
        return name
    body: Mapping[str, Any] = next((step[verb] for verb in VERBS if isinstance(step.get(verb), Mapping)), {})
    return str(step.get("label") or body.get("label") or name)


def _moved(old: Sequence[str], new: Sequence[str]) -> set[str]:
    """The smallest set of names whose move turns one order into the other: all but a longest sequence in both."""
    position = {name: number for number, name in enumerate(new)}
    firsts: list[int] = []
    """For each length of a sequence that ends both: the last possible position of its first name, negated."""
    following: dict[str, str | None] = {}
    for name in reversed(old):
        length = bisect_left(firsts, -position[name])
        following[name] = new[-firsts[length - 1]] if length else None
        firsts[length : length + 1] = [-position[name]]
    kept: set[str] = set()
    first = new[-firsts[-1]] if firsts else None
    while first is not None:
        kept.add(first)
        first = following[first]
    return set(old) - kept
