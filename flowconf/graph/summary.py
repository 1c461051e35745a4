"""A graph as a table: one row for each path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from flowconf.graph.freezing import is_frozen
from flowconf.graph.tree import GraphTree
from flowconf.language.paths import join
from flowconf.language.plan import Mount, Shared, Step
from flowconf.language.settings import Checkpoint
from flowconf.report.html import html_table


@dataclass(frozen=True)
class Row:
    """One path of a graph. Counts are numbers of elements; `checkpoint` is the source of the weights."""

    path: str
    kind: str
    text: str
    shape: str
    parameters: int
    trainable: int
    frozen: bool
    checkpoint: str
    depth: int


class Summary(list[Row]):
    """The rows of a table, which notebooks show as one."""

    def below(self, path: str) -> Summary:
        """The rows at and below a path."""
        found = [row for row in self if row.path == path or not path or row.path.startswith(f"{path}.")]
        return Summary([replace(row, depth=row.depth - found[0].depth) for row in found])

    def _repr_html_(self) -> str:
        header = ("path", "verb", "module", "output", "parameters", "frozen")
        lines = [
            (
                "  " * row.depth + row.path.rpartition(".")[2],
                row.kind,
                row.text,
                row.shape,
                f"{row.parameters:,}",
                "yes" if row.frozen else "",
            )
            for row in self
        ]
        return html_table(f"{self[0].parameters:,} parameters", header, lines)


def rows(graph: GraphTree) -> Summary:
    """Rows from the root down, graphs before their members, in declared order.

    A tied parameter is counted in every row that has it, and once in the first.
    """
    notes: dict[str, list[str]] = {}
    for tie in graph.plan.all_ties():
        notes.setdefault(tie.path, []).append(f"{tie.parameter} is {tie.other}")
    for follow in graph.plan.all_follows():
        notes.setdefault(follow.path, []).append(f"follows {follow.home}")
    settings = dict(graph.plan.all_settings())
    top = _row(graph, graph.plan.label, "graph", graph.plan.source_name or "", 0)
    found = Summary()
    for path, row in [("", top), *((row.path, row) for row in _below(graph, "", 1))]:
        text = ", ".join(filter(None, [row.text, *notes.get(row.path, ())]))
        setting = settings.get(path)
        found.append(replace(row, text=text, checkpoint="" if setting is None else _source(setting.checkpoint)))
    return found


def _below(graph: GraphTree, prefix: str, depth: int) -> Iterator[Row]:
    for step in graph.plan.steps:
        path, has_parts = join(prefix, step.path), len(step.parts) > 1
        module = graph._modules.get(step.path)
        yield _row(module, path, _kind(step), _text(step), depth, graph.shapes.get(step.name, ""))
        for part, applied in step.parts:
            local = join(step.path, part) if has_parts else step.path
            below, inner = join(prefix, local), None if module is None else graph.module_at(local)
            if has_parts:
                yield _row(inner, below, "branch", str(applied.module), depth + 1)
            if isinstance(applied.module, Mount) and isinstance(inner, GraphTree):
                yield from _below(inner, below, depth + 1 + has_parts)
        for extra in step.applied():
            name = extra.path.rsplit(".", 1)[-1]
            if extra.path != step.path and name not in dict(step.parts) and step.repeat is None and module is not None:
                yield _row(graph.module_at(extra.path), join(prefix, extra.path), name, str(extra.module), depth + 1)


def _row(module: nn.Module | None, path: str, kind: str, text: str, depth: int, shape: str = "") -> Row:
    parameters = list(module.parameters()) if module is not None else []
    total = sum(parameter.numel() for parameter in parameters)
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = module is not None and is_frozen(module)
    return Row(path, kind, text, shape, total, trainable, frozen, "", depth)


def _kind(step: Step) -> str:
    if step.repeat is not None:
        return f"{step.verb} x{step.repeat.value}"
    if step.feeds_back and step.limit is not None:
        return f"{step.verb} x{step.limit.value}"
    return step.verb


def _text(step: Step) -> str:
    module = step.body.module
    if len(step.parts) > 1:
        return f"merge: {step.merged}" if step.merged is not None else ""
    if isinstance(module, Mount):
        return module.graph.source_name or ""
    return f"reuse {module.path}" if isinstance(module, Shared) else str(module)


def _source(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return ""
    if checkpoint.hub is not None:
        return f"hub {checkpoint.hub}"
    return f"config {checkpoint.config}" if checkpoint.config is not None else str(checkpoint.path)
