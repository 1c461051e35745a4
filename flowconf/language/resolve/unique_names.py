"""Unique names: the inputs, steps, tags and labels of a graph share one namespace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flowconf.language import schema
from flowconf.language.registry import modules
from flowconf.language.resolve import reserved_names
from flowconf.language.resolve.draft import Draft
from flowconf.report import NOWHERE, Label, Place, Reporter
from flowconf.report.origins import Path

SPOTS = ("skip", "router", "while_", "until")
"""Keys of a step that contain a module."""


def claim_names(model: schema.GraphDocument, draft: Draft, reporter: Reporter) -> None:
    """Add the names of the graph to its draft, and report reserved and duplicate names."""
    claims = [(given.name, "", given.place) for given in draft.inputs]
    members = {name: step for name, step in model.flow.items() if step is not None}
    claims += [(name, name, reporter.key((*draft.path, "flow", name))) for name in members]
    for name, step in members.items():
        if isinstance(step, schema.Modifiers):
            at = (*draft.path, "flow", name)
            claims += [(other, name, reporter.value(where)) for other, where in _others(step, at)]
            draft.failed |= set(_mislabelled(step, at, reporter))
    owners: dict[str, str] = {}
    for name, owner, place in claims:
        check_name(name, place, reporter, attribute=bool(owner))
        first = draft.members.get(name)
        if first is not None and owners[name] != owner:
            implicit = first == NOWHERE
            labels = () if implicit else (Label(f"`{name}` is first defined here", first),)
            known = f"a graph without `inputs` has the input `{name}`"
            advice = f"{known}: rename the step, or declare `inputs`" if implicit else None
            reporter.error("FC0142", f"duplicate name `{name}`", place, path=name, labels=labels, advice=advice)
        draft.members.setdefault(name, place)
        owners.setdefault(name, owner)


def check_name(name: str, place: Place, reporter: Reporter, attribute: bool, modules_too: bool = False) -> None:
    """Report a name that is reserved by Python, the generated source or (for an `attribute`) modules."""
    why = reserved_names.refusal(name, attribute)
    if why is None and modules_too and name in modules:
        why = "is the name of a module"
    if why is not None:
        message = f"`{name}` cannot be used as a name: it {why}"
        reporter.error("FC0126", message, place, advice=f"rename it, for example to `{name}_`")


def all_names(name: str, step: object, at: Path) -> set[str]:
    """All names by which references can refer to the step `name`."""
    return {name, *(other for other, _ in (_others(step, at) if isinstance(step, schema.Modifiers) else []))}


def _others(step: schema.Modifiers, at: Path) -> list[tuple[str, Path]]:
    """The further names of a step, and where they are written."""
    tag = [(step.tag, (*at, "tag"))] if step.tag is not None else []
    return [*tag, *labels(step, at)[:1]]


def _mislabelled(step: schema.Modifiers, at: Path, reporter: Reporter) -> Iterator[str]:
    """Report labels of branches, routers, conditions and skips, which have fixed names; yields the steps with one."""
    verb, owner = type(step).__name__.lower(), str(at[-1])
    bodies = getattr(step, verb)
    spots: list[tuple[object, tuple[str, ...]]] = [(vars(step).get(key), (key.strip("_"),)) for key in SPOTS]
    if isinstance(bodies, Mapping):
        spots += [(body, (verb, name)) for name, body in bodies.items()]
    for body, where in spots:
        if isinstance(body, schema.Settings) and body.label is not None:
            name = f"{owner}.{'condition' if where[-1] in ('while', 'until') else where[-1]}"
            place = reporter.key((*at, *where, "label"))
            message = f"`label` does not apply to `{name}`, whose name is fixed"
            reporter.error("FC0125", message, place, path=name, advice="remove it")
            yield owner


def labels(step: schema.Modifiers, at: Path) -> list[tuple[str, Path]]:
    """The labels of a step's module, by precedence: of the step, of its body, of the graph itself."""
    verb = type(step).__name__.lower()
    found: list[tuple[str | None, Path]] = [(step.label, (*at, "label"))]
    body = getattr(step, verb)
    if isinstance(body, schema.Settings):
        found.append((body.label, (*at, verb, "label")))
    if isinstance(body, schema.MountedBody) and isinstance(body.graph, schema.GraphDocument):
        found.append((body.graph.label, (*at, verb, "graph", "label")))
    if isinstance(step, schema.Graph) and isinstance(body, schema.GraphDocument):
        found.append((body.label, (*at, verb, "label")))
    return [(label, where) for label, where in found if label]
