"""Checks tied parameters, and members that follow others, against the parameters of the modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain

from flowconf.graph.source.demand import without_copies
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Follow, Tie, freezing_above
from flowconf.report import Diagnostic, Label, Place, Reporter, suggest

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each parameter, by path."""


def check_ties(graph: GraphPlan, parameters: Shapes, reporter: Reporter) -> None:
    """Report ties of unknown parameters, of other shapes, and of parameters that are frozen or initialized apart."""
    for tie in ties_of(graph):
        found = next(_wrong(tie, graph, parameters), None)
        if found is not None:
            reporter.add(found)


def ties_of(graph: GraphPlan) -> Iterator[Tie]:
    """All tied parameters of a graph, without the numbers of equal copies, which have one entry in the shape check."""
    for tie in graph.all_ties():
        yield replace(tie, home=without_copies(graph, tie.home, of="equal"))


def _wrong(tie: Tie, graph: GraphPlan, parameters: Shapes) -> Iterator[Diagnostic]:
    for path, parameter, place in ((tie.path, tie.parameter, tie.key), (tie.home, tie.of, tie.place)):
        if f"{path}.{parameter}" not in parameters:
            yield unknown_parameter(path, parameter, parameters, place)
            return
    mine, theirs = parameters[tie.name], parameters[tie.other]
    if mine != theirs:
        message = f"`{tie.name}` has shape {list(mine)}, but `{tie.other}` has shape {list(theirs)}"
        yield Diagnostic("FC0209", message, tie.place, tie.path)
    settings = graph.freezing()
    above = {name: freezing_above(name, settings) for name in (tie.name, tie.other)}
    frozen = {name: setting is not None and setting.frozen != "no" for name, setting in above.items()}
    if frozen[tie.name] != frozen[tie.other]:
        words = {True: "frozen here", False: "not frozen here"}
        labels = tuple(Label(words[frozen[name]], one.place) for name, one in above.items() if one is not None)
        still, learns = sorted(frozen, key=lambda name: not frozen[name])
        message = f"`{still}` is frozen, but `{learns}` is not, and they are one parameter"
        yield Diagnostic("FC0209", message, tie.place, tie.path, labels, "freeze both, or neither")
    for path, setting in graph.all_settings():
        for start in setting.init:
            if f"{path}.{start.parameter}" == tie.name:
                message = f"`init` of `{tie.name}` has no effect: it is `{tie.other}`"
                labels = (Label("tied here", tie.place),)
                yield Diagnostic("FC0209", message, start.place, tie.path, labels, f"initialize `{tie.other}`")


def check_follows(graph: GraphPlan, parameters: Shapes, reporter: Reporter) -> None:
    """Report members that have other parameters than the one that they follow, or that something else sets."""
    for follow in graph.all_follows():
        follow = replace(follow, home=without_copies(graph, follow.home, of="equal"))
        found = next(chain(_other_structure(follow, parameters), _set_otherwise(follow, graph, parameters)), None)
        if found is not None:
            reporter.add(found)


def _other_structure(follow: Follow, parameters: Shapes) -> Iterator[Diagnostic]:
    mine, theirs = (_below(path, parameters) for path in (follow.path, follow.home))
    what = f"`{follow.path}` cannot follow `{follow.home}`"
    if not theirs:
        yield Diagnostic("FC0209", f"{what}, which has no parameters", follow.place, follow.path)
    for name, size in theirs.items():
        if name not in mine:
            yield Diagnostic("FC0209", f"{what}: it has no parameter `{name}`", follow.place, follow.path)
        elif mine[name] != size:
            message = f"{what}: `{name}` has shape {list(mine[name])}, but {list(size)} in `{follow.home}`"
            yield Diagnostic("FC0209", message, follow.place, follow.path)
    for name in mine:
        if name not in theirs:
            message = f"{what}: its parameter `{name}` is not in `{follow.home}`"
            yield Diagnostic("FC0209", message, follow.place, follow.path)


def _set_otherwise(follow: Follow, graph: GraphPlan, parameters: Shapes) -> Iterator[Diagnostic]:
    """Other settings of the parameters that follow: thawed, initialized or tied."""
    mine = [f"{follow.path}.{name}" for name in _below(follow.path, parameters)]
    labels = (Label(f"`{follow.path}` follows `{follow.home}`", follow.place),)
    settings = graph.freezing()
    for name in mine:
        above = freezing_above(name, settings)
        if above is not None and above.frozen == "no":
            message = f"`{name}` cannot be trained, because it follows `{follow.home}`"
            yield Diagnostic("FC0209", message, above.place, follow.path, labels, "remove `frozen: false`")
    for path, setting in graph.all_settings():
        for start in setting.init:
            if f"{path}.{start.parameter}" in mine:
                message = f"`init` of `{path}.{start.parameter}` has no effect: it starts like `{follow.home}`"
                yield Diagnostic("FC0209", message, start.place, path, labels, f"initialize `{follow.home}`")
    for tie in ties_of(graph):
        both = [name for name in (tie.name, tie.other) if name in mine]
        if both:
            message = f"`{both[0]}` follows `{follow.home}`, and cannot be tied"
            yield Diagnostic("FC0209", message, tie.place, tie.path, labels, "remove one of them")


def _below(path: str, parameters: Shapes) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(f"{path}."): size for name, size in parameters.items() if name.startswith(f"{path}.")}


def unknown_parameter(path: str, parameter: str, parameters: Shapes, place: Place) -> Diagnostic:
    """The diagnostic for a parameter that the module at a path does not have."""
    below = _below(path, parameters)
    message = f"`{path}` has no parameter `{parameter}`"
    advice = suggest(parameter, below, "parameters") if below else f"`{path}` has no parameters"
    return Diagnostic("FC0209", message, place, path, advice=advice)
