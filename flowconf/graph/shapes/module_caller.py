"""Calls modules on fake values in the shape check, and locates the cause of an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flowconf.graph.shapes import faults, rules
from flowconf.graph.shapes.assumed_output import as_declared
from flowconf.graph.shapes.fake_values import UNKNOWN, called, kind_of, wants_numbers
from flowconf.graph.shapes.findings import Poisoned, ShapeFindings, set_by
from flowconf.graph.shapes.grouping import Misfit, Several
from flowconf.graph.shapes.inference import Arrival, Inference
from flowconf.graph.shapes.inner_values import InnerValues, recorded
from flowconf.graph.shapes.known_calls import Prototype, known_call, on_fakes
from flowconf.graph.shapes.locating import call_place, made_at
from flowconf.graph.shapes.scope import Giver
from flowconf.graph.shapes.sizes import Expectation, Sizes, expectation
from flowconf.graph.shapes.visit import ModuleCall, Visit
from flowconf.language.arguments import Call, Literal
from flowconf.language.paths import join
from flowconf.language.plan import Step, Value
from flowconf.language.references import is_opened
from flowconf.language.resolve import wrong_values
from flowconf.report import Label, Place, first_line, raised_here

LOOK_UPS = (nn.Embedding, nn.EmbeddingBag)
"""Modules whose stream are the numbers of rows in a table."""


class LookUps(TorchFunctionMode):
    """A block in which `note` gets the number of rows of each table, and the numbers that are looked up in it."""

    def __init__(self, note: Callable[[int, Any], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (F.embedding, F.embedding_bag) and len(args) > 1:
            self.note(len(args[1]), args[0])
        return function(*args, **(kwargs or {}))


@dataclass
class ModuleCaller:
    """Calls modules."""

    result: Inference
    sizes: Sizes
    findings: ShapeFindings
    prototypes: Mapping[nn.Module, Prototype]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The values of the inputs of the whole graph."""

    def output(self, built: nn.Module, call: ModuleCall) -> Any:
        """The output of a module; after a size mismatch, the output for the expected size, if that is certain."""
        module, stream, using = call.applied.target, call.stream, call.using
        self._note_arrivals(built, call)
        prototype = self.prototypes.get(built)
        known = known_call(prototype, built, stream, using)
        if known is not None and (given := known.output()) is not None:
            return given
        if isinstance(module, Call):
            wrong = rules.fault(built, stream, using, self.sizes)
            if wrong is not None or faults.refused(module, stream) or faults.wrong_dim(module, stream):
                self._misfit(built, call, wrong)
        if known is not None:
            known.run_on_meta()
            if (given := known.output()) is not None:
                return given
        if prototype is not None:
            built = on_fakes(built)
        inner = call.visit.held.inside.get(call.visit.spot)
        try:
            with nullcontext() if inner is None else recorded(built, inner), self._looking_up(call):
                output = called(built, stream, using)
            if known is not None:
                known.note(output)
            if inner is not None:
                self._note_inside(inner, join(call.visit.path, call.visit.spot))
            return output
        except Exception as problem:  # noqa: BLE001 - a module may raise anything
            if wants_numbers(problem):
                self.result.certain = False
                return UNKNOWN
            why = self.sizes.reworded(first_line(problem))
            try:
                self._misfit(built, call, None, str(problem), why, raised_here(problem))
            except Poisoned:
                given = as_declared(built, module, stream, using) if isinstance(module, Call) else UNKNOWN
                if given is UNKNOWN:
                    raise
                return given

    def _note_arrivals(self, built: nn.Module, call: ModuleCall) -> None:
        """Note the inputs of the whole graph among the arguments of a module, and in one that looks up rows."""
        module, read = call.applied.target, dict(call.applied.using)
        if not isinstance(module, Call):
            return
        for name, value in call.using.items():
            source = self._input_of(value)
            if source is not None:
                self.result.arrivals.append(Arrival(source, module, name, read[name].place, call.path))
        if isinstance(built, LOOK_UPS):
            given = call.argument("num_embeddings")
            place = module.place if given is None else given.place
            self._note_look_up(int(built.num_embeddings), call.stream, module, call.path, place)

    def _note_look_up(self, rows: int, numbers: Any, module: Call, path: str, place: Place) -> None:
        """Note an input of the whole graph whose numbers select rows of a table."""
        source = self._input_of(numbers)
        if source is not None:
            self.result.arrivals.append(Arrival(source, module, "", place, path, rows))

    def _looking_up(self, call: ModuleCall) -> AbstractContextManager[Any]:
        """A block in which the look-ups inside of a module of a project or package are noted."""
        module = call.applied.target
        if not isinstance(module, Call) or not is_opened(module):
            return nullcontext()
        return LookUps(lambda rows, numbers: self._note_look_up(rows, numbers, module, call.path, module.place))

    def _input_of(self, value: Any) -> str | None:
        """The input of the whole graph that a value is, or shows a part of; None if it is none."""
        if not isinstance(value, Tensor):
            return None
        return next((name for name, one in self.inputs.items() if one is value or one is value._base), None)

    def _note_inside(self, inner: InnerValues, path: str) -> None:
        """Note the shapes and kinds of the values inside of a module."""
        for name, value in inner.values.items():
            self.result.shapes.setdefault(join(path, name), self.sizes.show(value))
            if kind_of(value):
                self.result.kinds[join(path, name)] = kind_of(value)

    def _misfit(
        self,
        built: nn.Module,
        call: ModuleCall,
        wrong: rules.Fault | None,
        raised_message: str = "",
        why: str = "",
        raised: tuple[Label, ...] = (),
    ) -> NoReturn:
        """Report an invalid input: `wrong` is the error of a rule, `raised_message` that of the module."""
        visit, module, place = call.visit, call.applied.target, call_place(call.applied.target, call.visit.step)
        labels = [visit.arrives(self.sizes), *raised]
        kind = found = dim = given = None
        if isinstance(module, Call):
            kind = faults.stream(module, call.stream, visit.giver.name, self.sizes)
            found = expectation(built, module, call.stream) if kind is None else None
            dim = faults.wrong_dim(module, call.stream)
            given = call.argument(wrong.at, wrong.item) if wrong is not None else dim or call.meant(raised_message)
        if kind is not None:
            several = self._one_of_several(call, place)
            self.findings.error(
                visit, "FC0201", f"`{call.path}`: {kind.message}", place, tuple(labels), kind.advice, several
            )
        if found is not None:
            self._unexpected(found, call, labels)
        for (name, value), arrives in zip(call.applied.using, call.using.values(), strict=True):
            shown = f"`{value}` has shape {self.sizes.show(arrives)}, used as `{name}`"
            labels.append(Label(shown, visit.scope.giver(value).place))
        extra = "".join(f", `{name}` {self.sizes.show(value)}" for name, value in call.using.items())
        why = f"it has no dimension {dim.value}" if dim is not None else wrong.message if wrong is not None else why
        message = f"`{call.path}`: `{module}` cannot be applied to {self.sizes.show(call.stream)}{extra}: {why}"
        if given is not None:
            origin = [given, *(wrong_values.bare(given) if isinstance(given, Literal) else ())][-1]
            place = origin.place
            labels.append(Label("used here", given.place))
        if isinstance(given, Value):
            visit = replace(visit, scope=replace(visit.scope, reused=None))
        self.findings.error(visit, "FC0201", message, place, tuple(labels), wrong.advice if wrong is not None else None)

    def _one_of_several(self, call: ModuleCall, place: Place) -> tuple[Several, ...]:
        """The cause that a step returns several tensors and a module expects one."""
        visit, step = call.visit, call.visit.giver.by
        if not isinstance(call.stream, tuple) or not isinstance(step, Step) or visit.step.stream.is_part:
            return ()
        held = visit.scope.held.get(step.name) if visit.scope.graph.step(step.name) is step else None
        given = held.all_of_them if held is not None and isinstance(held.all_of_them, tuple) else ()
        right = next((number for number, part in enumerate(given) if isinstance(part, Tensor)), None)
        names = getattr(held.all_of_them, "_fields", ()) if held is not None else ()
        advice = f"write `take: {names[right] if names else right}`" if right is not None else None
        picked = f" with `take: {step.take}`" if step.take is not None else ""
        shown, is_picked = f"{self.sizes.show(call.stream)} from `{visit.giver.name}`{picked}", step.take is not None
        where = step.place_of("take")
        origin = step.place if step.place.line else step.name
        return (Several(visit.giver.name, origin, where, shown, is_picked, advice, call.path, place),)

    def _unexpected(self, found: Expectation, call: ModuleCall, labels: list[Label]) -> NoReturn:
        """Report a size that a module does not expect, where the expected size is written."""
        visit = call.visit
        reused = visit.scope.reused is not None
        got = f"got {self.sizes.number(found.actual)} from `{visit.giver.name}`"
        message = f"`{call.path}` expects {found.expected} {found.unit}, {got}"
        text, repaired = str(call.applied.target), None if reused else found.repaired
        advice = faults.repair(text, repaired, call.stream, found.expected, found.actual, self.sizes)
        outer = _set_outside(found, visit)
        if outer is not None:
            labels.append(Label("used here", found.place))
            advice = f"set `{outer.text}` to {found.actual} instead of {outer.value}"
            self.findings.error(visit, "FC0201", message, outer.place, tuple(labels), advice)
        cause = misfit(visit.giver, found.expected, found.actual, call.path, found.place, self.sizes)
        labels += set_by(found.written)
        self.findings.error(visit, "FC0201", message, found.place, tuple(labels), advice, () if reused else (cause,))


def misfit(giver: Giver, expected: int | str, actual: int, reader: str, at: Place, sizes: Sizes) -> Misfit:
    """The cause that a value does not have the size that this reader expects."""
    origin = giver.place if giver.place.line else giver.name
    made = made_at(giver, actual) or giver.place
    return Misfit(giver.name, origin, made, actual, sizes.number(actual), expected, reader, at)


def _set_outside(found: Expectation, visit: Visit) -> Literal | None:
    """The parameter that makes a size wrong, if it is set outside the document and only that value is wrong.

    The default of the document would be right, or the stream comes from outside as well.
    """
    if found.written is None:
        return None
    outer = [given for given in wrong_values.bare(found.written) if given.outer]
    if not outer:
        return None
    graph = visit.scope.graph
    default = dict(graph.params).get(outer[0].text)
    fits = default is not None and default.value == found.actual
    return outer[-1] if fits or graph.input(visit.step.stream.member) is not None else None
