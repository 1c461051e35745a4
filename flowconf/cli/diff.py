"""`flowconf diff`: the differences between two configs, two sets of overrides, or two runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from flowconf.cli.arguments import Form, FormOption, TrustOption, config_of, refuse_other_pictures, trust_project_of
from flowconf.cli.completion import sources
from flowconf.report import ConfigError, Reporter, json_line, printable, shortened, shown_path
from flowconf.report.garbage import uncollected

if TYPE_CHECKING:
    from flowconf.draw.data import Marks
    from flowconf.graph.weights.carried_over import CarriedOver
    from flowconf.language.diff import Change
    from flowconf.report import Diagnostic, Place
    from flowconf.train.checks.road import Walk

T = TypeVar("T")

PAGES = (".html", ".htm")
NOT_NOTES = ("no differences", "shape of ")
SIGNS = {"added": "+", "removed": "-", "moved": ">", "changed": "~"}


@uncollected()
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
        Path | None, typer.Option("-o", "--output", help="Draw the changes: A and B as a .html page, or B as an image.")
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Show the differences from A to B: steps, shapes, weights, settings."""
    from flowconf.graph.weights.carried_over import carry_over
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
    carry = carry_over(old.inferred, new.inferred, _parameters(old), _parameters(new))
    lines = _json_lines(changes, carry) if form is Form.JSON else _text_lines(changes, carry)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if output is not None:
        from flowconf.draw.svg import write

        is_page = output.suffix.lower() in PAGES
        names = " ".join([before, *(given or [])]), " ".join([other, *words])
        write(_page(old, new, changes, carry, names) if is_page else _drawn(new, changes, carry), output)


def _page(old: Walk, new: Walk, changes: Sequence[Change], carry: CarriedOver, names: tuple[str, str]) -> str:
    """The graphs of A and B side by side, with what has changed, and with the weights that carry over."""
    from flowconf.draw.data import as_data
    from flowconf.draw.levels import picture
    from flowconf.draw.page.assemble import pair_page
    from flowconf.graph.facts import facts_of

    shown = []
    for side, gone in ((old, carry.dropped), (new, carry.new)):
        facts = facts_of(side.resolved, side.inferred)
        weights = {"carried": _carried(_parameters(side), {*gone, *(name for name, *_ in carry.resized)})}
        marks = _marks(changes, carry, side is old)
        whole = picture(side.resolved, facts, opened=True)
        shown.append(as_data(whole, facts, weights, marks=marks, show="carried", origins=side.reporter.origins))
    return pair_page(shown[0], shown[1], names)


def _parameters(side: Walk) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, those of each copy of a repeat included."""
    from flowconf.language.selectors import copies

    shapes = side.inferred.parameters
    return {full: shapes[name] for full, name in copies(side.resolved, shapes).items()}


def _carried(parameters: Mapping[str, tuple[int, ...]], lost: Collection[str]) -> dict[str, Any]:
    """The overlay of the weights that carry over: by path, their share, and how many tensors they are."""
    from flowconf.draw.levels import drawn
    from flowconf.language.paths import parents

    sizes: dict[str, list[int]] = {}
    for name, shape in parameters.items():
        kept = name not in lost
        for path in parents(drawn(name)):
            one = sizes.setdefault(path, [0, 0, 0, 0])
            for at, more in enumerate((kept, 1, kept * prod(shape), prod(shape))):
                one[at] += more
    values = {
        path: [part / whole if whole else 1.0, f"{kept:,} of {tensors:,} tensors carry over"]
        for path, (kept, tensors, part, whole) in sizes.items()
    }
    return {"title": "weights that carry over", "values": values}


def _drawn(new: Walk, changes: Sequence[Change], carry: CarriedOver) -> str:
    """The graph of B with what has changed, as DOT."""
    from flowconf.draw.dot import dot
    from flowconf.draw.levels import picture
    from flowconf.draw.secrets import with_references
    from flowconf.graph.facts import facts_of

    facts = facts_of(new.resolved, new.inferred)
    shapes = {path: f"{after}, was {earlier}" for path, earlier, after in carry.shapes}
    marks = dict.fromkeys(shapes, "resized") | {change.path: change.kind for change in changes if change.member}
    return dot(with_references(picture(new.resolved, facts), new.reporter.origins), marks, notes=shapes)


def _marks(changes: Sequence[Change], carry: CarriedOver, is_old: bool) -> Marks:
    """The changes of steps, and those of shapes, by path; the others, and what becomes of the weights, as notes.

    A step that was added is not marked in the old graph, where there is none.
    """
    from flowconf.draw.data import Marks

    found: dict[str, tuple[str, list[str]]] = {}
    for path, before, after in carry.shapes:
        found[path] = ("resized", [f"{before} -> {after}"])
    for change in changes:
        if change.member and not (is_old and change.kind == "added"):
            texts = found.get(change.path, ("", []))[1]
            found[change.path] = (change.kind, [f"{_what(change).lstrip(': ')}{_where(change)}", *texts])
    others = [change for change in changes if not change.member]
    return Marks("Changes", found, [line for line in _text_lines(others, carry) if not line.startswith(NOT_NOTES)])


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


def _text_lines(changes: Sequence[Change], carry: CarriedOver) -> Iterator[str]:
    if not changes:
        yield "no differences"
    for change in changes:
        yield printable(f"{SIGNS[change.kind]} {change.path}{_what(change)}{_where(change)}")
    for path, old, new in carry.shapes:
        yield f"shape of {path}: {old} -> {new}"
    total = len(carry.kept) + len(carry.resized) + len(carry.dropped)
    yield f"weights: {len(carry.kept)} of {total} tensors carry over"
    for name, before, after in carry.resized:
        yield f"  {name}: {list(before)} -> {list(after)}, reinitialised"
    yield from (f"  {name}: new" for name in carry.new)
    yield from (f"  {name}: removed" for name in carry.dropped)


def _what(change: Change) -> str:
    from flowconf.text.write import inline

    if change.kind == "moved":
        return f": now after {change.after or 'the input'}, was after {change.before or 'the input'}"
    key = f" {change.key}" if change.key is not None else ""
    both = change.kind == "changed"
    values = [shortened(inline(value), 70) for value in (change.before, change.after) if both or value is not None]
    return f"{key}: {' -> '.join(values)}"


def _where(change: Change) -> str:
    place: Place = change.after_place if change.kind != "removed" or change.after_place.line else change.before_place
    return f"  ({place})" if place.file is not None or place.word else ""


def _json_lines(changes: Sequence[Change], carry: CarriedOver) -> Iterator[str]:
    for change in changes:
        row = {"kind": change.kind, "path": change.path, "key": change.key}
        row |= {"before": change.before, "after": change.after}
        row |= {"before_place": None if change.before is None else str(change.before_place)}
        row |= {"after_place": None if change.after is None else str(change.after_place)}
        yield json_line(row)
    weights = {"kept": carry.kept, "resized": carry.resized, "new": carry.new, "dropped": carry.dropped}
    yield json_line({"kind": "graph", "shapes": carry.shapes, "weights": weights})
