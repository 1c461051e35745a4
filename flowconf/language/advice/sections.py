"""Advice for unknown keys of a training config: the names of other tools, and the level where a key belongs."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from flowconf.language import registry, schema
from flowconf.language.advice import other_tools
from flowconf.language.advice.vocabulary import LOSS_ARGUMENTS, NOT_NEEDED
from flowconf.language.schema import keys_of
from flowconf.language.section import Section
from flowconf.language.training import (
    CallbackSection,
    DataSection,
    LossSection,
    MetricSection,
    OptimizerSection,
    PhaseSection,
    ScheduleSection,
    SweepSection,
    TrainerSection,
    TrainingConfig,
    TurnSection,
)
from flowconf.report import Advice, Reporter, Suggestion, nearest
from flowconf.report.origins import Path
from flowconf.text.merge import matches

TABLES = {"optimizer": registry.optimizers, "schedule": registry.schedules}
"""Sections whose `name` is of a table that has more arguments than the section has keys."""
EXAMPLES: dict[Path, str] = {
    ("loss",): "name each term: `loss: {NAME: {fn: cross_entropy, input: ..., target: ...}}`",
    ("loss", "*", "target"): "a number is a step: add `ones: {fork: Constant(1.0)}`, and write `target: ones`",
    ("loss", "*"): "write `{fn: cross_entropy, input: ..., target: ...}`",
    ("metrics",): "name each metric: `metrics: {NAME: {fn: accuracy, input: ..., target: ...}}`",
    ("metrics", "*"): "write `{fn: accuracy, input: ..., target: ...}`",
    ("data",): "write `data: {name: ..., batch_size: 64}`",
    ("model",): "write the graph (`inputs` and `flow`), or mount one with `graph/NAME@model` in `defaults`",
    ("optimizer",): "write `optimizer: {name: adamw, lr: 1.0e-3}`",
    ("optimizer", "groups"): "write `groups: {PATH: {lr: 1.0e-4}}`",
    ("optimizer", "groups", "*"): "write `{lr: 1.0e-4}`, or `{name: muon, lr: 0.02}`",
    ("optimizer", "groups", "*", "schedule"): "write `schedule: {name: cosine}`",
    ("optimizer", "layer_decay"): "write `layer_decay: {factor: 0.75, layers: PATH}`",
    ("schedule",): "write `schedule: {name: cosine}`",
    ("data", "augment"): "write `augment: {image: 'RandomHorizontalFlip() >> RandomCrop(28)'}`",
    ("data", "validation"): "write a share of the rows, as in `validation: 0.1`",
    ("data", "test"): "write a share of the rows, as in `test: 0.1`",
    ("loss", "*", "weight"): "write a number; weights of classes go under `args`, as in `args: {weight: [1, 2]}`",
    ("loggers",): "write `loggers: {wandb: {}}`",
    ("trainer", "ema"): "write the decay, as in `ema: 0.999`",
    ("schedule", "at"): "write progress from 0 to 1, as in `at: [0.5, 0.75]`",
    ("phases",): "name each phase: `phases: {NAME: {until: {epoch: 2}, freeze: PATH}}`",
    ("phases", "*"): "write `{until: {epoch: 2}, freeze: PATH}`",
    ("phases", "*", "epochs"): "write `until: {epoch: 2}`",
    ("phases", "*", "steps"): "write `until: {step: 100}`",
    ("phases", "*", "until"): "write `{epoch: 2}`, or another of `step`, `fraction`, `stalled`",
    ("phases", "*", "when"): "write `{epoch: 2}`, or another of `step`, `fraction`, `stalled`",
    ("turns",): "name each turn: `turns: {NAME: {loss: TERM, updates: PATH}}`",
    ("turns", "*"): "write `{loss: TERM, updates: PATH}`",
    ("callbacks",): "name each callback: `callbacks: {NAME: {name: REGISTERED, every: 100, read: REFERENCE}}`",
    ("callbacks", "*"): "write `{name: REGISTERED, every: 100, read: REFERENCE}`",
    ("sweep",): "write `sweep: {over: {KEY: [VALUE, VALUE]}, trials: 20}`",
    ("sweep", "over"): "write `over: {KEY: [VALUE, VALUE]}`, with keys such as `optimizer.lr`",
    ("trainer",): "write `trainer: {epochs: 10}`",
    ("trainer", "statistics"): "write `statistics: {every: 100, of: [gradient, update]}`",
    ("trainer", "keep"): "write `keep: {best: 3, every: 1000}`",
}
"""The advice for a missing mapping, a wrong value, or an unknown key, by path in the config; `*` is any name."""

NAMING: dict[Path, tuple[str, registry.Table]] = {
    ("data",): ("name", registry.datasets),
    ("optimizer",): ("name", registry.optimizers),
    ("schedule",): ("name", registry.schedules),
    ("schedule", "*"): ("name", registry.schedules),
    ("loss", "*"): ("fn", registry.losses),
    ("metrics", "*"): ("fn", registry.metrics),
    ("callbacks", "*"): ("name", registry.callbacks),
}
"""The mappings that choose a registered name: the key that chooses it, and its table."""

TOP = ("model", "defaults", *TrainingConfig.model_fields)

SECTIONS: dict[str, type[Section]] = {
    "data": DataSection, "optimizer": OptimizerSection, "schedule": ScheduleSection, "sweep": SweepSection,
    "trainer": TrainerSection,
}  # fmt: skip
"""The sections that have keys instead of named members."""

MEMBERS: dict[Path, type[Section]] = {
    ("loss",): LossSection,
    ("metrics",): MetricSection,
    ("phases",): PhaseSection,
    ("turns",): TurnSection,
    ("callbacks",): CallbackSection,
}
"""The models of the named members of a section."""


def meant(key: str, allowed: Collection[str]) -> str | None:
    """The allowed key that other tools call `key`, or else the most similar one."""
    return other_tools.for_key(key, allowed) or nearest(key, allowed)


def pair(where: Path, value: object, allowed: Collection[str], reporter: Reporter) -> Advice | None:
    """The advice for a key and its value that other tools write for an `allowed` key with another value."""
    key, word = str(where[-1]), reporter.key(where).word
    found = other_tools.for_pair(key, value, allowed)
    if found is None:
        return None
    if found[0] == key:
        return Suggestion(found[1], instead_of=other_tools.written(value))
    left = "" if word is None else word.partition("=")[0]
    if word is not None and left.endswith(key):
        return Suggestion(f"{left.removesuffix(key)}{found[0]}={found[1]}", instead_of=word)
    return Suggestion(": ".join(found), at=reporter.pair(where))


def name_of(where: Path, value: object, free: Collection[str], reporter: Reporter) -> Advice | None:
    """The advice for an argument that other tools write for `name`, such as `_target_: torch.optim.Adam`."""
    key, table = str(where[-1]), TABLES.get(str(where[0]))
    if len(where) != 2 or other_tools.for_key(key, free) or not other_tools.for_key(key, ["name"]):
        return None
    meant = None if table is None else other_tools.for_name(table.kind, table.plural, str(value), table.names())
    if isinstance(meant, Suggestion) and reporter.key(where).word is None:
        return Suggestion(f"name: {meant.write}", at=reporter.pair(where))
    return Suggestion("name", instead_of=key, otherwise="use `name`")


def as_key(where: Path) -> str | None:
    """The advice for a registered name that is written as a key: `schedule: {cosine: {...}}`."""
    key, naming = str(where[-1]), _naming(where[:-1])
    if naming is None or key not in naming[1].names():
        return None
    return f"write `{naming[0]}: {key}`, with the keys of `{key}` beside it"


def as_member(where: Path) -> str | None:
    """The advice for a missing key that chooses a registered name, after which the mapping is called."""
    owner, naming = str(where[-2]), _naming(where[:-1])
    return f"write `{where[-1]}: {owner}`" if naming is not None and owner in naming[1].names() else None


def _naming(owner: Path) -> tuple[str, registry.Table] | None:
    return next((naming for shape, naming in NAMING.items() if matches(shape, owner)), None)


def taken(key: str, ours: str) -> str:
    """The advice for a word of other tools for a key that is set as well."""
    return f"`{key}` is `{ours}` here, which is already set: keep one of them"


def example(path: Path) -> str | None:
    """The advice for a missing mapping."""
    return next((text for shape, text in EXAMPLES.items() if matches(shape, path)), None)


def is_unnamed(section: Path, members: object) -> bool:
    """Whether a section has the keys of a member instead of named members: `loss: {fn: ...}`."""
    if section not in MEMBERS or not isinstance(members, dict) or not members:
        return False
    return set(members) <= set(keys_of(MEMBERS[section])) and not all(isinstance(m, dict) for m in members.values())


def belongs(key: str, here: str = "") -> str | None:
    """The advice for a key that belongs elsewhere in a training config than in the section `here`, or is not needed."""
    if key in NOT_NEEDED:
        return NOT_NEEDED[key]
    others_than = [(level, keys) for level, keys in _levels() if level != f"`{here}`"]
    levels = [level for level, keys in others_than if key in keys]
    if not levels:
        known = ((other_tools.for_key(key, keys), level) for level, keys in others_than)
        ours, level = next(((ours, level) for ours, level in known if ours), (None, ""))
        if ours == "name":
            return "remove it: this section has no `name`"
        top = other_tools.for_key(key, TOP)
        if ours is not None or top is not None:
            return f"write `{ours}`, a key of {level}" if ours else f"write `{top}` at the top level of the config"
        return f"`{key}` belongs at the top level of a config" if key in TOP else None
    *others, last = levels
    return f"`{key}` is a key of {', '.join(others)}{' and ' if others else ''}{last}"


def other_owners(table: registry.Table, argument: str) -> str | None:
    """The advice for an argument that others of the same table take."""
    owners = [f"`{name}`" for name in table.names() if argument in table.signature(name).names[1:]]
    return f"`{argument}` is an argument of {', '.join(owners)}" if owners else None


def for_argument(fn: object, where: Path, value: object, is_first: bool, reporter: Reporter) -> Advice | None:
    """The advice for an argument of the loss or metric `fn` that is written beside it, perhaps by another name.

    `is_first`: there are no `args` yet.
    """
    key, place = str(where[-1]), reporter.key(where)
    tables = (table for table in (registry.losses, registry.metrics) if isinstance(fn, str) and fn in table)
    signatures = [table.signature(str(fn)) for table in tables]
    known = (p.name for signature in signatures for p in signature.parameters if p.kind == "keyword")
    taken = [name for name in known if name not in NOT_NEEDED]
    argument = key if key in taken else other_tools.meant(key, LOSS_ARGUMENTS, taken)
    if argument is None:
        return None
    left, equals, typed = (place.word or "").partition("=")
    if equals and left.endswith(f".{key}"):
        return Suggestion(f"{left.removesuffix(key)}args.{argument}={typed}", instead_of=place.word)
    if is_first and isinstance(value, bool | int | float):
        return Suggestion(f"args: {{{argument}: {other_tools.written(value)}}}", at=reporter.pair(where))
    return f"write it under `args`: `args: {{{argument}: ...}}`"


def _levels() -> Iterator[tuple[str, Collection[str]]]:
    """The levels of a training config with their keys, the most likely first."""
    yield "`model`", keys_of(schema.GraphDocument)
    yield "`data`", keys_of(SECTIONS["data"])
    for section, table in TABLES.items():
        arguments = {name for known in table.names() for name in table.signature(known).names[1:]}
        yield f"`{section}`", {*keys_of(SECTIONS[section]), *arguments}
    yield "`trainer`", keys_of(SECTIONS["trainer"])
    yield "a term of `loss`", keys_of(LossSection)
    yield "a metric", set(keys_of(MetricSection)) - set(keys_of(LossSection))
    yield "a phase", set(keys_of(PhaseSection)) - {"loss", "lr"}
    yield "a step", schema.STEP_KEYS
