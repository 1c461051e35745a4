"""Checks tied parameters, and members that follow others, against the parameters of the modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from flowconf.graph.source.demand import without_copies
from flowconf.language.paths import by_path
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Follow, Setting, Start, Tie, freezing_above
from flowconf.report import Diagnostic, Label, Place, Reporter, suggest

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each parameter, by path."""


@dataclass(frozen=True)
class _Known:
    """Facts about the parameters of a graph."""

    shapes: Shapes
    below: Mapping[str, Sequence[str]]
    """Path -> the parameters below it."""
    settings: Mapping[str, Setting]
    """The `frozen` settings, by path."""
    starts: Mapping[str, tuple[str, Start]]
    """Parameter -> the path where its `init` is written, and the `init`."""
    ties: Mapping[str, Tie]
    """Parameter -> the tie of which it is one side."""

    @classmethod
    def of(cls, graph: GraphPlan, shapes: Shapes) -> _Known:
        settings = graph.all_settings()
        starts = {f"{path}.{start.parameter}": (path, start) for path, setting in settings for start in setting.init}
        ties = {name: tie for tie in ties_of(graph) for name in (tie.other, tie.name)}
        return cls(shapes, by_path(shapes), graph.freezing(), starts, ties)

    def at(self, path: str) -> Shapes:
        """The parameters below a path, with names relative to it."""
        return {name.removeprefix(f"{path}."): self.shapes[name] for name in self.below.get(path, ())}


def check_ties(graph: GraphPlan, parameters: Shapes, reporter: Reporter) -> None:
    """Report ties of unknown parameters, of other shapes, and of parameters that are frozen or initialised apart."""
    ties = list(ties_of(graph))
    if not ties:
        return
    known = _Known.of(graph, parameters)
    for tie in ties:
        found = next(_wrong(tie, known), None)
        if found is not None:
            reporter.add(found)


def ties_of(graph: GraphPlan) -> Iterator[Tie]:
    """All tied parameters of a graph, without the numbers of equal copies, which have one entry in the shape check."""
    for tie in graph.all_ties():
        yield replace(tie, home=without_copies(graph, tie.home, of="equal"))


def _wrong(tie: Tie, known: _Known) -> Iterator[Diagnostic]:
    for path, parameter, place in ((tie.path, tie.parameter, tie.key), (tie.home, tie.of, tie.place)):
        if f"{path}.{parameter}" not in known.shapes:
            yield unknown_parameter(path, parameter, known.shapes, place)
            return
    mine, theirs = known.shapes[tie.name], known.shapes[tie.other]
    if mine != theirs:
        message = f"`{tie.name}` has shape {list(mine)}, but `{tie.other}` has shape {list(theirs)}"
        yield Diagnostic("FC0209", message, tie.place, tie.path)
    above = {name: freezing_above(name, known.settings) for name in (tie.name, tie.other)}
    frozen = {name: setting is not None and setting.frozen != "no" for name, setting in above.items()}
    if frozen[tie.name] != frozen[tie.other]:
        words = {True: "frozen here", False: "not frozen here"}
        labels = tuple(Label(words[frozen[name]], one.place) for name, one in above.items() if one is not None)
        still, learns = sorted(frozen, key=lambda name: not frozen[name])
        message = f"`{still}` is frozen, but `{learns}` is not, and they are one parameter"
        yield Diagnostic("FC0209", message, tie.place, tie.path, labels, "freeze both, or neither")
    if tie.name in known.starts:
        _, start = known.starts[tie.name]
        message = f"`init` of `{tie.name}` has no effect: it is `{tie.other}`"
        labels = (Label("tied here", tie.place),)
        yield Diagnostic("FC0209", message, start.place, tie.path, labels, f"initialise `{tie.other}`")


def check_follows(graph: GraphPlan, parameters: Shapes, reporter: Reporter) -> None:
    """Report members that have other parameters than the one that they follow, or that something else sets."""
    follows = list(graph.all_follows())
    if not follows:
        return
    known = _Known.of(graph, parameters)
    for follow in follows:
        follow = replace(follow, home=without_copies(graph, follow.home, of="equal"))
        found = next(chain(_other_structure(follow, known), _set_otherwise(follow, known)), None)
        if found is not None:
            reporter.add(found)


def _other_structure(follow: Follow, known: _Known) -> Iterator[Diagnostic]:
    mine, theirs = known.at(follow.path), known.at(follow.home)
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


def _set_otherwise(follow: Follow, known: _Known) -> Iterator[Diagnostic]:
    """Other settings of the parameters that follow: thawed, initialised or tied."""
    mine = known.below.get(follow.path, ())
    labels = (Label(f"`{follow.path}` follows `{follow.home}`", follow.place),)
    for name in mine:
        above = freezing_above(name, known.settings)
        if above is not None and above.frozen == "no":
            message = f"`{name}` cannot be trained, because it follows `{follow.home}`"
            yield Diagnostic("FC0209", message, above.place, follow.path, labels, "remove `frozen: false`")
        if name in known.starts:
            path, start = known.starts[name]
            message = f"`init` of `{name}` has no effect: it starts like `{follow.home}`"
            yield Diagnostic("FC0209", message, start.place, path, labels, f"initialise `{follow.home}`")
        if name in known.ties:
            tie = known.ties[name]
            message = f"`{name}` follows `{follow.home}`, and cannot be tied"
            yield Diagnostic("FC0209", message, tie.place, tie.path, labels, "remove one of them")


def unknown_parameter(path: str, parameter: str, parameters: Shapes, place: Place) -> Diagnostic:
    """The diagnostic for a parameter that the module at a path does not have."""
    below = [name.removeprefix(f"{path}.") for name in parameters if name.startswith(f"{path}.")]
    message = f"`{path}` has no parameter `{parameter}`"
    advice = suggest(parameter, below, "parameters") if below else f"`{path}` has no parameters"
    return Diagnostic("FC0209", message, place, path, advice=advice)
