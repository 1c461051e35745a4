"""The source of what a file takes from other modules: each definition, after those that it uses."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType

from flowconf.graph import runtime
from flowconf.report import ConfigError, Diagnostic, is_own_file

OURS = "flowconf"

REFUSE = '''def refuse(message, help=None):
    """Raise `ValueError`."""
    raise ValueError(message if help is None else f"{message}; {help}")'''
"""The replacement of `runtime.refuse` where flowconf is not installed."""


class NotCopiedError(Exception):
    """A definition of a project that means something only in its module."""


def is_of_a_project(module: str) -> bool:
    """Whether a module is neither flowconf's, nor Python's, nor of an installed package."""
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    return isinstance(file, str) and is_own_file(file)


@dataclass
class CopiedSources:
    """The definitions that a file needs from other modules, each after what it uses.

    `reserved` are names that the file defines itself.
    """

    reserved: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    imported: dict[str, set[str]] = field(default_factory=dict)
    taken: dict[tuple[str, str], str] = field(default_factory=dict)
    visiting: set[tuple[str, str]] = field(default_factory=set)
    postponed: bool = False
    """Whether a module that is copied from does not evaluate its annotations."""

    def texts(self) -> list[str]:
        """The definitions; constants that follow each other stand together."""
        return list(self.taken.values())

    def import_lines(self) -> list[str]:
        """The imports, the standard library's first, as the import sorter has them."""
        plain = [f"import {home}" for home in sorted(self.whole)]
        named = [f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(self.imported.items())]
        lines = [*plain, *named]
        standard = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
        others = [line for line in lines if line not in standard]
        return [*standard, *([""] if standard else []), *others]

    def take(self, home: str, name: str) -> None:
        """Take a definition and everything of flowconf's, or of its project, that it uses.

        Raises `NotCopiedError` for one of a project that cannot be copied.
        """
        key = (home, name)
        if key in self.taken or key in self.visiting:
            return
        self.visiting.add(key)
        if home == runtime.__name__ and name == "refuse":
            self.taken[key] = REFUSE
            return
        module = importlib.import_module(home)
        if is_of_a_project(home):
            self._check_free(home, name, name)
            self.postponed |= "annotations" in vars(module)
        definitions = _definitions(module)
        if name not in definitions:
            self._take_from_elsewhere(home, name, module)
            return
        node, text = definitions[name]
        for used in _names_used(node):
            self._take_used(used, home, module)
        self.taken[key] = text

    def _check_free(self, home: str, name: str, known_as: str) -> None:
        """Refuse a name that already means something else in the file."""
        known = dict.fromkeys(self.reserved, ("", "")) | {taken: (source, taken) for source, taken in self.taken}
        for source, names in self.imported.items():
            known |= {each.rpartition(" as ")[2]: (source, each.partition(" as ")[0]) for each in names}
        if known.get(known_as, (home, name)) != (home, name):
            raise NotCopiedError(f"`{known_as}` means something else in this file")

    def _take_from_elsewhere(self, home: str, name: str, module: ModuleType) -> None:
        """Take what a module only imports."""
        for source, imported, known_as in _imports(module):
            if known_as == name and imported == name and (source.split(".")[0] == OURS or is_of_a_project(source)):
                self.take(source, imported)
                return
        if is_of_a_project(home):
            raise NotCopiedError(f"`{name}` is not defined at the top of `{home}`")
        message = f"the source of `{name}` in `{home}` cannot be found"
        raise ConfigError(Diagnostic("FC0146", message))

    def _take_used(self, name: str, home: str, module: ModuleType) -> None:
        if name in _definitions(module):
            self.take(home, name)
            return
        for source, imported, known_as in _imports(module):
            if known_as != name:
                continue
            is_ours, is_own = source.split(".")[0] == OURS, is_of_a_project(source.partition(" as ")[0])
            if is_of_a_project(home) and (is_ours or (is_own and (not imported or imported != known_as))):
                raise NotCopiedError(f"it uses `{name}`, which is `{source}`")
            if is_ours or is_own:
                self.take(source, imported)
            elif imported:
                self._check_free(source, imported, known_as)
                name_there = imported if imported == known_as else f"{imported} as {known_as}"
                self.imported.setdefault(source, set()).add(name_there)
            else:
                self.whole.add(source)
            return
        if is_of_a_project(home) and name in vars(module) and not hasattr(builtins, name):
            raise NotCopiedError(f"it uses `{name}`, which is not defined at the top of `{home}`")


@lru_cache(maxsize=64)
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def _definitions(module: ModuleType) -> dict[str, tuple[ast.stmt, str]]:
    """Name -> its statement and text, for what a module defines at its top, without decorators of flowconf."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    registering = {known_as for home, _, known_as in _imports(module) if home.split(".")[0] == OURS}
    found: dict[str, tuple[ast.stmt, str]] = {}
    for node in _tree(source).body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            node.decorator_list = [one for one in node.decorator_list if registering.isdisjoint(_names_used(one))]
        above = [line for each in getattr(node, "decorator_list", ()) for line in _lines_of(each, lines)]
        for name in names:
            found[name] = (node, "\n".join([*above, *_lines_of(node, lines)]))
    return found


def _lines_of(node: ast.stmt | ast.expr, lines: list[str]) -> list[str]:
    return lines[node.lineno - 1 : node.end_lineno]


def _names_used(node: ast.AST) -> list[str]:
    """The global names that a definition may read, in order of appearance; annotations count too."""
    return list(dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name)))


def _imports(module: ModuleType) -> list[tuple[str, str, str]]:
    """The imports at the top of a module: (the source, the name there or "" for the whole, the name here)."""
    found = []
    for node in _tree(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            source = node.module or ""
            if node.level:
                source = importlib.util.resolve_name(f"{'.' * node.level}{source}", module.__package__)
            found += [(source, alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
                found.append((whole, "", alias.asname or alias.name.split(".")[0]))
    return found
