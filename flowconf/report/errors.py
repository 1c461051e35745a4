"""The exceptions that carry diagnostics."""

from __future__ import annotations

import os

from flowconf.report.diagnostic import Diagnostic
from flowconf.report.places import Place, shown_path
from flowconf.report.terminal import render_text


class FlowconfError(ValueError):
    """Base class of all user errors; `diagnostics` contains the details.

    `unchecked` are paths of steps that were not checked because of the errors.
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
    """A path that does not exist in the graph."""

    exit_code = 2


class StepError(FlowconfError):
    """A forward pass that cannot continue."""


class RunError(FlowconfError):
    """A run that cannot start or continue."""


class MachineError(FlowconfError):
    """A missing requirement of the machine: a package, a program or a device."""

    exit_code = 3


def of_system(problem: OSError) -> Diagnostic:
    """The diagnostic of an error of the operating system, such as a denied permission, at the file."""
    name = problem.filename2 or problem.filename  # of a copy, the file that is written
    if name is None:
        return Diagnostic("FC0601", why_not(problem))
    file = os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
    return Diagnostic("FC0601", f"`{shown_path(file)}`: {why_not(problem)}", Place(file))


def why_not(problem: OSError) -> str:
    """The reason that the operating system gives, such as `permission denied`."""
    return (problem.strerror or str(problem)).lower()
