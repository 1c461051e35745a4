"""Writes a graph as one plain PyTorch file: its generated classes, and the source of all blocks that they use.

The file imports torch and the imports of the blocks, but never flowconf. With the weights saved beside it, its outputs
are equal to the graph bit for bit, with the same `state_dict` names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from flowconf.graph import runtime
from flowconf.graph.graph import Graph
from flowconf.graph.source.addresses import address
from flowconf.graph.source.emit import lent_modules
from flowconf.graph.source.literals import docstring, quoted
from flowconf.graph.weights.files import write_atomically
from flowconf.language.plan import GraphPlan
from flowconf.report import ConfigError, Diagnostic

OURS = "flowconf"

REFUSE = '''def refuse(message, help=None):
    """Raise `ValueError`."""
    raise ValueError(message if help is None else f"{message}; {help}")'''
"""The replacement of `runtime.refuse` in a file without flowconf."""


def eject(graph: Graph, file: str | Path, weights: bool = True) -> Path | None:
    """Write `file`, a Python module, and the weights beside it as safetensors; returns the weights file.

    Raises `ConfigError` for a graph with modules from outside its document, and `OSError`.
    """
    file = Path(file)
    beside = file.with_suffix(".safetensors") if weights else None
    text = ejected(graph, beside.name if beside is not None else None)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text.encode())
    if beside is not None:
        graph.save(beside)
    return beside


def ejected(graph: Graph, weights: str | None = None) -> str:
    """The text of the file; `weights` names the file that its last lines load."""
    program = graph._program.program
    if program.objects:
        message = f"`{graph.plan.label}` has a module from outside its document, whose source is not available"
        raise ConfigError(Diagnostic("FC0146", message, graph.plan.place, advice="register its class, and call it"))
    sources = _BlockSources()
    for line in program.header:
        if line.startswith(f"from {OURS}"):
            home, names = line.removeprefix("from ").split(" import ")
            for name in names.split(", "):
                sources.take(home, name)
        elif line.startswith("from "):
            home, names = line.removeprefix("from ").split(" import ")
            sources.imported.setdefault(home, set()).update(names.split(", "))
        elif line:
            sources.whole.add(line.removeprefix("import "))
    name = program.classes[-1].name
    classes = [part.text for part in program.classes]
    frozen = _frozen_lines(graph.plan)
    if frozen:
        classes[-1] = (
            classes[-1].replace("\n\n    def forward", "\n        self.freeze()\n\n    def forward", 1) + frozen
        )
    head = docstring(f"The graph `{graph.plan.label}` as plain PyTorch, written by flowconf.")
    parts = ["\n".join([head, "", *sources.import_lines()]), *sources.texts(), *classes, _main(name, weights)]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def _main(name: str, weights: str | None) -> str:
    if weights is None:
        return ""
    lines = [
        'if __name__ == "__main__":',
        "    from pathlib import Path",
        "",
        "    from safetensors.torch import load_model",
        "",
        f"    model = {name}()",
        f"    load_model(model, Path(__file__).with_name({quoted(weights)}))",
        "    print(model)",
    ]
    return "\n".join(lines)


def _frozen_lines(plan: GraphPlan) -> str:
    """The methods `freeze`, for the frozen parts of the document, and `train`, which preserves evaluation mode."""
    settings = _frozen_settings(plan)
    if not settings:
        return ""
    lines = ["", "", "    def freeze(self):", '        """Switch gradients off (and on) as the document says."""']
    for path, frozen in settings.items():
        lines += _reached(plan, path, f"requires_grad_({frozen == 'no'})")
    modes = [
        (path, "False" if frozen == "all" else "mode")
        for path, frozen in settings.items()
        if (frozen == "all") != (_nearest(settings, path.rpartition(".")[0]) == "all")
    ]
    if modes:
        lines += [
            "        return self.train(self.training)",
            "",
            "    def train(self, mode=True):",
            "        super().train(mode)",
        ]
        for path, mode in modes:
            lines += _reached(plan, path, f"train({mode})")
    lines.append("        return self")
    return "\n".join(lines)


def _frozen_settings(plan: GraphPlan) -> dict[str, str]:
    """Path -> its setting ("all", "params" or "no"), outer parts first.

    A shared module has the setting of its first path, so its other paths may need a setting to restore it.
    """
    found = {path: setting.frozen for path, setting in plan.all_settings() if setting.frozen is not None}
    homes = dict(lent_modules(plan))
    again = {}
    for path in homes:
        home = path
        while home in homes:
            home = homes[home]
        home = ".".join(name for name in home.split(".") if not name.isdigit())
        if _nearest(found, home) != _nearest(found, path):
            again[path] = _nearest(found, home)
    return found | again


def _nearest(settings: Mapping[str, str], path: str) -> str:
    """The setting at a path, or the nearest one above it."""
    while path and path not in settings:
        path = path.rpartition(".")[0]
    return settings.get(path, "no")


def _reached(plan: GraphPlan, path: str, call: str) -> list[str]:
    """The lines that call a method of the module at a path of the document, in loops over repeated copies."""
    lines, start, indent = [], "self.", " " * 8
    *repeated, last = address(plan, path, each=True).split("[*]")
    for depth, text in enumerate(repeated):
        name = "copy" if depth == 0 else f"copy_{depth + 1}"
        lines.append(f"{indent}for {name} in {start}{text}:")
        start, indent = name, f"{indent}    "
    return [*lines, f"{indent}{start}{last}.{call}"]


@dataclass
class _BlockSources:
    """The definitions that a file needs from other modules, in dependency order."""

    whole: set[str] = field(default_factory=set)
    imported: dict[str, set[str]] = field(default_factory=dict)
    taken: dict[tuple[str, str], str] = field(default_factory=dict)
    visiting: set[tuple[str, str]] = field(default_factory=set)

    def texts(self) -> list[str]:
        """The texts of the definitions."""
        return list(self.taken.values())

    def import_lines(self) -> list[str]:
        """The imports, with the standard library first, in the order of the import sorter."""
        plain = [f"import {home}" for home in sorted(self.whole)]
        named = [f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(self.imported.items())]
        lines = [*plain, *named]
        standard = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
        others = [line for line in lines if line not in standard]
        return [*standard, *([""] if standard else []), *others]

    def take(self, home: str, name: str) -> None:
        """Add a definition and everything from flowconf that it uses."""
        key = (home, name)
        if key in self.taken or key in self.visiting:
            return
        self.visiting.add(key)
        if home == runtime.__name__ and name == "refuse":
            self.taken[key] = REFUSE
            return
        module = importlib.import_module(home)
        definitions = _definitions(module)
        if name not in definitions:
            message = f"the source of `{name}` in `{home}` cannot be found"
            raise ConfigError(Diagnostic("FC0146", message))
        node, text = definitions[name]
        for used in _names_used(node):
            self._take_used(used, home, definitions, module)
        self.taken[key] = text

    def _take_used(
        self, name: str, home: str, definitions: dict[str, tuple[ast.stmt, str]], module: ModuleType
    ) -> None:
        if name in definitions:
            self.take(home, name)
            return
        for source, imported, known_as in _imports(module):
            if known_as != name:
                continue
            if source.split(".")[0] == OURS:
                self.take(source, imported)
            elif imported:
                name_there = imported if imported == known_as else f"{imported} as {known_as}"
                self.imported.setdefault(source, set()).add(name_there)
            else:
                self.whole.add(source)


def _definitions(module: ModuleType) -> dict[str, tuple[ast.stmt, str]]:
    """Name -> statement and text, for the top-level definitions of a module."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    found: dict[str, tuple[ast.stmt, str]] = {}
    for node in ast.parse(source).body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            found[name] = (node, "\n".join(lines[node.lineno - 1 : node.end_lineno]))
    return found


def _names_used(node: ast.stmt) -> list[str]:
    """The global names that a definition may read, in order of appearance; annotations count too."""
    return list(dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name)))


def _imports(module: ModuleType) -> list[tuple[str, str, str]]:
    """The top-level imports of a module: (module, name there or "" for the whole module, name here)."""
    found = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            found += [(node.module, alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
                found.append((whole, "", alias.asname or alias.name.split(".")[0]))
    return found
