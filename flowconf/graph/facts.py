"""Facts about a graph for its pictures, from the shape check and the generated source."""

from __future__ import annotations

from collections.abc import Mapping

from flowconf.draw.facts import Facts, SourceClass
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.shapes.inner_values import described
from flowconf.graph.source.demand import without_copies
from flowconf.graph.source.emit import KnownSizes, Program, emit
from flowconf.graph.tree import GraphTree
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan


def facts_of(
    plan: GraphPlan, inference: Inference, accounts: Mapping[str, tuple[str, ...]] | None = None, source: bool = True
) -> Facts:
    """The facts of a Plan whose sizes were checked; nothing is built. `accounts` are those of its weights, by path.

    `source`: also the generated classes, which only pages show.
    """
    program = emit(plan, inference.sizes) if source else None
    return Facts(
        inference.shapes,
        inference.parameters,
        inference.holes,
        {join(path, name): text for path, inner in inference.inside.items() for name, text in inner.names.items()},
        classes={} if program is None else _classes(program),
        main="" if program is None else program.classes[-1].name,
        accounts=accounts or {},
    )


def facts_of_graph(graph: GraphTree) -> Facts:
    """The facts of a graph that was built, as it is now: what is frozen may differ from its document."""
    named = {without_copies(graph.plan, name): one for name, one in reversed(list(graph.named_parameters()))}
    sizes = graph.__dict__.get("_sizes", KnownSizes())
    return Facts(
        graph.shapes,
        {name: tuple(one.shape) for name, one in reversed(named.items())},
        sizes.holes,
        {without_copies(graph.plan, name): described(one) for name, one in graph.named_modules()},
        frozenset(name for name, one in named.items() if not one.requires_grad),
        classes=_classes(graph._program.program),
        main=type(graph).__name__,
    )


def _classes(program: Program) -> dict[str, SourceClass]:
    return {
        one.name: SourceClass(tuple((line.text, line.path) for line in one.lines), one.children)
        for one in program.classes
    }
