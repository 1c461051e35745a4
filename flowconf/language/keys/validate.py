"""Validates plain data against a Pydantic model, and reports all errors with their places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from flowconf.language import schema, value_types
from flowconf.language.advice import hints, other_tools, sections
from flowconf.language.advice.vocabulary import NOT_NEEDED
from flowconf.language.keys import misplaced
from flowconf.language.section import INSIDE, RULE
from flowconf.report import Advice, Label, Place, Reporter, Suggestion, joined, nearest, suggest
from flowconf.report.origins import Path, dotted

M = TypeVar("M", bound=BaseModel)
Problem = dict[str, Any]

OF_TYPE = (
    "string_type", "int_type", "int_from_float", "float_type", "bool_type", "list_type", "dict_type", "model_type",
    "none_required", "is_instance_of",
)  # fmt: skip
"""Pydantic's errors for a value of the wrong type."""


def validate(model: type[M], data: object, reporter: Reporter) -> M | None:
    """An instance of `model`, or None if `data` has errors; `data` is at `reporter.base` of the document."""
    problems: list[Any] = []
    try:
        found = model.model_validate(data)
    except ValidationError as error:
        found, problems = None, error.errors(include_url=False)
    except RecursionError:
        reporter.error("FC0006", "the document is nested too deeply")
        return None
    before = len(reporter.diagnostics)
    _Report(model, data, reporter).report(problems)
    return None if reporter.has_errors(before) else found


class _Report:
    """Converts Pydantic's errors to diagnostics, one for each cause."""

    def __init__(self, model: type[BaseModel], data: object, reporter: Reporter) -> None:
        self.model, self.data, self.reporter, self.base = model, data, reporter, reporter.base
        self.is_config = "trainer" in model.model_fields
        self.grouped: dict[Path, list[Problem]] = {}
        """The errors that are left to report, by path."""
        self.lacking: Mapping[Path, str] = {}
        """The mappings with exactly one missing and one unknown key -> the missing one."""

    def report(self, found: Sequence[Any]) -> None:
        grouped = self.grouped
        for problem in found:
            where = self._where(problem["loc"], problem["type"] in ("missing", "extra_forbidden"))
            where = (*where, *problem.get("ctx", {}).get(INSIDE, ()))
            grouped.setdefault(where, []).append(dict(problem))
        self._unnamed()
        self._mounted_configs()
        self._astray()
        is_document = not self.base and isinstance(self.data, dict)
        if grouped and is_document and self._another_kind((), schema.keys_of(self.model)):
            return
        mounts = [owner for owner in dict.fromkeys(where[:-1] for where in grouped) if self._is_mounted(owner)]
        strangers = {owner for owner in mounts if self._another_kind(owner, hints.GRAPH_KEYS)}
        self.lacking = _only_lacking(grouped)
        around = {where[:length] for where in grouped for length in range(len(where))}
        for where, problems in grouped.items():
            if where[:-1] in strangers:
                continue
            alternatives = all(problem["type"] in OF_TYPE for problem in problems)
            if not (alternatives and where in around):
                self._report_one(where, problems)

    def _unnamed(self) -> None:
        """Report sections without the name level once: `loss: {fn: ...}` instead of `loss: {NAME: {fn: ...}}`."""
        for section in sections.MEMBERS if not self.base else ():
            members = self._at(section)
            if sections.is_unnamed(section, members) and any(path[:1] == section for path in self.grouped):
                first = (*section, next(iter(cast("dict[str, Any]", members))))
                message = f"expected a name in `{dotted(section)}`, got the key `{first[-1]}`"
                self._error("FC0123", message, self._key(first), first, advice=sections.example(section))
                self._drop(path for path in self.grouped if path[:1] == section)

    def _mounted_configs(self) -> None:
        """Report a training config in the place of a graph once, and drop the errors that follow from it."""
        for path, mount in self.reporter.origins.mounts.items():
            owner = path[len(self.base) :]
            if (*owner, "model") not in self.grouped or self._key((*owner, "model")).file != mount.file:
                continue
            message = f"expected a graph, got the training config `{mount.name}`"
            labels = (Label("it is a training config", self._key((*owner, "model"))),)
            advice = "move its `model` to `graph/NAME.yaml`, and mount that with `graph: NAME` here, and there with "
            advice += "`- graph/NAME@model` in `defaults`"
            self._error("FC0121", message, mount.place, owner, labels=labels, advice=advice)
            self._drop(path for path in self.grouped if path[: len(owner)] == owner)

    def _astray(self) -> None:
        """Report keys at the wrong level once, and drop the errors that follow from them."""
        for stray in misplaced.strays(self.model, self.data, self.grouped, self._key):
            key, home = stray.keys[0], stray.home
            labels: tuple[Label, ...] = ()
            if stray.is_too_deep:
                belongs = f"in `{self.reporter.dotted(home)}`" if (*self.base, *home) else "at the top level"
                message, hint = f"`{key[-1]}` belongs {belongs}, not in `{key[-2]}`", "move it there"
            elif stray.is_empty:
                message = f"`{key[-1]}` belongs below `{home[-1]}`, which is empty"
                labels, hint = (Label(f"`{home[-1]}` is empty", self._key(home)),), "indent it further"
            else:
                message, hint = f"`{key[-1]}` belongs below `{home[-1]}`, not beside it", "indent it further"
            self._error("FC0121", message, self._key(key), key, labels=labels, advice=hint)
            self._drop(filter(stray.explains, self.grouped))

    def _drop(self, paths: Iterable[Path]) -> None:
        """Drop the errors that follow from one that was reported."""
        for path in [*paths]:
            del self.grouped[path]

    def _where(self, loc: Sequence[str | int], of_key: bool) -> Path:
        """The path in the data that an error is about, without Pydantic's tags of union members.

        `of_key`: the error is about the last key, which may be missing.
        """
        node, path = self.data, cast(Path, ())
        for position, item in enumerate(loc):
            in_list = isinstance(node, list) and isinstance(item, int) and item < len(node)
            if in_list or (isinstance(node, dict) and item in node):
                node = cast(Any, node)[item]
                path = (*path, item)
            elif (
                of_key and position == len(loc) - 1 and isinstance(node, dict) and not str(item).startswith(("<", "["))
            ):
                path = (*path, item)
        return path

    def _report_one(self, where: Path, problems: list[Problem]) -> None:
        first = problems[0]
        match first["type"]:
            case "extra_forbidden":
                self._unknown_key(where)
            case "missing":
                self._missing_key(where)
            case "step":
                self._verbs(where)
            case "one_key":
                self._not_one_key(where, first["msg"], first["ctx"]["keys"])
            case "body":
                self._body(where)
            case kind if kind == RULE:
                self._error("FC0123", first["msg"], self._value(where), where)
            case "string_pattern_mismatch" if first["loc"][-1] == "[key]":
                message = f"invalid name `{where[-1]}`: expected letters, digits and `_`, not starting with a digit"
                self._error("FC0126", message, self._key(where), where, advice=hints.for_name(str(where[-1])))
            case "invalid_key":
                message = f"the key `{where[-1]}` must be a string"
                self._error("FC0126", message, self._key(where), where)
            case _:
                self._wrong_value(where, problems)

    def _another_kind(self, where: Path, wanted: Sequence[str]) -> bool:
        """Report a document of the wrong kind; returns whether it is one."""
        found = hints.another_kind(cast("dict[str, Any]", self._at(where)), wanted, is_mounted=bool(where))
        if found is not None:
            key, message, hint = found
            self._error("FC0121", message, self._key((*where, key)), (*where, key), advice=hint)
        return found is not None

    def _is_mounted(self, where: Path) -> bool:
        return (*self.base, *where) in self.reporter.origins.mounts and isinstance(self._at(where), dict)

    def _error(self, code: str, message: str, place: Place, where: Path, **more: Any) -> None:
        self.reporter.error(code, message, place, at=where, **more)

    def _key(self, where: Path) -> Place:
        return self.reporter.key(where)

    def _value(self, where: Path) -> Place:
        """The place of a value, or of its key if the value is empty and cannot be marked."""
        place = self.reporter.value(where)
        empty = where and self._at(where) is None and place.word is None and not place.length
        return self._key(where) if empty else place

    def _owner(self, where: Path) -> str:
        owner = self.reporter.dotted(where[:-1])
        return f"in `{owner}`" if owner else "at the top level"

    def _is_beside(self, where: Path) -> bool:
        """Whether the missing key is beside its owner instead of below it, which is reported here or already."""
        owners, beside = self._at(where[:-2]), (*where[:-2], where[-1])
        if len(where) < 2 or not isinstance(owners, dict) or where[-1] not in owners:
            return False
        if not any(path[: len(beside)] == beside for path in self.grouped):
            message = f"`{where[-1]}` belongs below `{where[-2]}`, not beside it"
            self._error("FC0122", message, self._key(beside), where, advice="indent it further")
        return True

    def _unknown_key(self, where: Path) -> None:
        key, owner = str(where[-1]), self._at(where[:-1])
        allowed = self._keys_at(where[:-1])
        verb = next((verb for verb in schema.VERBS if isinstance(owner, dict) and verb in owner), None)
        if verb in schema.STEPS and key in schema.STEP_KEYS and "flow" in (*self.base, *where):
            belongs = [name for name, step in schema.STEPS.items() if key in schema.keys_of(step)]
            if verb in belongs:
                message, hint = f"`{key}` is a key of a step, not of a body", "move it next to the verb of the step"
                self._error("FC0125", message, self._key(where), where, advice=hint)
                return
            message, hint = f"`{key}` applies only to {joined(belongs)}, not to `{verb}`", "remove it"
            self._error("FC0125", message, self._key(where), where, advice=hint)
            return
        free = [name for name in allowed if not (isinstance(owner, dict) and name in owner)]
        self._stranger(where, allowed, free, self.lacking.get(where[:-1]))

    def _stranger(self, where: Path, allowed: Sequence[str], free: Sequence[str], lacking: str | None) -> None:
        """Report an unknown key, and suggest a key that is `free` here, or the `lacking` one."""
        key, owner, place = str(where[-1]), self._at(where[:-1]), self._key(where)
        free = [*allowed] if place.word is not None else [*free]
        free += ["defaults"] if self.is_config and len(where) == 1 else []
        fn = owner.get("fn") if isinstance(owner, dict) and "args" in allowed else None
        is_graph = not self.is_config or where[0] == "model"
        hint = hints.for_unknown_key(key, owner, self._at(where), free) if is_graph else None
        hint = hint or (sections.as_key(where) if self.is_config else None)
        hint = hint or sections.for_argument(fn, where, self._at(where), "args" in free, self.reporter)
        hint = hint or self._of_another_tool(where, allowed, free) or sections.example((*self.base, *where))
        if hint is None and lacking is not None and nearest(key, free) is None:
            hint = f"write `{lacking}`, which is missing"
        self._error(
            "FC0121",
            f"unknown key `{key}` {self._owner(where)}",
            place,
            where,
            advice=hint or self._near(key, free, allowed) or "",
        )

    def _near(self, key: str, free: Sequence[str], allowed: Sequence[str]) -> Advice | None:
        """The nearest key, or else the section that it belongs to, or else the keys."""
        near, belongs = suggest(key, free, "keys", listed=allowed), self._belongs(key)
        if isinstance(near, Suggestion):
            return replace(near, otherwise=belongs or near.otherwise)
        return belongs or near

    def _of_another_tool(self, where: Path, allowed: Sequence[str], free: Sequence[str]) -> Advice | None:
        """The advice for a key of another tool in a section of a config."""
        key = str(where[-1])
        known = other_tools.for_key(key, free)
        pair = sections.pair(where, self._at(where), free, self.reporter)
        if pair is not None or known is not None:
            otherwise = NOT_NEEDED.get(key, f"use `{known}`")
            return pair or Suggestion(str(known), instead_of=key, otherwise=otherwise)
        taken, _ = other_tools.for_pair(key, self._at(where), allowed) or (other_tools.for_key(key, allowed), "")
        return sections.taken(key, taken) if taken is not None else NOT_NEEDED.get(key)

    def _belongs(self, key: str) -> str | None:
        if self.is_config:
            return sections.belongs(key)
        return f"`{key}` is a key of a step" if key in schema.STEP_KEYS else None

    def _missing_key(self, where: Path) -> None:
        key, owner = str(where[-1]), self._at(where[:-1])
        others = [str(name) for name in owner] if isinstance(owner, dict) else []
        kinds = {name: self.grouped.get((*where[:-1], name), [{}])[0].get("type") for name in others}
        unknown = [name for name, kind in kinds.items() if kind == "extra_forbidden"]
        if unknown and len(unknown) == len(others):
            return
        if unknown and (where[:-1] in self.lacking or any(sections.meant(name, [key]) for name in unknown)):
            return
        if self._is_beside(where):
            return
        verb = next((verb for verb in schema.VERBS if verb in others), "")
        deeper = self._at((*where[:-1], verb))
        if isinstance(deeper, dict) and key in deeper:
            message = f"`{key}` belongs beside `{verb}`, not in it"
            place = self._key((*where[:-1], verb, key))
            self._error("FC0122", message, place, where, advice=f"move it one level up, to `{where[-2]}`")
            return
        own = self._keys_at(where[:-1])
        strangers = [name for name in others if name not in own and sections.meant(name, [key])]
        if strangers and any(map(misplaced.is_open, models_at(self.model, self.data, where[:-1]))):
            self._stranger((*where[:-1], strangers[0]), own, [key], key)
            return
        hint = (sections.as_member(where) if self.is_config and len(where) > 1 else None) or f"write `{key}: ...`"
        if key == "merge":
            hint = f"write `merge: add`, or another of {joined(schema.MERGES[1:])}, or a module"
        name = self._owner(where).removeprefix("in ") if where[:-1] or self.base else "the document"
        before = self.reporter.origins.history((*self.base, *where))
        place = before[-1] if before else self._key(where[:-1])
        removed = ", which is removed here" if before else ""
        self._error("FC0122", f"{name} requires `{key}`{removed}", place, where, advice=hint)

    def _verbs(self, where: Path) -> None:
        step, name = self._at(where), where[-1]
        if name in (*hints.GRAPH_KEYS, *schema.MODIFIERS) and not (isinstance(step, dict) and "flow" in step):
            of = "the document" if name in hints.GRAPH_KEYS else "a step"
            message = f"`{name}` is a key of {of}, not the name of a step"
            self._error("FC0121", message, self._key(where), where, advice="move it, or rename the step")
            return
        if not isinstance(step, dict):
            message = f"the step `{name}` must be a call or a mapping, got {shown(step)}"
            hint = hints.for_wrong_value(("flow", name), step, ("step",))
            self._error("FC0123", message, self._value(where), where, advice=hint)
            return
        verbs = [str(key) for key in step if key in schema.VERBS]
        if verbs:
            second = self._key((*where, verbs[1]))
            message = f"the step `{name}` has {len(verbs)} verbs: {joined(verbs)}"
            self._error("FC0124", message, second, where, advice=f"keep one of {joined(verbs)}")
            return
        unknown = [str(key) for key in step if key not in schema.STEP_KEYS]
        meant = hints.for_missing_verb(step, unknown)
        if meant is None and self._misspelled(step, where, schema.VERBS, known=schema.STEP_KEYS):
            return
        if unknown:
            key, hint = meant or (unknown[0], f"a step requires one of {joined(schema.VERBS)}")
            at = (*where, key)
            self._error("FC0121", f"unknown key `{key}` {self._owner(at)}", self._key(at), at, advice=hint)
            return
        removed = self.reporter.origins.history((*self.base, *where))
        note = f"; the step was removed at {removed[-1]}" if removed else ""
        labels: tuple[Label, ...] = ()
        needed = f"add one of {joined(schema.VERBS)}"
        advice: Advice = needed
        flow, file = cast("dict[str, object]", self._at(where[:-1])), self._key(where).file
        others = [str(other) for other in flow if self._key((*where[:-1], other)).file != file]
        if not removed and (close := nearest(str(name), others)) is not None:
            advice = Suggestion(close, instead_of=str(name), otherwise=needed)
        elif not removed and (found := self._replaced_around(where)) is not None:
            (old, place), new = found
            note = f", and `{new}` replaces `{old}` instead of changing it"
            labels = (Label(f"the earlier `{old}`", place),)
            way = "`graph: {flow: ...}`" if (old, new) == ("graph", "flow") else f"`{old}` instead of `{new}`"
            advice = f"write {way} to change what is there, or give `{name}` a verb"
        message = f"the step `{name}` has no verb{note}"
        self._error("FC0124", message, self._key(where), where, labels=labels, advice=advice)

    def _replaced_around(self, where: Path) -> tuple[tuple[str, Place], str] | None:
        """The verb that another file gave to a step or body around a path, with its place, and the one it has now."""
        heads = ("flow", *schema.VERBS)
        for path in (where[:length] for length in reversed(range(len(where)))):
            body = cast("dict[str, object]", self._at(path))
            earlier = {key: self.reporter.origins.history((*self.base, *path, key)) for key in heads if key not in body}
            found = next(((key, places[-2]) for key, places in earlier.items() if len(places) > 1), None)
            if found is not None:
                return found, next(key for key in heads if key in body)
        return None

    def _not_one_key(self, where: Path, message: str, keys: Sequence[str]) -> None:
        """Report a choice of which no key is set, or several are."""
        place = self._key((*where, keys[1])) if keys else self._value(where)
        advice = f"keep one of {' and '.join(f'`{key}`' for key in keys)}" if keys else None
        self._error("FC0122", message, place, where, advice=advice)

    def _body(self, where: Path) -> None:
        body = self._at(where)
        if isinstance(body, dict) and self._misspelled(body, where, ("flow", "graph", "through")):
            return
        got = "" if body is None else f", got {shown(body)}"
        message = f"`{where[-1]}` must be a call, or a mapping with `flow`, `graph` or `through`{got}"
        hint = hints.for_wrong_value(where, body, ("body",))
        self._error("FC0123", message, self._value(where), where, advice=hint)

    def _misspelled(self, owner: dict[str, Any], where: Path, wanted: Sequence[str], known: Sequence[str] = ()) -> bool:
        """Report the first key that is a misspelling of one of `wanted`; returns whether there is one."""
        for key in owner:
            close = nearest(str(key), wanted) if key not in known else None
            if close:
                at = (*where, key)
                place = self._key(at)
                message = f"unknown key `{key}` {self._owner(at)}"
                self._error("FC0121", message, place, at, advice=Suggestion(close, instead_of=str(key)))
                return True
        return False

    def _wrong_value(self, where: Path, problems: list[Problem]) -> None:
        got, place = self._at(where), self._value(where)
        first, (allowed, _) = problems[0], _allowed_at(self.model, self.data, where)
        kind = allowed.annotation if allowed is not None else Any
        wanted = "a finite number" if first["type"] == "finite_number" else value_types.in_words(kind)
        if INSIDE in first.get("ctx", {}) or kind is Any:
            wanted = str(first["msg"]).lower()
        subject = f"`{self.reporter.dotted(where)}`" if (*self.base, *where) else "the document"
        if first["type"] == "too_short":
            least, got_many = first["ctx"]["min_length"], first["ctx"]["actual_length"] or "none"
            entries = "entry" if least == 1 else "entries"
            message = f"{subject} requires at least {least} {entries}, got {got_many}"
            if removals := self.reporter.origins.removals((*self.base, *where)):
                message, place = f"{message}; null removes the last one here", removals[-1]
        elif got is None and where and place == self._key(where):
            message = f"{subject} must be {wanted}, but has no value"
        else:
            message = f"{subject} must be {wanted}, got {shown(self._written(where), wanted)}"
        advice = self._advice_on(where, {problem["type"] for problem in problems}, kind)
        self._error("FC0123", message, place, where, advice=advice)

    def _advice_on(self, where: Path, problems: set[str], kind: Any) -> Advice | None:
        """What to write instead of a wrong value."""
        at, got = (*self.base, *where), self._at(where)
        in_model = not self.is_config or "model" in where
        if where and not in_model and (pair := sections.pair(where, got, [str(where[-1])], self.reporter)):
            return pair
        read = self.reporter.origins.at(at)
        if read is not None and read.reference is not None:
            decoded = f"${{oc.decode:{read.reference}}}"
            return Suggestion(decoded, instead_of=read.reference, others=(f"'{decoded}'",))
        word = self._value(where).word
        if got is None and word is not None:
            return f"write `~{word.partition('=')[0].lstrip('+~')}` to remove it"
        if meant := value_types.instead(kind, got):
            return Suggestion(meant, instead_of=str(got))
        if got is None and self.reporter.origins.history(at):
            return f"write `~{self.reporter.dotted(where)}` on the command line to remove it"
        if example := sections.example(at):
            return example
        return hints.for_wrong_value(at, got, problems) if in_model else None

    def _keys_at(self, where: Path) -> list[str]:
        """The keys of the mapping at a path."""
        models = reversed(models_at(self.model, self.data, where))
        return list(dict.fromkeys(key for one in models for key in schema.keys_of(one)))

    def _written(self, where: Path) -> object:
        """The value at a path; of a value from the environment, its reference."""
        node = self.reporter.origins.at((*self.base, *where))
        return self._at(where) if node is None or node.reference is None else node.reference

    def _at(self, where: Path) -> object:
        node: Any = self.data
        for item in where:
            try:
                node = node[item]
            except (KeyError, IndexError, TypeError):
                return None
        return node


def _only_lacking(grouped: Mapping[Path, list[Problem]]) -> dict[Path, str]:
    """The mappings with exactly one missing and one unknown key -> the missing one."""
    found: dict[Path, dict[str, list[str]]] = {}
    for where, problems in grouped.items():
        found.setdefault(where[:-1], {}).setdefault(problems[0]["type"], []).append(str(where[-1]) if where else "")
    of_kinds = ((owner, kinds.get("missing", []), kinds.get("extra_forbidden", [])) for owner, kinds in found.items())
    return {owner: missing[0] for owner, missing, unknown in of_kinds if len(missing) == len(unknown) == 1}


def _allowed_at(model: type[BaseModel], data: object, where: Path) -> tuple[misplaced.Allowed | None, object]:
    """What is allowed at a path, None for an unknown key, and what is there."""
    allowed: misplaced.Allowed | None = misplaced.allowed_by(model)
    node: Any = data
    for key in where:
        allowed = misplaced.below(allowed, node, key)
        node = node.get(key) if isinstance(node, dict) else None
    return allowed, node


def models_at(model: type[BaseModel], data: object, where: Path) -> Sequence[type[BaseModel]]:
    """The models that fit the mapping at a path; none for one with arbitrary names."""
    return misplaced.fitting(*_allowed_at(model, data, where))


def shown(value: object, wanted: str = "") -> str:
    """A value as it appears in messages, with the length of a list where one is `wanted`."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if "a list of" in wanted else "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value == "":
        return "an empty string"
    if isinstance(value, str):
        return f"the string `{value if len(value) <= 40 else value[:37] + '...'}`"
    return "null" if value is None else f"`{value}`"
