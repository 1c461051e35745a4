"""The exceptions that carry diagnostics."""

from __future__ import annotations

import os

from flowconf.report.diagnostic import Diagnostic
from flowconf.report.places import Place, shown_path
from flowconf.report.terminal import render_text


class FlowconfError(ValueError):
    """Every refusal that a user can cause; `diagnostics` holds what is wrong.

    `unchecked` are paths of members of which nothing can be said because of it.
    """

    exit_code = 1
    unchecked: tuple[str, ...] = ()

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics
        super().__init__(render_text(diagnostics))

    def __reduce__(self) -> tuple[type[FlowconfError], tuple[Diagnostic, ...], dict[str, object]]:
        return type(self), self.diagnostics, {"unchecked": self.unchecked}


class ConfigError(FlowconfError):
    """The config is wrong."""

    exit_code = 2


class PathError(FlowconfError):
    """A path that names nothing in the graph tree."""

    exit_code = 2


class StepError(FlowconfError):
    """A forward pass that cannot go on."""


class RunError(FlowconfError):
    """A run that cannot start or go on."""


class MachineError(FlowconfError):
    """Something that the machine lacks: a package, a program, a device."""

    exit_code = 3


def of_system(problem: OSError) -> Diagnostic:
    """What the operating system refuses, such as a file that must not be read, at the file."""
    if problem.filename is None:
        return Diagnostic("FC0601", why_not(problem))
    file = os.fsdecode(problem.filename) if isinstance(problem.filename, str | bytes) else str(problem.filename)
    return Diagnostic("FC0601", f"`{shown_path(file)}`: {why_not(problem)}", Place(file))


def why_not(problem: OSError) -> str:
    """Why the operating system refuses something, in its words: `permission denied`."""
    return (problem.strerror or str(problem)).lower()
