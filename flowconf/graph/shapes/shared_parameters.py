"""Checks tied parameters against the parameters of the modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from flowconf.graph.source.demand import without_copies
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Tie, freezing_above
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
    settings = {path: setting for path, setting in graph.all_settings() if setting.frozen is not None}
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


def unknown_parameter(path: str, parameter: str, parameters: Shapes, place: Place) -> Diagnostic:
    """The diagnostic for a parameter that the module at a path does not have."""
    below = [name.removeprefix(f"{path}.") for name in parameters if name.startswith(f"{path}.")]
    message = f"`{path}` has no parameter `{parameter}`"
    advice = suggest(parameter, below, "parameters") if below else f"`{path}` has no parameters"
    return Diagnostic("FC0209", message, place, path, advice=advice)
