"""Views of a graph: generated classes that return selected values, on shared parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from flowconf.graph import tracing
from flowconf.graph.source.demand import LIST, OUTPUTS, STACK, Demand, Want, needs, without_copies
from flowconf.graph.source.emit import KnownSizes, emit
from flowconf.graph.source.program import CompiledProgram, run
from flowconf.graph.tree import GraphTree
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan, Input, Value
from flowconf.language.references import NotFound, find_anywhere, innermost, levels_of
from flowconf.report import NOWHERE, Diagnostic, PathError, suggest, texts


def view(graph: GraphTree, references: Sequence[str]) -> GraphTree:
    """A module with the parameters of `graph` whose forward returns the referenced values as a dict."""
    return _mirrored(graph, Demand(False, wanted(graph, references, STACK)))


def inputs_for(graph: GraphTree, references: Sequence[str]) -> dict[str, Input]:
    """The inputs that the referenced values depend on, by name; without references, those of the outputs.

    Raises `PathError` for an unknown value.
    """
    demand = Demand(False, wanted(graph, references, STACK)) if references else OUTPUTS
    uses = needs(graph.plan, demand).uses
    return {given.name: given for given in graph.plan.inputs if not given.captured and given.name in uses}


def wanted(graph: GraphTree, references: Sequence[str], gather: str) -> tuple[Want, ...]:
    """The references as demands. Raises `PathError` for an unknown one."""
    wants = []
    for text in dict.fromkeys(texts(references, "references")):
        try:
            value = find_anywhere(graph.plan, text)
            _check_slices(graph.plan, value, graph.__dict__.get("_sizes", KnownSizes()).kinds)
            _check_inside(graph, value)
            if gather == STACK:
                check_stacked(graph.plan, value, graph.shapes)
        except NotFound as problem:
            raise PathError(Diagnostic("FC0701", problem.message, NOWHERE, text, advice=problem.advice)) from None
        wants.append(Want(value, gather, alias=text))
    return tuple(wants)


def traced(view: GraphTree) -> GraphTree:
    """A copy of `view` with source that tracks the current step (see `tracing`)."""
    program = run(tracing.traced(view._program.program), view._program.bases)
    mirror = _Mirrors(program).graph(view, program.main.name, outermost=True)
    mirror._plan, mirror._shapes = view._plan, view._shapes
    return mirror


def _check_slices(plan: GraphPlan, value: Value, kinds: Mapping[str, str]) -> None:
    """Check that an index into the slices of a map is in range, if their number is known. Raises `NotFound`."""
    for path, _, step, here in levels_of(plan, value):
        count = None if step is None else kinds.get(f"{join(without_copies(plan, path), step.name)}#")
        if here.index is not None and count and not -int(count) <= here.index < int(count):
            message = f"index `[{here.index}]` of `{here}` is out of range: it has {count} slices"
            raise NotFound(message, f"the last is `[{int(count) - 1}]`")


def check_stacked(plan: GraphPlan, value: Value, shapes: Mapping[str, str]) -> None:
    """Check that a value inside of copies with an index has one shape, if `shapes` has them. Raises `NotFound`."""
    for path, _, step, here in levels_of(plan, value):
        if step is None or not step.copies or here.inner is None or here.copy is not None:
            continue
        inner = str(here.inner)
        found = {shapes.get(join(path, copy.path, here.spot, inner)) for copy in step.copies}
        if len(found - {None}) > 1:
            message = f"`{here}` has another shape in each copy of `{join(path, step.path)}`"
            raise NotFound(message, f"write one of them: `{join(step.path, '0', here.spot, inner)}`")


def _check_inside(graph: GraphTree, value: Value) -> None:
    """Check that a module inside of another one exists. Raises `NotFound`."""
    above, _, step, here = innermost(graph.plan, value)
    if step is None or here.inner is None:
        return
    path = join(above, step.path, "" if here.copy is None else str(here.copy), here.spot)
    for _, module in graph.modules_at(path):
        names = [name for name, _ in module.named_modules() if name]
        if here.inner.member not in names:
            message = f"`{path}` has no module `{here.inner}` inside"
            raise NotFound(message, suggest(here.inner.member, names, f"modules in `{path}`", most=12))


@contextmanager
def observe(graph: GraphTree, references: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Within the block, `graph` runs a forward that also records the referenced values."""
    mirror = _mirrored(graph, Demand(True, wanted(graph, references, LIST)))
    seen: dict[str, Any] = {}
    store = graph.__dict__.setdefault("_seen", {})

    def forward(*args: Any, **kwargs: Any) -> Any:
        output, values = mirror(*args, **kwargs)
        seen.update(values)
        store.update(values)
        return output

    before = graph.__dict__.get("forward")
    graph.__dict__["forward"] = forward
    try:
        yield seen
    finally:
        if before is None:
            del graph.__dict__["forward"]
        else:
            graph.__dict__["forward"] = before


def tagged(graph: GraphTree, reference: str) -> Any:
    """The last observed value of a reference, or None."""
    wanted(graph, [reference], LIST)
    return graph.__dict__.get("_seen", {}).get(reference)


def _mirrored(graph: GraphTree, demand: Demand) -> GraphTree:
    program = run(emit(graph.plan, graph.__dict__.get("_sizes", KnownSizes()), demand), graph._program.bases)
    return _Mirrors(program).graph(graph, program.main.name, outermost=True)


class _Mirrors:
    """Instances of the classes of a program with the modules of built graphs that they need."""

    def __init__(self, program: CompiledProgram) -> None:
        self.program = program
        self.parts = {part.name: part for part in program.program.classes}
        self.made: dict[int, nn.Module] = {}
        """Id of a graph -> its mirror; a shared graph has one mirror."""

    def graph(
        self, original: GraphTree, name: str, beside: Mapping[str, nn.Module] = {}, outermost: bool = False
    ) -> GraphTree:
        """The mirror of one graph.

        `beside` are modules of the surrounding graph below the path of this one: a skip, a condition. Hooks are kept,
        except those of the `outermost` graph, which run with the original.
        """
        known = self.made.get(id(original))
        if isinstance(known, GraphTree):
            return known
        cls, part = self.program.classes[name], self.parts[name]
        mirror = cls.__new__(cls)
        assert isinstance(mirror, GraphTree)
        nn.Module.__init__(mirror)
        kept = {*mirror.__dict__, "forward"} if outermost else {"_modules", "forward"}
        mirror.__dict__.update({key: value for key, value in original.__dict__.items() if key not in kept})
        mirror.training = original.training
        self.made[id(original)] = mirror
        used = {path.split(".")[0] for path in part.members}
        for path, module in original._modules.items():
            if path in beside:
                mirror._modules[path] = beside[path]
            elif path in used and module is not None:
                mirror._modules[path] = self.module(module, path, part.children)
        return mirror

    def module(self, module: nn.Module, path: str, children: Mapping[str, str]) -> nn.Module:
        """The module at a path of a graph, with mirrors for the graphs there and below."""
        below = {child.removeprefix(f"{path}.").split(".")[0] for child in children if child.startswith(f"{path}.")}
        if isinstance(module, nn.ModuleList) and (below or path in children):
            return nn.ModuleList([self.module(copy, path, children) for copy in module])
        extras = module._modules.items() if below or isinstance(module, GraphTree) else ()
        beside = {name: self.module(one, f"{path}.{name}", children) for name, one in extras if one and name in below}
        if isinstance(module, GraphTree) and path in children:
            own = {
                name for name in module._modules if module.plan.step(name) is None and name not in module.plan.shares
            }
            kept = {name: one for name, one in module._modules.items() if name in own and one is not None}
            return self.graph(module, children[path], kept | beside)
        return _with_modules(module, beside) if beside else module


def _with_modules(module: nn.Module, others: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of a module with the same parameters, and some of its children replaced."""
    twin = module.__class__.__new__(module.__class__)
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_modules"] = {**module._modules, **others}
    return twin
