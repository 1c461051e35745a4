"""Validates the arguments of a registered name, which are keys of a section, against its signature."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from flowconf.language import value_types
from flowconf.language.advice import other_tools, sections, vocabulary
from flowconf.language.keys.validate import shown
from flowconf.language.section import Section
from flowconf.language.signatures import Signature
from flowconf.report import Advice, Label, Place, Reporter, Suggestion, suggest
from flowconf.report.origins import Path, dotted


@dataclass(frozen=True)
class Arguments:
    """The arguments that a config gives to a registered name.

    Attributes:
        name: the registered name.
        at: the path of the mapping that has the arguments.
        taken: arguments that no config may set.
        section: the section that has the arguments beside its own keys, None if it has them in a mapping.
    """

    name: str
    signature: Signature
    given: Mapping[str, Any]
    at: Path
    reporter: Reporter
    taken: Collection[str] = ()
    section: Section | None = None

    def check(self, lacking: Sequence[str] = ()) -> Sequence[str]:
        """Report unknown arguments and arguments of the wrong type.

        `lacking` are required arguments without a value; returns those that no unknown argument was probably meant as.
        """
        types = {parameter.name: parameter.type for parameter in self.signature.parameters}
        unknown = [one for one in self.given if one in self.taken or not self.signature.takes(one)]
        meant = lacking[0] if len(unknown) == len(lacking) == 1 else None
        for argument, value in self.given.items():
            if argument in unknown:
                self._unknown(argument, value, meant)
            else:
                self._check_value((*self.at, argument), value, types.get(argument, ""))
        self._check_shares({name: value for name, value in self.given.items() if "Share" in types.get(name, "")})
        return lacking if meant is None else ()

    def require(self, lacking: Iterable[str], place: Place, at: Path, form: str = "{}: ...") -> None:
        """Report required arguments that are missing."""
        for argument in lacking:
            message = f"`{self.name}` requires the argument `{argument}`"
            self.reporter.error("FC0133", message, place, at=at, advice=f"write `{form.format(argument)}`")

    def _unknown(self, argument: str, value: Any, lacking: str | None) -> None:
        where, labels = (*self.at, argument), tuple[Label, ...]()
        own = [] if self.section is None else [key for key in type(self.section).model_fields if key != "name"]
        allowed = [known for known in self.signature.names if known not in self.taken] + own
        free = [known for known in allowed if known not in self.given]
        advice = sections.as_key(where) or sections.name_of(where, value, free, self.reporter)
        advice = advice or self._instead(argument, free, allowed, lacking)
        chosen = self._chosen_later(where)
        if chosen is not None and not isinstance(advice, Suggestion):
            labels = (Label(f"`{self.name}` is chosen here", chosen),)
            advice = f"remove it too: `~{dotted(where)}`"
        message = f"`{self.name}` takes no argument `{argument}`"
        self.reporter.error("FC0133", message, self.reporter.key(where), at=where, labels=labels, advice=advice)

    def _instead(self, argument: str, free: list[str], allowed: list[str], lacking: str | None) -> Advice | None:
        """The advice for an unknown argument: a `free` one, the `lacking` one, another level, or the list."""
        known = other_tools.meant(argument, vocabulary.LOSS_ARGUMENTS, free) or other_tools.for_key(argument, free)
        listed = suggest(argument, free, "arguments", listed=allowed)
        if known is not None:
            return Suggestion(known, instead_of=argument, otherwise=f"use `{known}`")
        explained = vocabulary.NOT_NEEDED.get(argument)
        if isinstance(listed, Suggestion) and explained is None:
            return listed
        if lacking is not None:
            return explained or f"write `{lacking}`, which is missing"
        level = "schedule" if "schedule" in self.at else str(self.at[0])
        table = sections.TABLES.get(level)
        elsewhere = sections.other_owners(table, argument) if table is not None else None
        if elsewhere is None and explained is None and len(self.at) == 1:
            elsewhere = sections.belongs(argument, level)
        return elsewhere or explained or listed

    def _chosen_later(self, where: Path) -> Place | None:
        """The place of the name, if an override or a later file has replaced the name to which an argument belongs."""
        key = (*self.at[:-1], "fn") if self.at[-1] == "args" else (*self.at, "name")
        chosen, file = self.reporter.value(key), self.reporter.key(where).file
        before = [one for one in self.reporter.origins.history(key) if one.file == file]
        return chosen if before and chosen not in before else None

    def _check_value(self, where: Path, value: Any, kind: str) -> None:
        """Report a value that does not match the annotation `kind`, and a string that may be meant as another type."""
        wanted = value_types.misfit(kind, value, required=True)
        if wanted is None and isinstance(value, float) and not math.isfinite(value):
            wanted = "a finite number"
        if wanted is not None:
            better = value_types.instead(value_types.meaning(kind), value)
            advice = sections.example(where) if better is None else Suggestion(better, instead_of=str(value))
            item = value_types.misfit_item(kind, value)
            if item is not None:
                where, wanted, value = (*where, item[0]), item[1], value[item[0]]
            message = f"`{dotted(where)}` must be {wanted}, got {shown(value, wanted)}"
            self.reporter.error("FC0123", message, at=where, advice=advice)
        elif value_types.is_ambiguous(kind, value) and self._is_bare(where, value):
            better = value_types.meant(value, (bool, NoneType))
            advice = f'write `{better}`, or quote it: `"{value}"`'
            self.reporter.warn("FC0008", f"`{value}` is read as a string", at=where, advice=advice)

    def _is_bare(self, where: Path, value: str) -> bool:
        """Whether a string is written in a file without quotes."""
        place = self.reporter.value(where)
        return place.word is None and place.length == len(value)

    def _check_shares(self, shares: Mapping[str, Any]) -> None:
        """Report shares of a data set that add up to all of it."""
        given = {name: value for name, value in shares.items() if isinstance(value, int | float)}
        if len(given) > 1 and sum(given.values()) >= 1 and all(0 <= value < 1 for value in given.values()):
            *others, last = given
            taken = " and ".join(f"`{name}` ({value:g})" for name, value in given.items())
            labels = tuple(Label(f"`{name}` is set here", self.reporter.value((*self.at, name))) for name in others)
            message = f"{taken} leave no rows for training"
            advice = "their sum must be below 1"
            self.reporter.error("FC0123", message, at=(*self.at, last), labels=labels, advice=advice)
