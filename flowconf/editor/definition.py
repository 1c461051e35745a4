"""Where what is named at a position is defined."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flowconf.editor.analysis import Analysis, is_at
from flowconf.language.references import place_of
from flowconf.report import Place
from flowconf.text.documents import SUFFIXES
from flowconf.text.library import config_roots


def defined_at(analysis: Analysis, line: int, column: int) -> Place | None:
    """The place of the member, graph or file that is named at a position of the file."""
    return value_at(analysis, line, column) or _graph_at(analysis, line, column) or _named_at(analysis, line, column)


def value_at(analysis: Analysis, line: int, column: int) -> Place | None:
    """The place of the member that a reference at the position reads."""
    for graph, value in analysis.values():
        if is_at(value.place, analysis.file, line, column):
            return place_of(graph, value)
    return None


def _graph_at(analysis: Analysis, line: int, column: int) -> Place | None:
    """The beginning of the file of a graph whose name is at the position."""
    document = analysis.findings.walk.document
    mounts = document.origins.mounts.values() if document is not None else ()
    named = (mount for mount in mounts if is_at(mount.place, analysis.file, line, column))
    return next((Place(mount.file, 1, 1) for mount in named), None)


def _named_at(analysis: Analysis, line: int, column: int) -> Place | None:
    """The target of the text at the position: a member of the graph, as in losses, or a file of configs."""
    document = analysis.findings.walk.document
    for path, node in document.origins.items() if document is not None else ():
        if isinstance(node.value, str) and is_at(node.place, analysis.file, line, column):
            plan = analysis.plan if path[0] != "model" else None
            step = plan.step_at(node.value.partition("[")[0]) if plan is not None else None
            return step.place if step is not None else _file_named(Path(analysis.file), node.value, str(path[-1]))
    return None


def _file_named(file: Path, name: str, group: str) -> Place | None:
    """A file of configs, by its path or by the name of an option of a group."""
    for root in config_roots(file):
        for candidate in (root / name, *(root / group / f"{name}{suffix}" for suffix in SUFFIXES)):
            with suppress(OSError):  # a name that is too long, as of a text that is no name
                if candidate.suffix in SUFFIXES and candidate.is_file():
                    return Place(str(candidate), 1, 1)
    return None
