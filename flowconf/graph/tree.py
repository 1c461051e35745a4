"""The tree of modules of a document, and access to them by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from torch import nn

from flowconf.graph.selecting import parts_of
from flowconf.graph.source.program import CompiledProgram
from flowconf.language.paths import join, parents
from flowconf.language.plan import GraphPlan, Shared, names_of
from flowconf.report import NOWHERE, Diagnostic, PathError, suggest


class GraphTree(nn.Module):
    """A module that runs a graph, with its plan, shapes and source, and access by path."""

    _program: CompiledProgram
    _plan: GraphPlan
    _shapes: Mapping[str, str]
    _given: Mapping[str, Any]
    """The arguments of its class, of a nested graph."""

    def __new__(cls, *args: Any, **given: Any) -> Self:
        graph = super().__new__(cls)
        graph.__dict__["_given"] = given
        return graph

    @property
    def plan(self) -> GraphPlan:
        """The resolved document that this graph was built from."""
        return self._plan

    @property
    def source(self) -> str:
        """The generated Python source of this graph and all nested ones."""
        return self._program.program.source

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs in call order."""
        return tuple(given.name for given in self._plan.inputs if not given.captured)

    @property
    def shapes(self) -> Mapping[str, str]:
        """Path -> shape as text (`[B, 128]`), if it follows from the `inputs` of the document."""
        return self._shapes

    def module_at(self, path: str) -> nn.Module:
        """The module at a path; the empty path is the graph itself. Raises `PathError`."""
        module: nn.Module = self
        walked: list[str] = []
        names = path.split(".") if path else []
        while names:
            name = names.pop(0)
            step = module._plan.step(name) if isinstance(module, GraphTree) else None
            if step is not None and isinstance(step.body.module, Shared) and step.path not in module._modules:
                names = [*step.body.module.path.split("."), *names]
                continue
            child = module._modules.get(step.path if step is not None else name)
            if child is None:
                raise _no_such_path(path, ".".join(walked), name, module)
            walked.append(name)
            module = child
        return module

    def modules_at(self, path: str) -> list[tuple[str, nn.Module]]:
        """The modules at a path of the document, with their paths here. Raises `PathError`.

        A path through a repeated step without a number means all of its copies.
        """
        found: list[tuple[str, nn.Module]] = [("", self)]
        names = path.split(".") if path else []
        for name, following in zip(names, [*names[1:], ""], strict=False):
            below: list[tuple[str, nn.Module]] = []
            for at, owner in found:
                step = owner._plan.step(name) if isinstance(owner, GraphTree) else None
                inner = join(at, name)
                module = self.module_at(inner)
                is_repeated = step is not None and step.repeat is not None
                if is_repeated and isinstance(module, nn.ModuleList) and not following.isdigit():
                    below += [(f"{inner}.{number}", copy) for number, copy in enumerate(module)]
                else:
                    below.append((inner, module))
            found = below
        return found

    def kind(self, path: str) -> str:
        """The kind of a path: "graph", "step", "branch", "input" or "tag". Raises `PathError`."""
        *above, last = path.split(".")
        owner = self.module_at(".".join(above))
        if isinstance(owner, GraphTree):
            step = owner._plan.step(last)
            if owner._plan.input(last) is not None:
                return "input"
            if step is not None and step.tag == last:
                return "tag"
        found = self.module_at(path)
        if isinstance(found, GraphTree):
            return "graph"
        return "step" if isinstance(owner, GraphTree) else "branch"

    def named_parameters_at(self, path: str) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters below a path, with names relative to it; those of several copies by whole paths.

        Raises `PathError`.
        """
        found = self.modules_at(path)
        for at, module in found:
            yield from module.named_parameters(prefix=at if len(found) > 1 else "")

    def parameters_at(self, selector: str) -> list[nn.Parameter]:
        """The parameters that a selector means, such as `letter.read` or `**.norm:bias`. Raises `PathError`."""
        modules, parameters = self.parts_at(selector)
        return [*dict.fromkeys(parameter for module in modules for parameter in module.parameters()), *parameters]

    def parts_at(self, selector: str) -> tuple[list[nn.Module], list[nn.Parameter]]:
        """What a selector means: modules as a whole, and parameters of other modules. Raises `PathError`."""
        return parts_of(self, self._plan, selector, self.modules_at)


def attach(graph: GraphTree, plan: GraphPlan, shapes: Mapping[str, str]) -> None:
    """Set the plan and the shapes of every graph in the tree."""
    graph._plan = plan
    graph._shapes = shapes
    mounts = dict(plan.nested)
    below: dict[str, dict[str, str]] = {path: {} for path in mounts}
    for name, shape in shapes.items() if mounts else ():
        for path in parents(name):
            if path in mounts:
                below[path][name[len(path) + 1 :]] = shape
    for path, inner in mounts.items():
        for child in mounted(graph, plan, path):
            attach(child, inner, below[path])


def mounted(graph: nn.Module, plan: GraphPlan, path: str) -> Iterator[GraphTree]:
    """The graphs at a local path: one, or one for each copy of a repeated step if the path has no number."""
    head, *rest = path.split(".")
    step = plan.step(head)
    assert step is not None
    holder: Any = graph._modules[head]
    copies = list(holder) if step.repeat is not None else [holder]
    if step.copies and rest and rest[0].isdigit():
        copies = [copies[int(rest.pop(0))]]
    for copy in copies:
        found = copy
        for name in rest:
            found = found._modules.get(name)
        if isinstance(found, GraphTree):
            yield found


def _no_such_path(path: str, walked: str, name: str, module: nn.Module) -> PathError:
    names = list(module._modules)
    if isinstance(module, GraphTree):
        names = [name for name in names_of(module._plan.steps) if not name.startswith("_")]
    where = f"in `{walked}`" if walked else "in the graph"
    message = f"unknown name `{name}` {where}"
    return PathError(Diagnostic("FC0701", message, NOWHERE, path, advice=suggest(name, names)))
