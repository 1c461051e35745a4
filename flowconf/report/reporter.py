"""Gathers the findings of one stage, and knows where everything in the document was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from flowconf.report.diagnostic import Diagnostic, Label
from flowconf.report.errors import ConfigError
from flowconf.report.grouping import Unused, grouped
from flowconf.report.origins import NO_ORIGINS, Origins, Path, dotted
from flowconf.report.places import Place
from flowconf.report.suggestion import Advice


class More(TypedDict, total=False):
    """What a finding may say besides its code, message and place.

    `path` names what it is about, where that is not the path in the document; the findings of one `cause` are one
    mistake.
    """

    path: str
    labels: tuple[Label, ...]
    advice: Advice | None
    severity: str
    lacks: str
    cause: tuple[object, ...]


@dataclass
class Reporter:
    """Gathers the findings of one stage, so that all mistakes are reported at once.

    Paths (`at`) are those of the document that `origins` belongs to, below `base`.
    """

    origins: Origins = NO_ORIGINS
    base: Path = ()
    diagnostics: list[Diagnostic] = field(default_factory=list)
    """Every finding as it was made; `mistakes` tells which of them are one."""
    unchecked: list[str] = field(default_factory=list)
    """Paths of members that could not be checked because of what is wrong."""
    unused: list[Unused] = field(default_factory=list)
    """Definitions that nothing refers to, which may have been meant where a name is missing."""

    def below(self, path: Path) -> Reporter:
        """A reporter of the same stage whose paths begin at `path`."""
        return replace(self, base=(*self.base, *path))

    def value(self, at: Path) -> Place:
        """The place of the value at a path, or of its nearest known ancestor."""
        return self.origins.value((*self.base, *at))

    def key(self, at: Path) -> Place:
        """The place of the last key of a path."""
        return self.origins.key((*self.base, *at))

    def dotted(self, at: Path) -> str:
        """A path of the document as people write it."""
        return dotted((*self.base, *at))

    def error(
        self,
        code: str,
        message: str,
        place: Place | None = None,
        at: Path = (),
        **more: Unpack[More],
    ) -> None:
        """Note a finding about the value at the path `at`, or about another `place`."""
        more.setdefault("path", self.dotted(at))
        self.add(Diagnostic(code, message, self.value(at) if place is None else place, **more))

    def add(self, finding: Diagnostic) -> None:
        """Note a finding that is made already."""
        self.diagnostics.append(finding)

    def warn(self, code: str, message: str, place: Place | None = None, at: Path = (), **more: Unpack[More]) -> None:
        """Note something that is probably not what the user meant."""
        more["severity"] = "warning"
        self.error(code, message, place, at, **more)

    def missing(
        self, name: str, code: str, message: str, place: Place | None = None, at: Path = (), **more: Unpack[More]
    ) -> None:
        """Note that `name` stands for nothing: one mistake, however often it is written."""
        more["lacks"] = name
        more.setdefault("cause", (name,))
        self.error(code, message, place, at, **more)

    def defines(self, what: str, places: Mapping[str, Place], within: str = "") -> None:
        """Note definitions that nothing refers to, which count for what is missing below the path `within`."""
        self.unused.append(Unused(what, places, within))

    @property
    def errors(self) -> Sequence[Diagnostic]:
        """The findings that are errors."""
        return [d for d in self.diagnostics if d.severity == "error"]

    def mistakes(self) -> list[Diagnostic]:
        """The findings, one for each cause."""
        return grouped(self.diagnostics, self.unused)

    def stop_on_errors(self) -> None:
        """Raise `ConfigError` when anything so far is an error."""
        if self.errors:
            error = ConfigError(*self.mistakes())
            error.unchecked = tuple(dict.fromkeys(self.unchecked))
            raise error
