"""The analysis of one file as it is written now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as File

from flowconf.draw.facts import Facts
from flowconf.draw.levels import picture
from flowconf.draw.members import Member
from flowconf.editor.uses import concerns, uses_of
from flowconf.language.plan import GraphPlan, Value
from flowconf.report import Diagnostic, Place
from flowconf.report.origins import Path
from flowconf.train.checks.road import Findings, findings

TYPED = "machine"
"""The last stage while a file is edited. The later ones read data and check other configs: when a file is saved."""


@dataclass(frozen=True)
class Analysis:
    """The checks of a file: alone, or of the config that uses it."""

    file: str
    findings: Findings

    @property
    def plan(self) -> GraphPlan | None:
        """The graph, if it could be resolved."""
        return self.findings.walk.plan

    @property
    def here(self) -> list[Diagnostic]:
        """The mistakes whose place is in this file."""
        return [one for one in self.findings.mistakes if one.place.file == self.file]

    @property
    def elsewhere(self) -> Iterator[tuple[Diagnostic, Place]]:
        """The mistakes in files that this one leads to, each with the place here that does."""
        document = self.findings.walk.document
        here: dict[Path, Place] = {}
        leading: dict[str | None, Place] = {}
        for path, node in document.origins.items() if document is not None else ():
            place = node.key if node.key.file == self.file else here.get(path[:-1])
            if place is not None:
                here[path] = place
                leading.setdefault(node.place.file, place)
        for one in self.findings.mistakes:
            if one.place.file != self.file and one.place.file in leading:
                yield one, leading[one.place.file]

    @cached_property
    def members(self) -> list[Member]:
        """The members of the graph, outer ones first, with shapes and parameters as far as they are known."""
        if self.plan is None:
            return []
        inference = self.findings.walk.inference
        facts = Facts() if inference is None else Facts(inference.shapes, inference.parameters, inference.holes)
        return list(picture(self.plan, facts).walk())

    def values(self) -> Iterator[tuple[GraphPlan, Value]]:
        """The references in this file, each with its graph."""
        for _, graph in self.plan.graphs() if self.plan is not None else ():
            read = [value for step in graph.steps for value in step.reads]
            for value in [*read, *(value for _, value in graph.outputs)]:
                if value.place.file == self.file:
                    yield graph, value

    def member_at(self, line: int, column: int) -> Member | None:
        """The member whose name is written there."""
        return next((one for one in self.members if is_at(one.place, self.file, line, column)), None)


def is_at(place: Place, file: str | None, line: int, column: int) -> bool:
    """Whether a position of a file is on a place, or at its end."""
    return (place.file, place.line) == (file, line) and place.column <= column <= place.column + place.length


def analysed(file: str, last: str | None = None) -> Analysis:
    """Check a file up to the stage `last`; one that is not of flowconf has no mistakes.

    A file of a config group is no config by itself: it is checked in the configs that can select it, and has the
    mistakes that it has in the one that it fits best.
    """
    if not concerns(File(file)):
        return Analysis(file, Findings([]))
    uses = uses_of(File(file))
    if uses is None:
        return Analysis(file, findings(file, last=last))
    found = [Analysis(file, findings(use.config, [use.override], last=last)) for use in uses]
    return min(found, key=lambda one: len(one.here), default=Analysis(file, Findings([])))
