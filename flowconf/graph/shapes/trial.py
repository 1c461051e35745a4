"""The trial of one module in the shape check: it is built, called on a fake value, and what does not fit is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from torch import Tensor, nn

from flowconf.graph.shapes import blame, rules
from flowconf.graph.shapes.fakes import UNKNOWN, Scope, Source, WantsNumbers, as_list, called, parts_of
from flowconf.graph.shapes.marks import call_place, made_at
from flowconf.graph.shapes.recover import as_declared
from flowconf.graph.shapes.sizes import EXPECTS, Expectation, Sizes, expectation, first_line, reworded
from flowconf.graph.source.emit import Sizes as KnownSizes
from flowconf.language import causes
from flowconf.language.advice import slips
from flowconf.language.plan import (
    Applied,
    Argument,
    Call,
    Hole,
    Instance,
    Literal,
    Module,
    Sequence,
    Shared,
    Step,
    Value,
    join,
)
from flowconf.language.registry import modules
from flowconf.report import NOWHERE, Advice, Diagnostic, Label, Place, Reporter, suggest


@dataclass
class Inference:
    """What the check found: shapes and parameter sizes by full path, the sizes behind `_`, and the mistakes."""

    shapes: dict[str, str] = field(default_factory=dict)
    holes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Reporter)
    certain: bool = True
    """Whether every value is known: none depends on numbers, and every input says its shape."""

    @property
    def sizes(self) -> KnownSizes:
        """What the source needs of it."""
        return KnownSizes(self.holes, self.ranks, self.kinds)


@dataclass
class Rehearsal:
    """What the check found, and the values that it found it with: `modules` by the path at which they stand."""

    inference: Inference
    scope: Scope
    modules: dict[str, nn.Module]
    sizes: Sizes

    def value(self, value: Value) -> Any:
        """A value as a loss gets it: that of every iteration where there are several."""
        return self.scope.seen(value)


@dataclass(frozen=True)
class Visit:
    """A module of a step, and what arrives at it; `whole` is the chain that it is a member of, or itself."""

    applied: Applied
    whole: Applied
    stream: Any
    using: dict[str, Any]
    source: Source
    step: Step
    scope: Scope

    def argument(self, name: str | None, item: int | None = None) -> Literal | Value | None:
        """An argument of the call, or a number in it, or what `using` brings under a name, where that is written."""
        call, read = self.applied.target, dict(self.applied.using)
        if isinstance(call, Call) and name is not None and item is not None:
            return blame.number_of(call, name, item)
        given = blame.bound(call).get(name or "") if isinstance(call, Call) else None
        value = read.get(name or "")
        return given if isinstance(given, Literal) else value if value is not None and value.place.line else None

    def meant(self, words: str) -> Literal | Value | None:
        """The argument that a module's own words are about."""
        call = self.applied.target
        given = blame.argument(call, words) if isinstance(call, Call) else None
        return given or self.argument(blame.further(self.using, words))


class Poisoned(Exception):
    """The value cannot be known; why is in the reporter, or lies before."""


@dataclass
class Trial(ABC):
    """Builds and calls modules. The mistakes go into the result's reporter.

    Equal calls share one module, unless the graph `trains`: then each path has its own.
    """

    result: Inference
    sizes: Sizes
    built: dict[tuple[Call, tuple[int, ...]], nn.Module] = field(default_factory=dict)

    standing: dict[str, nn.Module] = field(default_factory=dict)
    readers: dict[tuple[Place | str, int | str, int], list[tuple[str, Place]]] = field(default_factory=dict)
    """Who reads a value that has one size and should have another: path and place of each."""
    contradicted: dict[tuple[Place, int | str, int], list[Diagnostic]] = field(default_factory=dict)
    """What is told of a size that a graph's input declares: by every mount that gives it the same other size."""
    fitting: set[Place] = field(default_factory=set)
    """Inputs of graphs that fit what some mount gives them."""
    joined: int = 0
    """How many mistakes were told before, of another reader of the same value."""
    trains: bool = False

    @property
    def told(self) -> int:
        """How many mistakes there are so far."""
        return len(self.result.reporter.diagnostics) + self.joined

    def build(self, module: Module, applied: Applied, stream: Any, step: Step, scope: Scope) -> nn.Module:
        """The module that stands at a path; one that is reused stands where it was first."""
        path = scope.standing(applied.home)
        if path in self.standing and (self.trains or isinstance(applied.module, Shared)):
            built = self.standing[path]
        else:
            made = module.module if isinstance(module, Instance) else self._made(module, path, stream, step, scope)
            assert isinstance(made, nn.Module)
            built = self.standing[path] = made
        here = join(scope.path, applied.path)
        self.result.parameters |= {join(here, name): tuple(p.shape) for name, p in built.named_parameters()}
        return built

    def _made(self, module: Module, path: str, stream: Any, step: Step, scope: Scope) -> nn.Module:
        assert isinstance(module, Call)
        sizes = tuple(self._holes(module, stream, step, scope))
        if sizes:
            self.result.holes[path] = sizes
        if self.trains:
            return self._construct(module, iter(sizes), step, scope)
        key = (module, sizes)
        if key not in self.built:
            self.built[key] = self._construct(module, iter(sizes), step, scope)
        return self.built[key]

    def _construct(self, call: Call, sizes: Iterator[int], step: Step, scope: Scope) -> nn.Module:
        def value(argument: Argument) -> Any:
            match argument:
                case Literal(value=tuple(items)):
                    return as_list(items)
                case Literal(value=plain):
                    return plain
                case Hole():
                    return next(sizes)
                case Sequence(items):
                    return [value(item) for item in items]
                case Call():
                    return self._construct(argument, sizes, step, scope)

        args = [value(argument) for argument in call.args]
        kwargs = {name: value(argument) for name, argument in call.kwargs}
        if layers := blame.endless(call):
            name, given = layers
            message = f"`{name}` of `{call.name}` is {given.value:,}, and at most {blame.MOST_LAYERS:,} are possible"
            self.error("FC0202", message, given.place, step, scope)
        try:
            made = modules.load(call.name)(*args, **kwargs)
        except Exception as problem:  # noqa: BLE001 - a constructor may raise anything
            words = first_line(problem)
            self._check_sizes(call, None, words, step, scope)
            self._unbuilt(call, words, step, scope)
        self._check_sizes(call, made, "", step, scope)
        if not isinstance(made, nn.Module):
            self.error(
                "FC0202",
                f"`{call.name}` made a `{type(made).__name__}`, and a step needs a module",
                call.place,
                step,
                scope,
            )
        return made

    def _check_sizes(self, call: Call, made: object, words: str, step: Step, scope: Scope) -> None:
        """Refuse sizes of less than 1: where they are written, or where the parameter is set that makes them so."""
        found = blame.no_size(call, made if isinstance(made, nn.Module) else None, words)
        if found is None:
            return
        name, given = found
        wanted, what = "at least 1", f"`{name}` of `{call.name}`"
        path = join(scope.path, step.path)
        if causes.told(given, causes.is_count, wanted, what, self.result.reporter, path):
            raise Poisoned
        got = f"`{given.text}`, which is {slips.shown(given.value)}" if given.of else slips.shown(given.value)
        message, labels = f"{what} must be {wanted}, got {got}", tuple(self._set_by(given))
        if any(self._has_in_common(label.place, given.place) for label in labels):
            raise Poisoned
        self.error("FC0202", message, given.place, step, scope, labels)

    def _has_in_common(self, parameter: Place, use: Place) -> bool:
        """Whether a size is told already that the same parameter makes wrong; then it is told where that is set."""
        told = self.result.reporter.diagnostics
        for index, known in enumerate(told):
            if known.place == parameter and known.severity == "error":
                return True
            if known.code == "FC0202" and parameter in [label.place for label in known.labels]:
                uses = (Label("it is used here", known.place), Label("and here", use))
                told[index] = replace(known, place=parameter, labels=uses)
                return True
        return False

    def _unbuilt(self, call: Call, words: str, step: Step, scope: Scope) -> NoReturn:
        """Tell why a module cannot be made: at the argument, or at the parameter that it is."""
        given = blame.argument(call, words)
        message = f"`{call}` cannot be built: {blame.with_values(call, reworded(words))}"
        if given is None:
            self.error("FC0202", message, call.place, step, scope)
        origin = [given, *causes.bare(given)][-1]
        self.error("FC0202", message, origin.place, step, scope, (Label("it is used here", given.place),))

    def _holes(self, call: Call, stream: Any, step: Step, scope: Scope) -> Iterator[int]:
        """The sizes behind the `_` of a call, in the order in which they are written."""
        positional = modules.class_source(call.name).init.positional
        given = [(positional[i] if i < len(positional) else "", argument) for i, argument in enumerate(call.args)]
        for name, argument in (*given, *call.kwargs):
            if isinstance(argument, Call):
                yield from self._holes(argument, stream, step, scope)
            if not isinstance(argument, Hole):
                continue
            axis = EXPECTS.get(name)
            if axis is None:
                offered = ", ".join(f"`{known}`" for known in EXPECTS)
                self.error(
                    "FC0204",
                    f"`_` cannot stand for `{name}` of `{call.name}`",
                    argument.place,
                    step,
                    scope,
                    advice=f"write the number; `_` stands for one of {offered}",
                )
            if not isinstance(stream, Tensor) or stream.dim() < (2 if axis == 1 else 1):
                known = (
                    "nothing is known of the shape"
                    if stream is UNKNOWN
                    else f"{self.sizes.show(stream)} has no such size"
                )
                reported = stream is UNKNOWN and bool(self.result.reporter.errors)
                if reported:
                    raise Poisoned
                self.error(
                    "FC0204",
                    f"`_` in `{call}` has nothing to be filled in from: {known} that arrives",
                    argument.place,
                    step,
                    scope,
                    advice="give the graph `inputs` with shapes, or write the number",
                )
            size = int(stream.shape[axis])
            if self.sizes.number(size) != str(size):
                message = f"`_` in `{call}` cannot be `{self.sizes.number(size)}`, a size that is open"
                self.error("FC0204", message, argument.place, step, scope, advice="write the number")
            yield size

    @abstractmethod
    def apply(
        self,
        spot: str,
        stream: Any,
        source: Source,
        scope: Scope,
        step: Step,
        repeated: int = 1,
        whole: Applied | None = None,
    ) -> Any:
        """Run the module at a spot of a step on a fake value; `whole` is the chain that it is a member of."""

    def attempt(self, spot: str, stream: Any, source: Source, scope: Scope, step: Step) -> Any:
        """What a part gives that is held against another; unknown when there is a mistake in it."""
        before = self.told
        try:
            value = self.apply(spot, stream, source, scope, step)
        except Poisoned:
            return UNKNOWN
        return UNKNOWN if self.told > before else value

    def taken(self, step: Step, value: Any, scope: Scope) -> Any:
        """What `take` picks."""
        parts = parts_of(value)
        try:
            if isinstance(value, Tensor):
                raise TypeError  # it would be a row
            return parts[step.take] if parts is not None and step.take in parts else value[step.take]
        except (IndexError, KeyError, TypeError):
            shown, entries = self.sizes.show(value), value if isinstance(value, tuple | list) else ()
            why, advice = f"{shown} is one tensor", "remove it"
            if parts is not None:
                listed = ", ".join(f"`{name}`" for name in parts)
                why, advice = f"{shown} holds {listed}", str(suggest(str(step.take), list(parts), "names") or "")
            elif entries:
                why, advice = f"{shown} holds {len(entries)} values", f"write a number from 0 to {len(entries) - 1}"
            message = f"`take: {step.take}` finds nothing: {why}"
            self.error("FC0201", message, step.place_of("take"), step, scope, advice=advice or None)

    def run(self, built: nn.Module, visit: Visit) -> Any:
        """Call a module on what arrives; where a size does not fit, what it gives all the same, if that is certain."""
        call, stream, using = visit.applied.target, visit.stream, visit.using
        if isinstance(call, Call):
            wrong = rules.fault(built, stream, using, self.sizes)
            if wrong is not None or blame.refused(call, stream) or blame.wrong_dim(call, stream):
                self._tell(built, visit, wrong)
        try:
            return called(built, stream, using)
        except WantsNumbers:
            self.result.certain = False
            return UNKNOWN
        except Exception as problem:  # noqa: BLE001 - a module may raise anything
            try:
                self._tell(built, visit, None, str(problem), self.sizes.reworded(first_line(problem)))
            except Poisoned:
                given = as_declared(built, call, stream, using) if isinstance(call, Call) else UNKNOWN
                if given is UNKNOWN:
                    raise
                return given

    def _tell(
        self, built: nn.Module, visit: Visit, wrong: rules.Fault | None, told: str = "", why: str = ""
    ) -> NoReturn:
        """Tell what does not fit: by the rule that says so, or as the module itself `told` it."""
        source, step, scope, call = visit.source, visit.step, visit.scope, visit.applied.target
        labels = [Label(f"`{source.name}` gives {self.sizes.show(visit.stream)}", source.place)]
        path, place = join(scope.path, visit.whole.path), call_place(call, step)
        kind = found = dim = given = None
        if isinstance(call, Call):
            kind = blame.stream(call, visit.stream, source.name, self.sizes)
            found = expectation(built, call, visit.stream) if kind is None else None
            dim = blame.wrong_dim(call, visit.stream)
            given = visit.argument(wrong.at, wrong.item) if wrong is not None else dim or visit.meant(told)
        if kind is not None:
            if isinstance(visit.stream, tuple) and isinstance(source.by, Step) and not step.stream.is_part:
                self._of_several(source.by, visit, path, place)
            self.error("FC0201", f"`{path}`: {kind.message}", place, step, scope, tuple(labels), kind.advice)
        if found is not None:
            self._unexpected(found, visit, labels)
        for (name, value), arrives in zip(visit.applied.using, visit.using.values(), strict=True):
            labels.append(Label(f"`{value}` gives {self.sizes.show(arrives)}, as `{name}`", scope.source(value).place))
        extra = "".join(f", `{name}` {self.sizes.show(value)}" for name, value in visit.using.items())
        why = f"it has no dimension {dim.value}" if dim is not None else wrong.message if wrong is not None else why
        message = f"`{path}`: `{call}` cannot take {self.sizes.show(visit.stream)}{extra}: {why}"
        if given is not None:
            origin = [given, *(causes.bare(given) if isinstance(given, Literal) else ())][-1]
            place = origin.place
            labels.append(Label("it is used here", given.place))
        scope = replace(scope, reused=None) if isinstance(given, Value) else scope
        self.error("FC0201", message, place, step, scope, tuple(labels), wrong.advice if wrong is not None else None)

    def _of_several(self, giver: Step, visit: Visit, path: str, place: Place) -> None:
        """Tell of several values where they are given: when `take` picks them, or several readers need one of them."""
        readers = self.readers.setdefault((giver.place, "one tensor", 0), [])
        readers.append((path, place))
        if giver.take is None and len(readers) == 1:
            return
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(name for name, _ in readers))
        held = visit.scope.held.get(giver.name) if visit.scope.graph.step(giver.name) is giver else None
        given = held.all_of_them if held is not None and isinstance(held.all_of_them, tuple) else ()
        shown = self.sizes.show(visit.stream)
        picked = f" by `take: {giver.take}`" if giver.take is not None else ""
        message = f"`{visit.source.name}` gives {shown}{picked}, and one tensor is expected by {names}"
        right = next((number for number, part in enumerate(given) if isinstance(part, Tensor)), None)
        advice = f"write `take: {right}`" if right is not None else None
        labels = tuple(Label(f"`{name}` takes one tensor", one) for name, one in readers)
        told = Diagnostic("FC0201", message, giver.place_of("take"), visit.source.name, labels, advice)
        known = self.result.reporter.diagnostics
        if len(readers) == 1:
            known.append(told)
        else:
            first = next(n for n, one in enumerate(known) if one.place in (readers[0][1], told.place))
            known[first] = told
            self.joined += 1
        raise Poisoned

    def _unexpected(self, found: Expectation, visit: Visit, labels: list[Label]) -> NoReturn:
        """Tell of a size that a module was not made for, where that is written."""
        step, scope = visit.step, visit.scope
        gives = f"`{visit.source.name}` gives {self.sizes.number(found.actual)}"
        message = f"`{join(scope.path, visit.whole.path)}` expects {found.expected} {found.unit}, but {gives}"
        text, repaired = str(visit.applied.target), found.repaired if scope.reused is None else None
        advice = blame.repair(text, repaired, visit.stream, found.expected, found.actual, self.sizes)
        outer = self._set_outside(found, step, scope)
        if outer is not None:
            labels.append(Label("it is used here", found.place))
            advice = f"`{outer.text}` is {outer.value} here, and {found.actual} would fit"
            self.error("FC0201", message, outer.place, step, scope, tuple(labels), advice)
        if scope.reused is None and self.others_too(
            visit.source, found.expected, found.actual, join(scope.path, visit.whole.path), found.place
        ):
            raise Poisoned
        labels += self._set_by(found.written)
        self.error("FC0201", message, found.place, step, scope, tuple(labels), advice)

    def others_too(self, source: Source, expected: int | str, actual: int, path: str, place: Place) -> bool:
        """Whether others expect the same of a value as this reader of it: then it is told once, where it is made."""
        giver = source.place if source.place.line else source.name
        readers = self.readers.setdefault((giver, expected, actual), [])
        readers.append((path, place))
        first, told = readers[0][1], self.result.reporter.diagnostics
        made = made_at(source, actual) or source.place
        if len({one if one.line else name for name, one in readers}) < 2:
            self.joined += len(readers) > 1
            return len(readers) > 1
        names = ", ".join(f"`{name}`" for name, _ in readers)
        message = f"`{source.name}` gives {self.sizes.number(actual)}, and {expected} is expected by all of {names}"
        labels = tuple(Label(f"`{name}` expects {expected}", one) for name, one in readers)
        for index, known in enumerate(told):
            if known.place in (first, made) and known.code in ("FC0201", "FC0206"):
                told[index] = Diagnostic("FC0201", message, made, source.name, labels)
                self.joined += 1
                return True
        return False

    @staticmethod
    def _set_by(written: Literal | None) -> list[Label]:
        """Where the parameters that a number is written in terms of have their values."""
        known = written.of if written is not None else ()
        return [Label(f"`{of.text}` is {of.value} here", of.place) for of in known if of.place != NOWHERE]

    @staticmethod
    def _set_outside(found: Expectation, step: Step, scope: Scope) -> Literal | None:
        """The parameter behind a wrong size when it is set from outside of its document, and wrong only there.

        What the document says of it would fit, or the stream comes from outside as well.
        """
        if found.written is None:
            return None
        outer = [given for given in causes.bare(found.written) if given.outer]
        if not outer:
            return None
        default = dict(scope.graph.params).get(outer[0].text)
        fits = default is not None and default.value == found.actual
        return outer[-1] if fits or scope.graph.input(step.stream.member) is not None else None

    def error(
        self,
        code: str,
        message: str,
        place: Place,
        step: Step,
        scope: Scope,
        labels: tuple[Label, ...] = (),
        advice: Advice | None = None,
    ) -> NoReturn:
        if scope.reused is not None:
            if any(known.place == place for known in self.result.reporter.diagnostics):
                raise Poisoned  # it does not fit where it stands first either
            labels, place = (*labels, Label("made for another stream here", place)), scope.reused
        labels = tuple(label for label in labels if label.place != place)
        path = join(scope.path, step.path)
        self.result.reporter.diagnostics.append(Diagnostic(code, message, place, path, labels, advice))
        raise Poisoned
