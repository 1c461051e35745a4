"""The errors that a trial has found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from flowconf.graph.shapes.grouping import Cause, Finding
from flowconf.graph.shapes.visit import Visit
from flowconf.language.arguments import Literal
from flowconf.report import NOWHERE, Advice, Diagnostic, Label, Place


class Poisoned(Exception):
    """The value is unknown because of an error that is among the findings."""


@dataclass
class ShapeFindings:
    """The findings, in order."""

    found: list[Finding] = field(default_factory=list)
    fitting: set[Place] = field(default_factory=set)
    """Inputs of graphs that match at least one mount."""

    def __len__(self) -> int:
        return len(self.found)

    def add(self, diagnostic: Diagnostic, *causes: Cause) -> None:
        self.found.append(Finding(diagnostic, causes))

    def error(
        self,
        visit: Visit,
        code: str,
        message: str,
        place: Place,
        labels: tuple[Label, ...] = (),
        advice: Advice | None = None,
        causes: tuple[Cause, ...] = (),
        parameters: tuple[Place, ...] = (),
    ) -> NoReturn:
        """Note an error of the current step and raise `Poisoned`.

        Where modules are reused, the `reuse` is at fault: they match at their first use.
        """
        scope, first = visit.scope, None
        if scope.reused is not None:
            first, labels, place = place, (*labels, Label("first used with another stream here", place)), scope.reused
        labels = tuple(label for label in labels if label.place != place)
        diagnostic = Diagnostic(code, message, place, visit.path, labels, scope.advice or advice)
        self.found.append(Finding(diagnostic, causes, parameters, first))
        raise Poisoned


def set_by(written: Literal | None) -> list[Label]:
    """Labels at the parameters in an expression, with their values."""
    known = written.of if written is not None else ()
    return [Label(f"`{of.text}` is {of.value} here", of.place) for of in known if of.place != NOWHERE]
