"""`flowconf diff`: the differences between two configs, two sets of overrides, or two runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from flowconf.cli.arguments import Form, FormOption, TrustOption, config_of, refuse_other_pictures, trust_project_of
from flowconf.cli.completion import sources
from flowconf.report import ConfigError, Reporter, printable, shown_path
from flowconf.report.garbage import uncollected_to_the_end

if TYPE_CHECKING:
    from flowconf.language.carried_over import CarriedOver, Shape
    from flowconf.language.diff import Change
    from flowconf.report import Diagnostic
    from flowconf.train.checks.road import Walk

T = TypeVar("T")

PAGES = (".html", ".htm")


@uncollected_to_the_end()
def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A config, a graph document, a run folder, or a folder of runs (the newest run).",
            autocompletion=sources,
        ),
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[B] [OVERRIDES]...",
            help="The other side (default: A), and overrides for it.",
            autocompletion=sources,
        ),
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option("--before", metavar="OVERRIDE", help="An override for A; repeatable.")
    ] = None,
    form: FormOption = Form.TEXT,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Draw the changes: A and B as a .html page, or B as an image."
        ),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Show how B differs from A: steps, shapes, weights, settings."""
    from flowconf.draw.differences import json_lines, text_lines
    from flowconf.language.carried_over import carry_over
    from flowconf.language.diff import compare

    refuse_other_pictures(output, *PAGES)
    words = list(rest or [])
    other = words.pop(0) if words and not _is_override(words[0]) else before
    for side in (before, other):
        trust_project_of(side, trust)
    old, new = _both(lambda: _walked(before, given or []), lambda: _walked(other, words))
    assert old.document
    assert new.document
    changes = compare(old.document, new.document)
    carry = carry_over(old.inferred.shapes, new.inferred.shapes, _parameters(old), _parameters(new))
    lines = json_lines(changes, carry) if form is Form.JSON else text_lines(changes, carry)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if output is not None:
        from flowconf.draw.svg import write

        is_page = output.suffix.lower() in PAGES
        names = " ".join([before, *(given or [])]), " ".join([other, *words])
        write(_page(old, new, changes, carry, names) if is_page else _drawn(new, changes, carry), output)


def _page(old: Walk, new: Walk, changes: Sequence[Change], carry: CarriedOver, names: tuple[str, str]) -> str:
    """The graphs of A and B side by side, with what has changed, and with the weights that carry over."""
    from flowconf.draw.data import as_data
    from flowconf.draw.differences import carried, marks_of
    from flowconf.draw.levels import picture
    from flowconf.draw.page.assemble import pair_page
    from flowconf.graph.facts import facts_of

    shown = []
    for side, gone in ((old, carry.dropped), (new, carry.new)):
        facts = facts_of(side.resolved, side.inferred)
        weights = {"carried": carried(_parameters(side), {*gone, *(name for name, *_ in carry.resized)})}
        marks = marks_of(changes, carry, side is old)
        whole = picture(side.resolved, facts, opened=True)
        shown.append(as_data(whole, facts, weights, marks=marks, show="carried", origins=side.reporter.origins))
    return pair_page(shown[0], shown[1], names)


def _drawn(new: Walk, changes: Sequence[Change], carry: CarriedOver) -> str:
    """The graph of B with what has changed, as DOT."""
    from flowconf.draw.differences import marked
    from flowconf.draw.levels import picture
    from flowconf.draw.secrets import with_references
    from flowconf.graph.facts import facts_of

    whole = picture(new.resolved, facts_of(new.resolved, new.inferred))
    return marked(with_references(whole, new.reporter.origins), changes, carry)


def _parameters(side: Walk) -> dict[str, Shape]:
    """The shapes of all parameters, those of each copy of a repeat included."""
    from flowconf.language.selectors import copies

    shapes = side.inferred.parameters
    return {full: shapes[name] for full, name in copies(side.resolved, shapes).items()}


def _is_override(word: str) -> bool:
    return word.startswith("~") or ("=" in word and not Path(word).exists())


def _walked(given: str, words: Sequence[str]) -> Walk:
    """One side, checked up to its sizes. A run folder contains a composed config, so it has no config groups."""
    from flowconf.graph.weights.sources import record
    from flowconf.train.checks import road

    file = config_of(given)
    try:
        walk = road.begin(file, words)
    except ConfigError as error:
        if file == given:
            raise
        made_from = record(Path(file).parent).get("config")
        named = f", `{shown_path(made_from)}`" if isinstance(made_from, str) else ""
        advice = f"`{printable(given)}` has no config groups: compare the config from which it was composed{named}"
        raise ConfigError(
            *(replace(one, advice=advice) if _is_of_a_group(one) else one for one in error.diagnostics)
        ) from None
    return walk.to("sizes")


def _is_of_a_group(diagnostic: Diagnostic) -> bool:
    """Whether it is about an override of an unknown key at the top level."""
    return diagnostic.code in ("FC0101", "FC0102") and diagnostic.place.word is not None and "." not in diagnostic.path


def _both(before: Callable[[], T], after: Callable[[], T]) -> tuple[T, T]:
    """The results of both sides. Raises `ConfigError` with the errors of both, without duplicates."""
    found: list[T] = []
    mistakes = Reporter()
    for side in (before, after):
        try:
            found.append(side())
        except ConfigError as error:
            mistakes.diagnostics += error.diagnostics
    mistakes.stop_on_errors()
    return found[0], found[1]
