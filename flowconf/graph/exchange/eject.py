"""Writes a graph as one plain PyTorch file: its generated classes, and the source of all blocks that they use.

The file imports torch and the imports of the blocks, but never flowconf. The modules of a project are copied too; one
that cannot be copied is imported, and a comment says why. With the weights saved beside it, its outputs are equal to
the graph bit for bit, with the same `state_dict` names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path

from flowconf.graph.exchange.copied_sources import OURS, CopiedSources, NotCopiedError, is_of_a_project
from flowconf.graph.graph import Graph
from flowconf.graph.source.addresses import address, reached
from flowconf.graph.source.demand import without_copies
from flowconf.graph.source.emit import Program, lent_modules, named_after
from flowconf.graph.source.line_breaks import broken
from flowconf.graph.source.literals import docstring, quoted
from flowconf.language.changing import first_value
from flowconf.language.paths import nearest
from flowconf.language.plan import GraphPlan
from flowconf.report import ConfigError, Diagnostic, Place
from flowconf.text.output import write_output

WRITTEN = "as plain PyTorch, written by flowconf."


def eject(graph: Graph, file: str | Path, weights: bool = True) -> Path | None:
    """Write `file`, a Python module, and the weights beside it as safetensors; returns the weights file.

    An earlier ejected file is replaced. Raises `ConfigError` for any other (FC0602), and for a graph with modules from
    outside its document; and `OSError`.
    """
    file = Path(file)
    beside = file.with_suffix(".safetensors") if weights else None
    _keep_files_of_others(file, beside)
    text = ejected(graph, beside.name if beside is not None else None)
    write_output(file, text.encode())
    if beside is not None:
        graph.save(beside)
    return beside


def _keep_files_of_others(file: Path, beside: Path | None) -> None:
    if file.is_file():
        other = None if WRITTEN in file.read_text(encoding="utf-8", errors="replace") else file
    else:
        other = beside if beside is not None and beside.exists() else None
    if other is not None:
        message = f"`{other}` exists, and was not written by `eject`: nothing was overwritten"
        advice = "choose another file with `-o`, or remove this one"
        raise ConfigError(Diagnostic("FC0602", message, Place(str(other)), advice=advice))


def ejected(graph: Graph, weights: str | None = None) -> str:
    """The text of the file; `weights` names the file that its last lines load."""
    program = _program_alone(graph)
    if program.objects:
        message = f"`{graph.plan.label}` has a module from outside its document, whose source is not available"
        raise ConfigError(Diagnostic("FC0146", message, graph.plan.place, advice="register its class, and call it"))
    sources = CopiedSources(reserved={part.name for part in program.classes}, whole=set(program.whole))
    needed = []
    for home, names in program.names.items():
        if home.split(".")[0] == OURS:
            for name in names:
                sources.take(home, name)
        elif is_of_a_project(home):
            needed += [f"# needs `{home}`: {why}" for why in _copied(sources, home, names)]
        else:
            sources.imported.setdefault(home, set()).update(names)
    name = program.classes[-1].name
    classes = [part.text for part in program.classes]
    classes[-1] = _with_defaults(classes[-1], graph._given)
    frozen = _frozen_lines(graph.plan)
    if frozen:
        classes[-1] = (
            classes[-1].replace("\n\n    def forward", "\n        self.freeze()\n\n    def forward", 1) + frozen
        )
    following = _following_lines(graph.plan)
    if following:
        sources.whole.add("torch")
        classes[-1] += following
    head = docstring(f"The graph `{graph.plan.label}` {WRITTEN}")
    future = ["", "from __future__ import annotations"] if sources.postponed else []
    imports = [head, *future, "", *sources.import_lines(), *needed]
    parts = ["\n".join(imports), *sources.texts(), *classes, _main(name, weights)]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def _copied(sources: CopiedSources, home: str, names: Iterable[str]) -> list[str]:
    """Copy what a module of a project defines, or import it; gives the reasons for what is imported."""
    reasons = []
    for name in names:
        before = deepcopy(vars(sources))
        try:
            sources.take(home, name)
        except NotCopiedError as problem:
            vars(sources).update(before)
            sources.imported.setdefault(home, set()).add(name)
            reasons.append(f"`{name}` is imported, because {problem}")
    return reasons


def _program_alone(graph: Graph) -> Program:
    """The program of a graph, without the classes and imports that only the graphs around it need.

    Raises `ConfigError` for a graph that uses modules of those.
    """
    program, name = graph._program.program, type(graph).__name__
    if program.classes[-1].name == name:
        return program
    if graph.plan.shares:
        message = f"`{graph.plan.label}` uses `{graph.plan.shares[0]}` of the graph around it"
        raise ConfigError(Diagnostic("FC0146", message, graph.plan.place, advice="eject that graph as a whole"))
    needed = {name}
    for part in reversed(program.classes):
        needed |= set(part.children.values()) if part.name in needed else set()
    classes = tuple(part for part in program.classes if part.name in needed)
    used = {word for part in classes for word in re.findall(r"\w+", part.text)}
    objects = {key: value for key, value in program.objects.items() if key in used}
    whole = tuple(module for module in program.whole if module.partition(".")[0] in used)
    names = {home: tuple(name for name in names if name in used) for home, names in program.names.items()}
    taken = {part.name for part in classes[:-1]}.union(*names.values())
    classes = (*classes[:-1], named_after(classes[-1], graph.plan, taken))
    return Program(whole, {home: kept for home, kept in names.items() if kept}, classes, objects)


def _with_defaults(text: str, given: Mapping[str, object]) -> str:
    """A class whose arguments have the given values, unless others are given."""
    if not given:
        return text
    (whole,) = ast.parse(text).body
    assert isinstance(whole, ast.ClassDef)
    init = next(part for part in whole.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
    names, lines = [argument.arg for argument in init.args.args[1:]], text.split("\n")
    defaults = dict(zip(reversed(names), map(ast.unparse, reversed(init.args.defaults)), strict=False))
    values = [f"{name}={repr(given[name]) if name in given else defaults[name]}" for name in names]
    lines[init.lineno - 1 : init.body[0].lineno - 1] = broken(f"    def __init__({', '.join(['self', *values])}):")
    return "\n".join(lines)


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
        lines += reached(plan, path, f".requires_grad_({frozen == 'no'})", " " * 8)
    for kind in dict.fromkeys(adapter.name for adapter in plan.all_adapters()):
        lines += [
            "        for name, parameter in self.named_parameters():",
            f"            if {quoted(f'.{kind}.')} in name:",
            "                parameter.requires_grad_(True)",
        ]
    modes = [
        (path, "False" if frozen == "all" else "mode")
        for path, frozen in settings.items()
        if (frozen == "all") != (nearest(path.rpartition(".")[0], settings) == "all")
    ]
    if modes:
        lines += [
            "        return self.train(self.training)",
            "",
            "    def train(self, mode=True):",
            "        super().train(mode)",
        ]
        for path, mode in modes:
            lines += reached(plan, path, f".train({mode})", " " * 8)
    lines.append("        return self")
    return "\n".join(lines)


def _following_lines(plan: GraphPlan) -> str:
    """The method `follow`, for members whose parameters are moving averages of those of others."""
    lines = []
    for follow in plan.all_follows():
        theirs = f"self.{address(plan, follow.home)}.parameters()"
        reaching = reached(plan, follow.path, ".parameters()", " " * 8)
        *loops, mine = reaching
        indent = mine[: len(mine) - len(mine.lstrip())]
        lines += [
            *loops,
            f"{indent}for mine, theirs in zip({mine.strip()}, {theirs}):",
            f"{indent}    mine.lerp_(theirs, {1 - first_value(follow.decay)!r})",
        ]
    if not lines:
        return ""
    docstring = '        """Move the members that follow others; to be called after each step of the optimizer."""'
    return "\n".join(["", "", "    @torch.no_grad()", "    def follow(self):", docstring, *lines])


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
        home = without_copies(plan, home, of="equal")
        setting = nearest(home, found) or "no"
        if setting != (nearest(path, found) or "no"):
            again[path] = setting
    return found | again
