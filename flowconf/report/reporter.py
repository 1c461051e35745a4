"""Gathers the diagnostics of one stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flowconf.report.diagnostic import Diagnostic, Label
from flowconf.report.errors import ConfigError
from flowconf.report.places import NOWHERE, Place

AND_HERE = "and here"
"""The label of a further place of one mistake."""

MOST = 100
"""So many mistakes are told at once: more would not be read."""


@dataclass
class Reporter:
    """Gathers the diagnostics of one stage, so that all are told at once."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """Paths of members that could not be checked because of what is wrong."""
    repeated: int = 0
    """How many mistakes went into others."""

    def error(self, code: str, message: str, place: Place = NOWHERE, **more: object) -> None:
        """Note one mistake; `more` are the remaining fields of `Diagnostic`."""
        self.diagnostics.append(Diagnostic(code, message, place, **more))  # type: ignore[arg-type]

    def warn(self, code: str, message: str, place: Place = NOWHERE, **more: object) -> None:
        """Note something that is probably not what the user meant."""
        self.error(code, message, place, severity="warning", **more)

    def repeats(self, code: str, message: str, place: Place) -> bool:
        """Whether the same was told of another place; `place` is then added to it."""
        for index, known in enumerate(self.diagnostics):
            if (known.code, known.message) == (code, message) and known.place != place:
                if all(label.place != place for label in known.labels):
                    self.diagnostics[index] = replace(known, labels=(*known.labels, Label(AND_HERE, place)))
                self.repeated += 1
                return True
        return False

    def lacks(self, name: str, code: str, message: str, place: Place, **more: object) -> None:
        """Note a name that stands for nothing: one mistake, however often it is written."""
        if not self.repeats(code, message, place):
            self.error(code, message, place, lacks=name, **more)

    @property
    def noted(self) -> int:
        """How many mistakes were noted, also those that are told only once."""
        return len(self.errors) + self.repeated

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")

    def stop_on_errors(self) -> None:
        """Raise `ConfigError` when anything so far is an error."""
        if self.errors:
            error = ConfigError(*self.told_once())
            error.unchecked = tuple(dict.fromkeys(self.unchecked))
            raise error

    def told_once(self) -> list[Diagnostic]:
        """One diagnostic for each code and place, no warning where an error stands, and at most `MOST`."""
        wrong = {d.place for d in self.errors if _is_exact(d.place)}
        kept: dict[object, Diagnostic] = {}
        for d in self.diagnostics:
            if d.severity == "error" or d.place not in wrong:
                kept.setdefault((d.code, d.place) if _is_exact(d.place) else (d.code, d.message), d)
        return (
            sorted(kept.values(), key=lambda d: d.severity != "error")[:MOST] if len(kept) > MOST else [*kept.values()]
        )


def _is_exact(place: Place) -> bool:
    return place.line > 0 or place.word is not None
