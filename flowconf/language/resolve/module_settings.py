"""The settings of the modules at a path: frozen, checkpoint, initial values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from flowconf.language import schema, signatures
from flowconf.language.arguments import Literal
from flowconf.language.registry import CallTable
from flowconf.language.resolve.calls import CallParser, ParameterScope
from flowconf.language.settings import Checkpoint, Setting, Start
from flowconf.language.signatures import ClassSource, Signature
from flowconf.language.weight_source import CheckpointSource
from flowconf.report import Place, Reporter
from flowconf.report.origins import Path, dotted


class InitializerTable(CallTable):
    """The functions of `torch.nn.init`, without the `_` at the end of their names and without the tensor."""

    NAMES = (
        "normal", "uniform", "trunc_normal", "constant", "zeros", "ones", "eye", "dirac", "orthogonal",
        "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "sparse",
    )  # fmt: skip

    def names(self) -> list[str]:
        return list(self.NAMES)

    def __contains__(self, name: object) -> bool:
        return name in self.NAMES

    def class_source(self, name: str) -> ClassSource:
        function = signatures.read_function("torch.nn.init", f"{name}_")
        return ClassSource(Signature(function.parameters[1:]), Signature(()))


INITIALIZERS = InitializerTable("initial value", "FC0133")
SOURCES = ("path", "config", "hub")
BELONGS = {"where": "config", "revision": "hub", "file": "hub"}
"""Key of a checkpoint -> the source that it belongs to."""
FROZEN = {True: "all", False: "no", "params": "params", None: None}


def read_setting(
    model: schema.Settings, at: Path, path: str, reporter: Reporter, scope: ParameterScope
) -> Setting | None:
    """The settings of the modules at `path`, or None if there are none."""
    init = []
    for parameter, how in model.init.items():
        start = _start(parameter, how, (*at, "init", parameter), reporter, scope)
        if start is not None:
            init.append(start)
    checkpoint = read_checkpoint(model.checkpoint, (*at, "checkpoint"), reporter)
    frozen = FROZEN[model.frozen]
    if frozen is None and (model.follows is not None or model.adapt):
        frozen = "params"
    if frozen is None and checkpoint is None and not init:
        return None
    keys = {"frozen": model.frozen, "follows": model.follows, "adapt": model.adapt or None, "checkpoint": checkpoint}
    key = next((key for key, value in keys.items() if value is not None), "init")
    return Setting(path, frozen, checkpoint, tuple(init), reporter.key((*at, key)))


def read_checkpoint(model: str | CheckpointSource | None, at: Path, reporter: Reporter) -> Checkpoint | None:
    """The source of weights that a config has at a path; None if it has none, or a wrong one."""
    place = reporter.value(at)
    if model is None:
        return None
    if isinstance(model, str):
        return Checkpoint(path=model, place=place)
    given = [key for key in SOURCES if getattr(model, key) is not None]
    if len(given) != 1:
        listed = " and ".join(f"`{key}`" for key in given) or "none"
        message = f"a checkpoint requires one of `path`, `config` and `hub`, got {listed}"
        advice = "keep one of them" if given else "add `path`, `config` or `hub`"
        named = [reporter.key((*at, key)) for key in given] or [reporter.key(at)]
        place = max(named, key=lambda key: (key.line, key.column))
        reporter.error("FC0122", message, place, at=at, advice=advice)
        return None
    (key,) = given
    for other, owner in BELONGS.items():
        if getattr(model, other) and owner != key:
            message, place = f"`{other}` applies only to `{owner}`, not to `{key}`", reporter.key((*at, other))
            reporter.error("FC0125", message, place, at=at, advice=f"remove it, or write `{owner}`")
            return None
    where, keys = _where(model.where, (*at, "where"), reporter)
    places = [(one, reporter.value((*at, one))) for one in ("step", "revision", "file", "at", "sha256")]
    places += [(f"rename.{old}", reporter.key((*at, "rename", old))) for old in model.rename]
    places += keys
    plain = model.model_dump(exclude={"rename", "where"})
    rename, place = tuple(model.rename.items()), reporter.value((*at, key))
    return Checkpoint(**plain, rename=rename, where=where, place=place, places=tuple(places))


def _where(
    data: Mapping[str, object], at: Path, reporter: Reporter
) -> tuple[tuple[tuple[str, object], ...], list[tuple[str, Place]]]:
    """The values that a run has to have, by dotted key, and the place of each key (as `where.KEY`)."""
    found = list(_values(data, at))
    for path, value in found:
        if not _is_plain(value):
            message = f"`{reporter.dotted(path)}` must be a number, a string, true, false, null, or a list of them"
            reporter.error("FC0123", message, at=path)
    named = [(dotted(path[len(at) :]), value, path) for path, value in found]
    values = tuple((name, value) for name, value, _ in named)
    return values, [(f"where.{name}", reporter.key(path)) for name, _, path in named]


def _values(data: Mapping[str, object], at: Path) -> Iterator[tuple[Path, object]]:
    """The values of a mapping, by path; their keys may be dotted, or mappings again."""
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _values(value, (*at, key))
        else:
            yield (*at, key), value


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def _start(parameter: str, how: object, at: Path, reporter: Reporter, scope: ParameterScope) -> Start | None:
    place, key = reporter.value(at), reporter.key(at)
    if isinstance(how, schema.Scaled):
        return Start(parameter, Literal(None, "none"), float(how.scale), key)
    if isinstance(how, int | float):
        return Start(parameter, Literal(how, repr(how), place), None, key)
    if isinstance(how, list):
        return _listed(parameter, how, at, reporter)
    calls = CallParser(scope, reporter, dotted(at), table=INITIALIZERS).chain(str(how), place)
    if calls is not None and len(calls) > 1:
        reporter.error("FC0131", f"expected one initial value, got {len(calls)}: `{how}`", place, at=at)
    return None if calls is None else Start(parameter, calls[0], None, key)


def _listed(parameter: str, values: list[object], at: Path, reporter: Reporter) -> Start | None:
    def tupled(value: object) -> object:
        return tuple(tupled(item) for item in value) if isinstance(value, list) else value

    def numbers(value: object) -> bool:
        if isinstance(value, list):
            return all(numbers(item) for item in value)
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    place = reporter.value(at)
    if not numbers(values):
        reporter.error("FC0123", f"`{dotted(at)}` must contain only finite numbers", place, at=at)
        return None
    found = tupled(values)
    assert isinstance(found, tuple)
    return Start(parameter, Literal(found, repr(values), place), None, reporter.key(at))
