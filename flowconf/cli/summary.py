"""`flowconf summary`: the tree of a graph with shapes, parameters, frozen parts and checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowconf.cli.arguments import AtOption, Described, Overrides, TrustOption, config_of, trust_project_of
from flowconf.report import shortened
from flowconf.report.columns import aligned
from flowconf.report.garbage import uncollected_to_the_end

if TYPE_CHECKING:
    from flowconf.graph.graph import Graph
    from flowconf.graph.summary import Row
    from flowconf.language.config import Config

HEADER = ("path", "verb", "module", "output", "parameters", "frozen", "weights from")
LONGEST = 48


@uncollected_to_the_end()
def summary(
    file: Described,
    overrides: Overrides = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Print what a training step of a config needs, and what is kept by path.")
    ] = False,
    at: AtOption = "",
    trust: TrustOption = False,
) -> None:
    """Print the tree of a graph: shapes, parameters, what is frozen."""
    trust_project_of(file, trust)
    from flowconf.graph.build import build_graph
    from flowconf.train.checks import road

    walk = road.begin(config_of(file), overrides or []).to("sizes")
    if memory and walk.config is None:
        raise typer.BadParameter("requires a training config, got a graph document", param_hint="'--memory'")
    graph = build_graph(walk.resolved, walk.inference)
    graph.module_at(at)
    sys.stdout.write(table(graph.summary().below(at)))
    for line in [*graph.__dict__["_notes"], *(_groups(walk.config, graph) if walk.config is not None else ())]:
        print(line)
    if memory and walk.config is not None:
        from flowconf.train.commands.fit import memory_lines

        for line in memory_lines(walk.config, walk.inferred):
            print(line)


def _groups(config: Config, graph: Graph) -> Iterator[str]:
    """The parameters of each selector of the optimizer's groups, and their learning rates."""
    from flowconf.train.optim.groups import by_selector, groups_of, optimizers_of, rate_in_words, taken

    section = config.training.optimizer
    if section.groups or section.layer_decay is not None:
        named = {name: parameter for name, parameter in graph.named_parameters() if parameter.requires_grad}
        groups = groups_of(config, graph, named)
        settings = [group for optimizer in optimizers_of(section, groups) for group in optimizer.param_groups]
        for members in by_selector(groups, section).values():
            rates = rate_in_words(settings[groups.index(group)].get("lr", 1.0) for group in members)
            yield f"{members[0].section.name or section.name}, {rates}: {taken(members)}"


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned columns, indented by depth; the totals are those of the first row, the whole graph."""
    lines = aligned([HEADER, *(_cells(row) for row in rows)], right=[HEADER.index("parameters")])
    lines.insert(1, "-" * max(map(len, lines)))
    whole = rows[0]
    total = f"{whole.parameters:,} parameters, {whole.trainable:,} trainable, "
    return "\n".join([*lines, "", f"{total}{whole.parameters - whole.trainable:,} frozen"]) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    name = "  " * row.depth + row.path.rpartition(".")[2]
    text = shortened(row.text, LONGEST)
    frozen = "yes" if row.frozen else "partly" if row.trainable < row.parameters else ""
    return (name, row.kind, text, row.shape, f"{row.parameters:,}", frozen, row.checkpoint)
