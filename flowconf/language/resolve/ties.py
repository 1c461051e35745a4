"""Tied parameters: `tie: {weight: embedded.weight}`, resolved to the modules that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowconf.language import references, schema
from flowconf.language.paths import join
from flowconf.language.references import Members, NotFound
from flowconf.language.resolve.draft import Draft
from flowconf.language.settings import Tie
from flowconf.report import Label, Reporter, suggest
from flowconf.report.origins import Path


def add(model: schema.Settings, at: Path, path: str, draft: Draft, reporter: Reporter) -> None:
    """Add the ties of the modules at `path` to the draft; what they refer to is resolved later."""
    for parameter, text in model.tie.items():
        where = (*at, "tie", parameter)
        tie = Tie(path, parameter, "", text.strip(), reporter.value(where), reporter.key(where))
        first = draft.ties.setdefault(tie.name, tie)
        if isinstance(model, schema.Reuse):
            message = "`tie` does not apply to `reuse`, whose parameters are those of an earlier step"
            reporter.error("FC0125", message, reporter.key((*at, "tie")), path=path, advice="write it in that step")
            return
        if first is not tie:
            labels = (Label("first set here", first.key),)
            reporter.error("FC0142", f"`tie` is set twice for `{tie.name}`", tie.key, path=path, labels=labels)


def resolve(draft: Draft, reporter: Reporter) -> None:
    """Find the parameters of all ties, now that all members are known; those of outer graphs are left to them."""
    found = []
    for tie in draft.ties.values():
        names = tie.of.split(".")
        if draft.is_broken(names[0]) or draft.is_broken(tie.path.split(".")[0]):
            continue
        if names[0] not in draft.members and draft.around is not None:
            found.append(tie)
            continue
        try:
            home, of = _owner(draft, names)
        except NotFound as problem:
            message = problem.seen_from(draft.title).message
            reporter.error("FC0141", message, tie.place, path=tie.path, advice=problem.advice_for(tie.of))
            continue
        found.append(replace(tie, home=home, of=of))
    draft.ties = {tie.name: tie for tie in _to_the_last(found, reporter)}


def _owner(members: Members, names: Sequence[str], above: str = "") -> tuple[str, str]:
    """The path of the module that has a parameter, and the name of the parameter there. Raises `NotFound`.

    `above` is the path of the graph.
    """
    step = members.step(names[0])
    if step is None:
        steps = [name for name in members.names() if members.input(name) is None]
        where = f" in `{above}`" if above else ""
        raise NotFound(f"there is no step `{names[0]}`{where}", suggest(names[0], steps, "steps"), names[0])
    way = references.walk(step, names[1:])
    if way.applied is None or not way.rest:
        path = join(above, references.find_module(members, names).path)
        advice = f"write one of its parameters, such as `{path}.weight`"
        raise NotFound(f"`{path}` is a module, not a parameter", advice)
    path = references.find_module(members, names[: len(names) - len(way.rest)]).path
    graph = references.graph_of(way.applied)
    if graph is None:
        return path, ".".join(way.rest)
    home, of = _owner(graph, way.rest, join(above, path))
    return join(path, home), of


def _to_the_last(found: list[Tie], reporter: Reporter) -> list[Tie]:
    """The ties with the parameter at the end of a chain of them; a chain without an end is an error."""
    by_name = {tie.name: tie for tie in found if tie.home}
    ends = []
    for tie in found:
        last, seen = tie, {tie.name}
        while last.home and last.other in by_name and last.other not in seen:
            last = by_name[last.other]
            seen.add(last.name)
        if not last.home or last.other not in seen:
            ends.append(replace(tie, home=last.home, of=last.of))
            by_name |= {name: replace(by_name[name], home=last.home, of=last.of) for name in seen & by_name.keys()}
        elif last.other == tie.name:
            way = "itself" if last is tie else f"`{tie.other}`, which is tied to it"
            message, cause = f"`{tie.name}` is tied to {way}", ("tie", *sorted(seen))
            reporter.error("FC0144", message, tie.place, path=tie.path, cause=cause, advice="remove one of the ties")
    return ends
