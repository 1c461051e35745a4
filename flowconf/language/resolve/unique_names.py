"""Who is called what: in a graph every name stands for one thing, be it an input, a step, a tag or a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flowconf.language import schema
from flowconf.language.registry import modules
from flowconf.language.resolve import reserved_names
from flowconf.language.resolve.draft import Draft
from flowconf.report import Label, Place, Reporter
from flowconf.report.origins import Path

SPOTS = ("skip", "router", "while_", "until")
"""Keys of a step with a module of their own."""


def claim_names(model: schema.GraphDocument, draft: Draft, reporter: Reporter) -> None:
    """Note every name of the graph in its draft, and refuse one that cannot be used, or is used twice."""
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
            label = Label("first given here", first)
            reporter.error("FC0142", f"the name `{name}` is used twice", place, path=name, labels=(label,))
        draft.members.setdefault(name, place)
        owners.setdefault(name, owner)


def check_name(name: str, place: Place, reporter: Reporter, attribute: bool, modules_too: bool = False) -> None:
    """Refuse a name that Python, the generated source or (for an `attribute`) a module uses for itself."""
    why = reserved_names.refusal(name, attribute)
    if why is None and modules_too and name in modules:
        why = "is a module"
    if why is not None:
        reporter.error("FC0126", f"`{name}` cannot be a name: it {why}", place, advice=f"write `{name}_`")


def all_names(name: str, step: object, at: Path) -> set[str]:
    """What references may call the step `name`."""
    return {name, *(other for other, _ in (_others(step, at) if isinstance(step, schema.Modifiers) else []))}


def _others(step: schema.Modifiers, at: Path) -> list[tuple[str, Path]]:
    """What a step is called besides its own name, and where that is written."""
    tag = [(step.tag, (*at, "tag"))] if step.tag is not None else []
    return [*tag, *labels(step, at)[:1]]


def _mislabelled(step: schema.Modifiers, at: Path, reporter: Reporter) -> Iterator[str]:
    """Refuse a label of a branch, router, condition or skip, which are called what they are; the steps with one."""
    verb, owner = type(step).__name__.lower(), str(at[-1])
    bodies = getattr(step, verb)
    spots: list[tuple[object, tuple[str, ...]]] = [(getattr(step, key, None), (key.strip("_"),)) for key in SPOTS]
    if isinstance(bodies, Mapping):
        spots += [(body, (verb, name)) for name, body in bodies.items()]
    for body, where in spots:
        if isinstance(body, schema.Settings) and body.label is not None:
            name = f"{owner}.{'condition' if where[-1] in ('while', 'until') else where[-1]}"
            place = reporter.key((*at, *where, "label"))
            message = f"`label` means nothing here: this is always called `{name}`"
            reporter.error("FC0125", message, place, path=name, advice="remove it")
            yield owner


def labels(step: schema.Modifiers, at: Path) -> list[tuple[str, Path]]:
    """What a step's module may be called in paths, the strongest first: by the step, its body, or the graph itself."""
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
