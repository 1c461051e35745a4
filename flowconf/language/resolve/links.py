"""Links: `tie: {weight: embedded.weight}` and `follows: {path: student, decay: 0.996}`, resolved to other members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from flowconf.language import references, schema
from flowconf.language.paths import above, by_path, join
from flowconf.language.references import Members, NotFound
from flowconf.language.resolve.draft import Draft
from flowconf.language.settings import Follow, Link, Tie
from flowconf.report import Label, Reporter, suggest
from flowconf.report.origins import Path


def add(model: schema.Settings, at: Path, path: str, draft: Draft, reporter: Reporter) -> None:
    """Add the links of the modules at `path` to the draft; what they refer to is resolved later."""
    for key, links in (("tie", _ties(model, at, path, reporter)), ("follows", _follows(model, at, path, reporter))):
        for link in links:
            if isinstance(model, schema.Reuse):
                message = f"`{key}` does not apply to `reuse`, whose parameters are those of an earlier step"
                reporter.error("FC0125", message, reporter.key((*at, key)), path=path, advice="write it in that step")
                break
            first = draft.links.setdefault((key, link.name), link)
            if first is not link:
                labels = (Label("first set here", first.key),)
                reporter.error("FC0142", f"`{key}` is set twice for `{link.name}`", link.key, path=path, labels=labels)


def _ties(model: schema.Settings, at: Path, path: str, reporter: Reporter) -> Iterator[Link]:
    for parameter, text in model.tie.items():
        where = (*at, "tie", parameter)
        yield Tie(path, "", text.strip(), reporter.value(where), reporter.key(where), parameter)


def _follows(model: schema.Settings, at: Path, path: str, reporter: Reporter) -> Iterator[Link]:
    if model.follows is not None:
        where, text = (*at, "follows"), model.follows.path.strip()
        yield Follow(path, "", text, reporter.value((*where, "path")), reporter.key(where), model.follows.decay)


def resolve(draft: Draft, reporter: Reporter) -> None:
    """Find what links refer to, now that all members are known; members of outer graphs are left to them."""
    found: dict[tuple[str, str], Link] = {}
    for key, link in draft.links.items():
        first = link.text.split(".")[0]
        if draft.is_broken(first) or draft.is_broken(link.path.split(".")[0]):
            continue
        if first in draft.members or draft.around is None:
            try:
                home, of = _target(draft, link.text.split("."), isinstance(link, Tie))
            except NotFound as problem:
                message, advice = problem.seen_from(draft.title).message, problem.advice_for(link.text)
                reporter.error("FC0141", message, link.place, path=link.path, advice=advice)
                continue
            link = replace(link, home=home, of=of) if isinstance(link, Tie) else replace(link, home=home)
        found[key] = link
    ties = _to_the_last([tie for tie in found.values() if isinstance(tie, Tie)], reporter)
    follows = _without_circles([follow for follow in found.values() if isinstance(follow, Follow)], reporter)
    draft.links = {("tie", tie.name): tie for tie in ties} | {("follows", one.name): one for one in follows}


def _target(members: Members, names: Sequence[str], is_parameter: bool, above: str = "") -> tuple[str, str]:
    """The path of a module, and the name of a parameter in it. Raises `NotFound`.

    `above` is the path of the graph. Unless it `is_parameter`, the names are those of the module.
    """
    step = members.step(names[0])
    if step is None:
        steps = [name for name in members.names() if members.input(name) is None]
        where = f" in `{above}`" if above else ""
        raise NotFound(f"there is no step `{names[0]}`{where}", suggest(names[0], steps, "steps"), names[0])
    if not is_parameter:
        return references.find_module(members, names).path, ""
    way = references.walk(step, names[1:])
    if way.applied is None or not way.rest:
        path = join(above, references.find_module(members, names).path)
        advice = f"write one of its parameters, such as `{path}.weight`"
        raise NotFound(f"`{path}` is a module, not a parameter", advice)
    path = references.find_module(members, names[: len(names) - len(way.rest)]).path
    graph = references.graph_of(way.applied)
    if graph is None:
        return path, ".".join(way.rest)
    home, of = _target(graph, way.rest, is_parameter, join(above, path))
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
            ends.append(replace(tie, home=last.home, of=last.of, text=last.text))
            by_name |= {name: replace(by_name[name], home=last.home, of=last.of) for name in seen & by_name.keys()}
        elif last.other == tie.name:
            way = "itself" if last is tie else f"`{tie.other}`, which is tied to it"
            message, cause = f"`{tie.name}` is tied to {way}", ("tie", *sorted(seen))
            reporter.error("FC0144", message, tie.place, path=tie.path, cause=cause, advice="remove one of the ties")
    return ends


def _without_circles(follows: Iterable[Follow], reporter: Reporter) -> list[Follow]:
    """The members that neither follow themselves, nor a part of themselves, nor one that follows another one."""
    found = {follow.path: follow for follow in follows}
    below = by_path(found)
    return [follow for follow in found.values() if not _is_circular(follow, found, below, reporter)]


def _is_circular(
    follow: Follow, found: Mapping[str, Follow], below: Mapping[str, Sequence[str]], reporter: Reporter
) -> bool:
    """Report a circle; `below` are the paths of `found` at and below each path."""
    home = follow.home or follow.text
    mine, theirs = f"{follow.path}.", f"{home}."
    message, advice = None, None
    labels: tuple[Label, ...] = ()
    if mine == theirs:
        message = f"`{follow.path}` follows itself"
    elif mine.startswith(theirs) or theirs.startswith(mine):
        inner, outer = (follow.path, home) if mine.startswith(theirs) else (home, follow.path)
        message = f"`{follow.path}` cannot follow `{home}`: `{inner}` is a part of `{outer}`"
    close = next((path for path in (*above(home), *below.get(home, ())) if path in found), None)
    if message is None and close is not None:
        other, its = found[close], found[close].home or found[close].text
        message = f"`{follow.path}` cannot follow `{home}`, because `{other.path}` itself follows `{its}`"
        labels, advice = (Label(f"`{other.path}` follows `{its}`", other.place),), f"follow `{its}`"
    if message is not None:
        reporter.error("FC0144", message, follow.place, path=follow.path, labels=labels, advice=advice)
    return message is not None
