"""The parameters of a graph document: declarations, values from a parent's `with`, and counts that use them."""

from __future__ import annotations

from dataclasses import replace

from flowconf.language import schema
from flowconf.language.advice import call_slips
from flowconf.language.arguments import Literal
from flowconf.language.resolve import wrong_values
from flowconf.language.resolve.calls import CallParser, ParameterScope
from flowconf.language.resolve.loops import Wrong
from flowconf.language.resolve.unique_names import check_name
from flowconf.report import Place, Reporter, suggest
from flowconf.report.origins import Path, dotted

MOST_TIMES = 100_000
"""The maximum number of repeats, iterations or slices."""
MOST_INDEXED = 1_000
"""The maximum number of copies that differ by an index, including those of the repeated steps around."""


def declared(model: schema.GraphDocument, path: Path, reporter: Reporter) -> dict[str, Literal]:
    """The parameters of the document at `path`, with their default values."""
    found = {}
    for name, value in model.params.items():
        at = (*path, "params", name)
        check_name(name, reporter.key(at), reporter, attribute=False, modules_too=True)
        found[name] = literal(value, reporter.value(at))
    return found


def as_set(name: str, default: Literal, given: Literal | None, path: Path, reporter: Reporter) -> Literal:
    """A parameter of the document at `path` with its value, from a parent or by default."""
    if given is not None:
        return replace(given, text=name, outer=True)
    return replace(default, text=name, outer=bool(reporter.origins.history((*path, "params", name))))


def given_by(model: schema.MountedBody, at: Path, parser: CallParser, reporter: Reporter) -> dict[str, Literal]:
    """The parameters in the `with` of a mount at `at`; `parser` knows the parameters of the outer graph."""
    assert isinstance(model.graph, schema.GraphDocument)
    given = {}
    for name, value in model.with_.items():
        where = (*at, "with", name)
        if name not in model.graph.params:
            advice = suggest(name, model.graph.params, "parameters") or "the graph does not declare `params`"
            message = f"the graph has no parameter `{name}`"
            reporter.missing(name, "FC0134", message, reporter.key(where), at=where, advice=advice)
            continue
        place, is_text = reporter.value(where), isinstance(model.graph.params[name], str)
        reads = isinstance(value, str) and not is_text
        found = replace(parser, path=dotted(where)).value(str(value), place) if reads else literal(value, place)
        if found is not None:
            given[name] = found
    return given


def count(value: int | str, at: Path, parser: CallParser, place: Place, reporter: Reporter) -> Literal | None:
    """A positive integer, or an expression of parameters with such a value; None after an error."""
    found = parser.value(value, place) if isinstance(value, str) else literal(value, place)
    wanted = "an integer of at least 1"
    if found is None or wrong_values.report(found, wrong_values.is_count, wanted, f"`{at[-1]}`", reporter, dotted(at)):
        return None
    if not isinstance(found.value, int) or not wrong_values.is_count(found.value):
        got = call_slips.shown(found.value)
        got = f"{got} from `{value}`" if isinstance(value, str) and f"`{value}`" != got else got
        reporter.error("FC0123", f"`{at[-1]}` must be {wanted}, got {got}", place, at=at)
        return None
    if found.value > MOST_TIMES:
        message = f"`{at[-1]}` must be at most {MOST_TIMES:,}, got `{found.value}`"
        reporter.error("FC0123", message, place, at=at)
        return None
    return found


def wrong_index(index: str, verb: str, copies: int, scope: ParameterScope) -> Wrong | None:
    """The error in the index of a repeated step with this verb and number of copies, or None."""
    if verb == "reuse":
        message = "`index` does not apply to `reuse`, whose copies are the same module"
        return Wrong("FC0125", message, ("index",), "write `repeat: ...` with the number of copies")
    if index in scope:
        return Wrong("FC0142", f"`{index}` is already a parameter", ("index",), "choose another name for the index")
    if copies > MOST_INDEXED:
        message = f"copies with an index must be at most {MOST_INDEXED:,}, got {copies:,}"
        return Wrong("FC0123", message, ("times",), "write `repeat: ...` without an index, or fewer copies")
    return None


def literal(value: object, place: Place) -> Literal:
    """A value as it is written in a document."""
    frozen = tuple(value) if isinstance(value, list) else value
    return Literal(frozen, repr(value), place)  # type: ignore[arg-type]
