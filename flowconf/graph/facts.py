"""What the shape check and the generated source say about a graph, for its pictures."""

from __future__ import annotations

from flowconf.draw.facts import Facts, SourceClass
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.source.emit import Program, emit
from flowconf.language.plan import GraphPlan


def facts_of(plan: GraphPlan, inference: Inference) -> Facts:
    """The facts of a Plan whose sizes were checked; nothing is built."""
    program = emit(plan, inference.sizes)
    return Facts(
        inference.shapes,
        inference.parameters,
        inference.holes,
        classes=_classes(program),
        main=program.classes[-1].name,
    )


def _classes(program: Program) -> dict[str, SourceClass]:
    return {
        one.name: SourceClass(tuple((line.text, line.path) for line in one.lines), dict(one.children))
        for one in program.classes
    }
