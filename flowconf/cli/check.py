"""`flowconf check`: all errors in a config, with their places, before anything runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowconf.cli.arguments import Described, Overrides, TrustOption, config_of, trust_project_of
from flowconf.report import Diagnostic, render_github, render_json, render_plain, render_text, wants_colour, write_drawn
from flowconf.report.garbage import uncollected_to_the_end

if TYPE_CHECKING:
    from flowconf.train.checks.road import Findings

PAGES = (".html", ".htm")
ROUNDS = 20
"""The maximum number of rounds of `--fix`: fixing an error may uncover others."""


class Format(StrEnum):
    """The output format: with source excerpts, as plain text, as JSON lines, or as GitHub annotations."""

    TEXT = "text"
    PLAIN = "plain"
    JSON = "json"
    GITHUB = "github"


@uncollected_to_the_end()
def check(
    file: Described,
    overrides: Overrides = None,
    form: Annotated[Format, typer.Option("--format", help="The output format.")] = Format.TEXT,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the suggestions that are certain, in place.")] = False,
    draw: Annotated[
        Path | None, typer.Option("--draw", metavar="PAGE", help="A .html page of the graph with the errors marked.")
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Report all errors in FILE without running anything."""
    trust_project_of(file, trust)
    if draw is not None and draw.suffix.lower() not in PAGES:
        raise typer.BadParameter(f"expected a file that ends in .html, got `{draw}`", param_hint="'--draw'")
    if fix and Path(file).is_dir():
        raise typer.BadParameter("the config of a run is not changed", param_hint="'--fix'")
    from flowconf.text.fixes import apply
    from flowconf.train.checks.road import findings

    config = config_of(file)
    seen = findings(config, overrides or [])
    for _ in range(ROUNDS if fix else 0):
        fixed = apply(seen.mistakes)
        for place in fixed:
            print(f"fixed {place}", file=sys.stderr)
        if not fixed:
            break
        seen = findings(config, overrides or [])
    found = seen.mistakes
    write_drawn(_rendered(found, form), sys.stdout)
    if form in (Format.TEXT, Format.PLAIN):
        sys.stdout.flush()
        print(f"{config}: {_count(found)}{_left_out(seen)}", file=sys.stderr)
        for note in seen.notes:
            print(f"  {note}", file=sys.stderr)
    if draw is not None:
        _draw(seen, draw)
    if seen.exit_code:
        raise typer.Exit(seen.exit_code)


def _draw(seen: Findings, file: Path) -> None:
    """Write the graph, with its shapes up to the mistakes, as a page on which they are marked."""
    plan = seen.walk.plan
    if plan is None:
        print(f"{file} was not written: the errors are in the document, before its graph", file=sys.stderr)
        return
    from flowconf.draw.data import as_data
    from flowconf.draw.facts import Facts
    from flowconf.draw.levels import picture
    from flowconf.draw.mistakes import marks_of
    from flowconf.draw.page.assemble import graph_page
    from flowconf.draw.svg import write
    from flowconf.graph.shapes.check import infer

    inference = infer(plan)
    facts = Facts(inference.shapes, inference.parameters, inference.holes)
    whole = picture(plan, facts)
    marks = marks_of(whole, seen.mistakes)
    origins = None if seen.walk.document is None else seen.walk.document.origins
    write(graph_page(as_data(whole, facts, marks=marks, origins=origins)), file)


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
    return ", ".join(counts) or "no errors"


def _left_out(seen: Findings) -> str:
    """The number of steps that were not checked because of the errors."""
    errors = sum(diagnostic.severity == "error" for diagnostic in seen.mistakes)
    if not errors:
        return ""
    it, count = "it" if errors == 1 else "them", len(seen.unchecked)
    steps = [f"{count} step{'s' if count > 1 else ''}"] if count else []
    left = [*steps, *([] if seen.sizes else ["the shapes"])]
    were = "was" if left == ["1 step"] else "were"
    return f"; {' and '.join(left)} {were} not checked because of {it}" if left else ""
