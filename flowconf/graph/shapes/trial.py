"""Runs a graph step by step on fake values, before real modules are created.

It infers `_` and the shape of every step, and reports every shape mismatch. A step whose input is unknown (no declared
shape, or an earlier error) is constructed but not called, so that one cause results in one diagnostic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.shapes import inner_values
from flowconf.graph.shapes.adapting import check_adapted
from flowconf.graph.shapes.fake_values import UNKNOWN, difference, kind_of, parts_of, repeat_rows
from flowconf.graph.shapes.findings import Poisoned, ShapeFindings
from flowconf.graph.shapes.grouping import Cause, Contradiction, Misfit, grouped
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.shapes.initial_values import check_initial_values
from flowconf.graph.shapes.inner_values import InnerValues, described
from flowconf.graph.shapes.locating import apart, call_place, made_at, size_in_mount
from flowconf.graph.shapes.module_caller import ModuleCaller, misfit
from flowconf.graph.shapes.module_maker import ModuleMaker
from flowconf.graph.shapes.scope import Giver, Held, Scope
from flowconf.graph.shapes.shared_parameters import check_follows, check_ties, ties_of
from flowconf.graph.shapes.sizes import Sizes, misfits
from flowconf.graph.shapes.visit import ModuleCall, Visit
from flowconf.graph.source.demand import without_copies
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, GraphPlan, Input, Mount, Shared, Step, Value
from flowconf.language.references import NotFound, is_opened
from flowconf.language.resolve.step_inputs import to_fill, unfilled
from flowconf.report import Advice, Diagnostic, Label, Place, suggest


@dataclass
class Trial:
    """Runs `plan` on fake values. `verbs` run the steps of each verb; `trains`: paths do not share modules."""

    plan: GraphPlan
    verbs: Mapping[type[Step], Callable[[Trial, Visit], Any]]
    sizes: Sizes
    trains: bool = False
    findings: ShapeFindings = field(default_factory=ShapeFindings)
    rounds: int = 1
    """The number of iterations of the loops around the current graph."""

    def __post_init__(self) -> None:
        self.result = Inference(self.plan)
        self.scope = Scope(self.plan)
        self.maker = ModuleMaker(self.result, self.sizes, self.findings, self.trains)
        self.caller = ModuleCaller(self.result, self.sizes, self.findings, self.maker.prototypes)

    @property
    def misfits(self) -> list[Misfit]:
        """The values that do not have the size that their reader expects."""
        causes = (cause for finding in self.findings.found for cause in finding.causes)
        return [cause for cause in causes if isinstance(cause, Misfit)]

    def whole(self, given: Mapping[str, Any]) -> None:
        """Run the whole graph, and report the findings; `given` are values of inputs."""
        graph = self.plan
        known = {name: value for name, value in given.items() if value is not UNKNOWN}
        values = {one.name: known[one.name] if one.name in known else self._declared(one) for one in graph.inputs}
        self.result.certain = not any(value is UNKNOWN for value in values.values())
        self.caller.inputs = values
        self.graph(self.scope, values, {})
        if not self.findings:
            check_initial_values(graph, self.result.parameters, self.result.reporter)
            check_follows(graph, self.result.parameters, self.result.reporter)
            check_ties(graph, self.result.parameters, self.result.reporter)
            check_adapted(graph, self.result.parameters, self.result.adapted, self.result.reporter)
            self.result.tied = {tie.name: tie.other for tie in ties_of(graph)}
        self.result.reporter.diagnostics += grouped(self.findings.found, self.findings.fitting)

    def graph(self, scope: Scope, values: Mapping[str, Any], givers: Mapping[str, Giver]) -> Any:
        """Run the graph of a scope, store its values there, and return the output; `givers` are those of the inputs."""
        graph = scope.graph
        for entry in graph.inputs:
            scope.local[entry.name] = self._input(entry, values.get(entry.name, UNKNOWN), scope, givers.get(entry.name))
            scope.places[entry.name] = givers.get(entry.name) or Giver(entry.name, entry.place, entry)
            self._record(join(scope.path, entry.name), scope.local[entry.name])
        for step in graph.steps:
            before = len(self.findings)
            try:
                scope.local[step.name] = self._step(step, scope)
                self._refuse_none(step, scope)
            except Poisoned:
                scope.local[step.name] = UNKNOWN
            self._note_wrong(step, scope, len(self.findings) > before)
            self._record(join(scope.path, step.name), scope.local[step.name])
            scope.places[step.name] = Giver(step.name, step.place, step)
        self._check_state(scope)
        self._check_indices(scope)
        outputs = {name: scope.value(value) for name, value in graph.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def _refuse_none(self, step: Step, scope: Scope) -> None:
        """A step must have a value."""
        if scope.local[step.name] is None:
            path = join(scope.path, step.path)
            advice = f"return a value from the `forward` of `{path}`"
            self.findings.add(
                Diagnostic(
                    "FC0201", f"`{path}` is `None`, but a step requires a value", step.place, path, advice=advice
                )
            )
            raise Poisoned

    def _note_wrong(self, step: Step, scope: Scope, found: bool) -> None:
        """Note members with errors, and members that could not be checked because of them."""
        if found:
            scope.wrong.add(step.name)
        elif scope.local[step.name] is UNKNOWN and any(value.member in scope.wrong for value in step.reads):
            scope.wrong.add(step.name)
            self.result.reporter.unchecked.append(join(scope.path, step.path))

    def _check_state(self, scope: Scope) -> None:
        """A state that is kept between calls must have the shape of its initial zeros."""
        for step in scope.graph.steps:
            for value in step.reads:
                if not value.recurrent or {step.name, value.member} & scope.wrong:
                    continue
                kept, like, giver = scope.value(value.now), scope.zeros(step), scope.places[value.member]
                if difference(kept, like) is None:
                    continue
                shown = f"`{value.now}` has shape {self.sizes.show(kept)}"
                message = (
                    f"the initial state of `{step.name}` is zeros like its stream, {self.sizes.show(like)}, but {shown}"
                )
                advice = scope.advice or self._zeros_of(kept, value)
                wrong = Diagnostic("FC0205", message, value.place, step.path, (Label(shown, giver.place),), advice)
                dims = apart(like, kept)
                sizes = [(like.shape[dim], kept.shape[dim]) for dim in dims] if len(dims) == 1 else []
                self.findings.add(wrong, *(misfit(giver, *two, step.path, value.place, self.sizes) for two in sizes))

    def _zeros_of(self, kept: Any, value: Value) -> str | None:
        """The advice to read a state of another shape than the stream: from zeros of its own shape."""
        size = self.sizes.show(kept)[1:-1].partition(", ")[2] if isinstance(kept, Tensor) else ""
        if not size.replace(", ", "").isdigit():
            return None
        read = f"{{from: zeros, fork: StateAdd, using: {{state: {value.now}}}}}"
        return f"add `zeros: {{fork: Zeros({size})}}`, read the state in a step `{read}`, and use that step here"

    def _check_indices(self, scope: Scope) -> None:
        """An index into the slices of a map must be in range, if their number is known."""
        graph = scope.graph
        read = [value for step in graph.steps for value in step.reads] + [value for _, value in graph.outputs]
        for value in dict.fromkeys(read):
            index, count = scope.indexed(value) or (0, 1)
            if not -count <= index < count:
                message = f"index `[{index}]` of `{value}` is out of range: it has {count} slices"
                advice = f"the last is `[{count - 1}]`"
                self.findings.add(Diagnostic("FC0141", message, value.place, scope.path, advice=advice))
            try:
                inner_values.check(graph, value, self.result.inside, self.result.kinds, scope.path)
            except NotFound as problem:
                self.findings.add(
                    Diagnostic(
                        "FC0141", problem.message, value.place, scope.path, advice=problem.advice_for(str(value))
                    )
                )

    def _record(self, path: str, value: Any) -> None:
        if value is not UNKNOWN:
            self.result.shapes.setdefault(path, self.sizes.show(value))
            self.note_kind(path, value)

    def note_kind(self, name: str, value: Any) -> None:
        """Note the kind of a value and of its parts."""
        kind = kind_of(value)
        if kind:
            self.result.kinds[name] = kind
        if kind == "tensor":
            return
        for part, inner in (parts_of(value) or {}).items():
            self.note_kind(f"{name}[{part}]", inner)

    # inputs

    def _declared(self, entry: Input) -> Any:
        """A fake tensor with the declared shape of an input."""
        if entry.shape is None:
            return UNKNOWN
        shape = [self.sizes.of(size) for size in entry.shape]
        try:
            return torch.empty(shape, dtype=getattr(torch, entry.dtype))
        except RuntimeError:
            message = f"the input `{entry.name}` exceeds the maximum size of a tensor"
            self.findings.add(Diagnostic("FC0123", message, entry.place, entry.name))
            return UNKNOWN

    def _input(self, entry: Input, value: Any, scope: Scope, giver: Giver | None) -> Any:
        """Check a value against the declared shape of an input."""
        if value is UNKNOWN:
            return UNKNOWN if entry.captured or self._would_guess(entry, scope) else self._declared(entry)
        if entry.shape is None or not scope.path or entry.captured:
            return value
        wrong = misfits(entry, value)
        if wrong is None:
            self.findings.fitting.add(entry.place)
            return value
        declared = entry.places[wrong] if 0 <= wrong < len(entry.places) else entry.place
        shown, got = entry.declared, self.sizes.show(value)
        message = f"the input `{entry.name}` of `{scope.path}` is declared as {shown}, got {got}"
        labels = [Label(f"`{giver.name}` has shape {got}", giver.place)] if giver is not None else []
        place = self._blamed(entry, value, wrong, scope, giver) or declared
        if place != declared:
            labels.append(Label(f"declared as {shown}", declared))
        found = Diagnostic("FC0206", message, place, scope.path, tuple(labels), scope.advice)
        if wrong < 0:
            self.findings.add(found)
            return UNKNOWN
        size, given = entry.shape[wrong], int(value.shape[wrong])
        causes: list[Cause] = []
        if giver is not None:
            causes.append(misfit(giver, size, given, scope.path, place, self.sizes))
        is_passed = scope.mounted is not None and place == size_in_mount(scope.mounted, size)
        if declared.line and not is_passed:
            causes.append(Contradiction(entry.name, entry.place, declared, size, given))
        self.findings.add(found, *causes)
        return UNKNOWN

    def _would_guess(self, entry: Input, scope: Scope) -> bool:
        """Whether the declared shape would only guess sizes that an earlier error hides, and cause false errors.

        The batch size is unknown in every graph, and does not count.
        """
        is_open = any(isinstance(size, str) for size in (entry.shape or ())[1:])
        return is_open and bool(scope.path) and bool(self.findings)

    @staticmethod
    def _blamed(entry: Input, value: Any, wrong: int, scope: Scope, giver: Giver | None) -> Place | None:
        """The place at fault, if not the declaration: a value of another kind, or the input of a mounted graph."""
        read = giver.read if giver is not None else None
        mounted, reused = scope.mounted, scope.reused
        mount = reused or (mounted.place if mounted is not None else None)
        if wrong < 0 or entry.shape is None:
            return reused or read or mount
        if mounted is None:
            return reused
        passed = size_in_mount(mounted, entry.shape[wrong]) if reused is None else None
        return passed or made_at(giver, value.shape[wrong]) or mount

    # steps

    def _step(self, step: Step, scope: Scope) -> Any:
        held = scope.held[step.name] = Held()
        scope.before = scope.zeros(step)
        visit = Visit(step, scope, scope.value(step.stream), scope.giver(step.stream))
        done: list[Held] = []
        for copy in range(step.copy_count):
            if step.copies:
                held = scope.held[step.name] = Held(copies=done)
                done.append(held)
                visit = _numbered(visit, step, copy)
            before, known = visit.stream, len(self.findings)
            value = held.all_of_them = self.verbs.get(type(step), Trial.apply)(self, visit)
            if step.take is not None and not step.takes_each and value is not UNKNOWN:
                value = self.taken(visit, value)
            if (difference(before, value) is None and not step.copies) or len(self.findings) > known:
                break
            visit = visit if step.copies else _later_copy(visit)
            visit = visit.fed(value, Giver(f"{step.name}.{copy}", step.place))
        if not step.iterates:
            held.once = value
        self.note_kind(f"{join(scope.path, step.name)}[]", held.once)
        return value

    # modules

    def apply(self, visit: Visit, repeated: int = 1, whole: Applied | None = None) -> Any:
        """Run the module of a visit; `whole` is the chain that contains it.

        Its stream has `repeated` rows for each row of the graph.
        """
        value = self._value(visit, repeated, whole)
        self.note_kind(f"{join(visit.path, visit.spot)}()", value)
        if visit.spot:
            visit.held.parts[visit.spot] = value
            if value is not UNKNOWN and not visit.spot.rpartition(".")[2].isdigit():
                self.result.shapes.setdefault(join(visit.path, visit.spot), self.sizes.show(value))
        return value

    def _value(self, visit: Visit, repeated: int, whole: Applied | None) -> Any:
        applied, module, scope = visit.applied, visit.applied.target, visit.scope
        using = {name: repeat_rows(self._given(value, visit), repeated) for name, value in applied.using}
        if isinstance(module, Chain):
            return self._chain(visit, module, repeated, whole or applied)
        if isinstance(module, Mount):
            return self._mounted(visit, module, using)
        built = self.maker.module(visit)
        if is_opened(module):
            inner = InnerValues({name: described(one) for name, one in built.named_modules() if name})
            visit.held.inside[visit.spot] = self.result.inside[join(visit.path, visit.spot)] = inner
        if visit.stream is UNKNOWN or any(value is UNKNOWN for value in using.values()):
            self.maker.check_nesting(built, visit)
            return UNKNOWN
        chain = whole or applied
        if isinstance(chain.module, Shared):
            visit = replace(visit, scope=replace(scope, reused=scope.reused or chain.module.place))
        value = self.caller.output(built, ModuleCall(visit, chain, using))
        self.maker.check_nesting(built, visit)
        return value

    def _chain(self, visit: Visit, chain: Chain, repeated: int, whole: Applied) -> Any:
        member = visit
        for number, applied in enumerate(chain.members):
            member = member.at(join(visit.spot, str(number)))
            value = self.apply(member, repeated, whole)
            member = member.fed(value, Giver(str(applied.module), call_place(applied.module, visit.step)))
        return member.stream

    def _mounted(self, visit: Visit, mount: Mount, using: dict[str, Any]) -> Any:
        """The output of a mounted graph."""
        applied, scope, stream = visit.applied, visit.scope, visit.stream
        own = [entry.name for entry in mount.graph.inputs if not entry.captured]
        values, parts = dict(using), parts_of(stream)
        givers = {name: replace(scope.giver(value), read=value.place) for name, value in applied.using}
        if stream is not UNKNOWN:
            self._check_filled(visit, parts)
        if parts is not None and len(own) > 1:
            values = {name: value for name, value in parts.items() if name in own} | values
            givers = {name: visit.giver for name in parts if name in own} | givers
        else:
            values[own[0]], givers[own[0]] = stream, visit.giver
        inner = Scope(
            mount.graph,
            join(scope.path, applied.path),
            home=scope.home_of(applied),
            shared={
                mine: scope.standing(without_copies(scope.graph, theirs, of="equal")) for mine, theirs in mount.shares
            },
            mounted=mount if mount.graph.source_name else None,
            reused=scope.reused or (applied.module.place if isinstance(applied.module, Shared) else None),
            advice=scope.advice,
        )
        result = self.graph(inner, values, givers)
        guessed = any(values.get(name, UNKNOWN) is UNKNOWN for name in own) and bool(self.findings)
        if not guessed:
            visit.held.scopes[visit.spot] = inner
        return UNKNOWN if guessed else result

    def _check_filled(self, visit: Visit, parts: Mapping[str, Any] | None) -> None:
        """Check that the stream fills the inputs of a graph, if its parts are only known now."""
        lacking = unfilled(visit.applied, parts)
        if lacking:
            shown = "a single value" if parts is None else ", ".join(f"`{name}`" for name in parts)
            label = Label(f"`{visit.giver.name}` has {shown}", visit.giver.place)
            path = join(visit.scope.path, visit.applied.path)
            message = f"the input `{lacking[0]}` of `{path}` has no value"
            self.findings.error(visit, "FC0147", message, visit.step.place, (label,), to_fill(lacking[0]))

    def _given(self, value: Value, visit: Visit) -> Any:
        """A further argument of a module: a value, or the first slice of the value that a loop iterates over."""
        found = visit.scope.value(value)
        if not value.sliced or found is UNKNOWN:
            return found
        dim, shown = visit.step.along or 0, f"`{value}` has shape {self.sizes.show(found)}"
        if not isinstance(found, Tensor) or not -found.dim() <= dim < found.dim():
            message = f"the loop `{visit.path}` iterates over dimension {dim}, but {shown}"
            self.findings.error(visit, "FC0201", message, value.place)
        return found.select(dim, 0)

    # for the verbs

    def attempt(self, visit: Visit) -> Any:
        """The output of one of several parts; unknown if there is an error in it."""
        before = len(self.findings)
        try:
            value = self.apply(visit)
        except Poisoned:
            return UNKNOWN
        return UNKNOWN if len(self.findings) > before else value

    def taken(self, visit: Visit, value: Any) -> Any:
        """The value that `take` selects."""
        take, parts = visit.step.take, parts_of(value)
        try:
            if isinstance(value, Tensor):
                raise TypeError  # an index would select a row
            return parts[take] if parts is not None and take in parts else value[take]
        except (IndexError, KeyError, TypeError):
            shown, entries = self.sizes.show(value), value if isinstance(value, tuple | list) else ()
            why = f"{shown} is a single tensor"
            advice: Advice | None = "remove it"
            if parts is not None:
                listed = ", ".join(f"`{name}`" for name in parts)
                why, advice = f"{shown} has {listed}", suggest(str(take), list(parts), "names")
            elif entries:
                why, advice = f"{shown} has {len(entries)} values", f"write a number from 0 to {len(entries) - 1}"
            message = f"invalid `take: {take}`: {why}"
            self.findings.error(visit, "FC0201", message, visit.step.place_of("take"), advice=advice)


def _numbered(visit: Visit, step: Step, copy: int) -> Visit:
    """A copy of a repeated step whose copies differ by their number."""
    advice = f"`{step.index}` is {copy} in `{step.path}.{copy}`"
    return replace(visit, step=step.copies[copy], scope=replace(visit.scope, advice=advice))


def _later_copy(visit: Visit) -> Visit:
    """The next copy of a repeated step. An error only there means that the first copy changes the shape."""
    advice = f"`{visit.step.name}` is repeated: each copy must return the shape of its input"
    return replace(visit, scope=replace(visit.scope, advice=advice))
