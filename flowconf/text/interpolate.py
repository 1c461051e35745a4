"""`${...}`: values that refer to other values, to the environment, or to a resolver.

OmegaConf's grammar parses the string; values are looked up here, over nodes, each once. So a mistake has the place of
the value that makes it, circles are found, and chains of references are bounded. OmegaConf is imported only for strings
that contain `${`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from flowconf.report import NOWHERE, Advice, Reporter, Suggestion, nearest, shortened
from flowconf.report.origins import Node, Origins, Path, dotted, from_plain

MAX_EFFORT = 300
"""Nested references and containers on the way to one value; bounds the recursion."""
MAX_SIZE = 100_000
"""The most values and characters that all interpolations together may produce."""
MAX_TEXT = 50_000
"""The most characters of all interpolated strings together."""
_GRAMMARS = re.compile("viable alternative|token recognition|mismatched input|extraneous input|missing ")
"""How the grammar's own syntax errors begin."""
_RESOLVERS = ("oc.env", "oc.select", "oc.decode", "oc.create", "oc.dict.keys", "oc.dict.values", "now")


def resolve(root: Node, only: Collection[Path] | None = None) -> Node:
    """`root` with every interpolation replaced by its value; a mapping or list stays one.

    `only`: the paths to resolve; the rest is left as it is.

    Raises `ConfigError`: FC0009, one for each value that cannot be resolved.
    """
    texts = [node.value for node in root.all() if _refers(node.value)]
    if not texts:
        return root
    resolver = _Resolver(root, only)
    if sum(map(len, texts)) > MAX_TEXT:
        resolver.notes.error("FC0009", f"interpolated strings have more than {MAX_TEXT:,} characters", root.place)
        resolver.notes.stop_on_errors()
    done = resolver.tolerant(root, ())
    resolver.notes.stop_on_errors()
    return _marked(done, resolver.read)


def _marked(node: Node, read: Collection[Path]) -> Node:
    """`node` with a mark at every path that was `read`."""
    below: dict[str | int, list[Path]] = {}
    for path in read:
        if path and node.child(path[0]) is not None:
            below.setdefault(path[0], []).append(path[1:])
    changed = {step: _marked(child, below[step]) if step in below else child for step, child in node.members()}
    if below:
        node = replace(node, value=list(changed.values()) if isinstance(node.value, list) else changed)
    return replace(node, referred=True) if () in read else node


def _refers(value: object) -> bool:
    return isinstance(value, str) and "${" in value


def _unreadable(text: str) -> str:
    """Why a string with `${` is not a valid interpolation."""
    if text.count("${") > text.count("}"):
        return "missing `}`"
    empty = re.search(r"\$\{\s*\}", text)
    return "it is empty" if empty else "it is neither a key nor a call of a resolver"


class _UnresolvedError(Exception):
    """A value that cannot be resolved; its diagnostic is already added."""


class _Whole:
    """A mapping or list as the value of an interpolation, which cannot be part of a string."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __str__(self) -> str:
        raise ValueError("a mapping or list cannot be part of a string")


class _Resolver:
    def __init__(self, root: Node, only: Collection[Path] | None) -> None:
        self.root = root
        self.only = only
        self.notes = Reporter()
        self.done: dict[Path, Node] = {}
        self.failed: set[Path] = set()
        self.open: list[Path] = []
        self.read: set[Path] = set()
        self.environment: set[Path] = set()
        """The values that come from the environment, by whatever way."""
        self.effort = 0
        self.size = 0

    def tolerant(self, node: Node, path: Path) -> Node:
        """`node` with everything in it resolved. Failures are noted and leave their value as it was."""
        if isinstance(node.value, dict | list):
            return self.members(node, path, self.tolerant)
        if self.only is not None and path not in self.only:
            return node
        try:
            return self.strict(node, path)
        except _UnresolvedError:
            return node

    def members(self, node: Node, path: Path, each: Any) -> Node:
        done = {step: each(child, (*path, step)) for step, child in node.members()}
        if all(new is node.child(step) for step, new in done.items()):
            return node
        return replace(node, value=list(done.values()) if isinstance(node.value, list) else done)

    def strict(self, node: Node, path: Path) -> Node:
        """`node` resolved, or `_UnresolvedError`."""
        if isinstance(node.value, dict | list):
            if any(path == one[: len(path)] for one in self.open):
                self.fail(self.open[-1], f"`{dotted(self.open[-1])}` refers to a mapping that contains it")
            self.spend(2)
            done = self.members(node, path, self.strict)
            self.effort -= 2
            return done
        if not _refers(node.value):
            return node
        if path not in self.done:
            self.done[path] = self.looked_up(node, path)
        return self.done[path]

    def looked_up(self, node: Node, path: Path) -> Node:
        if path in self.failed:
            raise _UnresolvedError
        if path in self.open:
            chain = " -> ".join(f"`{dotted(one)}`" for one in (*self.open[self.open.index(path) :], path))
            self.fail(path, f"circular reference: {chain}")
        self.open.append(path)
        self.spend(10)
        try:
            value = self.evaluate(node, path)
        finally:
            self.open.pop()
            self.effort -= 10
        reference = node.value if path in self.environment else None
        if isinstance(value, _Whole):
            self.grow(sum(1 for _ in value.node.all()), path)
            return replace(node, value=value.node.value)
        if isinstance(value, dict | list | tuple):
            made = from_plain(value, node.place)
            self.grow(sum(1 for _ in made.all()), path)
            return replace(node, value=made.value, reference=reference)
        self.grow(len(value) if isinstance(value, str) else 1, path)
        return replace(node, value=value, reference=reference if isinstance(value, str) else None)

    def evaluate(self, node: Node, path: Path) -> Any:
        from flowconf.text import grammars

        def refer(key: str, memo: object) -> Any:
            return self.reference(key, path)

        def call(name: str, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
            return self.resolver(name, args, args_str, path)

        try:
            return grammars.evaluate(node.value, refer, call)
        except _UnresolvedError:
            self.failed.add(path)
            raise
        except RecursionError:
            return self.fail(path, f"`{shortened(node.value)}` is nested too deeply")
        except ValueError as error:
            message = str(error).splitlines()[0]
            why = _unreadable(node.value) if _GRAMMARS.search(message) else shortened(message)
            return self.fail(path, f"`{shortened(node.value)}` cannot be resolved: {why}", "write `${section.key}`")

    def reference(self, key: str, path: Path) -> Any:
        """The value of `${key}`; leading dots count containers upwards from the one that contains it."""
        dots = len(key) - len(key.lstrip("."))
        steps = [step for step in re.split(r"[.\[\]]+", key) if step]
        start = path[: len(path) - dots] if dots else ()
        if dots > len(path):
            self.fail(path, f"`${{{key}}}` goes above the root")
        node = self.root.at(start)
        target: list[str | int] = list(start)
        for number, step in enumerate(steps):
            assert node is not None
            if _refers(node.value):
                node = self.strict(node, tuple(target))
            child = node.child(int(step) if isinstance(node.value, list) and step.isdigit() else step)
            if child is None:
                close = nearest(step, [str(name) for name, _ in node.members()])
                better = dotted((*target, close, *steps[number + 1 :])) if close else self.ending_with(steps)
                advice = Suggestion(f"${{{better}}}", instead_of=f"${{{key}}}") if better else None
                self.fail(path, f"`${{{key}}}` does not exist", advice)
            target.append(int(step) if isinstance(node.value, list) else step)
            node = child
        assert node is not None
        self.read.add(tuple(target))
        found = self.strict(node, tuple(target))
        if tuple(target) in self.environment:
            self.environment |= set(self.open)
        if found.value == "???":
            self.fail(path, f"`${{{key}}}` has no value yet")
        return _Whole(found) if isinstance(found.value, dict | list) else found.value

    def resolver(self, name: str, args: tuple[Any, ...], args_str: tuple[str, ...], path: Path) -> Any:
        """The value of `${name:args}`."""
        from flowconf.text import grammars

        args = tuple(arg.node.plain() if isinstance(arg, _Whole) else arg for arg in args)
        if name == "oc.select" and 1 <= len(args) <= 2:
            return self.reference(str(args[0]), path) if self.exists(str(args[0])) else (*args, None)[1]
        if name in ("oc.dict.keys", "oc.dict.values") and len(args) == 1:
            whole = self.reference(str(args[0]), path)
            if not isinstance(whole, _Whole) or not isinstance(whole.node.value, dict):
                self.fail(path, f"`{name}` takes the key of a mapping, got `{args[0]}`")
            plain = whole.node.plain()
            if name.endswith("values") and plain != whole.node.written():
                self.environment |= set(self.open)
            return list(plain) if name.endswith("keys") else list(plain.values())
        if name == "oc.env" and len(args) == 1 and str(args[0]) not in os.environ:
            advice = f"set it, or give a default: `${{oc.env:{args[0]},default}}`"
            self.fail(path, f"the environment variable `{args[0]}` is not set", advice)
        if name == "oc.env":
            self.environment |= set(self.open)
        if not grammars.has_resolver(name):
            close = nearest(name, _RESOLVERS)
            listed = ", ".join(f"`{one}`" for one in _RESOLVERS)
            self.fail(
                path,
                f"there is no resolver `{name}`",
                Suggestion(close, instead_of=name) if close else f"the resolvers are {listed}",
            )
        try:
            return grammars.call_resolver(name, args, args_str)
        except Exception as error:  # noqa: BLE001 - a resolver is foreign code
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            return self.fail(path, f"`${{{name}:{','.join(args_str)}}}` cannot be resolved: {words}")

    def ending_with(self, steps: Sequence[str | int]) -> str | None:
        """The shortest path that ends with some steps, if it is the only one of this length."""
        found = [path for path, _ in Origins(self.root).items() if path[-len(steps) :] == tuple(steps)]
        shortest = [path for path in found if len(path) == min(map(len, found))]
        return dotted(shortest[0]) if len(shortest) == 1 else None

    def exists(self, key: str) -> bool:
        node: Node | None = self.root
        for step in re.split(r"[.\[\]]+", key):
            if node is not None and step:
                node = node.child(int(step) if isinstance(node.value, list) and step.isdigit() else step)
        return node is not None

    # limits and mistakes

    def spend(self, effort: int) -> None:
        self.effort += effort
        if self.effort > MAX_EFFORT:
            self.effort -= effort
            self.fail(self.open[-1], "too many nested references")

    def grow(self, size: int, path: Path) -> None:
        self.size += size
        if self.size > MAX_SIZE:
            place = self.root.at(path)
            message = f"the interpolations produce more than {MAX_SIZE:,} values and characters"
            self.notes.error("FC0009", message, place.place if place else NOWHERE, path=dotted(path))
            self.notes.stop_on_errors()

    def fail(self, path: Path, message: str, advice: Advice | None = None) -> Any:
        node = self.root.at(path)
        place = node.place if node is not None else NOWHERE
        self.failed.add(path)
        self.notes.error("FC0009", message, place, path=dotted(path), advice=advice)
        raise _UnresolvedError
