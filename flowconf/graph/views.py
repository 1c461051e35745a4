"""Other ways through the same modules: generated classes that give the values one asks for, on shared parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from flowconf.diagnostics import NOWHERE, Diagnostic, PathError
from flowconf.graph import tracing
from flowconf.graph.demand import Demand, Want
from flowconf.graph.emit import Sizes, emit
from flowconf.graph.program import CompiledProgram, run
from flowconf.language.plan import join
from flowconf.language.references import NotFound, find_anywhere

if TYPE_CHECKING:
    from flowconf.graph.graph import Graph


def view(graph: Graph, references: Sequence[str]) -> Graph:
    """A module on the parameters of `graph` whose forward gives the referenced values as a dict."""
    return _mirrored(graph, Demand(False, wanted(graph, references)))


def wanted(graph: Graph, references: Sequence[str]) -> tuple[Want, ...]:
    """The references as demands. Raises `PathError` for one that names nothing."""
    wants = []
    for text in dict.fromkeys(references):
        try:
            value = find_anywhere(graph.plan, text)
        except NotFound as problem:
            raise PathError(Diagnostic("FC0701", problem.message, NOWHERE, text, help=problem.help)) from None
        inside = value.inner is not None or value.entry is not None
        wants.append(Want(value, inside and value.index is None, alias=text))
    return tuple(wants)


def traced(view: Graph) -> Graph:
    """`view` once more, with source that says which step it is in (see `tracing`)."""
    from flowconf.graph.graph import Graph, Outermost

    program = run(tracing.traced(view._program.program), Graph, Outermost)
    mirror = _mirror(view, program, program.main.name, outermost=True)
    mirror._plan, mirror._shapes = view._plan, view._shapes
    return mirror


@contextmanager
def observe(graph: Graph, references: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Within the block, `graph` runs a second forward that also notes the referenced values."""
    wants = wanted(graph, references)
    mirror = _mirrored(graph, Demand(True, wants))
    iterated = {want.key: _passes_iterations(graph, want) for want in wants}
    seen: dict[str, Any] = {}
    store = graph.__dict__.setdefault("_seen", {})

    def forward(*args: Any, **kwargs: Any) -> Any:
        output, values = mirror(*args, **kwargs)
        for name, value in values.items():
            seen[name] = list(value.unbind(1)) if iterated[name] and isinstance(value, Tensor) else value
        store.update(seen)
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


def tagged(graph: Graph, reference: str) -> Any:
    """The last observed value of a reference, or None."""
    wanted(graph, [reference])
    return graph.__dict__.get("_seen", {}).get(reference)


def _passes_iterations(graph: Graph, want: Want) -> bool:
    """Whether the value comes once for each of several iterations."""
    plan, value = graph.plan, want.value
    while want.each:
        step = plan.step(value.member)
        if step is None:
            return False
        if step.iterates and (value.inner is not None or value.entry is not None):
            return True
        if value.inner is None:
            return False
        mounts = {applied.path: applied.module for applied in step.applied()}
        module = mounts.get(f"{step.path}.{value.entry}") if len(step.parts) > 1 else step.body.module
        module = getattr(module, "module", module)
        plan, value = module.graph, value.inner  # type: ignore[union-attr]
    return False


def _mirrored(graph: Graph, demand: Demand) -> Graph:
    from flowconf.graph.graph import Graph, Outermost

    program = run(emit(graph.plan, graph.__dict__.get("_sizes", Sizes()), demand), Graph, Outermost)
    return _mirror(graph, program, program.main.name, outermost=True)


def _mirror(
    original: Graph, program: CompiledProgram, name: str, extras: Sequence[str] = (), outermost: bool = False
) -> Graph:
    """An instance of a generated class that holds the modules of `original`, as far as its forward needs them.

    `extras` are modules that the graph around keeps below this one's path: a skip, a condition. Hooks come along, but
    for those of the `outermost` graph, which fire around the original's call.
    """
    cls = program.classes[name]
    mirror = cls.__new__(cls)
    nn.Module.__init__(mirror)
    kept = {*mirror.__dict__, "forward"} if outermost else {"_modules", "forward"}
    mirror.__dict__.update({key: value for key, value in original.__dict__.items() if key not in kept})
    mirror.training = original.training
    part = next(part for part in program.program.classes if part.name == name)
    used = {path.split(".")[0] for path in part.members} | set(extras)
    children = dict(part.children)
    for path, module in original._modules.items():
        if path in used and module is not None:
            below = [member.removeprefix(f"{path}.") for member in part.members if member.startswith(f"{path}.")]
            mirror._modules[path] = _mirror_part(module, path, children, program, below)
    return mirror  # type: ignore[return-value]


def _mirror_part(
    module: nn.Module, path: str, children: Mapping[str, str], program: CompiledProgram, extras: Sequence[str] = ()
) -> nn.Module:
    from flowconf.graph.graph import Graph

    if isinstance(module, Graph) and path in children:
        return _mirror(module, program, children[path], extras)
    below = [child for child in children if child == path or child.startswith(f"{path}.")]
    if isinstance(module, nn.ModuleList) and below:
        return nn.ModuleList([_mirror_part(copy, path, children, program, extras) for copy in module])
    if isinstance(module, nn.ModuleDict) and below:
        parts = {}
        for key, value in module.items():
            parts[key] = _mirror_part(value, path if key == "body" else join(path, key), children, program)
        return nn.ModuleDict(parts)
    return module
