"""`flowconf check`: every mistake in a config, with its place, before anything runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flowconf.cli.arguments import File, Overrides
from flowconf.report import (
    Diagnostic,
    render_github,
    render_json,
    render_plain,
    render_text,
    wants_colour,
)

if TYPE_CHECKING:
    from flowconf.train.checks.road import Findings

ROUNDS = 20
"""A mended mistake may bring others to light; so often at most is looked again."""


class Format(StrEnum):
    """How mistakes are told: drawn, in sentences, as JSON lines, or as GitHub annotations."""

    TEXT = "text"
    PLAIN = "plain"
    JSON = "json"
    GITHUB = "github"


def check(
    file: File,
    overrides: Overrides = None,
    form: Annotated[Format, typer.Option("--format", help="How to tell the mistakes.")] = Format.TEXT,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what has one right spelling, in place.")] = False,
) -> None:
    """Tell every mistake in FILE, and run nothing."""
    from flowconf.text.fixes import apply
    from flowconf.train.checks.road import findings

    seen = findings(file, overrides or [])
    for _ in range(ROUNDS if fix else 0):
        mended = apply(seen.mistakes)
        for place in mended:
            print(f"mended {place}", file=sys.stderr)
        if not mended:
            break
        seen = findings(file, overrides or [])
    found = seen.mistakes
    sys.stdout.write(_rendered(found, form))
    if form in (Format.TEXT, Format.PLAIN):
        sys.stdout.flush()
        print(f"{file}: {_count(found)}{_left_out(seen)}", file=sys.stderr)
    if seen.exit_code:
        raise typer.Exit(seen.exit_code)


def _rendered(found: list[Diagnostic], form: Format) -> str:
    match form:
        case Format.TEXT:
            return f"{render_text(found, wants_colour(sys.stdout))}\n\n" if found else ""
        case Format.PLAIN:
            return render_plain(found)
        case Format.JSON:
            return render_json(found)
        case Format.GITHUB:
            return render_github(found)


def _count(found: list[Diagnostic]) -> str:
    errors = sum(diagnostic.severity == "error" for diagnostic in found)
    warnings = len(found) - errors
    counts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return ", ".join(counts) or "no mistakes"


def _left_out(seen: Findings) -> str:
    """What was not checked because of the mistakes."""
    errors = sum(diagnostic.severity == "error" for diagnostic in seen.mistakes)
    if not errors:
        return ""
    it, count = "it" if errors == 1 else "them", len(seen.unchecked)
    members = [f"{count} member{'s' if count > 1 else ''}"] if count else []
    left = " and ".join([*members, *([] if seen.sizes else ["the shapes"])])
    return f"; {left} not checked because of {it}" if left else ""
