"""`flowconf check`: every mistake in a config, with its place, before anything runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from flowconf.cli.arguments import File, Overrides
from flowconf.diagnostics import (
    Diagnostic,
    render_github,
    render_json,
    render_plain,
    render_text,
    wants_colour,
)


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
) -> None:
    """Tell every mistake in FILE, and run nothing."""
    from flowconf.train.check import check as find

    found = find(file, overrides or [])
    sys.stdout.write(_rendered(found, form))
    if form in (Format.TEXT, Format.PLAIN):
        sys.stdout.flush()
        print(f"{file}: {_count(found)}", file=sys.stderr)
    if any(diagnostic.severity == "error" for diagnostic in found):
        raise typer.Exit(2)


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
