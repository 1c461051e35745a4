"""Collects the findings of one stage, and knows where everything in the document was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from flowconf.report.diagnostic import Diagnostic, Label
from flowconf.report.errors import ConfigError
from flowconf.report.grouping import Unused, grouped
from flowconf.report.origins import NO_ORIGINS, Node, Origins, Path, dotted
from flowconf.report.places import Place, shown_path
from flowconf.report.suggestion import Advice, Suggestion


class More(TypedDict, total=False):
    """The optional fields of a finding.

    `path` is what it is about, if that differs from the path in the document. Findings with the same `cause` are
    reported as one.
    """

    path: str
    labels: tuple[Label, ...]
    advice: Advice | None
    severity: str
    lacks: str
    cause: tuple[object, ...]


@dataclass
class Reporter:
    """Collects the findings of one stage, so that all mistakes are reported at once.

    Paths (`at`) are relative to `base` in the document of `origins`.
    """

    origins: Origins = NO_ORIGINS
    base: Path = ()
    diagnostics: list[Diagnostic] = field(default_factory=list)
    """All findings, ungrouped; `mistakes` groups them."""
    unchecked: list[str] = field(default_factory=list)
    """Paths of steps that were not checked because of errors."""
    notes: list[str] = field(default_factory=list)
    """What the checks leave open: members that were not checked, and conditions that the data has to meet."""
    unused: list[Unused] = field(default_factory=list)
    """Unused definitions, which may be what an unknown name was meant to refer to."""

    def below(self, path: Path) -> Reporter:
        """A reporter of the same stage with paths relative to `path`."""
        return replace(self, base=(*self.base, *path))

    def value(self, at: Path) -> Place:
        """The place of the value at a path, or of its nearest known ancestor."""
        return self.origins.value((*self.base, *at))

    def key(self, at: Path) -> Place:
        """The place of the last key of a path."""
        return self.origins.key((*self.base, *at))

    def pair(self, at: Path) -> Place | None:
        """The place of `key: value` at a path, or None if it is not text on one line of a file."""
        key, value = self.key(at), self.value(at)
        if key.file is None or not key.line or (key.file, key.line) != (value.file, value.line) or not value.length:
            return None
        return replace(key, length=max(value.column + value.length - key.column, key.length))

    def in_one_file(self, *paths: Path) -> bool:
        """Whether the values at some paths are written in the same file: then none is an override of the others."""
        files = {self.value(path).file for path in paths}
        return len(files) == 1 and None not in files

    def dotted(self, at: Path) -> str:
        """A path of the document with dots."""
        return dotted((*self.base, *at))

    def error(self, code: str, message: str, place: Place | None = None, at: Path = (), **more: Unpack[More]) -> None:
        """Add an error about the value at the path `at`, or about another `place`."""
        more.setdefault("path", self.dotted(at))
        self.add(Diagnostic(code, message, self.value(at) if place is None else place, **more))

    def add(self, finding: Diagnostic) -> None:
        """Add a finding."""
        self.diagnostics.append(finding)

    def warn(self, code: str, message: str, place: Place | None = None, at: Path = (), **more: Unpack[More]) -> None:
        """Add a warning about something that is probably unintended."""
        more["severity"] = "warning"
        self.error(code, message, place, at, **more)

    def missing(
        self, name: str, code: str, message: str, place: Place | None = None, at: Path = (), **more: Unpack[More]
    ) -> None:
        """Add an error about the unknown name `name`; all its occurrences are reported as one."""
        more["lacks"] = name
        more.setdefault("cause", (name,))
        self.error(code, message, place, at, **more)

    def defines(self, what: str, places: Mapping[str, Place], within: str = "") -> None:
        """Add unused definitions that are visible below the path `within`."""
        self.unused.append(Unused(what, places, within))

    @property
    def errors(self) -> Sequence[Diagnostic]:
        """The errors among the findings."""
        return [d for d in self.diagnostics if d.severity == "error"]

    def has_errors(self, since: int = 0) -> bool:
        """Whether there are errors among the findings, without the first `since` of them."""
        return any(one.severity == "error" for one in self.diagnostics[since:])

    def mistakes(self) -> list[Diagnostic]:
        """The findings, grouped by cause; of values from the environment they quote the reference."""
        found = grouped(self.diagnostics, self.unused)
        secrets = {node.place: node for node in self.origins.secrets} if found else {}
        return [_without(secrets[one.place], one) if one.place in secrets else one for one in found]

    def stop_on_errors(self) -> None:
        """Raise `ConfigError` if there are errors."""
        if self.errors:
            error = ConfigError(*self.mistakes())
            error.unchecked = tuple(dict.fromkeys(self.unchecked))
            raise error


def _without(secret: Node, finding: Diagnostic) -> Diagnostic:
    """A finding about a value from the environment, with the reference in place of the value."""
    message = finding.message
    for value in (str(secret.value), shown_path(str(secret.value))):
        message = message.replace(f"`{value}`", f"`{secret.reference}`")
    fixes_value = isinstance(finding.advice, Suggestion) and finding.advice.instead_of == secret.value
    return replace(finding, message=message, advice=None if fixes_value else finding.advice)
